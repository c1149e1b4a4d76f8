/** A request of the playground as a program would send it. */
export interface Ask {
  chat: boolean;
  model: string;
  prompt: string;
  system: string;
  /** What was said before `prompt` in a chat. */
  before?: { role: "user" | "assistant"; content: string }[];
  params: Record<string, unknown>;
}

/** The body both routes take: that of the same route under /v1. */
export function body(ask: Ask): Record<string, unknown> {
  const system = ask.system ? [{ role: "system", content: ask.system }] : [];
  const said = ask.chat
    ? { messages: [...system, ...(ask.before ?? []), { role: "user", content: ask.prompt }] }
    : { prompt: ask.prompt };
  return { model: ask.model, ...said, ...ask.params };
}

const path = (ask: Ask) => (ask.chat ? "chat/completions" : "completions");

export function curl(ask: Ask, origin: string): string {
  // In single quotes a shell changes nothing; a quote itself has to be stepped around.
  const data = JSON.stringify(body(ask)).replaceAll("'", `'\\''`);
  return [
    `curl ${origin}/v1/${path(ask)} \\`,
    `  -H "Authorization: Bearer $LORAPLEX_API_KEY" -H "Content-Type: application/json" \\`,
    `  -d '${data}'`,
  ].join("\n");
}

// What OpenAI's client has no argument for.
const EXTRAS = new Set(["top_k", "min_p", "repetition_penalty"]);

export function python(ask: Ask, origin: string): string {
  const all = Object.entries(body(ask));
  const own = all.filter(([name]) => !EXTRAS.has(name));
  const extra = Object.fromEntries(all.filter(([name]) => EXTRAS.has(name)));
  const lines = own.map(([name, value]) => `    ${name}=${literal(value)},`);
  if (Object.keys(extra).length > 0) lines.push(`    extra_body=${literal(extra)},`);
  const call = ask.chat ? "chat.completions" : "completions";
  const text = ask.chat ? "choices[0].message.content" : "choices[0].text";
  return [
    "import os",
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url="${origin}/v1", api_key=os.environ["LORAPLEX_API_KEY"])`,
    `answer = client.${call}.create(`,
    ...lines,
    ")",
    `print(answer.${text})`,
  ].join("\n");
}

/** JSON is Python but for three words. */
function literal(value: unknown): string {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object") {
    const pairs = Object.entries(value).map(
      ([name, each]) => `${JSON.stringify(name)}: ${literal(each)}`,
    );
    return `{${pairs.join(", ")}}`;
  }
  return JSON.stringify(value);
}
