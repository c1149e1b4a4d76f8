/** Trying models side by side: by the session, on the tenant's bill, streamed as programs get it. */
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { type FormEvent, useState } from "react";
import { api, need } from "@/api/client";
import type { Ask } from "@/lib/snippets";
import { Answer } from "@/playground/answer";
import { before, MOST_COLUMNS, modelsOf, placeOf } from "@/playground/conversation";
import { fieldsOf, Parameters, START } from "@/playground/parameters";
import { useRuns } from "@/playground/runs";
import { Same } from "@/playground/same";
import { useMe } from "@/session";
import { Choice } from "@/ui/choice";
import { Button, Empty, Failure, Field, Page, Panel } from "@/ui/parts";

const SHOWN = 20;

export function PlaygroundPage() {
  const me = useMe();
  if (me.can("inference")) return <Tries key={me.tenant} />;
  return (
    <Page title="Playground">
      <Empty title="You cannot run models here">
        <p>
          Models run on a tenant's bill: members and admins of {me.tenant || "a tenant"} may run
          them.
          {me.user.is_operator && " Add yourself to a tenant to try its models."}
        </p>
        {me.user.is_operator && (
          <Link to="/tenants" className="text-accent underline">
            Tenants
          </Link>
        )}
      </Empty>
    </Page>
  );
}

