/** Adds up lines of usage for the page: by day for the picture, by adapter for the table. */
export interface Line {
  start: string;
  adapter: string | null;
  base: string | null;
  requests: number;
  errors: number;
  prompt_tokens: number;
  cached_tokens: number;
  output_tokens: number;
  cost: number;
}
export type Sums = Omit<Line, "start" | "adapter" | "base">;

const NONE: Sums = {
  requests: 0,
  errors: 0,
  prompt_tokens: 0,
  cached_tokens: 0,
  output_tokens: 0,
  cost: 0,
};
export const BASE_MODEL = "base model";

export function add(a: Sums, b: Sums): Sums {
  return {
    requests: a.requests + b.requests,
    errors: a.errors + b.errors,
    prompt_tokens: a.prompt_tokens + b.prompt_tokens,
    cached_tokens: a.cached_tokens + b.cached_tokens,
    output_tokens: a.output_tokens + b.output_tokens,
    cost: a.cost + b.cost,
  };
}

export function total(lines: readonly Line[]): Sums {
  return lines.reduce<Sums>(add, NONE);
}

/** Sums by adapter, most tokens first. */
export function byAdapter(lines: readonly Line[]): { name: string; sums: Sums }[] {
  const found = new Map<string, Sums>();
  for (const line of lines) {
    const name = line.adapter ?? BASE_MODEL;
    found.set(name, add(found.get(name) ?? NONE, line));
  }
  const tokens = ({ prompt_tokens, output_tokens }: Sums) => prompt_tokens + output_tokens;
  return [...found]
    .map(([name, sums]) => ({ name, sums }))
    .sort((a, b) => tokens(b.sums) - tokens(a.sums));
}

/** The last days of UTC, oldest first, also those without a line. */
export function byDay(
  lines: readonly Line[],
  days: number,
  now: Date,
): { day: string; sums: Sums }[] {
  const today = Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate());
  return Array.from({ length: days }, (_, i) => {
    const day = new Date(today - (days - 1 - i) * 86_400_000).toISOString().slice(0, 10);
    return { day, sums: total(lines.filter(({ start }) => start.startsWith(day))) };
  });
}
