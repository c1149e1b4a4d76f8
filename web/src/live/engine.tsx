/** One engine now, and its last three minutes. */
import { type ReactNode, useMemo } from "react";
import type { Schemas } from "@/api/client";
import { bytes, compact, count, milliseconds } from "@/lib/format";
import { Arena } from "@/live/arena";
import { type Line, LiveChart } from "@/live/chart";
import { gauges, kvUse } from "@/live/history";
import { type Sample, series } from "@/live/rates";
import { useMe } from "@/session";
import { Explained } from "@/ui/explained";
import { Badge, Panel } from "@/ui/parts";

type Numbers = Record<string, number>;
const PERCENTILES: Line[] = [
  { label: "p50", colour: "accent" },
  { label: "p95", colour: "host" },
  { label: "p99", colour: "warn" },
];
const OF_A_MINUTE =
  "of the requests that ended in the last minute (of more than 1,000 those that began last), by nearest rank.";

export function Engine({
  base,
  engine,
  recent,
  samples,
}: {
  base: string;
  engine: Schemas["EngineBrief"];
  recent: Schemas["Recent"] | undefined;
  samples: Sample[];
}) {
  const operator = useMe().user.is_operator;
  const now = engine.counters as Numbers;
  const memory = now.device_memory_bytes ?? 0;
  return (
    <>
      <div className="flex flex-wrap items-center gap-x-3 gap-y-1">
        <h2 className="text-base">{base}</h2>
        <Badge tone={engine.ready ? "good" : "bad"}>{engine.ready ? "Ready" : "Not ready"}</Badge>
        <span className="text-xs text-muted">
          {engine.device && <>{engine.device} · </>}
          {memory > 0 && (
            <>
              {bytes(memory - (now.device_memory_free_bytes ?? 0))} of {bytes(memory)} memory in use
              ·{" "}
            </>
          )}
          context {count(engine.max_model_len)} tokens
        </span>
      </div>
      <Figures now={now} recent={recent} samples={samples} />
      <Charts operator={operator} samples={samples} />
      {operator && (
        <Panel title="Device memory" note="Pages of 2 MiB, shared by the KV cache and adapters">
          <Arena engine={engine} />
        </Panel>
      )}
      <Ends recent={recent} />
      {operator && <Totals now={now} />}
    </>
  );
}

function Figures({
  now,
  recent,
  samples,
}: {
  now: Numbers;
  recent: Schemas["Recent"] | undefined;
  samples: Sample[];
}) {
  const rate = useMemo(() => series(samples.slice(-2), ["output_tokens"])[1]?.at(-1), [samples]);
  const use = kvUse(now);
  const pair = (of: Schemas["Percentiles"] | null | undefined) =>
    of ? (
      <>
        {milliseconds(of.p50)}
        <span className="ml-1.5 text-xs font-normal text-muted">p95 {milliseconds(of.p95)}</span>
      </>
    ) : (
      "–"
    );
  return (
    <div className="grid grid-cols-2 gap-3 md:grid-cols-3 xl:grid-cols-6">
      <Measured
        label="Output"
        about="Tokens handed over in the last second."
        value={rate === null || rate === undefined ? "–" : compact(rate)}
        unit="tokens/s"
      />
      <Measured
        label="Running"
        about="Sequences that take part in steps now. A request for several choices is several."
        value={count(now.running ?? 0)}
      />
      <Measured
        label="Waiting"
        about="Sequences that wait for their turn, for memory or for their adapter."
        value={count(now.waiting ?? 0)}
      />
      {use !== null && (
        <Measured
          label="KV cache held"
          about="Share of KV blocks that running sequences hold; cached prefixes that nobody uses count as free."
          value={use.toFixed(use < 10 ? 1 : 0)}
          unit="%"
        />
      )}
      <Measured
        label="To first token"
        about={`Median time until the first token, ${OF_A_MINUTE}`}
        value={pair(recent?.first_token_ms)}
      />
      <Measured
        label="Between tokens"
        about={`Median time per token after the first one, ${OF_A_MINUTE}`}
        value={pair(recent?.between_tokens_ms)}
      />
    </div>
  );
}

function Measured({
  label,
  about,
  value,
  unit,
}: {
  label: string;
  about: string;
  value: ReactNode;
  unit?: string;
}) {
  return (
    <div className="panel relative min-w-0 px-4 py-3">
      <div className="flex items-center gap-1.5 text-xs text-muted">
        <span className="truncate">{label}</span>
        <Explained label={label} text={about} />
      </div>
      <div className="mt-0.5 text-xl font-semibold tracking-tight whitespace-nowrap tabular-nums">
        {value}
        {unit && <span className="ml-1 text-xs font-normal text-muted">{unit}</span>}
      </div>
    </div>
  );
}

const FIRST = ["first.p50", "first.p95", "first.p99"];
const BETWEEN = ["between.p50", "between.p95", "between.p99"];

