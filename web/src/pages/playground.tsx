/** Trying a model: by the session, on the tenant's bill, streamed as programs get it. */
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { type FormEvent, useEffect, useRef, useState } from "react";
import { ApiError, api, need } from "@/api/client";
import { type Frame, stream, textOf } from "@/api/stream";
import { count, milliseconds } from "@/lib/format";
import { type Ask, body, curl, python } from "@/lib/snippets";
import { useMe } from "@/session";
import { Button, Code, CopyButton, Empty, Failure, Field, Page, Panel } from "@/ui/parts";

const PARAMETERS = [
  { name: "max_tokens", label: "Most tokens", start: "128", step: "1" },
  { name: "temperature", label: "Temperature", start: "0.7", step: "0.1" },
  { name: "top_p", label: "Top p", start: "1", step: "0.05" },
  { name: "top_k", label: "Top k", start: "", step: "1" },
  { name: "repetition_penalty", label: "Repetition penalty", start: "", step: "0.05" },
  { name: "seed", label: "Seed", start: "", step: "1" },
] as const;

interface Run {
  text: string;
  state: "running" | "done" | "stopped" | "failed";
  error: unknown;
  began: number;
  first: number | null;
  ended: number | null;
  finish: string | null;
  usage: Frame["usage"];
}

export function PlaygroundPage() {
  const me = useMe();
  const { model: wanted } = useSearch({ from: "/shell/playground" });
  const navigate = useNavigate({ from: "/playground" });
  const models = useQuery({
    queryKey: ["models", me.tenant],
    queryFn: () =>
      need(api.GET("/api/v1/playground/models", { params: { query: { tenant: me.tenant } } })),
    enabled: me.can("inference"),
  });
  const [chat, setChat] = useState(true);
  const [system, setSystem] = useState("");
  const [prompt, setPrompt] = useState("");
  const [stop, setStop] = useState("");
  const [values, setValues] = useState<Record<string, string>>(
    Object.fromEntries(PARAMETERS.map(({ name, start }) => [name, start])),
  );
  const [run, setRun] = useState<Run | null>(null);
  const abort = useRef<AbortController | null>(null);
  useEffect(() => () => abort.current?.abort(), []);

  const names = models.data?.data.map(({ id }) => id) ?? [];
  const model = wanted ?? names[0] ?? "";
  const set = Object.entries(values).filter(([, value]) => value.trim() !== "");
  const params: Record<string, unknown> = Object.fromEntries(
    set.map(([name, value]) => [name, Number(value)]),
  );
  if (stop) params.stop = stop.replaceAll("\\n", "\n");
  const ask: Ask = { chat, model, prompt, system, params };

  const start = async (event: FormEvent) => {
    event.preventDefault();
    const control = new AbortController();
    abort.current = control;
    let now: Run = {
      text: "",
      state: "running",
      error: null,
      began: performance.now(),
      first: null,
      ended: null,
      finish: null,
      usage: null,
    };
    const show = (change: Partial<Run>) => {
      now = { ...now, ...change };
      setRun(now);
    };
    show({});
    const route = chat ? "chat/completions" : "completions";
    const url = `/api/v1/playground/${route}?tenant=${encodeURIComponent(me.tenant)}`;
    const sent = { ...body(ask), stream: true, stream_options: { include_usage: true } };
    try {
      await stream(url, sent, control.signal, (frame) => {
        const text = textOf(frame);
        show({
          text: now.text + text,
          first: now.first ?? (text ? performance.now() : null),
          finish: frame.choices[0]?.finish_reason ?? now.finish,
          usage: frame.usage ?? now.usage,
        });
      });
      show({ state: "done", ended: performance.now() });
    } catch (error) {
      const stopped = control.signal.aborted;
      show({
        state: stopped ? "stopped" : "failed",
        error: stopped ? null : error,
        ended: performance.now(),
      });
    }
  };

  if (!me.can("inference")) {
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
  const running = run?.state === "running";
  return (
    <Page title="Playground" lead={`Runs as ${me.tenant}, within its limits and on its bill.`}>
      <Failure error={models.error} />
      <form className="grid gap-4 lg:grid-cols-[1fr_16rem]" onSubmit={start}>
        <div className="flex min-w-0 flex-col gap-4">
          <Panel>
            <div className="flex flex-col gap-3">
              <div className="flex flex-wrap items-end gap-3">
                <div className="min-w-48 flex-1">
                  <Field label="Model">
                    {(id) => (
                      <select
                        id={id}
                        className="field"
                        value={model}
                        onChange={(event) => navigate({ search: { model: event.target.value } })}
                      >
                        {!names.includes(model) && <option>{model}</option>}
                        {names.map((name) => (
                          <option key={name}>{name}</option>
                        ))}
                      </select>
                    )}
                  </Field>
                </div>
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
                        onChange={() => setChat(kind)}
                      />
                      {kind ? "Chat" : "Completion"}
                    </label>
                  ))}
                </fieldset>
              </div>
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
              <div className="flex items-center gap-2">
                <Button kind="primary" type="submit" disabled={running || model === ""}>
                  Run
                </Button>
                <Button disabled={!running} onClick={() => abort.current?.abort()}>
                  Stop
                </Button>
                <span className="text-xs text-muted max-sm:hidden">Ctrl + Enter runs</span>
              </div>
            </div>
          </Panel>
          {run && <Answer run={run} />}
          {prompt && (
            <Panel title="The same from a program">
              <div className="flex flex-col gap-3">
                <div className="flex gap-2">
                  <CopyButton label="Copy as curl" text={curl(ask, location.origin)} />
                  <CopyButton label="Copy as Python" text={python(ask, location.origin)} />
                </div>
                <Code text={curl(ask, location.origin)} />
              </div>
            </Panel>
          )}
        </div>
        <div className="panel grid grid-cols-2 gap-3 self-start p-4 lg:grid-cols-1">
          <h2 className="col-span-full">Parameters</h2>
          {PARAMETERS.map(({ name, label, step }) => (
            <Field key={name} label={label}>
              {(id) => (
                <input
                  id={id}
                  type="number"
                  step={step}
                  placeholder="as the model has it"
                  className="field tabular-nums"
                  value={values[name]}
                  onChange={(event) => setValues({ ...values, [name]: event.target.value })}
                />
              )}
            </Field>
          ))}
          <Field label="Stop at" hint="Write a line break as \n.">
            {(id) => (
              <input
                id={id}
                className="field"
                value={stop}
                onChange={(event) => setStop(event.target.value)}
              />
            )}
          </Field>
        </div>
      </form>
    </Page>
  );
}

