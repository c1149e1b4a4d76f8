/** Which adapters the table shows; all of it stands in the address. */
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { api, need, type Schemas } from "@/api/client";
import { useMe } from "@/session";

export type Row = Schemas["AdapterOut"];
export type Traffic = Schemas["TrafficOut"];
export const TIERS = ["device", "loading", "host", "disk", "database"] as const;
export type Tier = (typeof TIERS)[number];

export interface Search {
  search?: string;
  base?: string;
  alias?: string;
  tier?: Tier;
  after?: string;
}

export const ROWS = 50;
const RESIDENCY_MS = 1000;
// Requests are summed by the hour: a bar changes little in this time.
const TRAFFIC_MS = 60_000;

export function isFiltered({ search, base, alias, tier }: Search): boolean {
  return Boolean(search || base || alias || tier);
}

/** A page of adapters, where engines hold them as of a second ago. A hidden page does not ask. */
export function useAdapters(search: Search) {
  const { tenant } = useMe();
  return useQuery({
    queryKey: ["adapters", tenant, search],
    queryFn: ({ signal }) => ask({ ...search, tenant, include: ["newest", "residency"] }, signal),
    placeholderData: keepPreviousData,
    refetchInterval: RESIDENCY_MS,
    enabled: tenant !== "",
  });
}

/** How much each adapter of a page is used, by name; nothing for those who may not see usage. */
export function useTraffic(search: Search): ReadonlyMap<string, Traffic> {
  const me = useMe();
  const { data } = useQuery({
    queryKey: ["adapters", me.tenant, search, "traffic"],
    queryFn: ({ signal }) => ask({ ...search, tenant: me.tenant, include: ["traffic"] }, signal),
    select: byName,
    refetchInterval: TRAFFIC_MS,
    enabled: me.tenant !== "" && me.can("usage"),
  });
  return data ?? NOTHING;
}

const NOTHING: ReadonlyMap<string, Traffic> = new Map();

function byName(list: Schemas["AdapterList"]): ReadonlyMap<string, Traffic> {
  return new Map(list.data.flatMap((row) => (row.traffic ? [[row.name, row.traffic]] : [])));
}

function ask(
  query: Search & { tenant: string; include: ("newest" | "residency" | "traffic")[] },
  signal: AbortSignal,
) {
  return need(
    api.GET("/api/v1/adapters", { params: { query: { ...query, limit: ROWS } }, signal }),
  );
}
