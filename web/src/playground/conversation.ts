/** What is said to a model: the turns of a chat as one column has had them. */
import type { Ask } from "@/lib/snippets";
import type { Run } from "./runs";

/** Models of the address, at most `MOST_COLUMNS`, each once. */
export const MOST_COLUMNS = 4;

export function modelsOf(text: string | undefined): string[] {
  return [...new Set((text ?? "").split(",").filter(Boolean))].slice(0, MOST_COLUMNS);
}

/** The turns before `turn` that this column has answered; what failed or was stopped before its first word is left
 * out, since templates want answers after questions. */
export function before(
  prompts: readonly string[],
  runs: Record<string, Run>,
  column: number,
  turn: number,
): NonNullable<Ask["before"]> {
  return prompts.slice(0, turn).flatMap((prompt, i) => {
    const text = runs[placeOf(column, i)]?.text;
    if (!text) return [];
    return [
      { role: "user" as const, content: prompt },
      { role: "assistant" as const, content: text },
    ];
  });
}

/** Where the answer of a column to a turn is kept. */
export const placeOf = (column: number, turn: number) => `${column}:${turn}`;
