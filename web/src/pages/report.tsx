/** What admission found out about an adapter, in words. */
import { bytes, compact } from "@/lib/format";
import { summary, type Verdict } from "@/lib/report";
import { Badge, Note } from "@/ui/parts";

const VERDICTS: Record<Verdict, { text: string; tone: "good" | "warn" | "bad" }> = {
  accepted: { text: "Accepted", tone: "good" },
  accepted_with_conversion: { text: "Accepted, converted", tone: "warn" },
  rejected: { text: "Rejected", tone: "bad" },
};

export function AdmissionReport({ report }: { report: unknown }) {
  const found = summary(report);
  if (found === null) return <p className="text-muted">There is no admission report.</p>;
  const verdict = VERDICTS[found.verdict];
  return (
    <section aria-label="Admission report" className="flex flex-col gap-3">
      <div className="flex flex-wrap items-center gap-2">
        <h3 className="font-semibold">Admission</h3>
        <Badge tone={verdict.tone}>{verdict.text}</Badge>
        {found.verdict !== "rejected" && (
          <span className="text-sm text-muted">
            {found.modules} modules, rank {found.ranks}, scale {found.scales},{" "}
            {compact(found.parameters)} parameters, {bytes(found.size)}
          </span>
        )}
      </div>
      {found.message && (
        <Note tone="bad">
          {found.field && <code className="mr-2 font-semibold">{found.field}</code>}
          {found.message}
        </Note>
      )}
      {found.targets.length > 0 && (
        <div className="flex flex-wrap gap-1.5">
          {found.targets.map(({ name, count }) => (
            <Badge key={name}>
              {name} × {count}
            </Badge>
          ))}
        </div>
      )}
      {[...found.conversions, ...found.warnings].map((line) => (
        <Note key={line} tone="warn">
          {line}
        </Note>
      ))}
    </section>
  );
}
