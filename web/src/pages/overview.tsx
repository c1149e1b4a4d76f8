/** What the engines do now: for operators all of it, for tenants what is theirs. */
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import type { Schemas } from "@/api/client";
import { bytes, compact, count } from "@/lib/format";
import { label as name } from "@/live/arena-parts";
import { Engine } from "@/live/engine";
import { refusals } from "@/live/history";
import { type LiveState, useLive } from "@/live/stream";
import { useMe } from "@/session";
import { Badge, Button, Empty, Failure, Page, Panel, Waiting } from "@/ui/parts";

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

const STATES: Record<LiveState, { label: string; tone: "good" | "warn" | "neutral" }> = {
  connecting: { label: "Connecting", tone: "neutral" },
  live: { label: "Live", tone: "good" },
  stale: { label: "Stale, reconnecting", tone: "warn" },
  paused: { label: "Paused", tone: "neutral" },
};

function Overview() {
  const me = useMe();
  const [paused, setPaused] = useState(false);
  const { state, event, history, error } = useLive(paused);
  const bases = Object.entries(event?.engines ?? {});
  return (
    <Page
      title="Overview"
      lead={
        me.user.is_operator
          ? "Everything the engines do, once a second while this page is in view."
          : `What the engines do for ${me.tenant}, once a second while this page is in view.`
      }
      actions={
        <div className="flex items-center gap-3">
          <span role="status" data-testid="stream" title={event ? seenAt(event.at) : undefined}>
            <Badge tone={STATES[state].tone}>{STATES[state].label}</Badge>
          </span>
          <Button onClick={() => setPaused(!paused)} aria-pressed={paused}>
            {paused ? "Resume" : "Pause"}
          </Button>
        </div>
      }
    >
      <Failure error={error} />
      {event === null && !error && <Waiting rows={8} />}
      {event && bases.length === 0 && (
        <Empty title="No engine runs">
          <p>Start the server with a base model: loraplex serve --model DIR</p>
        </Empty>
      )}
      {bases.map(([base, engine]) => (
        <div key={base} className="flex min-w-0 flex-col gap-4">
          <Engine
            base={base}
            engine={engine}
            recent={event?.recent?.[base]}
            samples={history.engines[base] ?? []}
          />
          <Residents engine={engine} />
        </div>
      ))}
      {event?.http_answers && (
        <Refused counts={refusals(history.firstAnswers, event.http_answers)} />
      )}
    </Page>
  );
}

function seenAt(text: string): string {
  return `Last news at ${new Date(text).toLocaleTimeString("en-GB", { timeZoneName: "short" })}`;
}

function Refused({ counts }: { counts: { label: string; count: number }[] }) {
  return (
    <Panel title="HTTP errors by status" note="Answers of this server since this page was opened">
      {counts.length === 0 ? (
        <p className="text-muted">None since the server was started.</p>
      ) : (
        <dl className="flex flex-wrap gap-x-8 gap-y-2 tabular-nums">
          {counts.map(({ label, count: number }) => (
            <div key={label}>
              <dt className="text-xs text-muted">{label}</dt>
              <dd className={number > 0 && label >= "500" ? "font-medium text-bad" : "font-medium"}>
                {count(number)}
              </dd>
            </div>
          ))}
        </dl>
      )}
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

function Residents({ engine }: { engine: Schemas["EngineBrief"] }) {
  const { user } = useMe();
  const { adapters, others } = engine;
  const known = adapters.length + others.adapters;
  return (
    <Panel
      flush
      title="Adapters the engine knows"
      note={`${Math.min(MOST_ROWS, adapters.length)} busiest of ${count(known)}`}
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
