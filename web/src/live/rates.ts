/** Turns counters that only grow into rates, and keeps the last minutes of them. */

export interface Sample {
  /** Seconds since 1970. */
  at: number;
  values: Record<string, number>;
}

/** What grew between two samples, per second. A counter that fell belongs to another start of the engine: no rate. */
export function perSecond(before: Sample, after: Sample, name: string): number | null {
  const seconds = after.at - before.at;
  const from = before.values[name];
  const to = after.values[name];
  if (seconds <= 0 || from === undefined || to === undefined || to < from) return null;
  return (to - from) / seconds;
}

/** Times and one series per name, for a chart; null where nothing is known. */
export function series(
  samples: readonly Sample[],
  rates: readonly string[],
): [number[], ...(number | null)[][]] {
  const times = samples.map((sample) => sample.at);
  const lines = rates.map((name) =>
    samples.map((sample, i) => {
      const before = samples[i - 1];
      return before === undefined ? null : perSecond(before, sample, name);
    }),
  );
  return [times, ...lines];
}

/** The last `most` samples with a new one behind them. One that is no newer changes nothing. */
export function kept(samples: readonly Sample[], sample: Sample, most: number): Sample[] {
  const last = samples.at(-1);
  if (last !== undefined && last.at >= sample.at) return [...samples];
  return [...samples.slice(-(most - 1)), sample];
}
