/** Bars of usage, stacked by group. The table beside it has the same numbers. */
import { Bar, BarChart, CartesianGrid, ResponsiveContainer, Tooltip, XAxis, YAxis } from "recharts";
import { compact, money } from "@/lib/format";

const COLOURS = [
  "var(--color-accent)",
  "var(--color-host)",
  "var(--color-warn)",
  "var(--color-good)",
  "var(--color-bad)",
  "var(--color-muted)",
];

export default function Chart({
  names,
  rows,
  hours,
  currency,
}: {
  names: string[];
  rows: { at: number; values: number[] }[];
  hours: boolean;
  /** Null for tokens. */
  currency: string | null;
}) {
  const written = (value: number) => (currency ? money(value, currency) : compact(value));
  const when = (at: number) => {
    const text = new Date(at).toISOString();
    return hours ? `${text.slice(5, 10)} ${text.slice(11, 16)}` : text.slice(5, 10);
  };
  return (
    <div className="flex flex-col gap-3">
      <div aria-hidden="true" className="h-64 text-xs">
        <ResponsiveContainer>
          <BarChart data={rows} accessibilityLayer={false} margin={{ left: 8, right: 8, top: 4 }}>
            <CartesianGrid vertical={false} stroke="var(--color-line)" />
            <XAxis
              dataKey="at"
              tickFormatter={when}
              tick={{ fill: "var(--color-muted)" }}
              stroke="var(--color-line)"
              minTickGap={24}
            />
            <YAxis
              tickFormatter={written}
              tick={{ fill: "var(--color-muted)" }}
              stroke="var(--color-line)"
              width={currency ? 84 : 56}
            />
            <Tooltip
              labelFormatter={(at) => `${when(Number(at))} UTC`}
              formatter={(value) => written(Number(value))}
              cursor={{ fill: "var(--color-raised)" }}
              contentStyle={{
                background: "var(--color-panel)",
                border: "1px solid var(--color-line)",
                borderRadius: 6,
                color: "var(--color-ink)",
              }}
            />
            {names.map((name, i) => (
              <Bar
                key={name}
                name={name}
                dataKey={(row: { values: number[] }) => row.values[i] ?? 0}
                stackId="all"
                fill={COLOURS[i % COLOURS.length]}
                maxBarSize={48}
                isAnimationActive={false}
              />
            ))}
          </BarChart>
        </ResponsiveContainer>
      </div>
      <ul className="flex flex-wrap gap-x-4 gap-y-1 text-xs" aria-label="Colours">
        {names.map((name, i) => (
          <li key={name} className="inline-flex items-center gap-1.5">
            <svg viewBox="0 0 8 8" className="size-2" aria-hidden="true">
              <rect width="8" height="8" rx="2" style={{ fill: COLOURS[i % COLOURS.length] }} />
            </svg>
            {name}
          </li>
        ))}
      </ul>
    </div>
  );
}
