/** Where the time of one request went. */
import type { Schemas } from "@/api/client";
import { count, milliseconds } from "@/lib/format";
import { type PhaseName, phases, whySlow } from "@/lib/slow";

const FILL: Record<PhaseName, string> = {
  queue: "fill-muted",
  load: "fill-warn",
  prefill: "fill-host",
  decode: "fill-accent",
  outside: "fill-line",
};

export function Timeline({ row }: { row: Schemas["RequestOut"] }) {
  const known = phases(row);
  return (
    // On a phone the table is wider than the screen; this is not.
    <div className="sticky left-3 flex max-w-[calc(100vw-3.5rem)] flex-col gap-3 py-2">
      <p data-testid="why">{whySlow(row)}</p>
      {known && <Bars known={known} />}
      <dl className="flex flex-wrap gap-x-8 gap-y-2 text-sm">
        <Fact name="Preempted">
          {row.preemptions === 1 ? "once" : `${count(row.preemptions)} times`}
        </Fact>
        <Fact name="Evicted before by">{row.evicted_by ?? "nobody"}</Fact>
        <Fact name="Answer">
          <code className="break-all">{row.answer_id}</code>
        </Fact>
      </dl>
    </div>
  );
}

function Bars({ known }: { known: NonNullable<ReturnType<typeof phases>> }) {
  const whole = known.reduce((all, { ms }) => all + ms, 0);
  let at = 0;
  return (
    <ul className="flex flex-col gap-1 text-sm tabular-nums">
      {known.map(({ name, label, ms }) => {
        const x = at;
        at += (ms / whole) * 1000;
        return (
          <li
            key={name}
            className="grid grid-cols-[8.5rem_minmax(0,1fr)_4.5rem] items-center gap-3"
          >
            <span className="truncate text-muted">{label}</span>
            <svg
              viewBox="0 0 1000 12"
              preserveAspectRatio="none"
              className="h-3 w-full rounded"
              aria-hidden="true"
            >
              <rect width="1000" height="12" className="fill-raised" />
              {ms > 0 && (
                <rect x={x} width={Math.max(2, at - x)} height="12" className={FILL[name]} />
              )}
            </svg>
            <span className="text-right">{milliseconds(ms)}</span>
          </li>
        );
      })}
    </ul>
  );
}

export function Fact({ name, children }: { name: string; children: React.ReactNode }) {
  return (
    <div className="min-w-0">
      <dt className="text-xs text-muted">{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}
