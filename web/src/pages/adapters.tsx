/** The adapters of a tenant, a page at a time; filters and place are in the address. */
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { useRef } from "react";
import { Filters } from "@/adapters/table-filters";
import { AdapterTable } from "@/adapters/table-rows";
import { isFiltered, type Search, useAdapters, useTraffic } from "@/adapters/table-search";
import { useMe } from "@/session";
import { Button, Code, Empty, Failure, Page, Panel, Waiting } from "@/ui/parts";

export function AdaptersPage() {
  const me = useMe();
  const search = useSearch({ from: "/shell/adapters" });
  const navigate = useNavigate({ from: "/adapters" });
  const list = useAdapters(search);
  const traffic = useTraffic(search);
  const rows = list.data?.data ?? [];
  const filter = (change: Search) =>
    navigate({ search: (before) => ({ ...before, after: undefined, ...change }), replace: true });
  if (me.tenant === "") {
    return (
      <Page title="Adapters">
        <Empty title="There is no tenant yet">
          <p>Adapters belong to a tenant.</p>
          <Link to="/tenants" className="text-accent underline">
            Create the first one
          </Link>
        </Empty>
      </Page>
    );
  }
  return (
    <Page
      title="Adapters"
      lead={`Fine-tunes of ${me.tenant}. Requests name them as model.`}
      actions={
        me.can("adapters:write") && (
          <Button kind="primary" onClick={() => navigate({ to: "/upload" })}>
            Upload adapter
          </Button>
        )
      }
    >
      <Filters search={search} onChange={filter} />
      <Failure error={list.error} />
      <Panel flush>
        {list.isPending && <Waiting />}
        {list.data && rows.length === 0 && <Nothing search={search} />}
        {rows.length > 0 && <AdapterTable rows={rows} traffic={traffic} used={me.can("usage")} />}
      </Panel>
      <Pages
        search={search}
        next={list.isPlaceholderData ? null : (list.data?.next ?? null)}
        onTurn={(after) => navigate({ search: (before) => ({ ...before, after }) })}
      />
    </Page>
  );
}

/** The server knows what comes next; what came before is known for the pages that were turned here. */
function Pages({
  search,
  next,
  onTurn,
}: {
  search: Search;
  next: string | null;
  onTurn: (after: string | undefined) => void;
}) {
  const { after, ...filters } = search;
  const filtered = JSON.stringify(filters);
  const turned = useRef({ filtered, before: new Map<string, string | undefined>() });
  if (turned.current.filtered !== filtered) turned.current = { filtered, before: new Map() };
  if (after === undefined && next === null) return null;
  const { before } = turned.current;
  return (
    <nav aria-label="Pages of the list" className="flex gap-2">
      <Button disabled={after === undefined} onClick={() => onTurn(undefined)}>
        First page
      </Button>
      <Button
        disabled={after === undefined || !before.has(after)}
        onClick={() => onTurn(before.get(after ?? ""))}
      >
        Previous page
      </Button>
      <Button
        disabled={next === null}
        onClick={() => {
          if (next === null) return;
          before.set(next, after);
          onTurn(next);
        }}
      >
        Next page
      </Button>
    </nav>
  );
}

function Nothing({ search }: { search: Search }) {
  if (isFiltered(search)) {
    return (
      <Empty title="No adapter matches">
        <p>Parts of names are searched, in upper and lower case.</p>
        <Link to="/adapters" className="text-accent underline">
          Clear the filters
        </Link>
      </Empty>
    );
  }
  if (search.after === undefined) return <NoAdapters />;
  return (
    <Empty title="No adapters after this">
      <Link to="/adapters" className="text-accent underline">
        Back to the first page
      </Link>
    </Empty>
  );
}

function NoAdapters() {
  const me = useMe();
  return (
    <Empty title="No adapters yet">
      {me.can("adapters:write") ? (
        <>
          <p>
            <Link to="/upload" className="text-accent underline">
              Upload
            </Link>{" "}
            what PEFT saved, or push it from where you trained it:
          </p>
          <Code
            text={`export LORAPLEX_URL=${location.origin} LORAPLEX_API_KEY=...\nloraplex adapter push DIR --name my-adapter --alias prod`}
          />
        </>
      ) : (
        <p>Members of the tenant can upload some.</p>
      )}
    </Empty>
  );
}
