/** What is left of the month's budgets of a tenant, and whether they will last. */
import { Link } from "@tanstack/react-router";
import { count, money } from "@/lib/format";
import { burnDown, projected, type Sums, tokens } from "@/lib/usage";
import { useLimit } from "@/limits/panel";
import { Badge, Failure, Panel } from "@/ui/parts";
import { useLines } from "./lines";

export function Budgets({
  tenant,
  now,
  currency,
}: {
  tenant: string;
  now: Date;
  currency: string;
}) {
  const limit = useLimit(tenant, { name: tenant });
  const start = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), 1));
  const tomorrow = Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate() + 1);
  const span = { start, end: new Date(tomorrow), width: "1d" as const };
  const lines = useLines(tenant, span, "adapter", true);
  const found = limit.data;
  const budgets: Budget[] = [
    {
      label: "Tokens",
      most: found?.tokens_per_month ?? null,
      used: found?.used?.tokens_this_month ?? 0,
      value: tokens,
      written: count,
    },
    {
      label: "Cost",
      most: found?.cost_per_month ?? null,
      used: found?.used?.cost_this_month ?? 0,
      value: ({ cost }) => cost,
      written: (value) => money(value, currency),
    },
  ];
  return (
    <Panel
      title="Budgets of this month"
      note={
        <Link to="/limits" className="text-accent underline">
          Limits
        </Link>
      }
    >
      <Failure error={limit.error} />
      <div className="grid gap-6 md:grid-cols-2">
        {found &&
          budgets.map((budget) => (
            <One
              key={budget.label}
              budget={budget}
              left={
                budget.most === null || !lines.data
                  ? []
                  : burnDown(lines.data, budget.most, now, budget.value)
              }
              now={now}
            />
          ))}
      </div>
    </Panel>
  );
}

interface Budget {
  label: string;
  most: number | null;
  used: number;
  value: (sums: Sums) => number;
  written: (value: number) => string;
}

function One({ budget, left, now }: { budget: Budget; left: number[]; now: Date }) {
  const { label, most, used, written } = budget;
  if (most === null) {
    return (
      <div>
        <h3 className="text-xs text-muted">{label}</h3>
        <p>No limit for the month.</p>
      </div>
    );
  }
  const end = projected(used, now);
  const days = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1, 0)).getUTCDate();
  const y = (value: number) => 100 - (100 * Math.max(0, value)) / Math.max(most, 1e-9);
  const points = [most, ...left].map((value, i) => `${(i * 100) / days},${y(value)}`).join(" ");
  const today = `${(left.length * 100) / days},${y(left.at(-1) ?? most)}`;
  return (
    <div className="flex flex-col gap-2 tabular-nums">
      <div className="flex items-baseline justify-between gap-2">
        <h3 className="text-xs text-muted">{label} left</h3>
        <Badge tone={end > most ? "bad" : "good"}>
          {end > most ? "Will not last the month" : "Lasts the month"}
        </Badge>
      </div>
      <p>
        <span className="text-xl font-semibold">{written(Math.max(0, most - used))}</span>{" "}
        <span className="text-muted">of {written(most)}</span>
      </p>
      <svg
        viewBox="0 0 100 100"
        preserveAspectRatio="none"
        className="h-20 w-full border-b border-l border-line"
        role="img"
        aria-label={`${label} left by day of the month: ${left.map(written).join(", ")}`}
      >
        <polyline
          points={points}
          fill="none"
          className="stroke-accent"
          strokeWidth="2"
          vectorEffect="non-scaling-stroke"
        />
        <polyline
          points={`${today} 100,${y(most - end)}`}
          fill="none"
          className="stroke-muted"
          strokeDasharray="4 4"
          vectorEffect="non-scaling-stroke"
        />
      </svg>
      <p className="text-xs text-muted">
        {written(used)} used; {written(end)} by the end of the month if it goes on like this.
      </p>
    </div>
  );
}
