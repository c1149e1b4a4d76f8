/** The live state of engines, once a second while the page is seen, with the last minutes of their counters. */
import { useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { api, need, type Schemas } from "@/api/client";
import { kept, type Sample } from "@/live/rates";
import { useMe } from "@/session";

const EVERY_MS = 1000;
// Three minutes at one a second: what a chart of this width can show apart.
const MOST = 180;

export type Engines = Record<string, Schemas["EngineLive"]>;

export function useEngines(paused = false) {
  const me = useMe();
  const tenant = me.user.is_operator ? undefined : me.tenant;
  const query = useQuery({
    queryKey: ["engine", tenant],
    // Which tenant's is meant matters for users of several; the document does not list it.
    queryFn: () => need(api.GET("/api/v1/engine", { params: { query: { tenant } as never } })),
    // A hidden page does not ask; react-query begins again when it is seen.
    refetchInterval: paused ? false : EVERY_MS,
    staleTime: 0,
  });
  const [samples, setSamples] = useState<Record<string, Sample[]>>({});
  const { data, dataUpdatedAt } = query;
  useEffect(() => {
    if (data === undefined) return;
    setSamples((before) =>
      Object.fromEntries(
        Object.entries(data).map(([base, engine]) => {
          const sample = { at: dataUpdatedAt / 1000, values: engine.counters };
          return [base, kept(before[base] ?? [], sample, MOST)];
        }),
      ),
    );
  }, [data, dataUpdatedAt]);
  return { ...query, samples };
}
