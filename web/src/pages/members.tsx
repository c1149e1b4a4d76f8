/** Who belongs to a tenant, and who is invited. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, need, type Schemas } from "@/api/client";
import { ago, moment } from "@/lib/format";
import { Invite } from "@/people/invite";
import { ROLES, type RoleName } from "@/people/roles";
import { useMe } from "@/session";
import { ForAdmins } from "@/ui/for-admins";
import { Badge, Button, Dialog, Empty, Failure, Field, Page, Panel, Waiting } from "@/ui/parts";

type Member = Schemas["MemberOut"];

export function MembersPage() {
  const me = useMe();
  const [inviting, setInviting] = useState(false);
  if (!me.can("admin"))
    return <ForAdmins title="Members" what="Admins of the tenant see to its members." />;
  return (
    <Page
      title="Members"
      lead={`People who see ${me.tenant}, and what they may do.`}
      actions={
        <Button kind="primary" onClick={() => setInviting(true)}>
          Invite somebody
        </Button>
      }
    >
      <Members />
      <Invitations />
      <Panel title="Roles">
        <dl className="grid gap-x-6 gap-y-2 sm:grid-cols-[8rem_1fr]">
          {ROLES.map(({ name, may }) => (
            <div key={name} className="contents">
              <dt className="font-medium">{name}</dt>
              <dd className="text-muted">{may}</dd>
            </div>
          ))}
        </dl>
      </Panel>
      {inviting && <Invite onClose={() => setInviting(false)} />}
    </Page>
  );
}

function Members() {
  const me = useMe();
  const queries = useQueryClient();
  const [leaving, setLeaving] = useState<Member | null>(null);
  const tenant = me.tenant;
  const list = useQuery({
    queryKey: ["members", tenant],
    queryFn: () =>
      need(api.GET("/api/v1/tenants/{tenant}/members", { params: { path: { tenant } } })),
  });
  const change = useMutation({
    mutationFn: ({ user_id, role }: { user_id: string; role: RoleName }) =>
      need(
        api.PATCH("/api/v1/tenants/{tenant}/members/{user_id}", {
          params: { path: { tenant, user_id } },
          body: { role },
        }),
      ),
    onSettled: () => queries.invalidateQueries({ queryKey: ["members"] }),
  });
  const rows = list.data?.data ?? [];
  return (
    <Panel title="Members" note={list.data && `${rows.length} in all`} flush>
      <Failure error={list.error ?? change.error} />
      {list.isPending && <Waiting />}
      {list.data && rows.length === 0 && (
        <Empty title="Nobody belongs to it yet">
          <p>Invite its first owner.</p>
        </Empty>
      )}
      {rows.length > 0 && (
        <table className="grid-table">
          <thead>
            <tr>
              <th>Person</th>
              <th>Role</th>
              <th>Last sign-in</th>
              <th>Since</th>
              <th>
                <span className="sr-only">Actions</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {rows.map((row) => (
              <tr key={row.id}>
                <td>
                  <div className="font-medium">{row.name || row.email}</div>
                  {row.name && <div className="text-xs text-muted">{row.email}</div>}
                  {row.disabled && <Badge tone="bad">Disabled</Badge>}
                </td>
                <td>
                  <select
                    className="field w-auto py-1"
                    aria-label={`Role of ${row.email}`}
                    value={row.role}
                    disabled={change.isPending}
                    onChange={({ target }) =>
                      change.mutate({ user_id: row.id, role: target.value as RoleName })
                    }
                  >
                    {ROLES.map(({ name }) => (
                      <option key={name}>{name}</option>
                    ))}
                  </select>
                </td>
                <td className="whitespace-nowrap text-muted">
                  {row.last_sign_in_at ? ago(row.last_sign_in_at) : "never"}
                </td>
                <td className="whitespace-nowrap text-muted">{moment(row.since)}</td>
                <td className="num">
                  <Button kind="danger" onClick={() => setLeaving(row)}>
                    Remove
                  </Button>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {leaving && <Remove member={leaving} onClose={() => setLeaving(null)} />}
    </Panel>
  );
}

function Remove({ member, onClose }: { member: Member; onClose: () => void }) {
  const me = useMe();
  const queries = useQueryClient();
  const [typed, setTyped] = useState("");
  const remove = useMutation({
    mutationFn: () =>
      need(
        api.DELETE("/api/v1/tenants/{tenant}/members/{user_id}", {
          params: { path: { tenant: me.tenant, user_id: member.id } },
        }),
      ),
    onSuccess: async () => {
      onClose();
      await queries.invalidateQueries({ queryKey: ["members"] });
    },
  });
  return (
    <Dialog title={`Remove ${member.email}`} onClose={onClose}>
      <p>
        They no longer see {me.tenant} and are signed out of it at once. The account and the keys
        they made stay.
      </p>
      <Field label={`Type ${member.email} to confirm`}>
        {(id) => (
          <input
            id={id}
            className="field"
            value={typed}
            onChange={(event) => setTyped(event.target.value)}
          />
        )}
      </Field>
      <Failure error={remove.error} />
      <div className="flex justify-end gap-2">
        <Button onClick={onClose}>Cancel</Button>
        <Button
          kind="danger"
          disabled={remove.isPending || typed !== member.email}
          onClick={() => remove.mutate()}
        >
          Remove member
        </Button>
      </div>
    </Dialog>
  );
}

function Invitations() {
  const { tenant } = useMe();
  const queries = useQueryClient();
  const list = useQuery({
    queryKey: ["invitations", tenant],
    queryFn: () =>
      need(api.GET("/api/v1/tenants/{tenant}/invitations", { params: { path: { tenant } } })),
  });
  const revoke = useMutation({
    mutationFn: (invitation_id: string) =>
      need(
        api.DELETE("/api/v1/tenants/{tenant}/invitations/{invitation_id}", {
          params: { path: { tenant, invitation_id } },
        }),
      ),
    onSettled: () => queries.invalidateQueries({ queryKey: ["invitations"] }),
  });
  const rows = list.data?.data ?? [];
  if (list.data && rows.length === 0) return null;
  return (
    <Panel title="Invited" note="They have not accepted yet" flush>
      <Failure error={list.error ?? revoke.error} />
      {list.isPending && <Waiting rows={2} />}
      {rows.length > 0 && (
        <table className="grid-table">
          <thead>
            <tr>
              <th>E-mail</th>
              <th>Role</th>
              <th>Ends</th>
              <th>
                <span className="sr-only">Actions</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {rows.map((row) => (
              <tr key={row.id}>
                <td className="font-medium">{row.email}</td>
                <td>{row.role}</td>
                <td className="whitespace-nowrap text-muted">{moment(row.expires_at)}</td>
                <td className="num">
                  <Button
                    kind="danger"
                    disabled={revoke.isPending}
                    aria-label={`Take back the invitation of ${row.email}`}
                    onClick={() => revoke.mutate(row.id)}
                  >
                    Take back
                  </Button>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Panel>
  );
}
