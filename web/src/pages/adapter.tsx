/** One adapter: what its aliases name, its versions, and what is known of one of them. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import { api, need, type Schemas } from "@/api/client";
import { bytes, moment } from "@/lib/format";
import { AdmissionReport } from "@/pages/report";
import { useMe } from "@/session";
import { Badge, Button, Dialog, Empty, Failure, Page, Panel, Waiting } from "@/ui/parts";

type Alias = Schemas["AliasOut"];
type Version = Schemas["VersionOut"];
type Change =
  | { kind: "promote"; version: number; now: number | null }
  | { kind: "roll back"; alias: Alias };
const PROD = "prod";

export function AdapterPage() {
  const me = useMe();
  const { name } = useParams({ from: "/shell/adapters/$name" });
  const { version } = useSearch({ from: "/shell/adapters/$name" });
  const [change, setChange] = useState<Change | null>(null);
  const found = useQuery({
    queryKey: ["adapter", me.tenant, name],
    queryFn: () =>
      need(
        api.GET("/api/v1/adapters/{name}", {
          params: { path: { name }, query: { tenant: me.tenant } },
        }),
      ),
  });
  const versions = found.data?.versions ?? [];
  const shown = version ?? versions[0]?.version;
  const prod = found.data?.aliases.find(({ alias }) => alias === PROD);
  return (
    <Page
      title={name}
      lead={<Link to="/adapters">← All adapters</Link>}
      actions={
        me.can("inference") && (
          <Link
            to="/playground"
            search={{ model: name }}
            className="rounded-md border border-line bg-panel px-3 py-1.5 font-medium hover:bg-raised"
          >
            Try it
          </Link>
        )
      }
    >
      <Failure error={found.error} />
      {found.isPending && <Waiting />}
      {found.data && (
        <>
          <Aliases
            aliases={found.data.aliases}
            onRollBack={(alias) => setChange({ kind: "roll back", alias })}
          />
          <Versions
            name={name}
            versions={versions}
            shown={shown}
            onPromote={(n) =>
              setChange({ kind: "promote", version: n, now: prod?.version ?? null })
            }
          />
          {shown !== undefined && <Detail key={shown} name={name} n={shown} />}
        </>
      )}
      {change && <Confirm name={name} change={change} onClose={() => setChange(null)} />}
    </Page>
  );
}

function named(alias: Alias): string {
  if (alias.split === null) return `version ${alias.version}`;
  const shares = Object.entries(alias.split as Record<string, number>);
  return shares.map(([n, share]) => `${(share * 100).toFixed(0)} % version ${n}`).join(", ");
}

function Aliases({
  aliases,
  onRollBack,
}: {
  aliases: Alias[];
  onRollBack: (alias: Alias) => void;
}) {
  const me = useMe();
  return (
    <Panel flush title="Aliases" note="A plain name means prod, or without it the newest version">
      {aliases.length === 0 ? (
        <p className="p-4 text-muted">None yet. Promote a version to make prod name it.</p>
      ) : (
        <table className="grid-table">
          <thead>
            <tr>
              <th>Alias</th>
              <th>Names</th>
              <th>Before</th>
              <th>Changed</th>
              <th />
            </tr>
          </thead>
          <tbody>
            {aliases.map((alias) => (
              <tr key={alias.alias}>
                <td className="font-medium">{alias.alias}</td>
                <td>{named(alias)}</td>
                <td className="text-muted">
                  {alias.previous_split
                    ? "a split"
                    : alias.previous !== null
                      ? `version ${alias.previous}`
                      : "–"}
                </td>
                <td className="whitespace-nowrap text-muted">{moment(alias.updated_at)}</td>
                <td className="num">
                  {me.can("adapters:write") &&
                    (alias.previous !== null || alias.previous_split) && (
                      <Button onClick={() => onRollBack(alias)}>Roll back</Button>
                    )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Panel>
  );
}

function Versions({
  name,
  versions,
  shown,
  onPromote,
}: {
  name: string;
  versions: Version[];
  shown: number | undefined;
  onPromote: (version: number) => void;
}) {
  const me = useMe();
  return (
    <Panel flush title="Versions" note={`${versions.length}, newest first`}>
      {versions.length === 0 ? (
        <Empty title="Every version has been deleted" />
      ) : (
        <table className="grid-table">
          <thead>
            <tr>
              <th>Version</th>
              <th>Aliases</th>
              <th>Base model</th>
              <th className="num">Rank</th>
              <th className="num">Size</th>
              <th>From</th>
              <th>Added</th>
              <th />
            </tr>
          </thead>
          <tbody>
            {versions.map((row) => (
              <tr key={row.version} className={row.version === shown ? "bg-raised" : ""}>
                <td className="whitespace-nowrap">
                  <Link
                    to="/adapters/$name"
                    params={{ name }}
                    search={{ version: row.version }}
                    className="font-medium hover:text-accent hover:underline"
                  >
                    {row.model}
                  </Link>
                </td>
                <td>
                  <div className="flex flex-wrap gap-1">
                    {row.aliases.map((alias) => (
                      <Badge key={alias} tone={alias === PROD ? "accent" : "neutral"}>
                        {alias}
                      </Badge>
                    ))}
                  </div>
                </td>
                <td>{row.base}</td>
                <td className="num">{row.rank}</td>
                <td className="num">{bytes(row.size)}</td>
                <td>{row.parent === null ? "–" : `version ${row.parent}`}</td>
                <td className="whitespace-nowrap text-muted">{moment(row.created_at)}</td>
                <td className="num">
                  {me.can("adapters:write") && !row.aliases.includes(PROD) && (
                    <Button onClick={() => onPromote(row.version)}>Promote</Button>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Panel>
  );
}

function Detail({ name, n }: { name: string; n: number }) {
  const me = useMe();
  const found = useQuery({
    queryKey: ["version", me.tenant, name, n],
    queryFn: () =>
      need(
        api.GET("/api/v1/adapters/{name}/versions/{n}", {
          params: { path: { name, n }, query: { tenant: me.tenant } },
        }),
      ),
  });
  const version = found.data;
  const source = version?.source as Record<string, unknown> | null | undefined;
  return (
    <Panel title={`Version ${n}`} note={version && `added by ${version.created_by}`}>
      <Failure error={found.error} />
      {found.isPending && <Waiting />}
      {version && (
        <div className="flex flex-col gap-5">
          <dl className="grid gap-x-6 gap-y-3 sm:grid-cols-3">
            <Fact label="Model name in requests" value={version.model} mono />
            <Fact label="Came by" value={String(source?.kind ?? "push")} />
            <Fact
              label="Made from"
              value={version.parent ? `version ${version.parent}` : "no version here"}
            />
            <Fact
              label="Chat template"
              value={version.has_chat_template ? "its own" : "the base model's"}
            />
            <Fact label="Digest" value={version.digest.slice(0, 16)} mono />
            <Fact label="Weights, SHA-256" value={version.weights_sha256.slice(0, 16)} mono />
          </dl>
          <AdmissionReport report={version.report} />
          <a
            className="self-start text-accent underline"
            href={`/api/v1/adapters/${name}/versions/${n}/archive?tenant=${me.tenant}`}
          >
            Download as tar
          </a>
        </div>
      )}
    </Panel>
  );
}

function Fact({ label, value, mono }: { label: string; value: string; mono?: boolean }) {
  return (
    <div className="min-w-0">
      <dt className="text-xs text-muted">{label}</dt>
      <dd className={`truncate ${mono ? "font-mono text-xs leading-6" : ""}`}>{value}</dd>
    </div>
  );
}

function Confirm({ name, change, onClose }: { name: string; change: Change; onClose: () => void }) {
  const me = useMe();
  const queries = useQueryClient();
  const navigate = useNavigate();
  const alias = change.kind === "promote" ? PROD : change.alias.alias;
  const act = useMutation({
    mutationFn: () => {
      const params = { path: { name, alias }, query: { tenant: me.tenant } };
      // What the page shows is what the decision is about: if somebody else has changed it since, nothing happens.
      if (change.kind === "promote") {
        const body = { version: change.version, expected: change.now };
        return need(api.PUT("/api/v1/adapters/{name}/aliases/{alias}", { params, body }));
      }
      const expected = change.alias.split ?? change.alias.version;
      return need(
        api.POST("/api/v1/adapters/{name}/aliases/{alias}/rollback", {
          params,
          body: { expected: expected as number },
        }),
      );
    },
    onSuccess: async () => {
      await queries.invalidateQueries({ queryKey: ["adapter", me.tenant, name] });
      navigate({ to: "/adapters/$name", params: { name } });
      onClose();
    },
  });
  const after =
    change.kind === "promote"
      ? `version ${change.version}`
      : change.alias.previous_split
        ? "the split of before"
        : `version ${change.alias.previous}`;
  const before =
    change.kind === "promote"
      ? change.now === null
        ? "nothing yet"
        : `version ${change.now}`
      : named(change.alias);
  return (
    <Dialog
      title={change.kind === "promote" ? "Promote this version" : "Roll back"}
      onClose={onClose}
    >
      <p>
        <b>
          {name}@{alias}
        </b>{" "}
        names {before}. It will name <b>{after}</b> from the next request on.
      </p>
      <Failure error={act.error} />
      <div className="flex justify-end gap-2">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind="primary" disabled={act.isPending} onClick={() => act.mutate()}>
          {change.kind === "promote" ? `Promote to ${alias}` : `Roll back ${alias}`}
        </Button>
      </div>
    </Dialog>
  );
}
