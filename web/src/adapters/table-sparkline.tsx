/** Requests per hour as small bars, with the same in words. */
import { compact, count } from "@/lib/format";

const BAR = 3;
const STEP = 4;
const HEIGHT = 20;

export function Sparkline({ hourly }: { hourly: number[] }) {
  const most = Math.max(...hourly, 1);
  const total = hourly.reduce((sum, each) => sum + each, 0);
  const width = hourly.length * STEP - (STEP - BAR);
  const words = inWords(hourly);
  return (
    <span className="inline-flex items-center justify-end gap-2">
      <span className="text-muted" aria-hidden>
        {total > 0 && compact(total)}
      </span>
      <svg
        role="img"
        aria-label={words}
        width={width}
        height={HEIGHT}
        viewBox={`0 0 ${width} ${HEIGHT}`}
        className="shrink-0"
      >
        <title>{words}</title>
        {hourly.map((requests, hour) => {
          // An hour with a single request is still to be seen.
          const height = requests === 0 ? 1 : Math.max(2, (requests / most) * HEIGHT);
          return (
            <rect
              // biome-ignore lint/suspicious/noArrayIndexKey: the place is what tells hours apart
              key={hour}
              x={hour * STEP}
              y={HEIGHT - height}
              width={BAR}
              height={height}
              className={requests === 0 ? "fill-line" : "fill-accent"}
            />
          );
        })}
      </svg>
    </span>
  );
}

export function inWords(hourly: number[]): string {
  const total = hourly.reduce((sum, each) => sum + each, 0);
  if (total === 0) return "No requests in the last 24 hours";
  const requests = total === 1 ? "1 request" : `${count(total)} requests`;
  return `${requests} in the last 24 hours, at most ${count(Math.max(...hourly))} in one`;
}
