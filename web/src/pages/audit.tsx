/** Who changed what. */
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { api, need } from "@/api/client";
import { moment } from "@/lib/format";
import { useMe } from "@/session";
import { Badge, Button, Empty, Failure, Page, Panel, Waiting } from "@/ui/parts";

export function AuditPage() {
  const me = useMe();
  const { before, action } = useSearch({ from: "/shell/audit" });
  const navigate = useNavigate({ from: "/audit" });
  const tenant = me.user.is_operator ? undefined : me.tenant;
  const list = useQuery({
    queryKey: ["audit", tenant, before, action],
    queryFn: () =>
      need(api.GET("/api/v1/audit", { params: { query: { tenant, before, action, limit: 50 } } })),
    placeholderData: keepPreviousData,
  });
  const rows = list.data?.data ?? [];
  const next = list.data?.next ?? null;
  return (
    <Page
      title="Audit log"
      lead={
        me.user.is_operator
          ? "Changes of all tenants, newest first."
          : `Changes in ${me.tenant}, newest first.`
      }
    >
      <input
        type="search"
        aria-label="Filter by the beginning of the action"
        placeholder="Action begins with, such as alias."
        className="field max-w-sm"
        defaultValue={action}
        onChange={(event) =>
          navigate({
            search: { action: event.target.value || undefined, before: undefined },
            replace: true,
          })
        }
      />
      <Failure error={list.error} />
      <Panel flush>
        {list.isPending && <Waiting />}
        {list.data && rows.length === 0 && (
          <Empty title="No such entry">
            <p>Every change that somebody makes is written down here.</p>
          </Empty>
        )}
        {rows.length > 0 && (
          <table className="grid-table">
            <thead>
              <tr>
                <th>When</th>
                <th>Action</th>
                <th>On</th>
                <th>By</th>
                {me.user.is_operator && <th>Tenant</th>}
                <th>Change</th>
              </tr>
            </thead>
            <tbody>
              {rows.map((row) => (
                <tr key={row.id}>
                  <td className="whitespace-nowrap text-muted">{moment(row.created_at)}</td>
                  <td>
                    <Badge>{row.action}</Badge>
                  </td>
                  <td className="max-w-56 truncate" title={row.target}>
                    {row.target}
                  </td>
                  <td className="max-w-48 truncate">{row.actor_name || row.actor}</td>
                  {me.user.is_operator && <td>{row.tenant}</td>}
                  <td>
                    <code className="text-xs break-all text-muted">
                      {change(row.before, row.after)}
                    </code>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
      </Panel>
      {(before || next) && (
        <nav aria-label="Pages of the list" className="flex gap-2">
          <Button
            disabled={!before}
            onClick={() => navigate({ search: { action, before: undefined } })}
          >
            Newest
          </Button>
          <Button
            disabled={next === null}
            onClick={() => navigate({ search: { action, before: next ?? undefined } })}
          >
            Older
          </Button>
        </nav>
      )}
    </Page>
  );
}

const LONGEST = 160;

function change(before: unknown, after: unknown): string {
  const text = [before, after]
    .filter((side) => side !== null)
    .map((side) => JSON.stringify(side))
    .join(" → ");
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}
