/** What was used and what it cost, by time and by adapter, key or tenant. */
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { lazy, Suspense } from "react";
import { compact, count, money } from "@/lib/format";
import { type By, byGroup, OTHERS, type Sums, spanOf, stacked, tokens, total } from "@/lib/usage";
import { useMe } from "@/session";
import { Empty, Failure, Figure, Page, Panel, Waiting } from "@/ui/parts";
import { Budgets } from "@/usage/budgets";
import { csvOf, useLines } from "@/usage/lines";

const Chart = lazy(() => import("@/usage/chart"));
const SPANS = [1, 7, 30, 90, 365];
// The server gives a month of hours at most; a week of them can still be told apart.
const MOST_HOUR_DAYS = 7;
const SHOWN = 5;
const LABELS: Record<By, string> = { adapter: "Adapter", key: "Key", tenant: "Tenant" };

export function UsagePage() {
  const me = useMe();
  const search = useSearch({ from: "/shell/usage" });
  const navigate = useNavigate({ from: "/usage" });
  const days = SPANS.includes(search.days ?? 0) ? (search.days ?? 30) : 30;
  const all = me.user.is_operator && search.whose === "all";
  const by: By = search.by === "tenant" && !all ? "adapter" : (search.by ?? "adapter");
  const hours = search.unit === "1h" && days <= MOST_HOUR_DAYS;
  const cost = search.shown === "cost";
  const now = new Date();
  const span = spanOf(days, hours ? "1h" : "1d", now);
  const tenant = all ? undefined : me.tenant;
  const usage = useLines(tenant, span, by, tenant !== "");
  const lines = usage.data ?? [];
  const sums = total(lines);
  const currency = lines[0]?.currency ?? "USD";
  const groups = byGroup(lines, by);
  const value = (each: Sums) => (cost ? each.cost : tokens(each));
  const top = [...groups].sort((a, b) => value(b.sums) - value(a.sums)).slice(0, SHOWN);
  const names = [...top.map(({ name }) => name), ...(groups.length > SHOWN ? [OTHERS] : [])];
  const change = (part: Partial<typeof search>) =>
    navigate({ search: { ...search, ...part }, replace: true });
  return (
    <Page
      title="Usage"
      lead={`${all ? "All tenants" : me.tenant || "No tenant"}, ${hours ? "hours" : "days"} of UTC.`}
      actions={
        <a
          className="rounded-md border border-line bg-panel px-3 py-1.5 font-medium hover:bg-raised"
          href={csvOf(tenant, span, by)}
          download
        >
          CSV
        </a>
      }
    >
      <div className="flex flex-wrap gap-2">
        <Select
          label="Time span"
          value={days}
          options={SPANS.map((each) => [each, each === 1 ? "Today" : `Last ${each} days`])}
          onChange={(chosen) => change({ days: Number(chosen) })}
        />
        {days <= MOST_HOUR_DAYS && (
          <Select
            label="Bars"
            value={hours ? "1h" : "1d"}
            options={[
              ["1d", "By day"],
              ["1h", "By hour"],
            ]}
            onChange={(chosen) => change({ unit: chosen === "1h" ? "1h" : undefined })}
          />
        )}
        <Select
          label="Stacked by"
          value={by}
          options={[
            ["adapter", "By adapter"],
            ["key", "By key"],
            ...(all ? [["tenant", "By tenant"] as [string, string]] : []),
          ]}
          onChange={(chosen) =>
            change({ by: chosen === "key" || chosen === "tenant" ? chosen : undefined })
          }
        />
        <Select
          label="Shown"
          value={cost ? "cost" : "tokens"}
          options={[
            ["tokens", "Tokens"],
            ["cost", "Cost"],
          ]}
          onChange={(chosen) => change({ shown: chosen === "cost" ? "cost" : undefined })}
        />
        {me.user.is_operator && (
          <Select
            label="Whose"
            value={all ? "all" : "one"}
            options={[
              ["one", me.tenant || "One tenant"],
              ["all", "All tenants"],
            ]}
            onChange={(chosen) => change({ whose: chosen === "all" ? "all" : undefined })}
          />
        )}
      </div>
      <Failure error={usage.error} />
      {usage.isPending && tenant !== "" && <Waiting />}
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
          <div className="grid grid-cols-2 gap-3 md:grid-cols-3 lg:grid-cols-6">
            <Figure label="Requests" value={compact(sums.requests)} />
            <Figure label="Failed" value={compact(sums.errors)} />
            <Figure label="Prompt tokens" value={compact(sums.prompt_tokens)} />
            <Figure label="of them cached" value={compact(sums.cached_tokens)} />
            <Figure label="Output tokens" value={compact(sums.output_tokens)} />
            <Figure label="Cost" value={money(sums.cost, currency)} />
          </div>
          <Panel
            title={`${cost ? "Cost" : "Tokens"} by ${hours ? "hour" : "day"}`}
            note={cost ? `${currency}, UTC` : "prompt and output, UTC"}
          >
            <Suspense fallback={<Waiting />}>
              <Chart
                names={names}
                rows={stacked(lines, span, by, names, value)}
                hours={hours}
                currency={cost ? currency : null}
              />
            </Suspense>
          </Panel>
          <Groups title={LABELS[by]} groups={groups} sums={sums} currency={currency} />
        </>
      )}
      {tenant && <Budgets tenant={tenant} now={now} currency={currency} />}
    </Page>
  );
}

function Select({
  label,
  value,
  options,
  onChange,
}: {
  label: string;
  value: string | number;
  options: [string | number, string][];
  onChange: (value: string) => void;
}) {
  return (
    <select
      aria-label={label}
      className="field w-auto"
      value={value}
      onChange={(event) => onChange(event.target.value)}
    >
      {options.map(([each, text]) => (
        <option key={each} value={each}>
          {text}
        </option>
      ))}
    </select>
  );
}

function Groups({
  title,
  groups,
  sums,
  currency,
}: {
  title: string;
  groups: { name: string; sums: Sums }[];
  sums: Sums;
  currency: string;
}) {
  const cells = (own: Sums) => (
    <>
      <td className="num">{count(own.requests)}</td>
      <td className="num">{count(own.errors)}</td>
      <td className="num">{count(own.prompt_tokens)}</td>
      <td className="num">{count(own.cached_tokens)}</td>
      <td className="num">{count(own.output_tokens)}</td>
      <td className="num">{money(own.cost, currency)}</td>
    </>
  );
  return (
    <Panel flush title={`By ${title.toLowerCase()}`}>
      <table className="grid-table">
        <thead>
          <tr>
            <th>{title}</th>
            <th className="num">Requests</th>
            <th className="num">Failed</th>
            <th className="num">Prompt tokens</th>
            <th className="num">of them cached</th>
            <th className="num">Output tokens</th>
            <th className="num">Cost</th>
          </tr>
        </thead>
        <tbody>
          {groups.map(({ name, sums: own }) => (
            <tr key={name}>
              <td className="font-medium">{name}</td>
              {cells(own)}
            </tr>
          ))}
        </tbody>
        <tfoot>
          <tr className="font-semibold">
            <td>All</td>
            {cells(sums)}
          </tr>
        </tfoot>
      </table>
    </Panel>
  );
}
