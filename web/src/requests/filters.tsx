/** What is looked for in the ledger; all of it stands in the address. */
import { useMe } from "@/session";
import { Field } from "@/ui/parts";

export interface Search {
  every?: boolean;
  adapter?: string;
  key?: string;
  finish?: string;
  slower?: number;
  before?: string;
}
const ENDS = ["stop", "length", "error", "cancelled", "lost", "refused", "running"];

/** The query of the API for what the address says. */
export function wanted(search: Search, tenant: string) {
  return {
    tenant: search.every ? undefined : tenant,
    adapter: search.adapter,
    key: search.key,
    finish_reason: search.finish,
    slower_than_ms: search.slower,
  };
}

/** Where everything that matches comes as a file. */
export function csvAddress(search: Search, tenant: string): string {
  const query = new URLSearchParams({ format: "csv" });
  for (const [name, value] of Object.entries(wanted(search, tenant))) {
    if (value !== undefined) query.set(name, String(value));
  }
  return `/api/v1/requests?${query}`;
}

export function Filters({
  search,
  onChange,
}: {
  search: Search;
  onChange: (change: Search) => void;
}) {
  const me = useMe();
  return (
    <div className="grid grid-cols-2 gap-3 md:grid-cols-5">
      {me.user.is_operator && (
        <Field label="Whose">
          {(id) => (
            <select
              id={id}
              className="field"
              value={search.every ? "every" : "one"}
              onChange={(event) => onChange({ every: event.target.value === "every" || undefined })}
            >
              <option value="one">{me.tenant || "no tenant"}</option>
              <option value="every">every tenant</option>
            </select>
          )}
        </Field>
      )}
      <Typed label="Adapter" value={search.adapter} onChange={(adapter) => onChange({ adapter })} />
      <Typed label="Key or user id" value={search.key} onChange={(key) => onChange({ key })} />
      <Field label="Ended by">
        {(id) => (
          <select
            id={id}
            className="field"
            value={search.finish ?? ""}
            onChange={(event) => onChange({ finish: event.target.value || undefined })}
          >
            <option value="">anything</option>
            {ENDS.map((end) => (
              <option key={end}>{end}</option>
            ))}
          </select>
        )}
      </Field>
      <Field label="Slower than, ms">
        {(id) => (
          <input
            id={id}
            type="number"
            min={0}
            className="field"
            placeholder="any"
            defaultValue={search.slower}
            onChange={(event) =>
              onChange({ slower: event.target.value ? Number(event.target.value) : undefined })
            }
          />
        )}
      </Field>
    </div>
  );
}

function Typed({
  label,
  value,
  onChange,
}: {
  label: string;
  value: string | undefined;
  onChange: (value: string | undefined) => void;
}) {
  return (
    <Field label={label}>
      {(id) => (
        <input
          id={id}
          className="field"
          placeholder="any"
          defaultValue={value}
          onChange={(event) => onChange(event.target.value || undefined)}
        />
      )}
    </Field>
  );
}
