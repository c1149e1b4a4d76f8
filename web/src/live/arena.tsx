/** A picture of an engine's memory: what its pages hold, and which adapters. */
import { type KeyboardEvent, useMemo, useState } from "react";
import type { Schemas } from "@/api/client";
import { bytes, count } from "@/lib/format";
import { arenaParts, type Part } from "@/live/arena-parts";

const WIDTH = 1000;
const FILL: Record<Part["kind"], string> = {
  kv: "fill-host",
  adapter: "fill-accent",
  idle: "fill-accent opacity-50",
  small: "fill-accent opacity-30",
  free: "fill-raised",
};

export function Arena({ engine }: { engine: Schemas["EngineBrief"] }) {
  const counters = engine.counters as Record<string, number>;
  const [chosen, setChosen] = useState<string | null>(null);
  const parts = useMemo(
    () => arenaParts(counters, engine.adapters, engine.others),
    [counters, engine],
  );
  if (parts.length === 0)
    return <p className="text-muted">The engine has not told of its memory yet.</p>;
  const part = parts.find(({ key }) => key === chosen);
  const move = (event: KeyboardEvent) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const at = parts.findIndex(({ key }) => key === chosen);
    const next = at === -1 ? 0 : Math.min(parts.length - 1, Math.max(0, at + step));
    setChosen(parts[next]?.key ?? null);
  };
  const said = part
    ? `${part.label}: ${bytes(part.bytes)}, ${percent(part.share)}`
    : "Point at a part, or focus the picture and use the arrow keys, to see what it is.";
  return (
    <div className="flex flex-col gap-3">
      <div
        role="slider"
        aria-label="Parts of device memory"
        aria-valuemin={0}
        aria-valuemax={parts.length - 1}
        aria-valuenow={Math.max(
          0,
          parts.findIndex(({ key }) => key === chosen),
        )}
        aria-valuetext={said}
        tabIndex={0}
        onKeyDown={move}
        onFocus={() => chosen === null && setChosen(parts[0]?.key ?? null)}
        onBlur={() => setChosen(null)}
        onMouseLeave={() => setChosen(null)}
      >
        <svg
          viewBox={`0 0 ${WIDTH} 64`}
          preserveAspectRatio="none"
          className="h-16 w-full rounded"
          aria-hidden="true"
        >
          <rect width={WIDTH} height="64" className="fill-raised" />
          {parts.map(({ key, kind, from, share }) => (
            // biome-ignore lint/a11y/noStaticElementInteractions: the keyboard reaches parts through the picture
            <rect
              key={key}
              x={from * WIDTH}
              width={Math.max(0.5, share * WIDTH - 1)}
              height="64"
              onMouseEnter={() => setChosen(key)}
              className={chosen === key ? "fill-warn" : FILL[kind]}
            />
          ))}
        </svg>
      </div>
      <p
        className={`min-h-5 truncate text-sm ${part ? "font-medium" : "text-muted"}`}
        data-testid="arena-part"
      >
        {said}
      </p>
      <Legend counters={counters} resident={engine.tiers.device ?? 0} />
    </div>
  );
}

function Legend({ counters, resident }: { counters: Record<string, number>; resident: number }) {
  const total = counters.pages_total ?? 0;
  const share = (some: number) => `${pages(some)}, ${percent(some / total)}`;
  return (
    <dl className="grid grid-cols-2 gap-x-6 gap-y-2 text-sm tabular-nums md:grid-cols-4">
      <Key swatch="fill-host" label="KV cache" value={share(counters.kv_pages ?? 0)} />
      <Key
        swatch="fill-accent"
        label={`Adapters, ${count(resident)} on the device`}
        value={share(counters.adapter_pages ?? 0)}
      />
      <Key
        swatch="fill-accent opacity-50"
        label="of them idle, given up when needed"
        value={pages(counters.idle_adapter_pages ?? 0)}
      />
      <Key swatch="fill-raised" label="Free" value={share(counters.pages_free ?? 0)} />
    </dl>
  );
}

function percent(share: number): string {
  return `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
}

function pages(number: number): string {
  return `${count(number)} ${number === 1 ? "page" : "pages"}`;
}

function Key({ swatch, label, value }: { swatch: string; label: string; value: string }) {
  return (
    <div>
      <dt className="flex items-center gap-1.5 text-xs text-muted">
        <svg viewBox="0 0 8 8" className="size-2.5 shrink-0" aria-hidden="true">
          <rect width="8" height="8" rx="1.5" className={`${swatch} stroke-line`} />
        </svg>
        {label}
      </dt>
      <dd>{value}</dd>
    </div>
  );
}
