/** Reads an admission report, which the API describes as any object. */
export type Verdict = "accepted" | "accepted_with_conversion" | "rejected";

export interface Summary {
  verdict: Verdict;
  field: string | null;
  message: string | null;
  conversions: string[];
  warnings: string[];
  modules: number;
  /** Kinds of modules, such as q_proj, with how many layers have it. */
  targets: { name: string; count: number }[];
  ranks: string;
  scales: string;
  parameters: number;
  size: number;
}

interface Module {
  name: string;
  rank: number;
  scale: number;
}

export function summary(report: unknown): Summary | null {
  if (typeof report !== "object" || report === null) return null;
  const found = report as Record<string, unknown>;
  const modules = (Array.isArray(found.modules) ? found.modules : []) as Module[];
  const kinds = new Map<string, number>();
  for (const { name } of modules) {
    const kind = name.split(".").at(-1) ?? name;
    kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
  }
  return {
    verdict: (found.verdict as Verdict) ?? "rejected",
    field: text(found.field),
    message: text(found.message),
    conversions: texts(found.conversions),
    warnings: texts(found.warnings),
    modules: modules.length,
    targets: [...kinds].map(([name, count]) => ({ name, count })),
    ranks: span(modules.map(({ rank }) => rank)),
    scales: span(modules.map(({ scale }) => scale)),
    parameters: Number(found.parameters ?? 0),
    size: Number(found.size ?? 0),
  };
}

/** One value, or the least and the most of several. */
function span(values: number[]): string {
  const known = values.filter((value) => Number.isFinite(value));
  if (known.length === 0) return "–";
  const [least, most] = [Math.min(...known), Math.max(...known)].map((value) => +value.toFixed(3));
  return least === most ? `${least}` : `${least} to ${most}`;
}

function text(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.map(String) : [];
}