const STATES = { running: "Writing…", done: "Complete", stopped: "Stopped", failed: "Failed" };

function Answer({ run }: { run: Run }) {
  const spent = (run.ended ?? performance.now()) - run.began;
  const tokens = run.usage?.completion_tokens;
  const writing = run.first !== null && run.ended !== null ? run.ended - run.first : null;
  const rate = tokens && writing ? ((tokens - 1) / writing) * 1000 : null;
  const facts: [string, string][] = [
    ["First token", run.first === null ? "–" : milliseconds(run.first - run.began)],
    ["In all", milliseconds(spent)],
    ["Prompt", run.usage ? `${count(run.usage.prompt_tokens)} tokens` : "–"],
    ["Answer", tokens === undefined ? "–" : `${count(tokens)} tokens`],
    ["Speed", rate === null ? "–" : `${rate.toFixed(1)} tokens/s`],
    ["Ended by", run.finish ?? (run.state === "stopped" ? "you" : "–")],
  ];
  return (
    <Panel title="Answer" note={<span role="status">{STATES[run.state]}</span>}>
      <div className="flex flex-col gap-4">
        {/* A model's words are text and nothing else. */}
        <output data-testid="answer" className="block min-h-12 break-words whitespace-pre-wrap">
          {run.text}
          {run.state === "running" && <span className="text-accent">▍</span>}
        </output>
        {run.error !== null && (
          <Failure
            error={
              run.error instanceof ApiError
                ? run.error
                : new Error("The server cannot be reached. Check the connection, then try again.")
            }
          />
        )}
        <dl className="grid grid-cols-2 gap-3 border-t border-line pt-3 tabular-nums sm:grid-cols-6">
          {facts.map(([label, value]) => (
            <div key={label}>
              <dt className="text-xs text-muted">{label}</dt>
              <dd>{value}</dd>
            </div>
          ))}
        </dl>
      </div>
    </Panel>
  );
}
