/** Every tenant, for operators; and the first step after set-up. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { api, need } from "@/api/client";
import { bytes, moment } from "@/lib/format";
import { useMe, useSignedIn } from "@/session";
import { Button, Empty, Failure, Field, Page, Panel, Waiting } from "@/ui/parts";

export function TenantsPage() {
  const me = useMe();
  const queries = useQueryClient();
  const signedIn = useSignedIn();
  const [name, setName] = useState("");
  const [join, setJoin] = useState(true);
  const tenants = useQuery({
    queryKey: ["tenants"],
    queryFn: () => need(api.GET("/api/v1/tenants", { params: { query: { limit: 1000 } } })),
  });
  const create = useMutation({
    mutationFn: async () => {
      await need(api.POST("/api/v1/tenants", { body: { name } }));
      if (!join) return null;
      await need(
        api.POST("/api/v1/tenants/{tenant}/members", {
          params: { path: { tenant: name } },
          body: { email: me.user.email, role: "owner" },
        }),
      );
      return need(api.GET("/api/v1/session"));
    },
    onSuccess: async (session) => {
      me.choose(name);
      setName("");
      if (session) signedIn(session);
      await queries.invalidateQueries();
    },
  });
  const rows = tenants.data?.data ?? [];
  return (
    <Page
      title="Tenants"
      lead="Each has its own adapters, keys, members and limits, and sees nobody else's."
    >
      <Panel title="Create a tenant">
        <form
          className="flex flex-wrap items-end gap-4"
          onSubmit={(event: FormEvent) => {
            event.preventDefault();
            create.mutate();
          }}
        >
          <div className="min-w-60 flex-1">
            <Field label="Name" hint="Lower-case letters, digits and dashes.">
              {(id) => (
                <input
                  id={id}
                  required
                  pattern="[a-z0-9][a-z0-9\-]{0,62}"
                  className="field"
                  value={name}
                  onChange={(event) => setName(event.target.value)}
                />
              )}
            </Field>
          </div>
          <label className="flex items-center gap-2 pb-7">
            <input
              type="checkbox"
              className="accent-accent"
              checked={join}
              onChange={(event) => setJoin(event.target.checked)}
            />
            Add me as its owner
          </label>
          <div className="pb-5">
            <Button kind="primary" type="submit" disabled={create.isPending}>
              Create
            </Button>
          </div>
        </form>
        <Failure error={create.error} />
      </Panel>
      <Failure error={tenants.error} />
      <Panel flush>
        {tenants.isPending && <Waiting />}
        {tenants.data && rows.length === 0 && (
          <Empty title="No tenants yet">
            <p>Create the first one above, then upload an adapter for it.</p>
          </Empty>
        )}
        {rows.length > 0 && (
          <table className="grid-table">
            <thead>
              <tr>
                <th>Name</th>
                <th className="num">Share of a busy engine</th>
                <th className="num">Most running</th>
                <th className="num">Storage limit</th>
                <th>Created</th>
              </tr>
            </thead>
            <tbody>
              {rows.map((row) => (
                <tr key={row.id}>
                  <td className="font-medium">{row.name}</td>
                  <td className="num">{row.weight}</td>
                  <td className="num">{row.max_running ?? "no limit"}</td>
                  <td className="num">
                    {row.storage_limit === null ? "no limit" : bytes(row.storage_limit)}
                  </td>
                  <td className="whitespace-nowrap text-muted">{moment(row.created_at)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
      </Panel>
    </Page>
  );
}
