/** What narrows the table of adapters down. */
import { useEffect, useRef, useState } from "react";
import { PLACES } from "@/adapters/table-rows";
import { type Search, TIERS, type Tier } from "@/adapters/table-search";
import { Field } from "@/ui/parts";

const TYPING_MS = 250;

export function Filters({
  search,
  onChange,
}: {
  search: Search;
  onChange: (change: Search) => void;
}) {
  return (
    <div className="grid grid-cols-2 gap-3 md:grid-cols-4">
      <Typed label="Name" value={search.search} onChange={(text) => onChange({ search: text })} />
      <Typed label="Alias" value={search.alias} onChange={(alias) => onChange({ alias })} />
      <Typed label="Base model" value={search.base} onChange={(base) => onChange({ base })} />
      <Field label="Residency">
        {(id) => (
          <select
            id={id}
            className="field"
            value={search.tier ?? ""}
            onChange={(event) => onChange({ tier: (event.target.value as Tier) || undefined })}
          >
            <option value="">anywhere</option>
            {TIERS.map((tier) => (
              <option key={tier} value={tier}>
                {PLACES[tier]}
              </option>
            ))}
          </select>
        )}
      </Field>
    </div>
  );
}

/** A field that tells what was typed after a short rest, and follows the address when that changes by itself. */
function Typed({
  label,
  value = "",
  onChange,
}: {
  label: string;
  value?: string;
  onChange: (text: string | undefined) => void;
}) {
  const [typed, setTyped] = useState(value);
  const told = useRef(value);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  useEffect(() => {
    if (value === told.current) return;
    clearTimeout(timer.current);
    told.current = value;
    setTyped(value);
  }, [value]);
  const type = (text: string) => {
    setTyped(text);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      told.current = text;
      onChange(text || undefined);
    }, TYPING_MS);
  };
  return (
    <Field label={label}>
      {(id) => (
        <input
          id={id}
          type="search"
          className="field"
          placeholder="any"
          value={typed}
          onChange={(event) => type(event.target.value)}
        />
      )}
    </Field>
  );
}
