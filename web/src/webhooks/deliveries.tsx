/** What was sent to a webhook, newest first, and what came back. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, need } from "@/api/client";
import { ago } from "@/lib/format";
import { useMe } from "@/session";
import { Badge, Button, Code, Empty, Failure, Waiting } from "@/ui/parts";

const TONES = { delivered: "good", failed: "bad", pending: "warn" } as const;

export function Deliveries({ webhook }: { webhook: string }) {
  const me = useMe();
  const queries = useQueryClient();
  const [opened, setOpened] = useState("");
  const [before, setBefore] = useState<string | undefined>();
  const list = useQuery({
    queryKey: ["deliveries", webhook, before],
    queryFn: () =>
      need(
        api.GET("/api/v1/webhooks/{webhook_id}/deliveries", {
          params: {
            path: { webhook_id: webhook },
            query: { tenant: me.tenant, limit: 20, before },
          },
        }),
      ),
    // Until all of them have ended.
    refetchInterval: ({ state }) =>
      state.data?.data.some((row) => row.state === "pending") ? 2000 : false,
  });
  const again = useMutation({
    mutationFn: (delivery_id: string) =>
      need(
        api.POST("/api/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver", {
          params: { path: { webhook_id: webhook, delivery_id }, query: { tenant: me.tenant } },
        }),
      ),
    onSettled: () => queries.invalidateQueries({ queryKey: ["deliveries"] }),
  });
  const rows = list.data?.data ?? [];
  return (
    <div className="flex flex-col gap-2 border-t border-line pt-3">
      <Failure error={list.error ?? again.error} />
      {list.isPending && <Waiting rows={2} />}
      {list.data && rows.length === 0 && (
        <Empty title="Nothing was sent yet">
          <p>Send a test to see whether it arrives.</p>
        </Empty>
      )}
      <ul className="flex flex-col divide-y divide-line">
        {rows.map((row) => (
          <li key={row.id} className="flex flex-col gap-2 py-2">
            <div className="flex flex-wrap items-center gap-2">
              <Badge tone={TONES[row.state as keyof typeof TONES] ?? "neutral"}>{row.state}</Badge>
              <span className="font-medium">{row.event}</span>
              <span className="text-muted">{ago(row.created_at)}</span>
              <span className="text-xs text-muted">
                {row.attempts} {row.attempts === 1 ? "attempt" : "attempts"}
                {row.last_status === null ? "" : `, answered ${row.last_status}`}
              </span>
              <span className="ml-auto flex gap-2">
                <Button
                  aria-expanded={opened === row.id}
                  onClick={() => setOpened(opened === row.id ? "" : row.id)}
                >
                  Body
                </Button>
                <Button disabled={again.isPending} onClick={() => again.mutate(row.id)}>
                  Send again
                </Button>
              </span>
            </div>
            {row.last_error && <p className="text-bad">{row.last_error}</p>}
            {opened === row.id && <Code text={JSON.stringify(row.body, null, 2)} />}
          </li>
        ))}
      </ul>
      <div className="flex gap-2">
        {before && <Button onClick={() => setBefore(undefined)}>Newest</Button>}
        {list.data?.next && (
          <Button onClick={() => setBefore(list.data.next ?? undefined)}>Older</Button>
        )}
      </div>
    </div>
  );
}
