/** The same requests as a program would send them. */
import { useState } from "react";
import { type Ask, curl, python } from "@/lib/snippets";
import { Code, CopyButton, Panel } from "@/ui/parts";

export function Same({ asks }: { asks: Ask[] }) {
  const [at, setAt] = useState(0);
  const ask = asks[at] ?? asks[0];
  if (ask === undefined) return null;
  return (
    <Panel title="The same from a program">
      <div className="flex flex-col gap-3">
        <div className="flex flex-wrap gap-2">
          {asks.length > 1 && (
            <select
              aria-label="Request to copy"
              className="field w-auto"
              value={asks.indexOf(ask)}
              onChange={(event) => setAt(Number(event.target.value))}
            >
              {asks.map(({ model }, i) => (
                <option key={model} value={i}>
                  {model}
                </option>
              ))}
            </select>
          )}
          <CopyButton label="Copy as curl" text={curl(ask, location.origin)} />
          <CopyButton label="Copy as Python" text={python(ask, location.origin)} />
        </div>
        <Code text={curl(ask, location.origin)} />
      </div>
    </Panel>
  );
}
