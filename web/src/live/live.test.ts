import { expect, test } from "vitest";
import { arenaParts } from "./arena-parts";
import { gauges, kvUse, NOTHING, refusals, remembered } from "./history";
import { pauseBefore } from "./pause";

const adapter = (n: number, bytes: number) => ({
  tenant: "acme",
  adapter: `a${n}`,
  version: 1,
  digest: `${n}`.padStart(8, "0"),
  device_bytes: bytes,
  running: n % 2,
});
const none = { adapters: 0, on_device: 0, device_bytes: 0 };

test("the picture of memory is whole, in order, and has few parts whatever there is", () => {
  const counters = { pages_total: 1000, kv_pages: 400, adapter_pages: 500, pages_free: 100 };
  const adapters = [adapter(0, 1e9), ...Array.from({ length: 199 }, (_, n) => adapter(n + 1, 1e6))];
  const parts = arenaParts(counters, adapters, {
    adapters: 5000,
    on_device: 800,
    device_bytes: 2e8,
  });
  expect(parts.map(({ kind }) => kind)).toEqual(["kv", "idle", "small", "free"]);
  expect(parts[2]?.label).toBe("999 smaller adapters");
  expect(parts[2]?.bytes).toBe(399e6);
  expect(parts.reduce((all, { share }) => all + share, 0)).toBeCloseTo(1);
  expect(parts[3]?.from).toBeCloseTo(0.9);
  expect(arenaParts({}, [], none)).toEqual([]);
  const few = arenaParts(
    { pages_total: 4, adapter_pages: 2, pages_free: 2 },
    [adapter(1, 9)],
    none,
  );
  expect(few.map(({ label, share }) => [label, share])).toEqual([
    ["a1@1 of acme", 0.5],
    ["Free", 0.5],
  ]);
});

test("pauses grow to a quarter of a minute and are never the same for all", () => {
  expect(pauseBefore(0, 1)).toBe(500);
  expect(pauseBefore(0, 0)).toBe(250);
  expect(pauseBefore(3, 1)).toBe(4000);
  expect(pauseBefore(50, 1)).toBe(15_000);
});

test("events are remembered by engine, percentiles with their counters", () => {
  const of = { p50: 1, p95: 2, p99: 3 };
  const event = (second: number, recent: object) =>
    ({
      at: `2026-01-01T00:00:0${second}Z`,
      engines: { tiny: { counters: { running: second } } },
      recent,
      http_answers: { "200": second, "429": 10 + second },
    }) as never;
  let history = remembered(NOTHING, event(1, {}));
  const recent = { tiny: { ended: {}, first_token_ms: of, between_tokens_ms: null } };
  history = remembered(history, event(2, recent));
  history = remembered(history, event(2, recent)); // once more, after the stream was opened again
  const [times, ...lines] = gauges(history.engines.tiny ?? [], [
    "running",
    "first.p95",
    "between.p50",
  ]);
  expect(times).toHaveLength(2);
  expect(lines).toEqual([
    [1, 2],
    [null, 2],
    [null, null],
  ]);
  expect(refusals(history.firstAnswers, { "200": 9, "429": 14, "503": 2 })).toEqual([
    { label: "429", count: 3 },
    { label: "503", count: 2 },
  ]);
});

test("cached blocks that nobody uses are not held", () => {
  expect(kvUse({ kv_blocks_total: 200, kv_blocks_free: 150 })).toBe(25);
  expect(kvUse({})).toBeNull();
});
