/** Reads all lines of usage of a span. */
import { useQuery } from "@tanstack/react-query";
import { api, need } from "@/api/client";
import type { By, Line, Span } from "@/lib/usage";

export type Priced = Line & { currency: string };

function asked(tenant: string | undefined, span: Span, by: By) {
  return {
    tenant,
    bucket_width: span.width,
    start: span.start.toISOString(),
    end: span.end.toISOString(),
    group_by: [by],
  };
}

/** Without a tenant those of all of them, which operators may ask for. */
export function useLines(tenant: string | undefined, span: Span, by: By, enabled: boolean) {
  const query = asked(tenant, span, by);
  return useQuery({
    queryKey: ["usage", query],
    queryFn: async () => {
      const lines: Priced[] = [];
      let after: string | undefined;
      do {
        const params = { query: { ...query, limit: 1000, after } };
        const page = await need(api.GET("/api/v1/usage", { params }));
        lines.push(...page.data);
        after = page.next ?? undefined;
      } while (after !== undefined);
      return lines;
    },
    enabled,
  });
}

/** Where the same lines are as a file. */
export function csvOf(tenant: string | undefined, span: Span, by: By): string {
  const { tenant: whose, group_by: _, ...rest } = asked(tenant, span, by);
  const query = new URLSearchParams({ ...rest, group_by: by, format: "csv" });
  if (whose !== undefined) query.set("tenant", whose);
  return `/api/v1/usage?${query}`;
}
