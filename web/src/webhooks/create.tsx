/** A new webhook. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { api, need, type Schemas } from "@/api/client";
import { useMe } from "@/session";
import { Button, Dialog, Failure, Field } from "@/ui/parts";

type Webhook = Schemas["WebhookOut"];
type EventName = Schemas["Event"];
const EVENTS: Record<EventName, string> = {
  "adapter.version.created": "A version of an adapter can be used",
  "adapter.version.deleted": "A version is deleted",
  "adapter.deleted": "An adapter is deleted",
  "adapter.alias.changed": "An alias names another version",
  "adapter.golden.failed": "A golden check fails",
  "adapter.import.succeeded": "An import is done",
  "adapter.import.failed": "An import fails",
  "batch.completed": "A batch is done",
  "batch.failed": "A batch fails",
  "batch.expired": "A batch runs out of time",
  "batch.cancelled": "A batch is cancelled",
  "key.created": "A key is made",
  "key.revoked": "A key is revoked",
  "key.rotated": "A key is rotated",
  "limit.changed": "A limit changes",
  "member.joined": "Somebody joins",
  "member.removed": "Somebody is removed",
  "webhook.test": "A test is sent",
};

export function CreateWebhook({
  onClose,
  onMade,
}: {
  onClose: () => void;
  onMade: (webhook: Webhook) => void;
}) {
  const me = useMe();
  const queries = useQueryClient();
  const [url, setUrl] = useState("");
  const [description, setDescription] = useState("");
  const [events, setEvents] = useState<EventName[]>([]);
  const create = useMutation({
    mutationFn: () =>
      need(
        api.POST("/api/v1/webhooks", {
          params: { query: { tenant: me.tenant } },
          body: { url, events, description },
        }),
      ),
    onSuccess: async (webhook) => {
      onClose();
      onMade(webhook);
      await queries.invalidateQueries({ queryKey: ["webhooks"] });
    },
  });
  return (
    <Dialog title="Add a webhook" onClose={onClose}>
      <form
        className="flex flex-col gap-4"
        onSubmit={(event: FormEvent) => {
          event.preventDefault();
          create.mutate();
        }}
      >
        <Field label="Address" hint="It gets a POST for each event.">
          {(id) => (
            <input
              id={id}
              type="url"
              required
              maxLength={2048}
              placeholder="https://hooks.example.com/loraplex"
              className="field"
              value={url}
              onChange={(event) => setUrl(event.target.value)}
            />
          )}
        </Field>
        <Field label="Description (optional)">
          {(id) => (
            <input
              id={id}
              maxLength={200}
              className="field"
              value={description}
              onChange={(event) => setDescription(event.target.value)}
            />
          )}
        </Field>
        <fieldset className="flex max-h-64 flex-col gap-1.5 overflow-y-auto">
          <legend className="pb-1 text-sm font-medium">It is told when</legend>
          <p className="text-xs text-muted">Choose nothing to be told of everything.</p>
          {(Object.entries(EVENTS) as [EventName, string][]).map(([name, label]) => (
            <label key={name} className="flex items-center gap-2" title={name}>
              <input
                type="checkbox"
                className="accent-accent"
                checked={events.includes(name)}
                onChange={({ target }) =>
                  setEvents(
                    target.checked ? [...events, name] : events.filter((each) => each !== name),
                  )
                }
              />
              {label}
            </label>
          ))}
        </fieldset>
        <Failure error={create.error} />
        <div className="flex justify-end gap-2">
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="primary" type="submit" disabled={create.isPending}>
            Add
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
