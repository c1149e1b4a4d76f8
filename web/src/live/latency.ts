/** Percentiles of the requests that ended last. */

/** The value that a share of all values does not exceed (nearest rank); null without values. */
export function percentile(values: readonly number[], share: number): number | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const rank = Math.max(1, Math.ceil(share * sorted.length));
  return sorted[rank - 1] ?? null;
}

interface Timed {
  total_ms: number;
  first_token_ms: number | null;
  output_tokens: number;
  state: string;
}

/** Milliseconds between tokens of a request: from its first one on, over those behind it. */
export function betweenTokens(row: Timed): number | null {
  if (row.first_token_ms === null || row.output_tokens < 2) return null;
  return (row.total_ms - row.first_token_ms) / (row.output_tokens - 1);
}

export interface Latencies {
  first: [number | null, number | null];
  between: [number | null, number | null];
  total: [number | null, number | null];
}

/** Median and 95th percentile of what requests that ended took, in milliseconds. */
export function latencies(rows: readonly Timed[]): Latencies {
  const ended = rows.filter((row) => row.state !== "reserved");
  const of = (values: (number | null)[]): [number | null, number | null] => {
    const known = values.filter((value) => value !== null);
    return [percentile(known, 0.5), percentile(known, 0.95)];
  };
  return {
    first: of(ended.map((row) => row.first_token_ms)),
    between: of(ended.map(betweenTokens)),
    total: of(ended.map((row) => row.total_ms)),
  };
}
