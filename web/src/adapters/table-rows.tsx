/** The table of adapters itself. */
import { Link } from "@tanstack/react-router";
import { memo } from "react";
import type { Row, Tier, Traffic } from "@/adapters/table-search";
import { Sparkline } from "@/adapters/table-sparkline";
import { ago, bytes, moment } from "@/lib/format";
import { Badge } from "@/ui/parts";

export const PLACES: Record<Tier, string> = {
  device: "On device",
  loading: "Loading",
  host: "Host memory",
  disk: "Disk",
  database: "Database",
};
// More would make rows of different height.
const ALIASES = 3;

export function AdapterTable({
  rows,
  traffic,
  used,
}: {
  rows: Row[];
  traffic: ReadonlyMap<string, Traffic>;
  /** Whether how much adapters are used may be seen. */
  used: boolean;
}) {
  return (
    <table className="grid-table">
      <thead>
        <tr>
          <th>Name</th>
          <th>Aliases</th>
          <th className="num">Newest</th>
          <th>Base model</th>
          <th className="num">Rank</th>
          <th className="num">Size</th>
          <th>Residency</th>
          {used && <th className="num">Requests, 24 h</th>}
          {used && <th className="num">Last used</th>}
        </tr>
      </thead>
      <tbody>
        {rows.map((row) => (
          <AdapterRow key={row.name} row={row} used={used} traffic={traffic.get(row.name)} />
        ))}
      </tbody>
    </table>
  );
}

/** Drawn again only when what it shows has changed: most rows stay as they are from one second to the next. */
const AdapterRow = memo(function AdapterRow({
  row,
  traffic,
  used,
}: {
  row: Row;
  traffic: Traffic | undefined;
  used: boolean;
}) {
  const newest = row.newest;
  return (
    <tr>
      <td className="whitespace-nowrap">
        <Link
          to="/adapters/$name"
          params={{ name: row.name }}
          className="inline-block max-w-64 truncate align-bottom font-medium hover:text-accent hover:underline"
          title={row.name}
        >
          {row.name}
        </Link>{" "}
        {row.pinned && <Badge>Pinned</Badge>}
      </td>
      <td>
        <Aliases row={row} />
      </td>
      <td className="num" title={newest ? `Since ${exactly(newest.created_at)}` : undefined}>
        {newest ? newest.version : "–"}
      </td>
      <td>
        <span className="block max-w-48 truncate" title={newest?.base}>
          {newest?.base ?? "–"}
        </span>
      </td>
      <td className="num">{newest?.rank ?? "–"}</td>
      <td className="num">{newest ? bytes(newest.size) : "–"}</td>
      <td>
        <Residency tier={row.residency} />
      </td>
      {used && <td className="num">{traffic && <Sparkline hourly={traffic.hourly} />}</td>}
      {used && (
        <td className="num text-muted">
          {traffic &&
            (traffic.last_used_at ? (
              <time dateTime={traffic.last_used_at} title={exactly(traffic.last_used_at)}>
                {ago(traffic.last_used_at)}
              </time>
            ) : (
              "–"
            ))}
        </td>
      )}
    </tr>
  );
});

function Aliases({ row }: { row: Row }) {
  const rest = row.aliases.slice(ALIASES).map((each) => each.alias);
  return (
    <div className="flex gap-1">
      {row.aliases.slice(0, ALIASES).map((alias) => (
        <Badge key={alias.alias}>
          {alias.alias} → {alias.split ? "split" : alias.version}
        </Badge>
      ))}
      {rest.length > 0 && (
        <span className="text-xs text-muted" title={rest.join(", ")}>
          and {rest.length} more
        </span>
      )}
    </div>
  );
}

function Residency({ tier }: { tier: Tier | undefined }) {
  if (tier === undefined) return null;
  if (tier === "database") return <span className="text-muted">{PLACES.database}</span>;
  const tone = tier === "device" ? "accent" : tier === "loading" ? "warn" : "neutral";
  return <Badge tone={tone}>{PLACES[tier]}</Badge>;
}

function exactly(at: string): string {
  return `${moment(at)}, ${Intl.DateTimeFormat().resolvedOptions().timeZone}`;
}
