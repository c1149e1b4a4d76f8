/** What a tenant has used and what it cost, by day and adapter. */
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { api, need } from "@/api/client";
import { compact, count, money } from "@/lib/format";
import { byAdapter, byDay, type Line, type Sums, total } from "@/lib/usage";
import { useMe } from "@/session";
import { Empty, Failure, Figure, Page, Panel, Waiting } from "@/ui/parts";

const SPANS = [7, 30, 90];

export function UsagePage() {
  const me = useMe();
  const { days = 30 } = useSearch({ from: "/shell/usage" });
  const navigate = useNavigate({ from: "/usage" });
  const now = new Date();
  const start = new Date(
    Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate() - days + 1),
  );
  const query = {
    tenant: me.tenant,
    bucket_width: "1d" as const,
    start: start.toISOString(),
    end: new Date(start.getTime() + days * 86_400_000).toISOString(),
    group_by: ["adapter" as const],
  };
  const usage = useQuery({
    queryKey: ["usage", me.tenant, days],
    queryFn: async () => {
      const lines: (Line & { currency: string })[] = [];
      let after: string | undefined;
      do {
        const params = { query: { ...query, limit: 1000, after } };
        const page = await need(api.GET("/api/v1/usage", { params }));
        lines.push(...page.data);
        after = page.next ?? undefined;
      } while (after !== undefined);
      return lines;
    },
    enabled: me.tenant !== "",
  });
  const lines = usage.data ?? [];
  const sums = total(lines);
  const currency = lines[0]?.currency ?? "USD";
  const csv = new URLSearchParams({
    tenant: me.tenant,
    bucket_width: "1d",
    start: query.start,
    end: query.end,
    group_by: "adapter",
    format: "csv",
  });
  return (
    <Page
      title="Usage"
      lead={`${me.tenant || "No tenant"}, days of UTC.`}
      actions={
        <>
          <select
            aria-label="Time span"
            className="field w-auto"
            value={days}
            onChange={(event) => navigate({ search: { days: Number(event.target.value) } })}
          >
            {SPANS.map((span) => (
              <option key={span} value={span}>
                Last {span} days
              </option>
            ))}
          </select>
          <a
            className="rounded-md border border-line bg-panel px-3 py-1.5 font-medium hover:bg-raised"
            href={`/api/v1/usage?${csv}`}
          >
            CSV
          </a>
        </>
      }
    >
      <Failure error={usage.error} />
      {usage.isPending && me.tenant !== "" && <Waiting />}
      {usage.data && lines.length === 0 && (
        <Panel>
          <Empty title="Nothing was used in these days">
            <p>
              Every request counts here when it has ended. Send one from the{" "}
              <Link to="/playground" className="text-accent underline">
                playground
              </Link>{" "}
              or with a key.
            </p>
          </Empty>
        </Panel>
      )}
      {lines.length > 0 && (
        <>
          <div className="grid grid-cols-2 gap-3 md:grid-cols-5">
            <Figure label="Requests" value={compact(sums.requests)} />
            <Figure label="Failed" value={compact(sums.errors)} />
            <Figure label="Prompt tokens" value={compact(sums.prompt_tokens)} />
            <Figure label="Output tokens" value={compact(sums.output_tokens)} />
            <Figure label="Cost" value={money(sums.cost, currency)} />
          </div>
          <Panel title="Tokens by day" note="prompt and output, UTC">
            <Bars days={byDay(lines, days, now)} />
          </Panel>
          <Panel flush title="By adapter">
            <table className="grid-table">
              <thead>
                <tr>
                  <th>Adapter</th>
                  <th className="num">Requests</th>
                  <th className="num">Failed</th>
                  <th className="num">Prompt tokens</th>
                  <th className="num">of them cached</th>
                  <th className="num">Output tokens</th>
                  <th className="num">Cost</th>
                </tr>
              </thead>
              <tbody>
                {byAdapter(lines).map(({ name, sums: own }) => (
                  <tr key={name}>
                    <td className="font-medium">{name}</td>
                    <td className="num">{count(own.requests)}</td>
                    <td className="num">{count(own.errors)}</td>
                    <td className="num">{count(own.prompt_tokens)}</td>
                    <td className="num">{count(own.cached_tokens)}</td>
                    <td className="num">{count(own.output_tokens)}</td>
                    <td className="num">{money(own.cost, currency)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </Panel>
        </>
      )}
    </Page>
  );
}

const HEIGHT = 120;

function Bars({ days }: { days: { day: string; sums: Sums }[] }) {
  const most = Math.max(1, ...days.map(({ sums }) => sums.prompt_tokens + sums.output_tokens));
  const width = 1000 / days.length;
  return (
    <figure>
      <figcaption className="flex justify-between text-xs text-muted tabular-nums">
        <span>{compact(most)} tokens at most</span>
        <span className="flex gap-3">
          <Swatch className="fill-accent" label="output" />
          <Swatch className="fill-host" label="prompt" />
        </span>
      </figcaption>
      <svg
        viewBox={`0 0 1000 ${HEIGHT}`}
        preserveAspectRatio="none"
        className="mt-2 h-32 w-full border-b border-line"
        role="img"
        aria-label={`Tokens by day, at most ${most}`}
      >
        {days.map(({ day, sums }, i) => {
          const prompt = (sums.prompt_tokens / most) * HEIGHT;
          const output = (sums.output_tokens / most) * HEIGHT;
          const x = i * width + width * 0.12;
          const wide = Math.min(width * 0.76, 48);
          return (
            <g key={day}>
              <title>{`${day}: ${count(sums.prompt_tokens)} prompt, ${count(sums.output_tokens)} output`}</title>
              <rect x={x} y={HEIGHT - prompt} width={wide} height={prompt} className="fill-host" />
              <rect
                x={x}
                y={HEIGHT - prompt - output}
                width={wide}
                height={output}
                className="fill-accent"
              />
            </g>
          );
        })}
      </svg>
      <div className="mt-1 flex justify-between text-xs text-muted tabular-nums">
        <span>{days[0]?.day}</span>
        <span>{days.at(-1)?.day}</span>
      </div>
    </figure>
  );
}

function Swatch({ className, label }: { className: string; label: string }) {
  return (
    <span className="inline-flex items-center gap-1">
      <svg viewBox="0 0 8 8" className="size-2" aria-hidden="true">
        <rect width="8" height="8" rx="2" className={className} />
      </svg>
      {label}
    </span>
  );
}
