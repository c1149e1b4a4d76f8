/** A picture of an engine's memory: what its pages hold, and which adapters. */
import type { Schemas } from "@/api/client";
import { bytes, count } from "@/lib/format";

const WIDTH = 1000;
type Adapter = Schemas["AdapterLive"];

export function Arena({
  counters,
  adapters,
}: {
  counters: Record<string, number>;
  adapters: Adapter[];
}) {
  const total = counters.pages_total ?? 0;
  if (total === 0) return <p className="text-muted">The engine has not told of its memory yet.</p>;
  const kv = counters.kv_pages ?? 0;
  const held = counters.adapter_pages ?? 0;
  const resident = adapters.filter((adapter) => adapter.device_bytes > 0);
  const sum = resident.reduce((all, adapter) => all + adapter.device_bytes, 0);
  const scale = WIDTH / total;
  let at = kv * scale;
  const parts = resident.map((adapter) => {
    const width = (adapter.device_bytes / Math.max(sum, 1)) * held * scale;
    const part = { adapter, x: at, width };
    at += width;
    return part;
  });
  const share = (some: number) => `${((100 * some) / total).toFixed(some / total < 0.1 ? 1 : 0)} %`;
  return (
    <div className="flex flex-col gap-3">
      <svg
        viewBox={`0 0 ${WIDTH} 46`}
        preserveAspectRatio="none"
        className="h-12 w-full rounded"
        role="img"
        aria-label={`Of ${total} pages, ${kv} hold the KV cache, ${held} hold ${resident.length} adapters`}
      >
        <rect width={WIDTH} height="46" className="fill-raised" />
        <rect width={kv * scale} height="46" className="fill-host" />
        {parts.map(({ adapter, x, width }) => (
          <rect
            key={adapter.tenant + adapter.digest}
            x={x}
            width={Math.max(1, width - 1)}
            height="46"
            className={adapter.running > 0 ? "fill-accent" : "fill-accent opacity-50"}
          >
            <title>{`${name(adapter)}, ${bytes(adapter.device_bytes)}`}</title>
          </rect>
        ))}
      </svg>
      <dl className="grid grid-cols-2 gap-x-6 gap-y-2 text-sm tabular-nums md:grid-cols-4">
        <Key swatch="fill-host" label="KV cache" value={`${pages(kv)}, ${share(kv)}`} />
        <Key
          swatch="fill-accent"
          label={`Adapters, ${resident.length} on the device`}
          value={`${pages(held)}, ${share(held)}`}
        />
        <Key
          swatch="fill-accent opacity-50"
          label="of them idle, given up when needed"
          value={pages(counters.idle_adapter_pages ?? 0)}
        />
        <Key
          swatch="fill-raised"
          label="Free"
          value={`${pages(counters.pages_free ?? 0)}, ${share(counters.pages_free ?? 0)}`}
        />
      </dl>
    </div>
  );
}

function pages(number: number): string {
  return `${count(number)} ${number === 1 ? "page" : "pages"}`;
}

export function name(adapter: Adapter): string {
  return adapter.adapter ? `${adapter.adapter}@${adapter.version}` : adapter.digest.slice(0, 10);
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
