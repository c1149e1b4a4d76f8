/** A live line chart. Its size and axes stay as they are while numbers come in. */
import { useEffect, useRef } from "react";
import uPlot from "uplot";
import { Explained } from "@/ui/explained";

/** What a chart shows; its labels say so. */
const SECONDS = 180;

export interface Line {
  label: string;
  /** Name of a colour of the theme. */
  colour: "accent" | "host" | "warn" | "bad";
}

export function LiveChart({
  title,
  about,
  unit,
  lines,
  data,
}: {
  title: string;
  /** How the numbers are computed. */
  about: string;
  unit: string;
  lines: Line[];
  data: [number[], ...(number | null)[][]];
}) {
  const box = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot | null>(null);
  const now = useRef(data);
  now.current = data;
  // biome-ignore lint/correctness/useExhaustiveDependencies: a chart is made once for its lines
  useEffect(() => {
    const element = box.current;
    if (element === null) return;
    const build = () => {
      chart.current?.destroy();
      chart.current = new uPlot(options(element, unit, lines), now.current, element);
    };
    build();
    const sized = new ResizeObserver(() =>
      chart.current?.setSize({ width: element.clientWidth, height: 150 }),
    );
    sized.observe(element);
    const system = matchMedia("(prefers-color-scheme: dark)");
    window.addEventListener("themechange", build);
    system.addEventListener("change", build);
    return () => {
      sized.disconnect();
      window.removeEventListener("themechange", build);
      system.removeEventListener("change", build);
      chart.current?.destroy();
      chart.current = null;
    };
  }, []);
  useEffect(() => chart.current?.setData(data), [data]);
  const last = lines.map(
    (line, i) => `${line.label} ${data[i + 1]?.at(-1)?.toFixed(1) ?? "unknown"}`,
  );
  return (
    <figure className="min-w-0">
      <figcaption className="flex flex-wrap items-baseline gap-x-3 text-xs text-muted">
        <span className="inline-flex items-center gap-1.5 font-medium text-ink">
          {title}
          <Explained label={title} text={about} />
        </span>
        {lines.map((line) => (
          <span key={line.label} className="inline-flex items-center gap-1">
            <svg viewBox="0 0 8 8" className="size-2" aria-hidden="true">
              <rect width="8" height="8" rx="2" className={FILL[line.colour]} />
            </svg>
            {line.label}
          </span>
        ))}
        <span className="ml-auto">{unit}</span>
      </figcaption>
      <div
        ref={box}
        role="img"
        aria-label={`${title}, ${unit}: ${last.join(", ")}`}
        className="h-[150px]"
      />
    </figure>
  );
}

const FILL = { accent: "fill-accent", host: "fill-host", warn: "fill-warn", bad: "fill-bad" };

/** The colour itself, as canvases need it: a theme's variables may be pairs of light and dark. */
function colour(element: Element, name: string): string {
  const probe = document.createElement("span");
  probe.style.color = `var(--color-${name})`;
  element.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function options(element: HTMLElement, unit: string, lines: Line[]): uPlot.Options {
  const axis: uPlot.Axis = {
    stroke: colour(element, "muted"),
    grid: { stroke: colour(element, "line"), width: 1 },
    ticks: { show: false },
    font: "11px system-ui, sans-serif",
  };
  return {
    width: element.clientWidth,
    height: 150,
    legend: { show: false },
    cursor: { show: false },
    scales: {
      // Always as many seconds: lines move through the picture, and never stretch.
      x: { range: (_, __, last) => [(last ?? 0) - SECONDS, last ?? 0] },
      y: { range: (_, __, most) => [0, most > 0 ? most * 1.15 : 1] },
    },
    axes: [
      {
        ...axis,
        size: 24,
        space: 10,
        grid: { show: false },
        splits: (_, __, from, to) => [from, from + SECONDS / 3, from + (2 * SECONDS) / 3, to],
        values: () => ["3 min ago", "2 min", "1 min", "now"],
      },
      { ...axis, size: 44, space: 36 },
    ],
    series: [
      {},
      ...lines.map((line) => ({
        label: `${line.label}, ${unit}`,
        stroke: colour(element, line.colour),
        width: 1.75,
        points: { show: false },
      })),
    ],
  };
}
