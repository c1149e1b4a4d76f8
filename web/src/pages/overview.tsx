/** What the engines do now: for operators all of it, for tenants what is theirs. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { api, need, type Schemas } from "@/api/client";
import { bytes, compact, count, milliseconds } from "@/lib/format";
import { Arena, name } from "@/live/arena";
import { LiveChart } from "@/live/chart";
import { useEngines } from "@/live/engines";
import { latencies } from "@/live/latency";
import { type Sample, series } from "@/live/rates";
import { useMe } from "@/session";
import { Badge, Button, Empty, Failure, Figure, Page, Panel, Waiting } from "@/ui/parts";

export function OverviewPage() {
  const me = useMe();
  if (me.tenant === "" && !me.user.is_operator) {
    return (
      <Page title="Overview">
        <Empty title="You are not in a tenant yet">
          <p>Ask an admin of your tenant for an invitation.</p>
        </Empty>
      </Page>
    );
  }
  return <Overview />;
}

function Overview() {
  const [paused, setPaused] = useState(false);
  const engines = useEngines(paused);
  const bases = Object.entries(engines.data ?? {});
  return (
    <Page
      title="Overview"
      lead={paused ? "Paused." : "Live, once a second while this page is in view."}
      actions={
        <Button onClick={() => setPaused(!paused)} aria-pressed={paused}>
          {paused ? "Resume" : "Pause"}
        </Button>
      }
    >
      <Failure error={engines.error} />
      {engines.isPending && <Waiting rows={8} />}
      {engines.data && bases.length === 0 && (
        <Empty title="No engine runs">
          <p>Start the server with a base model: loraplex serve --model DIR</p>
        </Empty>
      )}
      {bases.map(([base, engine]) => (
        <Engine key={base} base={base} engine={engine} samples={engines.samples[base] ?? []} />
      ))}
    </Page>
  );
}

function Engine({
  base,
  engine,
  samples,
}: {
  base: string;
  engine: Schemas["EngineLive"];
  samples: Sample[];
}) {
  const { user } = useMe();
  const now = engine.counters as Record<string, number>;
  const tokens = useMemo(() => series(samples, ["output_tokens", "prompt_tokens"]), [samples]);
  const moves = useMemo(() => series(samples, ["adapter_loads", "adapter_evictions"]), [samples]);
  const rate = tokens[1]?.at(-1) ?? null;
  return (
    <>
      <div className="flex flex-wrap items-center gap-2">
        <h2 className="text-base">{base}</h2>
        <Badge tone={engine.ready ? "good" : "bad"}>{engine.ready ? "Ready" : "Not ready"}</Badge>
        <span className="text-xs text-muted">context {count(engine.max_model_len)} tokens</span>
      </div>
      <div className="grid grid-cols-2 gap-3 md:grid-cols-3 xl:grid-cols-6">
        {user.is_operator && (
          <Figure label="Output" value={rate === null ? "–" : compact(rate)} unit="tokens/s" />
        )}
        <Figure label="Running" value={count(now.running ?? 0)} unit="sequences" />
        <Figure label="Waiting" value={count(now.waiting ?? 0)} unit="sequences" />
        <Latency />
      </div>
      {user.is_operator && (
        <>
          <div className="grid gap-4 lg:grid-cols-2">
            <div className="panel min-w-0 p-4">
              <LiveChart
                title="Throughput"
                unit="tokens/s"
                lines={[
                  { label: "output", colour: "accent" },
                  { label: "prompt", colour: "host" },
                ]}
                data={tokens}
              />
            </div>
            <div className="panel min-w-0 p-4">
              <LiveChart
                title="Adapters moved"
                unit="per second"
                lines={[
                  { label: "loads", colour: "accent" },
                  { label: "evictions", colour: "warn" },
                ]}
                data={moves}
              />
            </div>
          </div>
          <Panel title="Device memory" note="Pages of 2 MiB, shared by the KV cache and adapters">
            <Arena counters={now} adapters={engine.adapters} />
          </Panel>
          <Totals now={now} />
        </>
      )}
      <Residents adapters={engine.adapters} />
    </>
  );
}

function Latency() {
  const me = useMe();
  const recent = useQuery({
    queryKey: ["requests", "recent", me.user.is_operator ? "" : me.tenant],
    queryFn: () =>
      need(
        api.GET("/api/v1/requests", {
          params: { query: { limit: 200, ...(me.user.is_operator ? {} : { tenant: me.tenant }) } },
        }),
      ),
    refetchInterval: 5000,
  });
  const found = latencies(recent.data?.data ?? []);
  const pair = ([median, high]: [number | null, number | null]) => (
    <span title="Median and 95th percentile of the last 200 requests">
      {milliseconds(median)}
      <span className="ml-1 text-xs font-normal text-muted">p95 {milliseconds(high)}</span>
    </span>
  );
  return (
    <>
      <Figure label="To first token, median" value={pair(found.first)} />
      <Figure label="Between tokens, median" value={pair(found.between)} />
      <Figure label="Whole request, median" value={pair(found.total)} />
    </>
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

function Totals({ now }: { now: Record<string, number> }) {
  return (
    <Panel title="Since the engine's start">
      <dl className="grid grid-cols-2 gap-x-6 gap-y-3 tabular-nums sm:grid-cols-4 lg:grid-cols-8">
        {TOTALS.map(([key, label]) => (
          <div key={key}>
            <dt className="text-xs text-muted">{label}</dt>
            <dd
              className={
                key === "adapter_failures" && (now[key] ?? 0) > 0
                  ? "font-medium text-bad"
                  : "font-medium"
              }
            >
              {compact(now[key] ?? 0)}
            </dd>
          </div>
        ))}
      </dl>
    </Panel>
  );
}

const TIERS: Record<string, { label: string; tone: "accent" | "warn" | "neutral" }> = {
  device: { label: "On device", tone: "accent" },
  loading: { label: "Loading", tone: "warn" },
  host: { label: "Host memory", tone: "neutral" },
  disk: { label: "Disk", tone: "neutral" },
  database: { label: "Database", tone: "neutral" },
};
// More rows than anybody reads; the busiest come first.
const MOST_ROWS = 50;

function Residents({ adapters }: { adapters: Schemas["AdapterLive"][] }) {
  const { user } = useMe();
  return (
    <Panel
      flush
      title="Adapters the engine knows"
      note={`${Math.min(MOST_ROWS, adapters.length)} busiest of ${adapters.length}`}
    >
      {adapters.length === 0 ? (
        <Empty title="No adapter has been used since the start">
          <p>The first request for one loads it.</p>
          <Link to="/adapters" className="text-accent underline">
            See the adapters
          </Link>
        </Empty>
      ) : (
        <table className="grid-table">
          <thead>
            <tr>
              <th>Adapter</th>
              {user.is_operator && <th>Tenant</th>}
              <th>Where</th>
              <th className="num">Device</th>
              <th className="num">Running</th>
              <th className="num">Waiting</th>
              <th className="num">Requests</th>
              <th className="num">Output tokens</th>
              <th className="num">Loads</th>
              <th>Last evicted by</th>
            </tr>
          </thead>
          <tbody>
            {adapters.slice(0, MOST_ROWS).map((adapter) => (
              <tr key={adapter.tenant + adapter.digest}>
                <td className="font-medium whitespace-nowrap">
                  {name(adapter)} {adapter.pinned && <Badge>Pinned</Badge>}
                </td>
                {user.is_operator && <td>{adapter.tenant}</td>}
                <td>
                  <Badge tone={TIERS[adapter.tier]?.tone ?? "neutral"}>
                    {TIERS[adapter.tier]?.label ?? adapter.tier}
                  </Badge>
                </td>
                <td className="num">
                  {adapter.device_bytes > 0 ? bytes(adapter.device_bytes) : "–"}
                </td>
                <td className="num">{count(adapter.running)}</td>
                <td className="num">{count(adapter.waiting)}</td>
                <td className="num">{compact(adapter.requests)}</td>
                <td className="num">{compact(adapter.output_tokens)}</td>
                <td className="num">{count(adapter.loads)}</td>
                <td className="whitespace-nowrap text-muted">{adapter.last_evicted_by ?? "–"}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Panel>
  );
}
