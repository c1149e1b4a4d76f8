/** The ledger: what was asked for, and where the time of one request went. */
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import { api, need, type Schemas } from "@/api/client";
import { count, milliseconds } from "@/lib/format";
import { Ended, Moment, model } from "@/requests/cells";
import { csvAddress, Filters, type Search, wanted } from "@/requests/filters";
import { Timeline } from "@/requests/timeline";
import { useMe } from "@/session";
import { Button, Empty, Failure, Page, Panel, Waiting } from "@/ui/parts";

type Row = Schemas["RequestOut"];
const ROWS = 50;

export function RequestsPage() {
  const me = useMe();
  const search = useSearch({ from: "/shell/requests" });
  const navigate = useNavigate({ from: "/requests" });
  const [open, setOpen] = useState<string | null>(null);
  const every = me.user.is_operator && search.every === true;
  const some = every || me.tenant !== "";
  const list = useQuery({
    queryKey: ["requests", me.tenant, search],
    queryFn: () =>
      need(
        api.GET("/api/v1/requests", {
          params: {
            query: {
              ...wanted({ ...search, every }, me.tenant),
              limit: ROWS,
              before: search.before,
            },
          },
        }),
      ),
    placeholderData: keepPreviousData,
    enabled: some,
  });
  const rows = list.data?.data ?? [];
  const next = list.data?.next ?? null;
  const filtered = Boolean(search.adapter || search.key || search.finish || search.slower);
  const filter = (change: Search) =>
    navigate({ search: { ...search, before: undefined, ...change }, replace: true });
  return (
    <Page
      title="Requests"
      lead="Newest first. Open one to see where its time went."
      actions={
        rows.length > 0 && (
          <a
            className="inline-flex items-center rounded-md border border-line bg-panel px-3 py-1.5 font-medium hover:bg-raised"
            href={csvAddress({ ...search, every }, me.tenant)}
            download="requests.csv"
          >
            Export CSV
          </a>
        )
      }
    >
      <Filters search={search} onChange={filter} />
      <Failure error={list.error} />
      <Panel flush>
        {list.isPending && some && <Waiting />}
        {(list.data || !some) && rows.length === 0 && (
          <Nothing filtered={filtered} more={next !== null} />
        )}
        {rows.length > 0 && (
          <table className="grid-table">
            <thead>
              <tr>
                <th>Began</th>
                {every && <th>Tenant</th>}
                <th>Model</th>
                <th>Ended by</th>
                <th className="num">First token</th>
                <th className="num">In all</th>
                <th className="num">Prompt</th>
                <th className="num">Output</th>
                <th>Key or user</th>
              </tr>
            </thead>
            <tbody>
              {rows.map((row) => (
                <RequestRows
                  key={row.id}
                  row={row}
                  every={every}
                  open={open === row.id}
                  onToggle={() => setOpen(open === row.id ? null : row.id)}
                />
              ))}
            </tbody>
          </table>
        )}
      </Panel>
      {(search.before || next) && (
        <nav aria-label="Pages of the list" className="flex gap-2">
          <Button disabled={!search.before} onClick={() => filter({})}>
            Newest
          </Button>
          <Button disabled={next === null} onClick={() => filter({ before: next ?? undefined })}>
            Older
          </Button>
        </nav>
      )}
    </Page>
  );
}

function Nothing({ filtered, more }: { filtered: boolean; more: boolean }) {
  if (more) {
    return (
      <Empty title="None among the newest">
        <p>So many requests were looked at as one page may. Older ones are on the next page.</p>
      </Empty>
    );
  }
  return filtered ? (
    <Empty title="No such requests">
      <p>Widen the filters above.</p>
    </Empty>
  ) : (
    <Empty title="No requests yet">
      <p>Requests are listed from the moment they begin.</p>
      <Link to="/playground" className="text-accent underline">
        Send one from the playground
      </Link>
    </Empty>
  );
}

function RequestRows({
  row,
  every,
  open,
  onToggle,
}: {
  row: Row;
  every: boolean;
  open: boolean;
  onToggle: () => void;
}) {
  return (
    <>
      <tr>
        <td className="whitespace-nowrap">
          <button
            type="button"
            aria-expanded={open}
            onClick={onToggle}
            className="hover:text-accent"
          >
            {open ? "▾" : "▸"} <Moment at={row.created_at} />
          </button>
        </td>
        {every && <td>{row.tenant}</td>}
        <td className="font-medium whitespace-nowrap">{model(row)}</td>
        <td>
          <Ended reason={row.finish_reason} />
        </td>
        <td className="num">{milliseconds(row.first_token_ms)}</td>
        <td className="num">{row.state === "reserved" ? "–" : milliseconds(row.total_ms)}</td>
        <td className="num">{count(row.prompt_tokens)}</td>
        <td className="num">{count(row.output_tokens)}</td>
        <td>
          <code className="text-muted">{row.key}</code>
        </td>
      </tr>
      {open && (
        <tr>
          <td colSpan={every ? 9 : 8}>
            <Timeline row={row} />
            <Link
              to="/requests/$id"
              params={{ id: row.id }}
              className="inline-block pb-2 text-accent underline"
            >
              Open this request
            </Link>
          </td>
        </tr>
      )}
    </>
  );
}
