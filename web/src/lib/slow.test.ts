import { expect, test } from "vitest";
import { phases, type Timed, whySlow } from "./slow";

const row: Timed = {
  state: "settled",
  finish_reason: "stop",
  total_ms: 1000,
  queue_ms: 10,
  load_ms: 0,
  prefill_ms: 100,
  decode_ms: 800,
  preemptions: 0,
  evicted_by: null,
  prompt_tokens: 300,
  cached_tokens: 0,
  output_tokens: 81,
};

test.each<[Partial<Timed>, string]>([
  [{}, "writing its answer, 800 ms of 1.00 s (80 %): 81 tokens at 10 ms each."],
  [{ output_tokens: 1 }, "writing its answer, 800 ms of 1.00 s (80 %)."],
  [{ queue_ms: 900, decode_ms: 20 }, "waited for its turn, 900 ms of 1.00 s (90 %)"],
  [{ load_ms: 850, decode_ms: 20 }, "the adapter was not on the device"],
  [{ load_ms: 850, decode_ms: 20, evicted_by: "acme/fox@2" }, "acme/fox@2 had pushed it off"],
  [{ load_ms: 850, decode_ms: 20, evicted_by: "KV" }, "the KV cache of running requests had"],
  [{ prefill_ms: 850, decode_ms: 20 }, "reading its prompt, 850 ms of 1.00 s (85 %): 300 tokens"],
  [
    { prefill_ms: 850, decode_ms: 20, cached_tokens: 100 },
    "200 tokens had to be read, 100 more were cached.",
  ],
  [{ total_ms: 5000 }, "passed outside the engine, 4.09 s of 5.00 s (82 %)"],
  [{ preemptions: 1 }, "It was interrupted once, because memory ran out"],
  [{ preemptions: 3 }, "interrupted 3 times"],
  [{ state: "reserved", finish_reason: "running", total_ms: 0 }, "It still runs"],
  [{ finish_reason: "lost" }, "The engine stopped or none came in time, after 1.00 s"],
  [{ finish_reason: "refused" }, "No engine took it on."],
  [
    { queue_ms: null, load_ms: null, prefill_ms: null, decode_ms: null },
    "nothing is known of where that went",
  ],
])("why, of %o", (change, said) => {
  expect(whySlow({ ...row, ...change })).toContain(said);
});

test("what the engine did not see is outside, and never less than nothing", () => {
  expect(phases(row)?.at(-1)).toEqual({ name: "outside", label: "Outside the engine", ms: 90 });
  expect(phases({ ...row, total_ms: 5 })?.at(-1)?.ms).toBe(0);
});
