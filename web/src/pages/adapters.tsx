/** The adapters of a tenant, a page at a time; search and place are in the address. */
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { api, need } from "@/api/client";
import { ago, moment } from "@/lib/format";
import { type Engines, useEngines } from "@/live/engines";
import { useMe } from "@/session";
import { Badge, Button, Code, Empty, Failure, Page, Panel, Waiting } from "@/ui/parts";

const ROWS = 50;
const TYPING_MS = 250;

export function AdaptersPage() {
  const me = useMe();
  const { search, after } = useSearch({ from: "/shell/adapters" });
  const navigate = useNavigate({ from: "/adapters" });
  const [typed, setTyped] = useState(search ?? "");
  useEffect(() => {
    if (typed === (search ?? "")) return;
    const timer = setTimeout(
      () => navigate({ search: { search: typed || undefined, after: undefined }, replace: true }),
      TYPING_MS,
    );
    return () => clearTimeout(timer);
  }, [typed, search, navigate]);
  const list = useQuery({
    queryKey: ["adapters", me.tenant, search, after],
    queryFn: () =>
      need(
        api.GET("/api/v1/adapters", {
          params: { query: { tenant: me.tenant, limit: ROWS, search, after } },
        }),
      ),
    placeholderData: keepPreviousData,
    enabled: me.tenant !== "",
  });
  const engines = useEngines();
  const rows = list.data?.data ?? [];
  const next = list.data?.next ?? null;
  const searched = search !== undefined || after !== undefined;
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
      <input
        type="search"
        aria-label="Search adapters by name"
        placeholder="Search by name"
        className="field max-w-sm"
        value={typed}
        onChange={(event) => setTyped(event.target.value)}
      />
      <Failure error={list.error} />
      <Panel flush>
        {list.isPending && <Waiting />}
        {list.data && rows.length === 0 && searched && (
          <Empty title="No adapter matches">
            <p>Names are searched, in upper and lower case.</p>
          </Empty>
        )}
        {list.data && rows.length === 0 && !searched && <NoAdapters />}
        {rows.length > 0 && (
          <table className="grid-table">
            <thead>
              <tr>
                <th>Name</th>
                <th>Aliases</th>
                <th>Residency</th>
                <th className="num">Created</th>
              </tr>
            </thead>
            <tbody>
              {rows.map((row) => (
                <tr key={row.name}>
                  <td>
                    <Link
                      to="/adapters/$name"
                      params={{ name: row.name }}
                      className="font-medium hover:text-accent hover:underline"
                    >
                      {row.name}
                    </Link>{" "}
                    {row.pinned && <Badge>Pinned</Badge>}
                  </td>
                  <td>
                    <div className="flex flex-wrap gap-1">
                      {row.aliases.map((alias) => (
                        <Badge key={alias.alias}>
                          {alias.alias} → {alias.split ? "split" : alias.version}
                        </Badge>
                      ))}
                    </div>
                  </td>
                  <td>
                    <Residency engines={engines.data} adapter={row.name} tenant={me.tenant} />
                  </td>
                  <td className="num text-muted" title={moment(row.created_at)}>
                    {ago(row.created_at)}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
      </Panel>
      {(after || next) && (
        <nav aria-label="Pages of the list" className="flex gap-2">
          <Button
            disabled={!after}
            onClick={() => navigate({ search: { search, after: undefined } })}
          >
            First page
          </Button>
          <Button
            disabled={next === null}
            onClick={() => navigate({ search: { search, after: next ?? undefined } })}
          >
            Next page
          </Button>
        </nav>
      )}
    </Page>
  );
}

const NEAREST = ["device", "loading", "host", "disk"];
const PLACES: Record<string, string> = {
  device: "On device",
  loading: "Loading",
  host: "Host memory",
  disk: "Disk",
};

function Residency({
  engines,
  adapter,
  tenant,
}: {
  engines: Engines | undefined;
  adapter: string;
  tenant: string;
}) {
  const tiers = Object.values(engines ?? {})
    .flatMap((engine) => engine.adapters)
    .filter((each) => each.adapter === adapter && each.tenant === tenant)
    .map((each) => each.tier as string);
  const nearest = NEAREST.find((tier) => tiers.includes(tier));
  if (nearest === undefined) return <span className="text-muted">Database</span>;
  return <Badge tone={nearest === "device" ? "accent" : "neutral"}>{PLACES[nearest]}</Badge>;
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
