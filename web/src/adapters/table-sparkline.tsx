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
    <span className="inline-flex items-center justify-end gap-2 align-middle">
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
        <path d={bars(hourly, (requests) => requests === 0, most)} className="fill-line" />
        <path d={bars(hourly, (requests) => requests > 0, most)} className="fill-accent" />
      </svg>
    </span>
  );
}

/** One path for many bars: fifty rows of 24 shapes each would make the page heavy. */
function bars(hourly: number[], drawn: (requests: number) => boolean, most: number): string {
  return hourly
    .map((requests, hour) => {
      if (!drawn(requests)) return "";
      // An hour with a single request is still to be seen.
      const height = requests === 0 ? 1 : Math.max(2, (requests / most) * HEIGHT);
      return `M${hour * STEP} ${HEIGHT}v${-height}h${BAR}v${height}z`;
    })
    .join("");
}

export function inWords(hourly: number[]): string {
  const total = hourly.reduce((sum, each) => sum + each, 0);
  if (total === 0) return "No requests in the last 24 hours";
  const requests = total === 1 ? "1 request" : `${count(total)} requests`;
  return `${requests} in the last 24 hours, at most ${count(Math.max(...hourly))} in one`;
}