function Charts({ operator, samples }: { operator: boolean; samples: Sample[] }) {
  const of = useMemo(
    () => ({
      tokens: series(samples, ["output_tokens", "prompt_tokens"]),
      first: gauges(samples, FIRST),
      between: gauges(samples, BETWEEN),
      queue: gauges(samples, ["running", "waiting"]),
      moves: series(samples, ["adapter_loads", "adapter_evictions"]),
      kv: gauges(samples, ["kv_use"]),
    }),
    [samples],
  );
  return (
    <div className="grid gap-4 md:grid-cols-2 xl:grid-cols-3">
      <Framed>
        <LiveChart
          title="Throughput"
          about={
            operator
              ? "Tokens per second: output handed over, and prompts read, cached ones included."
              : "Tokens per second of your adapters: output handed over, and prompts read."
          }
          unit="tokens/s"
          lines={[
            { label: "output", colour: "accent" },
            { label: "prompt", colour: "host" },
          ]}
          data={of.tokens}
        />
      </Framed>
      <Framed>
        <LiveChart
          title="Time to first token"
          about={`From the request's beginning to its first token, ${OF_A_MINUTE}`}
          unit="ms"
          lines={PERCENTILES}
          data={of.first}
        />
      </Framed>
      <Framed>
        <LiveChart
          title="Time between tokens"
          about={`Time after the first token, divided by the tokens after it, ${OF_A_MINUTE}`}
          unit="ms"
          lines={PERCENTILES}
          data={of.between}
        />
      </Framed>
      <Framed>
        <LiveChart
          title="Queue"
          about="Sequences at work, and those that wait for their turn, for memory or for their adapter."
          unit="sequences"
          lines={[
            { label: "running", colour: "accent" },
            { label: "waiting", colour: "warn" },
          ]}
          data={of.queue}
        />
      </Framed>
      <Framed>
        <LiveChart
          title="Adapters moved"
          about="Copies of adapters to the device, and adapters pushed off it to make room."
          unit="per second"
          lines={[
            { label: "loads", colour: "accent" },
            { label: "evictions", colour: "warn" },
          ]}
          data={of.moves}
        />
      </Framed>
      {operator && (
        <Framed>
          <LiveChart
            title="KV cache held"
            about="Share of KV blocks that running sequences hold."
            unit="%"
            lines={[{ label: "held", colour: "host" }]}
            data={of.kv}
          />
        </Framed>
      )}
    </div>
  );
}

function Framed({ children }: { children: ReactNode }) {
  return <div className="panel relative min-w-0 p-4">{children}</div>;
}

const ENDS: Record<string, { label: string; bad?: boolean }> = {
  stop: { label: "Stopped by themselves" },
  length: { label: "Reached their length" },
  cancelled: { label: "Cancelled by the client" },
  error: { label: "Failed", bad: true },
  lost: { label: "Lost with an engine", bad: true },
  refused: { label: "Refused by the engine", bad: true },
};

function Ends({ recent }: { recent: Schemas["Recent"] | undefined }) {
  const ended = (recent?.ended ?? {}) as Numbers;
  const others = Object.keys(ended).filter((reason) => !(reason in ENDS));
  return (
    <Panel title="How requests ended" note="In the last minute">
      <dl className="grid grid-cols-2 gap-x-6 gap-y-3 tabular-nums sm:grid-cols-3 lg:grid-cols-6">
        {[...Object.keys(ENDS), ...others].map((reason) => {
          const number = ended[reason] ?? 0;
          const bad = ENDS[reason]?.bad && number > 0;
          return (
            <div key={reason}>
              <dt className="text-xs text-muted">{ENDS[reason]?.label ?? reason}</dt>
              <dd className={bad ? "font-medium text-bad" : "font-medium"}>{count(number)}</dd>
            </div>
          );
        })}
      </dl>
    </Panel>
  );
}

const TOTALS: [string, string][] = [
  ["output_tokens", "Tokens written"],
  ["prompt_tokens", "Prompt tokens"],
  ["cached_tokens", "of them cached"],
  ["adapter_loads", "Adapter loads"],
  ["adapter_evictions", "Evictions"],
  ["adapter_failures", "Failed loads"],
  ["preemptions", "Preemptions"],
  ["most_batch_adapters", "Most adapters in a batch"],
];

function Totals({ now }: { now: Numbers }) {
  return (
    <Panel title="Since the engine's start">
      <dl className="grid grid-cols-2 gap-x-6 gap-y-3 tabular-nums sm:grid-cols-4 lg:grid-cols-8">
        {TOTALS.map(([key, label]) => {
          const bad = key === "adapter_failures" && (now[key] ?? 0) > 0;
          return (
            <div key={key}>
              <dt className="text-xs text-muted">{label}</dt>
              <dd className={bad ? "font-medium text-bad" : "font-medium"}>
                {compact(now[key] ?? 0)}
              </dd>
            </div>
          );
        })}
      </dl>
    </Panel>
  );
}
