/** The last minutes of live events, as charts need them. */
import type { Schemas } from "@/api/client";
import { kept, type Sample } from "./rates";

// Three minutes at one a second: what a chart of this width can show apart.
export const MOST = 180;

export interface History {
  engines: Record<string, Sample[]>;
  /** HTTP answers by status, at the beginning of what is remembered. */
  firstAnswers: Record<string, number> | null;
}
export const NOTHING: History = { engines: {}, firstAnswers: null };

type Live = Pick<Schemas["LiveEvent"], "at" | "engines" | "recent" | "http_answers">;

export function remembered(before: History, event: Live): History {
  const at = Date.parse(event.at) / 1000;
  const engines = Object.fromEntries(
    Object.entries(event.engines).map(([base, { counters }]) => {
      const values = { ...counters, ...levels(event.recent?.[base]), kv_use: kvUse(counters) ?? 0 };
      return [base, kept(before.engines[base] ?? [], { at, values }, MOST)];
    }),
  );
  return { engines, firstAnswers: before.firstAnswers ?? event.http_answers };
}

const SHARES = ["p50", "p95", "p99"] as const;

/** Percentiles by the names charts ask for, such as `first.p95`. */
function levels(recent: Schemas["Recent"] | undefined): Record<string, number> {
  const found: Record<string, number> = {};
  for (const [name, of] of [
    ["first", recent?.first_token_ms],
    ["between", recent?.between_tokens_ms],
  ] as const) {
    if (of) for (const share of SHARES) found[`${name}.${share}`] = of[share];
  }
  return found;
}

/** The share of KV blocks that sequences hold, in percent; null where the engine does not say. */
export function kvUse(counters: Record<string, number>): number | null {
  const total = counters.kv_blocks_total ?? 0;
  if (total === 0) return null;
  return (100 * (total - (counters.kv_blocks_free ?? total))) / total;
}

/** Times and one line per name as it was, for a chart; null where nothing is known. */
export function gauges(
  samples: readonly Sample[],
  names: readonly string[],
): [number[], ...(number | null)[][]] {
  return [
    samples.map(({ at }) => at),
    ...names.map((name) => samples.map(({ values }) => values[name] ?? null)),
  ];
}

export interface Count {
  label: string;
  count: number;
}

/** HTTP answers from status 400 on: how many since the first one was seen here. */
export function refusals(
  first: Record<string, number> | null,
  now: Record<string, number> | null,
): Count[] {
  return Object.entries(now ?? {})
    .filter(([status]) => Number(status) >= 400)
    .map(([label, all]) => ({ label, count: Math.max(0, all - (first?.[label] ?? 0)) }));
}
