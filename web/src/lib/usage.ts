/** Adds up lines of usage for the page: by time for the picture, by group for the table, by month for budgets. */
export interface Line {
  start: string;
  tenant?: string | null;
  key?: string | null;
  adapter: string | null;
  base: string | null;
  requests: number;
  errors: number;
  prompt_tokens: number;
  cached_tokens: number;
  output_tokens: number;
  cost: number;
}
export type By = "adapter" | "key" | "tenant";
export type Sums = Omit<Line, "start" | "tenant" | "key" | "adapter" | "base">;

const NONE: Sums = {
  requests: 0,
  errors: 0,
  prompt_tokens: 0,
  cached_tokens: 0,
  output_tokens: 0,
  cost: 0,
};
export const BASE_MODEL = "base model";
export const OTHERS = "others";
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

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

export function tokens({ prompt_tokens, output_tokens }: Sums): number {
  return prompt_tokens + output_tokens;
}

const nameOf = (line: Line, by: By) => line[by] ?? BASE_MODEL;

/** Sums by group, most tokens first. */
export function byGroup(lines: readonly Line[], by: By): { name: string; sums: Sums }[] {
  const found = new Map<string, Sums>();
  for (const line of lines) {
    const name = nameOf(line, by);
    found.set(name, add(found.get(name) ?? NONE, line));
  }
  return [...found]
    .map(([name, sums]) => ({ name, sums }))
    .sort((a, b) => tokens(b.sums) - tokens(a.sums));
}

export interface Span {
  start: Date;
  end: Date;
  width: "1h" | "1d";
}

/** The last days of UTC, today included. */
export function spanOf(days: number, width: Span["width"], now: Date): Span {
  const today = Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate());
  const start = new Date(today - (days - 1) * DAY_MS);
  return { start, end: new Date(today + DAY_MS), width };
}

/** One row per bucket of the span, also where nothing was used: `at`, and a value per shown group, in the order of
 * `names`; what is not among them adds up as `OTHERS`. */
export function stacked(
  lines: readonly Line[],
  { start, end, width }: Span,
  by: By,
  names: readonly string[],
  value: (sums: Sums) => number,
): { at: number; values: number[] }[] {
  const step = width === "1h" ? HOUR_MS : DAY_MS;
  const rows = Array.from({ length: Math.ceil((+end - +start) / step) }, (_, i) => ({
    at: +start + i * step,
    values: names.map(() => 0),
  }));
  for (const line of lines) {
    const row = rows[Math.floor((Date.parse(line.start) - +start) / step)];
    const place = names.indexOf(nameOf(line, by));
    const at = place < 0 ? names.indexOf(OTHERS) : place;
    if (row && at >= 0) row.values[at] = (row.values[at] ?? 0) + value(line);
  }
  return rows;
}

/** What the month will have taken at its end if it goes on as it did so far. */
export function projected(used: number, now: Date): number {
  const begin = Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), 1);
  const end = Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1, 1);
  return (used * (end - begin)) / Math.max(+now - begin, HOUR_MS);
}

/** What is left of a budget at the end of each day of the month so far. */
export function burnDown(
  lines: readonly Line[],
  budget: number,
  now: Date,
  value: (sums: Sums) => number,
): number[] {
  let left = budget;
  return Array.from({ length: now.getUTCDate() }, (_, i) => {
    const begin = Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), i + 1);
    const day = new Date(begin).toISOString().slice(0, 10);
    left -= value(total(lines.filter(({ start }) => start.startsWith(day))));
    return left;
  });
}
