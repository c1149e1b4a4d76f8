/** How parts of a request are shown, in the list and on its own page. */
import type { Schemas } from "@/api/client";
import { moment } from "@/lib/format";
import { Badge } from "@/ui/parts";

type Row = Schemas["RequestOut"];
const BAD = new Set(["error", "lost", "refused"]);

export function model(row: Row): string {
  return row.adapter === null ? row.base : `${row.adapter}@${row.version}`;
}

export function Ended({ reason }: { reason: string }) {
  const tone = BAD.has(reason) ? "bad" : reason === "running" ? "accent" : "neutral";
  return <Badge tone={tone}>{reason}</Badge>;
}

/** With seconds and zone on hover. */
export function Moment({ at }: { at: string }) {
  const whole = new Date(at).toLocaleString("en-GB", { dateStyle: "full", timeStyle: "long" });
  return (
    <time dateTime={at} title={whole}>
      {moment(at)}
    </time>
  );
}
