/** A field to choose one of many by typing: the server searches, a few are shown. Other names may be typed whole. */
import { useQuery } from "@tanstack/react-query";
import { useEffect, useId, useState } from "react";

const TYPING_MS = 150;

export function Choice({
  label,
  value,
  kind,
  find,
  onChoose,
  placeholder,
}: {
  label: string;
  value: string;
  /** Tells apart what is searched, in the cache of queries. */
  kind: readonly string[];
  find: (search: string) => Promise<string[]>;
  onChoose: (value: string) => void;
  placeholder?: string;
}) {
  const id = useId();
  const [typed, setTyped] = useState<string | null>(null);
  const [asked, setAsked] = useState("");
  const [at, setAt] = useState(-1);
  const open = typed !== null;
  useEffect(() => {
    const timer = setTimeout(() => setAsked(typed === value ? "" : (typed ?? "")), TYPING_MS);
    return () => clearTimeout(timer);
  }, [typed, value]);
  const found = useQuery({
    queryKey: ["choice", ...kind, asked],
    queryFn: () => find(asked),
    enabled: open,
  });
  const names = open ? (found.data ?? []) : [];
  const choose = (name: string) => {
    setTyped(null);
    setAt(-1);
    if (name && name !== value) onChoose(name);
  };
  return (
    <div className="relative flex min-w-0 flex-col gap-1">
      <label htmlFor={id} className="text-sm font-medium">
        {label}
      </label>
      <input
        id={id}
        role="combobox"
        aria-expanded={names.length > 0}
        aria-controls={`${id}-list`}
        aria-activedescendant={at >= 0 ? `${id}-${at}` : undefined}
        aria-autocomplete="list"
        autoComplete="off"
        spellCheck={false}
        className="field"
        placeholder={placeholder}
        value={typed ?? value}
        onFocus={(event) => {
          setTyped(value);
          event.target.select();
        }}
        onBlur={() => choose((typed ?? "").trim())}
        onChange={(event) => {
          setTyped(event.target.value);
          setAt(-1);
        }}
        onKeyDown={(event) => {
          if (event.key === "ArrowDown" || event.key === "ArrowUp") {
            event.preventDefault();
            const step = event.key === "ArrowDown" ? 1 : -1;
            setTyped(typed ?? value);
            setAt(Math.max(-1, Math.min(names.length - 1, at + step)));
          } else if (event.key === "Enter") {
            event.preventDefault();
            choose(names[at] ?? (typed ?? value).trim());
          } else if (event.key === "Escape") {
            setTyped(value);
            choose(value);
          }
        }}
      />
      <div
        id={`${id}-list`}
        role="listbox"
        aria-label={`${label}: found`}
        hidden={names.length === 0}
        className="panel absolute top-full z-10 mt-1 max-h-64 w-full min-w-52 overflow-y-auto py-1 shadow-lg"
      >
        {names.map((name, i) => (
          // biome-ignore lint/a11y/useFocusableInteractive: the field keeps the focus and says which one is meant
          // biome-ignore lint/a11y/useKeyWithClickEvents: the field has the keys
          <div
            key={name}
            id={`${id}-${i}`}
            role="option"
            aria-selected={i === at}
            className={`cursor-pointer px-3 py-1 break-all hover:bg-raised ${i === at ? "bg-accent-soft text-accent" : ""}`}
            // The field would lose the focus, and the list with it, before the click arrives.
            onMouseDown={(event) => event.preventDefault()}
            onClick={() => choose(name)}
          >
            {name}
          </div>
        ))}
      </div>
    </div>
  );
}
