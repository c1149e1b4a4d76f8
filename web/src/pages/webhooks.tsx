/** Addresses that are told what happens in a tenant, and what became of each message. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, need, type Schemas } from "@/api/client";
import { ago, moment } from "@/lib/format";
import { useMe } from "@/session";
import { ForAdmins } from "@/ui/for-admins";
import { Badge, Button, Dialog, Empty, Failure, Page, Panel, Waiting } from "@/ui/parts";
import { SecretDialog } from "@/ui/secret";
import { CreateWebhook } from "@/webhooks/create";
import { Deliveries } from "@/webhooks/deliveries";

export type Webhook = Schemas["WebhookOut"];

export function WebhooksPage() {
  const me = useMe();
  const [making, setMaking] = useState(false);
  const [made, setMade] = useState<Webhook | null>(null);
  const [shown, setShown] = useState("");
  const [removing, setRemoving] = useState<Webhook | null>(null);
  const queries = useQueryClient();
  const query = { tenant: me.tenant };
  const list = useQuery({
    queryKey: ["webhooks", me.tenant],
    queryFn: () => need(api.GET("/api/v1/webhooks", { params: { query } })),
    enabled: me.can("admin"),
  });
  const after = () => queries.invalidateQueries({ queryKey: ["webhooks"] });
  const enable = useMutation({
    mutationFn: ({ id, enabled }: Webhook) =>
      need(
        api.PATCH("/api/v1/webhooks/{webhook_id}", {
          params: { path: { webhook_id: id }, query },
          body: { enabled: !enabled },
        }),
      ),
    onSettled: after,
  });
  const test = useMutation({
    mutationFn: (webhook_id: string) =>
      need(
        api.POST("/api/v1/webhooks/{webhook_id}/test", { params: { path: { webhook_id }, query } }),
      ),
    onSuccess: (_, webhook_id) => {
      setShown(webhook_id);
      return queries.invalidateQueries({ queryKey: ["deliveries"] });
    },
  });
  const renew = useMutation({
    mutationFn: (webhook_id: string) =>
      need(
        api.POST("/api/v1/webhooks/{webhook_id}/secret", {
          params: { path: { webhook_id }, query },
        }),
      ),
    onSuccess: (webhook) => {
      setMade(webhook);
      return after();
    },
  });
  if (!me.can("admin"))
    return <ForAdmins title="Webhooks" what="Admins of the tenant see to its webhooks." />;
  const rows = list.data?.data ?? [];
  return (
    <Page
      title="Webhooks"
      lead={`Addresses that are told what happens in ${me.tenant}. Every message is signed.`}
      actions={
        <Button kind="primary" onClick={() => setMaking(true)}>
          Add webhook
        </Button>
      }
    >
      <Failure error={list.error ?? enable.error ?? test.error ?? renew.error} />
      {list.isPending && (
        <Panel>
          <Waiting />
        </Panel>
      )}
      {list.data && rows.length === 0 && (
        <Panel>
          <Empty title="No webhooks yet">
            <p>Add an address to hear of new versions, moved aliases, failed checks and more.</p>
          </Empty>
        </Panel>
      )}
      {rows.map((row) => (
        <Panel
          key={row.id}
          title={<span className="break-all">{row.url}</span>}
          note={`added ${ago(row.created_at)}`}
        >
          <div className="flex flex-col gap-3">
            <div className="flex flex-wrap items-center gap-1.5">
              {row.enabled ? (
                <Badge tone="good">On</Badge>
              ) : (
                <Badge tone="bad">Off since {row.disabled_at ? moment(row.disabled_at) : ""}</Badge>
              )}
              {row.events.length === 0 ? <Badge>every event</Badge> : null}
              {row.events.map((event) => (
                <Badge key={event}>{event}</Badge>
              ))}
            </div>
            {row.description && <p className="text-muted">{row.description}</p>}
            {row.previous_secret_until && (
              <p className="text-xs text-muted">
                Also signed with the secret before, until {moment(row.previous_secret_until)}.
              </p>
            )}
            <div className="flex flex-wrap gap-2">
              <Button disabled={test.isPending} onClick={() => test.mutate(row.id)}>
                Send a test
              </Button>
              <Button
                aria-expanded={shown === row.id}
                onClick={() => setShown(shown === row.id ? "" : row.id)}
              >
                Messages
              </Button>
              <Button disabled={renew.isPending} onClick={() => renew.mutate(row.id)}>
                New secret
              </Button>
              <Button disabled={enable.isPending} onClick={() => enable.mutate(row)}>
                {row.enabled ? "Switch off" : "Switch on"}
              </Button>
              <Button kind="danger" onClick={() => setRemoving(row)}>
                Delete
              </Button>
            </div>
            {shown === row.id && <Deliveries webhook={row.id} />}
          </div>
        </Panel>
      ))}
      {making && <CreateWebhook onClose={() => setMaking(false)} onMade={setMade} />}
      {made && (
        <SecretDialog
          title="Secret of the webhook"
          warning="Copy it now, it is not shown again. The receiver checks signatures with it."
          text={made.secret ?? ""}
          copy="Copy secret"
          onClose={() => setMade(null)}
        />
      )}
      {removing && <Remove webhook={removing} onClose={() => setRemoving(null)} />}
    </Page>
  );
}

function Remove({ webhook, onClose }: { webhook: Webhook; onClose: () => void }) {
  const me = useMe();
  const queries = useQueryClient();
  const remove = useMutation({
    mutationFn: () =>
      need(
        api.DELETE("/api/v1/webhooks/{webhook_id}", {
          params: { path: { webhook_id: webhook.id }, query: { tenant: me.tenant } },
        }),
      ),
    onSuccess: async () => {
      onClose();
      await queries.invalidateQueries({ queryKey: ["webhooks"] });
    },
  });
  return (
    <Dialog title="Delete this webhook" onClose={onClose}>
      <p className="break-all">
        {webhook.url} is told nothing any more, and its messages are gone.
      </p>
      <Failure error={remove.error} />
      <div className="flex justify-end gap-2">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind="danger" disabled={remove.isPending} onClick={() => remove.mutate()}>
          Delete webhook
        </Button>
      </div>
    </Dialog>
  );
}
