/** The currency of all amounts: it is told with the usage. */
import { useQuery } from "@tanstack/react-query";
import { api, need } from "@/api/client";

export function useCurrency(tenant: string): string {
  const found = useQuery({
    queryKey: ["currency", tenant],
    queryFn: async () => {
      const query = { tenant, bucket_width: "1d" as const, limit: 1 };
      const page = await need(api.GET("/api/v1/usage", { params: { query } }));
      return page.data[0]?.currency ?? "USD";
    },
    enabled: tenant !== "",
    staleTime: 60_000,
  });
  return found.data ?? "USD";
}