function Tries() {
  const me = useMe();
  const { model: wanted, mode } = useSearch({ from: "/shell/playground" });
  const navigate = useNavigate({ from: "/playground" });
  const find = async (search: string) => {
    const query = { tenant: me.tenant, search, limit: SHOWN };
    const found = await need(api.GET("/api/v1/playground/models", { params: { query } }));
    return found.data.map(({ id }) => id);
  };
  const first = useQuery({ queryKey: ["models", me.tenant], queryFn: () => find("") });
  const [system, setSystem] = useState("");
  const [prompt, setPrompt] = useState("");
  const [prompts, setPrompts] = useState<string[]>([]);
  const [values, setValues] = useState(START);
  const [coloured, setColoured] = useState(true);
  const { runs, start, stop, stopAll, clear } = useRuns(me.tenant);

  const chat = mode !== "completion";
  const named = modelsOf(wanted);
  const models = named.length > 0 ? named : modelsOf(first.data?.[0]);
  const running = Object.values(runs).some(({ state }) => state === "running");
  const choose = (all: string[]) =>
    navigate({ search: (now) => ({ ...now, model: all.join(",") || undefined }), replace: true });
  const forget = () => {
    setPrompts([]);
    clear(() => false);
  };
  const ask = (column: number, said: string, turn: number): Ask => ({
    chat,
    model: models[column] ?? "",
    prompt: said,
    system: chat ? system : "",
    before: chat ? before(prompts, runs, column, turn) : [],
    params: fieldsOf(values, chat),
  });
  const run = (said: string, turn: number) => {
    setPrompts([...prompts.slice(0, turn), said]);
    for (const column of models.keys()) start(placeOf(column, turn), ask(column, said, turn));
  };
  const submit = (event: FormEvent) => {
    event.preventDefault();
    run(prompt, chat ? prompts.length : 0);
    if (chat) setPrompt("");
  };
  const last = prompts.length - 1;
  const edit = () => {
    setPrompt(prompts[last] ?? "");
    setPrompts(prompts.slice(0, last));
    clear((place) => !place.endsWith(`:${last}`));
  };
  const asks = models.map(
    (_, column) =>
      (!prompt && runs[placeOf(column, last)]?.ask) ||
      ask(column, prompt, chat ? prompts.length : 0),
  );
  return (
    <Page
      title="Playground"
      lead={`Runs as ${me.tenant}, within its limits and on its bill.`}
      actions={prompts.length > 0 && <Button onClick={forget}>Clear</Button>}
    >
      <Failure error={first.error} />
      <form className="grid gap-4 lg:grid-cols-[minmax(0,1fr)_15rem]" onSubmit={submit}>
        <div className="flex min-w-0 flex-col gap-4">
          <div className="panel flex flex-wrap items-end gap-3 p-4">
            {models.map((name, column) => (
              <div key={name} className="flex min-w-44 flex-1 items-end gap-1">
                <div className="min-w-0 flex-1">
                  <Choice
                    label={models.length > 1 ? `Model ${column + 1}` : "Model"}
                    kind={["models", me.tenant]}
                    find={find}
                    value={name}
                    onChoose={(chosen) => {
                      if (models.includes(chosen)) return;
                      clear((place) => !place.startsWith(`${column}:`));
                      choose(models.map((each, i) => (i === column ? chosen : each)));
                    }}
                  />
                </div>
                {models.length > 1 && (
                  <Button
                    aria-label={`Remove ${name}`}
                    onClick={() => {
                      forget();
                      choose(models.filter((_, i) => i !== column));
                    }}
                  >
                    ×
                  </Button>
                )}
              </div>
            ))}
            {models.length < MOST_COLUMNS && models.length > 0 && (
              <Button
                onClick={() => {
                  const other = first.data?.find((name) => !models.includes(name));
                  if (other) choose([...models, other]);
                }}
                disabled={!first.data?.some((name) => !models.includes(name))}
              >
                Compare
              </Button>
            )}
            <fieldset className="flex overflow-hidden rounded-md border border-line">
              <legend className="sr-only">Kind of request</legend>
              {[true, false].map((kind) => (
                <label
                  key={String(kind)}
                  className="px-3 py-1.5 has-checked:bg-accent-soft has-checked:font-medium has-checked:text-accent has-focus-visible:outline-2"
                >
                  <input
                    type="radio"
                    name="kind"
                    className="sr-only"
                    checked={chat === kind}
                    onChange={() => {
                      forget();
                      navigate({
                        search: (now) => ({ ...now, mode: kind ? undefined : "completion" }),
                        replace: true,
                      });
                    }}
                  />
                  {kind ? "Chat" : "Completion"}
                </label>
              ))}
            </fieldset>
          </div>
          {prompts.map((said, turn) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: turns are only ever added behind
            <section key={turn} className="flex flex-col gap-2" aria-label={`Turn ${turn + 1}`}>
              {chat && (
                <div className="flex items-start justify-between gap-3 rounded-md bg-accent-soft px-3 py-2">
                  <p className="min-w-0 break-words whitespace-pre-wrap">{said}</p>
                  {turn === last && !running && (
                    <div className="flex gap-2">
                      <Button onClick={edit}>Edit</Button>
                      <Button onClick={() => run(said, turn)}>Again</Button>
                    </div>
                  )}
                </div>
              )}
              <div
                className={`grid gap-3 ${models.length > 1 ? "md:grid-cols-2" : ""} ${models.length === 3 ? "xl:grid-cols-3" : ""}`}
              >
                {models.map((name, column) => {
                  const shown = runs[placeOf(column, turn)];
                  if (!shown) return null;
                  return (
                    <Panel
                      key={name}
                      title={name}
                      note={
                        models.length > 1 &&
                        shown.state === "running" && (
                          <Button
                            aria-label={`Stop ${name}`}
                            className="py-0.5"
                            onClick={() => stop(placeOf(column, turn))}
                          >
                            Stop
                          </Button>
                        )
                      }
                    >
                      <Answer key={shown.began} run={shown} coloured={coloured} />
                    </Panel>
                  );
                })}
              </div>
            </section>
          ))}
          <div className="panel flex flex-col gap-3 p-4">
            {chat && (
              <Field label="System message (optional)">
                {(id) => (
                  <input
                    id={id}
                    className="field"
                    value={system}
                    onChange={(event) => setSystem(event.target.value)}
                  />
                )}
              </Field>
            )}
            <Field label={chat ? "Message" : "Prompt"}>
              {(id) => (
                <textarea
                  id={id}
                  required
                  rows={4}
                  className="field resize-y"
                  value={prompt}
                  onChange={(event) => setPrompt(event.target.value)}
                  onKeyDown={(event) => {
                    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !running) {
                      event.currentTarget.form?.requestSubmit();
                    }
                  }}
                />
              )}
            </Field>
            <div className="flex flex-wrap items-center gap-2">
              <Button kind="primary" type="submit" disabled={running || models.length === 0}>
                Run
              </Button>
              <Button disabled={!running} onClick={stopAll}>
                {models.length > 1 ? "Stop all" : "Stop"}
              </Button>
              <span className="text-xs text-muted max-sm:hidden">Ctrl + Enter runs</span>
              {values.logprobs && (
                <label className="ml-auto flex items-center gap-2 text-xs">
                  <input
                    type="checkbox"
                    className="accent-accent"
                    checked={coloured}
                    onChange={({ target }) => setColoured(target.checked)}
                  />
                  Colour unlikely tokens
                </label>
              )}
            </div>
          </div>
          {(prompt || prompts.length > 0) && <Same asks={asks} />}
        </div>
        <Parameters values={values} onChange={setValues} />
      </form>
    </Page>
  );
}
