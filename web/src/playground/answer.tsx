/** One answer of one model: its words, how sure the model was of each, and what it took. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type KeyboardEvent, useEffect, useState } from "react";
import { ApiError, api, need } from "@/api/client";
import { LimitReachedError } from "@/api/stream";
import { count, milliseconds } from "@/lib/format";
import { useMe } from "@/session";
import { Failure, Note } from "@/ui/parts";
import type { Run } from "./runs";
import { percent, type Token, visible } from "./tokens";

const STATES = { running: "Writing…", done: "Complete", stopped: "Stopped", failed: "Failed" };

// Beyond that the page would grow slow, and nobody points at single tokens.
const MOST_TOKENS = 4000;

export function Answer({ run, coloured }: { run: Run; coloured: boolean }) {
  const told = run.tokens.length > 0 && run.tokens.length <= MOST_TOKENS;
  // Tokens that are parts of a character do not add up to the text: then they stand below it.
  const joined = told ? run.tokens.map(({ text }) => text).join("") : "";
  const whole = told && (joined.startsWith(run.text) || run.text.startsWith(joined));
  return (
    <div className="flex min-w-0 flex-col gap-3">
      {!whole && (
        // A model's words are text and nothing else.
        <output data-testid="answer" className="block min-h-12 break-words whitespace-pre-wrap">
          {run.text}
          {run.state === "running" && <span className="text-accent">▍</span>}
        </output>
      )}
      {told && (
        <Tokens
          tokens={run.tokens}
          coloured={coloured}
          running={run.state === "running"}
          whole={whole}
        />
      )}
      <Wrong error={run.error} />
      <Facts run={run} />
    </div>
  );
}

function Tokens({
  tokens,
  coloured,
  running,
  whole,
}: {
  tokens: Token[];
  coloured: boolean;
  running: boolean;
  /** Whether they are the answer itself. */
  whole: boolean;
}) {
  const [at, setAt] = useState<number | null>(null);
  const token = at === null ? undefined : tokens[at];
  const move = (event: KeyboardEvent<HTMLElement>) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const next = event.currentTarget.children[(at ?? 0) + step];
    if (next instanceof HTMLElement) next.focus();
  };
  return (
    <div className="flex flex-col gap-2">
      {/* biome-ignore lint/a11y/useSemanticElements: words of a text, no fields */}
      <div
        role="group"
        aria-label="Tokens of the answer"
        data-testid={whole ? "answer" : undefined}
        className="min-h-12 break-words whitespace-pre-wrap"
        onKeyDown={move}
      >
        {tokens.map((each, i) => (
          // biome-ignore lint/a11y/useSemanticElements: a real button would not wrap with the text
          <span
            // biome-ignore lint/suspicious/noArrayIndexKey: tokens are only ever added behind
            key={i}
            role="button"
            aria-label={`${visible(each.text)} ${percent(each.probability)}`}
            tabIndex={i === (at ?? 0) ? 0 : -1}
            onMouseEnter={() => setAt(i)}
            onFocus={() => setAt(i)}
            className={`rounded-xs ${i === at ? "outline-2 outline-accent" : ""}`}
            style={coloured ? { background: shade(each.probability) } : undefined}
          >
            {whole ? each.text : visible(each.text)}
          </span>
        ))}
        {whole && running && <span className="text-accent">▍</span>}
      </div>
      <div className="min-h-40 rounded-md border border-line bg-raised p-3" data-testid="token">
        {token === undefined ? (
          <p className="text-xs text-muted">
            Point at a token, or go through them with the arrow keys, to see how likely it was.
          </p>
        ) : (
          <Probabilities token={token} />
        )}
      </div>
    </div>
  );
}

/** The less likely, the stronger. */
function shade(probability: number): string {
  const share = Math.round((1 - probability) * 40);
  return `color-mix(in srgb, var(--color-warn) ${share}%, transparent)`;
}

function Probabilities({ token }: { token: Token }) {
  const listed = token.top.some(({ text }) => text === token.text);
  const rows = listed ? token.top : [...token.top, token];
  return (
    <div className="flex flex-col gap-1.5 tabular-nums">
      <p>
        <code className="font-semibold break-all">{visible(token.text)}</code>{" "}
        {percent(token.probability)}
      </p>
      <ol className="flex flex-col gap-1 text-xs" aria-label="Likeliest tokens here">
        {rows.map((each, i) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: different tokens can have one text
          <li key={i} className="grid grid-cols-[6rem_1fr_4.5rem] items-center gap-2">
            <code
              className={`truncate ${each.text === token.text ? "font-semibold text-accent" : ""}`}
              title={each.text}
            >
              {visible(each.text)}
            </code>
            <span className="h-2 rounded bg-page" aria-hidden="true">
              <span
                className="block h-2 rounded bg-accent"
                style={{ width: `${each.probability * 100}%` }}
              />
            </span>
            <span className="text-right">{percent(each.probability)}</span>
          </li>
        ))}
      </ol>
    </div>
  );
}

