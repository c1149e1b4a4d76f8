/** Says in one sentence why a request took as long as it did. */
import { milliseconds } from "./format";

export interface Timed {
  state: string;
  finish_reason: string;
  total_ms: number;
  queue_ms: number | null;
  load_ms: number | null;
  prefill_ms: number | null;
  decode_ms: number | null;
  preemptions: number;
  evicted_by: string | null;
  prompt_tokens: number;
  cached_tokens: number;
  output_tokens: number;
}

export type PhaseName = "queue" | "load" | "prefill" | "decode" | "outside";
export interface Phase {
  name: PhaseName;
  label: string;
  ms: number;
}

/** Where the time went, in order; what the engine did not see is `outside`. Null where nothing is known. */
export function phases(row: Timed): Phase[] | null {
  const known: Phase[] = [
    { name: "queue", label: "Waited", ms: row.queue_ms ?? 0 },
    { name: "load", label: "Adapter loaded", ms: row.load_ms ?? 0 },
    { name: "prefill", label: "Prompt read", ms: row.prefill_ms ?? 0 },
    { name: "decode", label: "Answer written", ms: row.decode_ms ?? 0 },
  ];
  const sum = known.reduce((all, { ms }) => all + ms, 0);
  if (sum === 0) return null;
  const outside = Math.max(0, row.total_ms - sum);
  return [...known, { name: "outside", label: "Outside the engine", ms: outside }];
}

export function whySlow(row: Timed): string {
  if (row.state === "reserved") return "It still runs; its times are known when it has ended.";
  const took = milliseconds(row.total_ms);
  if (row.finish_reason === "lost") {
    return `The engine stopped or none came in time, after ${took}; send the request again.`;
  }
  if (row.finish_reason === "refused") return "No engine took it on.";
  const found = phases(row);
  if (found === null) {
    return `It took ${took}; the engine did not end it, so nothing is known of where that went.`;
  }
  const most = found.reduce((a, b) => (b.ms > a.ms ? b : a));
  const share = Math.round((100 * most.ms) / Math.max(row.total_ms, most.ms));
  const part = `${milliseconds(most.ms)} of ${took} (${share} %)`;
  return `${REASONS[most.name](row, part)}${preempted(row, most.name)}`;
}

const REASONS: Record<PhaseName, (row: Timed, part: string) => string> = {
  queue: (_, part) =>
    `It mostly waited for its turn, ${part}: the engine was busy with other requests.`,
  load: ({ evicted_by }, part) =>
    evicted_by === null
      ? `It mostly waited for its adapter to be loaded, ${part}: the adapter was not on the device.`
      : `It mostly waited for its adapter to be loaded, ${part}: ${evictor(evicted_by)} had pushed it off the device.`,
  prefill: ({ prompt_tokens, cached_tokens }, part) =>
    `Most time went into reading its prompt, ${part}: ${prompt_tokens - cached_tokens} tokens had to be read${
      cached_tokens > 0 ? `, ${cached_tokens} more were cached` : ""
    }.`,
  decode: ({ output_tokens, decode_ms }, part) =>
    output_tokens > 1
      ? `Most time went into writing its answer, ${part}: ${output_tokens} tokens at ${milliseconds(
          (decode_ms ?? 0) / (output_tokens - 1),
        )} each.`
      : `Most time went into writing its answer, ${part}.`,
  outside: (_, part) =>
    `Most time passed outside the engine, ${part}: in the API server, or while the client read slowly.`,
};

function evictor(by: string): string {
  return by === "KV" ? "the KV cache of running requests" : by;
}

function preempted({ preemptions }: Timed, most: PhaseName): string {
  if (preemptions === 0 || most === "outside") return "";
  const often = preemptions === 1 ? "once" : `${preemptions} times`;
  return ` It was interrupted ${often}, because memory ran out, and what it had computed was computed again.`;
}
