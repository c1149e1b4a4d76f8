import { expect, test } from "vitest";
import { burnDown, byGroup, type Line, OTHERS, projected, spanOf, stacked, tokens } from "./usage";

const line = (start: string, adapter: string | null, used: number): Line => ({
  start,
  adapter,
  base: null,
  requests: 1,
  errors: 0,
  prompt_tokens: used,
  cached_tokens: 0,
  output_tokens: 0,
  cost: 0,
});
const LINES = [
  line("2026-11-20T00:00:00Z", "a", 5),
  line("2026-11-22T00:00:00Z", "a", 7),
  line("2026-11-22T00:00:00Z", "b", 2),
  line("2026-11-22T00:00:00Z", null, 30),
];
const NOW = new Date("2026-11-22T12:00:00Z");

test("groups are sorted by tokens", () => {
  expect(byGroup(LINES, "adapter").map(({ name, sums }) => [name, sums.requests])).toEqual([
    ["base model", 1],
    ["a", 2],
    ["b", 1],
  ]);
});

test("bars have a row for empty days, and others add up", () => {
  const rows = stacked(LINES, spanOf(3, "1d", NOW), "adapter", ["base model", OTHERS], tokens);
  expect(rows.map(({ values }) => values)).toEqual([
    [0, 5],
    [0, 0],
    [30, 9],
  ]);
  expect(spanOf(2, "1h", NOW).start.toISOString()).toBe("2026-11-21T00:00:00.000Z");
});

test("budgets burn down by day and are projected to the end of the month", () => {
  const left = burnDown(LINES, 100, NOW, tokens);
  expect([left.length, left[18], left[19], left[21]]).toEqual([22, 100, 95, 56]);
  expect(projected(43, NOW)).toBeCloseTo((43 * 30) / 21.5);
});
