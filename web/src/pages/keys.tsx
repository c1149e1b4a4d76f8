/** The API keys of a tenant. A secret is shown once. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { api, need, type Schemas } from "@/api/client";
import { ago, moment } from "@/lib/format";
import { useMe } from "@/session";
import { ForAdmins } from "@/ui/for-admins";
import { Badge, Button, Dialog, Empty, Failure, Field, Page, Panel, Waiting } from "@/ui/parts";
import { SecretDialog } from "@/ui/secret";

type Key = Schemas["KeyOut"];
const SCOPES = [
  { name: "inference", label: "Run models" },
  { name: "adapters:read", label: "See adapters" },
  { name: "adapters:write", label: "Push and change adapters" },
  { name: "usage", label: "See usage and requests" },
  { name: "admin", label: "Manage keys, members and limits" },
] as const;
type ScopeName = (typeof SCOPES)[number]["name"];

export function KeysPage() {
  const me = useMe();
  const [making, setMaking] = useState(false);
  const [made, setMade] = useState<Key | null>(null);
  const [act, setAct] = useState<{ kind: "rotate" | "revoke"; key: Key } | null>(null);
  const keys = useQuery({
    queryKey: ["keys", me.tenant],
    queryFn: () =>
      need(api.GET("/api/v1/tenants/{tenant}/keys", { params: { path: { tenant: me.tenant } } })),
    enabled: me.can("admin"),
  });
  if (!me.can("admin"))
    return <ForAdmins title="Keys" what="Admins of the tenant manage its keys." />;
  const rows = keys.data?.data ?? [];
  return (
    <Page
      title="Keys"
      lead={`Programs of ${me.tenant} send one as their Bearer token.`}
      actions={
        <Button kind="primary" onClick={() => setMaking(true)}>
          Create key
        </Button>
      }
    >
      <Failure error={keys.error} />
      <Panel flush>
        {keys.isPending && <Waiting />}
        {keys.data && rows.length === 0 && (
          <Empty title="No keys yet">
            <p>
              Create one for your first program; it can be limited to some adapters and to a time.
            </p>
          </Empty>
        )}
        {rows.length > 0 && (
          <table className="grid-table">
            <thead>
              <tr>
                <th>Name</th>
                <th>Key</th>
                <th>May</th>
                <th>Last used</th>
                <th>Ends</th>
                <th />
              </tr>
            </thead>
            <tbody>
              {rows.map((row) => (
                <tr key={row.id}>
                  <td className="font-medium">
                    {row.name || <span className="text-muted">unnamed</span>}
                  </td>
                  <td className="whitespace-nowrap">
                    <code>
                      {row.id} {row.hint}
                    </code>
                  </td>
                  <td>
                    <div className="flex flex-wrap gap-1">
                      {row.scopes.map((scope) => (
                        <Badge key={scope}>{scope}</Badge>
                      ))}
                    </div>
                  </td>
                  <td className="whitespace-nowrap text-muted">
                    {row.last_used_at ? ago(row.last_used_at) : "never"}
                  </td>
                  <td className="whitespace-nowrap">
                    <Ends row={row} />
                  </td>
                  <td className="num">
                    {!isOver(row) && (
                      <div className="flex justify-end gap-2">
                        <Button onClick={() => setAct({ kind: "rotate", key: row })}>Rotate</Button>
                        <Button kind="danger" onClick={() => setAct({ kind: "revoke", key: row })}>
                          Revoke
                        </Button>
                      </div>
                    )}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
      </Panel>
      {making && <Create onClose={() => setMaking(false)} onMade={setMade} />}
      {made && (
        <SecretDialog
          title={`Key ${made.name || made.id}`}
          warning="Copy it now. It is not stored and cannot be shown again."
          text={made.key ?? ""}
          copy="Copy key"
          onClose={() => setMade(null)}
        />
      )}
      {act && <Confirm act={act} onClose={() => setAct(null)} onMade={setMade} />}
    </Page>
  );
}

function isOver(row: Key): boolean {
  const ends = [row.revoked_at, row.expires_at].filter((at) => at !== null);
  return ends.some((at) => Date.parse(at) <= Date.now());
}

function Ends({ row }: { row: Key }) {
  const at = row.revoked_at ?? row.expires_at;
  if (isOver(row)) return <Badge tone="bad">{row.revoked_at ? "Revoked" : "Expired"}</Badge>;
  return at ? (
    <span className="text-muted">{moment(at)}</span>
  ) : (
    <span className="text-muted">never</span>
  );
}

function Create({ onClose, onMade }: { onClose: () => void; onMade: (key: Key) => void }) {
  const me = useMe();
  const queries = useQueryClient();
  const [name, setName] = useState("");
  const [days, setDays] = useState("");
  const [scopes, setScopes] = useState<ScopeName[]>(["inference"]);
  const create = useMutation({
    mutationFn: () => {
      const end = days ? new Date(Date.now() + Number(days) * 86_400_000).toISOString() : null;
      return need(
        api.POST("/api/v1/tenants/{tenant}/keys", {
          params: { path: { tenant: me.tenant } },
          body: { name, scopes, expires_at: end },
        }),
      );
    },
    onSuccess: async (key) => {
      onClose();
      onMade(key);
      await queries.invalidateQueries({ queryKey: ["keys"] });
    },
  });
  return (
    <Dialog title="Create a key" onClose={onClose}>
      <form
        className="flex flex-col gap-4"
        onSubmit={(event: FormEvent) => {
          event.preventDefault();
          create.mutate();
        }}
      >
        <Field label="Name" hint="Which program it is for.">
          {(id) => (
            <input
              id={id}
              required
              maxLength={100}
              className="field"
              value={name}
              onChange={(event) => setName(event.target.value)}
            />
          )}
        </Field>
        <fieldset className="flex flex-col gap-1.5">
          <legend className="pb-1 text-sm font-medium">It may</legend>
          {SCOPES.map((scope) => (
            <label key={scope.name} className="flex items-center gap-2">
              <input
                type="checkbox"
                className="accent-accent"
                checked={scopes.includes(scope.name)}
                onChange={({ target }) =>
                  setScopes(
                    target.checked
                      ? [...scopes, scope.name]
                      : scopes.filter((each) => each !== scope.name),
                  )
                }
              />
              {scope.label}
            </label>
          ))}
          <p className="text-xs text-muted">A key that manages cannot run models.</p>
        </fieldset>
        <Field label="Ends after days (optional)">
          {(id) => (
            <input
              id={id}
              type="number"
              min={1}
              max={36500}
              placeholder="never"
              className="field"
              value={days}
              onChange={(event) => setDays(event.target.value)}
            />
          )}
        </Field>
        <Failure error={create.error} />
        <div className="flex justify-end gap-2">
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="primary" type="submit" disabled={create.isPending || scopes.length === 0}>
            Create
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

function Confirm({
  act,
  onClose,
  onMade,
}: {
  act: { kind: "rotate" | "revoke"; key: Key };
  onClose: () => void;
  onMade: (key: Key) => void;
}) {
  const me = useMe();
  const queries = useQueryClient();
  const [typed, setTyped] = useState("");
  const rotates = act.kind === "rotate";
  const label = act.key.name || act.key.id;
  const change = useMutation({
    mutationFn: async (): Promise<Key | null> => {
      const params = { path: { tenant: me.tenant, key_id: act.key.id } };
      if (rotates) {
        return need(
          api.POST("/api/v1/tenants/{tenant}/keys/{key_id}/rotate", { params, body: {} }),
        );
      }
      await need(api.DELETE("/api/v1/tenants/{tenant}/keys/{key_id}", { params }));
      return null;
    },
    onSuccess: async (key) => {
      onClose();
      if (key) onMade(key);
      await queries.invalidateQueries({ queryKey: ["keys"] });
    },
  });
  return (
    <Dialog title={rotates ? `Rotate ${label}` : `Revoke ${label}`} onClose={onClose}>
      {rotates ? (
        <p>
          A new key takes its place, with the same rights and limits. The old one goes on for a day.
        </p>
      ) : (
        <>
          <p>Programs that use it are refused at once. This cannot be undone.</p>
          <Field label={`Type ${label} to confirm`}>
            {(id) => (
              <input
                id={id}
                className="field"
                value={typed}
                onChange={(event) => setTyped(event.target.value)}
              />
            )}
          </Field>
        </>
      )}
      <Failure error={change.error} />
      <div className="flex justify-end gap-2">
        <Button onClick={onClose}>Cancel</Button>
        <Button
          kind={rotates ? "primary" : "danger"}
          disabled={change.isPending || (!rotates && typed !== label)}
          onClick={() => change.mutate()}
        >
          {rotates ? "Rotate key" : "Revoke key"}
        </Button>
      </div>
    </Dialog>
  );
}
