/** The ledger: what was asked for, and where the time of one request went. */
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import { api, need, type Schemas } from "@/api/client";
import { count, milliseconds, moment } from "@/lib/format";
import { useMe } from "@/session";
import { Badge, Button, Empty, Failure, Field, Page, Panel, Waiting } from "@/ui/parts";

type Row = Schemas["RequestOut"];
const ENDS = ["stop", "length", "error", "cancelled", "lost", "refused", "running"];
const BAD = new Set(["error", "lost", "refused"]);
const ROWS = 50;

export function RequestsPage() {
  const me = useMe();
  const search = useSearch({ from: "/shell/requests" });
  const navigate = useNavigate({ from: "/requests" });
  const [open, setOpen] = useState<string | null>(null);
  const list = useQuery({
    queryKey: ["requests", me.tenant, search],
    queryFn: () =>
      need(
        api.GET("/api/v1/requests", {
          params: {
            query: {
              tenant: me.tenant,
              limit: ROWS,
              before: search.before,
              adapter: search.adapter,
              finish_reason: search.finish,
              slower_than_ms: search.slower,
            },
          },
        }),
      ),
    placeholderData: keepPreviousData,
    enabled: me.tenant !== "",
  });
  const rows = list.data?.data ?? [];
  const next = list.data?.next ?? null;
  const filter = (change: Partial<typeof search>) =>
    navigate({ search: { ...search, before: undefined, ...change }, replace: true });
  return (
    <Page title="Requests" lead="Newest first. Open one to see where its time went.">
      <div className="grid grid-cols-2 gap-3 sm:flex">
        <Field label="Adapter">
          {(id) => (
            <input
              id={id}
              className="field"
              placeholder="any"
              defaultValue={search.adapter}
              onChange={(event) => filter({ adapter: event.target.value || undefined })}
            />
          )}
        </Field>
        <Field label="Ended by">
          {(id) => (
            <select
              id={id}
              className="field"
              value={search.finish ?? ""}
              onChange={(event) => filter({ finish: event.target.value || undefined })}
            >
              <option value="">anything</option>
              {ENDS.map((end) => (
                <option key={end}>{end}</option>
              ))}
            </select>
          )}
        </Field>
        <Field label="Slower than, ms">
          {(id) => (
            <input
              id={id}
              type="number"
              min={0}
              className="field"
              placeholder="any"
              defaultValue={search.slower}
              onChange={(event) =>
                filter({ slower: event.target.value ? Number(event.target.value) : undefined })
              }
            />
          )}
        </Field>
      </div>
      <Failure error={list.error} />
      <Panel flush>
        {list.isPending && me.tenant !== "" && <Waiting />}
        {(list.data || me.tenant === "") && rows.length === 0 && (
          <Empty title="No such requests">
            <p>Requests are listed from the moment they begin.</p>
          </Empty>
        )}
        {rows.length > 0 && (
          <table className="grid-table">
            <thead>
              <tr>
                <th>Began</th>
                <th>Model</th>
                <th>Ended by</th>
                <th className="num">First token</th>
                <th className="num">In all</th>
                <th className="num">Prompt</th>
                <th className="num">Output</th>
                <th>Key or user</th>
              </tr>
            </thead>
            <tbody>
              {rows.map((row) => (
                <RequestRows
                  key={row.id}
                  row={row}
                  open={open === row.id}
                  onToggle={() => setOpen(open === row.id ? null : row.id)}
                />
              ))}
            </tbody>
          </table>
        )}
      </Panel>
      {(search.before || next) && (
        <nav aria-label="Pages of the list" className="flex gap-2">
          <Button disabled={!search.before} onClick={() => filter({})}>
            Newest
          </Button>
          <Button disabled={next === null} onClick={() => filter({ before: next ?? undefined })}>
            Older
          </Button>
        </nav>
      )}
    </Page>
  );
}

function RequestRows({ row, open, onToggle }: { row: Row; open: boolean; onToggle: () => void }) {
  const model = row.adapter === null ? row.base : `${row.adapter}@${row.version}`;
  return (
    <>
      <tr>
        <td className="whitespace-nowrap">
          <button
            type="button"
            aria-expanded={open}
            onClick={onToggle}
            className="hover:text-accent"
          >
            {open ? "▾" : "▸"} {moment(row.created_at)}
          </button>
        </td>
        <td className="font-medium whitespace-nowrap">{model}</td>
        <td>
          <Badge tone={BAD.has(row.finish_reason) ? "bad" : "neutral"}>{row.finish_reason}</Badge>
        </td>
        <td className="num">{milliseconds(row.first_token_ms)}</td>
        <td className="num">{row.state === "reserved" ? "–" : milliseconds(row.total_ms)}</td>
        <td className="num">{count(row.prompt_tokens)}</td>
        <td className="num">{count(row.output_tokens)}</td>
        <td>
          <code className="text-muted">{row.key}</code>
        </td>
      </tr>
      {open && (
        <tr>
          <td colSpan={8}>
            <Timeline row={row} />
          </td>
        </tr>
      )}
    </>
  );
}

const PHASES = [
  { key: "queue_ms", label: "Waited", fill: "fill-muted" },
  { key: "load_ms", label: "Adapter loaded", fill: "fill-warn" },
  { key: "prefill_ms", label: "Prompt read", fill: "fill-host" },
  { key: "decode_ms", label: "Answer written", fill: "fill-accent" },
] as const;

function Timeline({ row }: { row: Row }) {
  const known = PHASES.map((phase) => ({ ...phase, took: row[phase.key] ?? 0 }));
  const sum = known.reduce((all, { took }) => all + took, 0);
  const whole = Math.max(row.total_ms, sum);
  if (sum === 0) {
    return <p className="py-2 text-muted">The engine has told nothing of where its time went.</p>;
  }
  let at = 0;
  const parts = known.map((phase) => {
    const x = at;
    at += (phase.took / whole) * 1000;
    return { ...phase, x, width: at - x };
  });
  return (
    <div className="flex flex-col gap-3 py-2">
      <svg
        viewBox="0 0 1000 20"
        preserveAspectRatio="none"
        className="h-5 w-full rounded"
        role="img"
        aria-label={known.map(({ label, took }) => `${label} ${milliseconds(took)}`).join(", ")}
      >
        <rect width="1000" height="20" className="fill-raised" />
        {parts.map(({ key, x, width, fill }) => (
          <rect key={key} x={x} width={width} height="20" className={fill} />
        ))}
      </svg>
      <dl className="flex flex-wrap gap-x-6 gap-y-2 text-sm">
        {known.map(({ key, label, took, fill }) => (
          <div key={key}>
            <dt className="flex items-center gap-1 text-xs text-muted">
              <svg viewBox="0 0 8 8" className="size-2" aria-hidden="true">
                <rect width="8" height="8" rx="2" className={fill} />
              </svg>
              {label}
            </dt>
            <dd>{milliseconds(took)}</dd>
          </div>
        ))}
        <div>
          <dt className="text-xs text-muted">Outside the engine</dt>
          <dd>{milliseconds(Math.max(0, row.total_ms - sum))}</dd>
        </div>
        <div>
          <dt className="text-xs text-muted">Preempted</dt>
          <dd>{count(row.preemptions)} times</dd>
        </div>
        <div>
          <dt className="text-xs text-muted">Evicted before by</dt>
          <dd>{row.evicted_by ?? "nobody"}</dd>
        </div>
        <div>
          <dt className="text-xs text-muted">Answer</dt>
          <dd>
            <code>{row.answer_id}</code>
          </dd>
        </div>
      </dl>
    </div>
  );
}