function Wrong({ error }: { error: unknown }) {
  if (error === null) return null;
  if (error instanceof LimitReachedError) return <Limited error={error} />;
  if (error instanceof ApiError) return <Failure error={error} />;
  return (
    <Failure
      error={new Error("The server cannot be reached. Check the connection, then try again.")}
    />
  );
}

function Limited({ error }: { error: LimitReachedError }) {
  const [left, setLeft] = useState(error.retrySeconds);
  useEffect(() => {
    if (left === null || left <= 0) return;
    const timer = setTimeout(() => setLeft(left - 1), 1000);
    return () => clearTimeout(timer);
  }, [left]);
  return (
    <Note tone="warn">
      <p className="font-medium">A limit was reached</p>
      <p>{error.message}</p>
      <p>
        {left === null
          ? "Waiting does not help: an admin has to raise the limit, or the month has to end."
          : left > 0
            ? `Try again in ${count(left)} s.`
            : "You can try again now."}{" "}
        <Link to="/limits" className="underline">
          Limits
        </Link>
      </p>
    </Note>
  );
}

// The ledger is written shortly after an answer has ended.
const LOOK_AGAIN_MS = 1000;
const MOST_LOOKS = 10;

function Facts({ run }: { run: Run }) {
  const me = useMe();
  const ended = run.ended !== null && run.id !== null;
  const row = useQuery({
    queryKey: ["answer", me.tenant, run.id],
    queryFn: async () => {
      const query = { tenant: me.tenant, answer: run.id ?? "", limit: 1 };
      const page = await need(api.GET("/api/v1/requests", { params: { query } }));
      return page.data.find(({ state }) => state !== "reserved") ?? null;
    },
    enabled: ended && me.can("usage"),
    refetchInterval: ({ state }) =>
      state.data || state.dataUpdateCount >= MOST_LOOKS ? false : LOOK_AGAIN_MS,
  });
  const spent = (run.ended ?? performance.now()) - run.began;
  const tokens = run.usage?.completion_tokens;
  const writing = run.first !== null && run.ended !== null ? run.ended - run.first : null;
  const each = tokens && tokens > 1 && writing ? writing / (tokens - 1) : null;
  const cached = run.usage?.prompt_tokens_details?.cached_tokens ?? 0;
  const here: [string, string][] = [
    ["First token", run.first === null ? "–" : milliseconds(run.first - run.began)],
    ["Per token", milliseconds(each)],
    ["In all", milliseconds(spent)],
    ["Speed", each === null ? "–" : `${(1000 / each).toFixed(1)} tokens/s`],
    ["Prompt", run.usage ? `${count(run.usage.prompt_tokens)} tokens` : "–"],
    ["Cached", run.usage ? `${count(cached)} tokens` : "–"],
    ["Answer", tokens === undefined ? "–" : `${count(tokens)} tokens`],
    ["Ended by", run.finish ?? (run.state === "stopped" ? "you" : "–")],
  ];
  const server: [string, string][] = row.data
    ? [
        ["Waited", milliseconds(row.data.queue_ms)],
        ["Adapter loaded", milliseconds(row.data.load_ms)],
        ["Prompt read", milliseconds(row.data.prefill_ms)],
        ["Answer written", milliseconds(row.data.decode_ms)],
      ]
    : [];
  return (
    <div className="flex flex-col gap-2 border-t border-line pt-3">
      <p role="status" className="text-xs font-medium">
        {STATES[run.state]}
      </p>
      <List facts={here} />
      {server.length > 0 && (
        <>
          <p className="text-xs text-muted">Inside the server</p>
          <List facts={server} />
        </>
      )}
    </div>
  );
}

function List({ facts }: { facts: [string, string][] }) {
  return (
    <dl className="grid grid-cols-[repeat(auto-fill,minmax(6rem,1fr))] gap-2 tabular-nums">
      {facts.map(([label, value]) => (
        <div key={label}>
          <dt className="text-xs text-muted">{label}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
