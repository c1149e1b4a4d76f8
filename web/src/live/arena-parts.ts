/** Cuts an engine's memory into the parts of one picture: whatever there is, there are few of them. */
import type { Schemas } from "@/api/client";

export interface Part {
  key: string;
  kind: "kv" | "adapter" | "idle" | "small" | "free";
  label: string;
  /** Of the whole, from 0 to 1. */
  from: number;
  share: number;
  bytes: number;
  /** The adapters it stands for. */
  adapters: number;
}

type Adapter = Pick<
  Schemas["AdapterLive"],
  "tenant" | "adapter" | "version" | "digest" | "device_bytes" | "running"
>;
// A part that is narrower can neither be seen nor pointed at.
const LEAST_SHARE = 0.004;
const PAGE_BYTES = 2 * 1024 ** 2;

export function label(adapter: Pick<Adapter, "adapter" | "version" | "digest">): string {
  return adapter.adapter
    ? `${adapter.adapter}@${adapter.version}`
    : `deleted ${adapter.digest.slice(0, 10)}`;
}

/** Left to right: the KV cache, adapters from the largest on, the small ones together, free memory. */
export function arenaParts(
  counters: Record<string, number>,
  adapters: readonly Adapter[],
  others: Schemas["Others"],
): Part[] {
  const total = counters.pages_total ?? 0;
  if (total === 0) return [];
  const held = (counters.adapter_pages ?? 0) / total;
  const resident = adapters
    .filter(({ device_bytes }) => device_bytes > 0)
    .sort((a, b) => b.device_bytes - a.device_bytes || a.digest.localeCompare(b.digest));
  const listed = resident.reduce((all, { device_bytes }) => all + device_bytes, 0);
  // Pages are shared by small adapters; bytes tell how.
  const perByte = held / Math.max(1, listed + others.device_bytes);
  const parts: Part[] = [];
  const add = (part: Omit<Part, "from">) => {
    if (part.share <= 0) return;
    const last = parts.at(-1);
    parts.push({ ...part, from: last ? last.from + last.share : 0 });
  };
  const pages = (count: number) => ({ share: count / total, bytes: count * PAGE_BYTES });
  add({
    key: "kv",
    kind: "kv",
    label: "KV cache",
    adapters: 0,
    ...pages(counters.kv_pages ?? 0),
  });
  const small = { share: others.device_bytes * perByte, bytes: others.device_bytes };
  let count = others.on_device;
  for (const adapter of resident) {
    const share = adapter.device_bytes * perByte;
    if (share < LEAST_SHARE) {
      small.share += share;
      small.bytes += adapter.device_bytes;
      count += 1;
      continue;
    }
    add({
      key: `${adapter.tenant}/${adapter.digest}`,
      kind: adapter.running > 0 ? "adapter" : "idle",
      label: `${label(adapter)} of ${adapter.tenant}`,
      share,
      bytes: adapter.device_bytes,
      adapters: 1,
    });
  }
  add({
    key: "small",
    kind: "small",
    label: `${count} smaller ${count === 1 ? "adapter" : "adapters"}`,
    adapters: count,
    ...small,
  });
  add({
    key: "free",
    kind: "free",
    label: "Free",
    adapters: 0,
    ...pages(counters.pages_free ?? 0),
  });
  return parts;
}
