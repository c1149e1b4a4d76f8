/** The limits of a tenant, a key or an adapter: what is used of each, and a form for who may change them. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { api, need, type Schemas } from "@/api/client";
import { count, money } from "@/lib/format";
import { useMe } from "@/session";
import { Button, Dialog, Failure, Field, Panel, Waiting } from "@/ui/parts";

export type Limit = Schemas["LimitOut"];
/** Whose limits: without `kind` the tenant's own. */
export type Whose = { kind?: "keys" | "adapters"; name: string };

export const LIMITS = [
  { name: "requests_per_minute", label: "Requests per minute", used: "requests_last_minute" },
  { name: "tokens_per_minute", label: "Tokens per minute", used: "tokens_last_minute" },
  { name: "max_concurrent", label: "Requests at a time", used: "running" },
  { name: "tokens_per_month", label: "Tokens per month", used: "tokens_this_month" },
  { name: "cost_per_month", label: "Cost per month", used: "cost_this_month" },
] as const;

async function get(tenant: string, whose: Whose): Promise<Limit> {
  const { kind, name } = whose;
  if (kind === "keys") {
    const path = { tenant, key_id: name };
    return need(api.GET("/api/v1/tenants/{tenant}/limits/keys/{key_id}", { params: { path } }));
  }
  if (kind === "adapters") {
    const path = { tenant, name };
    return need(api.GET("/api/v1/tenants/{tenant}/limits/adapters/{name}", { params: { path } }));
  }
  return need(api.GET("/api/v1/tenants/{tenant}/limits", { params: { path: { tenant } } }));
}

type Body = Record<string, number | null>;

async function put(tenant: string, { kind, name }: Whose, body: Body): Promise<unknown> {
  if (kind === "keys") {
    const params = { path: { tenant, key_id: name } };
    return need(api.PUT("/api/v1/tenants/{tenant}/limits/keys/{key_id}", { params, body }));
  }
  if (kind === "adapters") {
    const params = { path: { tenant, name } };
    return need(api.PUT("/api/v1/tenants/{tenant}/limits/adapters/{name}", { params, body }));
  }
  return need(api.PUT("/api/v1/tenants/{tenant}/limits", { params: { path: { tenant } }, body }));
}

async function remove(tenant: string, { kind, name }: Whose): Promise<unknown> {
  if (kind === "keys") {
    const path = { tenant, key_id: name };
    return need(api.DELETE("/api/v1/tenants/{tenant}/limits/keys/{key_id}", { params: { path } }));
  }
  if (kind === "adapters") {
    const params = { path: { tenant, name } };
    return need(api.DELETE("/api/v1/tenants/{tenant}/limits/adapters/{name}", { params }));
  }
  return need(api.DELETE("/api/v1/tenants/{tenant}/limits", { params: { path: { tenant } } }));
}

export function useLimit(tenant: string, whose: Whose) {
  return useQuery({
    queryKey: ["limit", tenant, whose.kind, whose.name],
    queryFn: () => get(tenant, whose),
    enabled: tenant !== "" && whose.name !== "",
    refetchInterval: 5000,
  });
}

export function LimitPanel({
  title,
  whose,
  may,
  why,
  currency,
}: {
  title: string;
  whose: Whose;
  may: boolean;
  why: string;
  currency: string;
}) {
  const me = useMe();
  const limit = useLimit(me.tenant, whose);
  const [act, setAct] = useState<"edit" | "clear" | null>(null);
  const set = limit.data && LIMITS.some(({ name }) => limit.data[name] !== null);
  return (
    <Panel
      title={title}
      note={
        limit.data &&
        (may ? (
          <span className="flex gap-2">
            <Button className="py-0.5" onClick={() => setAct("edit")}>
              Change
            </Button>
            {set && (
              <Button kind="danger" className="py-0.5" onClick={() => setAct("clear")}>
                Remove all
              </Button>
            )}
          </span>
        ) : (
          why
        ))
      }
    >
      <Failure error={limit.error} />
      {limit.isPending && <Waiting />}
      {limit.data && <Standing limit={limit.data} currency={currency} />}
      {act === "edit" && limit.data && (
        <Edit title={title} whose={whose} limit={limit.data} onClose={() => setAct(null)} />
      )}
      {act === "clear" && <Clear title={title} whose={whose} onClose={() => setAct(null)} />}
    </Panel>
  );
}

function Standing({ limit, currency }: { limit: Limit; currency: string }) {
  return (
    <dl className="grid gap-x-6 gap-y-4 sm:grid-cols-2 lg:grid-cols-3">
      {LIMITS.map(({ name, label, used }) => {
        const most = limit[name];
        const written = (value: number) =>
          name === "cost_per_month" ? money(value, currency) : count(value);
        const now = limit.used?.[used] ?? 0;
        const share = most === null ? 0 : most === 0 ? 1 : Math.min(1, now / most);
        const fill = share >= 1 ? "fill-bad" : share >= 0.8 ? "fill-warn" : "fill-accent";
        return (
          <div key={name}>
            <dt className="text-xs text-muted">{label}</dt>
            {most === null ? (
              <dd>No limit</dd>
            ) : (
              <dd className="tabular-nums">
                {written(now)} <span className="text-muted">of {written(most)}</span>
                <svg
                  viewBox="0 0 100 4"
                  preserveAspectRatio="none"
                  className="mt-1 h-1.5 w-full"
                  aria-hidden="true"
                >
                  <rect width="100" height="4" className="fill-raised" />
                  <rect width={share * 100} height="4" className={fill} />
                </svg>
              </dd>
            )}
          </div>
        );
      })}
    </dl>
  );
}

function useDone(onClose: () => void) {
  const queries = useQueryClient();
  return async () => {
    onClose();
    await queries.invalidateQueries({ queryKey: ["limit"] });
  };
}

function Edit({
  title,
  whose,
  limit,
  onClose,
}: {
  title: string;
  whose: Whose;
  limit: Limit;
  onClose: () => void;
}) {
  const me = useMe();
  const [values, setValues] = useState<Record<string, string>>(
    Object.fromEntries(LIMITS.map(({ name }) => [name, limit[name]?.toString() ?? ""])),
  );
  const save = useMutation({
    mutationFn: () =>
      put(
        me.tenant,
        whose,
        Object.fromEntries(
          LIMITS.map(({ name }) => [name, values[name] ? Number(values[name]) : null]),
        ),
      ),
    onSuccess: useDone(onClose),
  });
  return (
    <Dialog title={title} onClose={onClose}>
      <form
        className="flex flex-col gap-4"
        onSubmit={(event: FormEvent) => {
          event.preventDefault();
          save.mutate();
        }}
      >
        <p className="text-muted">An empty field is no limit. 0 lets nothing through.</p>
        <div className="grid gap-3 sm:grid-cols-2">
          {LIMITS.map(({ name, label }) => (
            <Field key={name} label={label}>
              {(id) => (
                <input
                  id={id}
                  type="number"
                  min={0}
                  step={name === "cost_per_month" ? "any" : 1}
                  placeholder="no limit"
                  className="field tabular-nums"
                  value={values[name]}
                  onChange={({ target }) => setValues({ ...values, [name]: target.value })}
                />
              )}
            </Field>
          ))}
        </div>
        <Failure error={save.error} />
        <div className="flex justify-end gap-2">
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="primary" type="submit" disabled={save.isPending}>
            Save
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

function Clear({ title, whose, onClose }: { title: string; whose: Whose; onClose: () => void }) {
  const me = useMe();
  const clear = useMutation({
    mutationFn: () => remove(me.tenant, whose),
    onSuccess: useDone(onClose),
  });
  return (
    <Dialog title={`Remove all: ${title}`} onClose={onClose}>
      <p>Requests are held back by none of them any more, within seconds.</p>
      <Failure error={clear.error} />
      <div className="flex justify-end gap-2">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind="danger" disabled={clear.isPending} onClick={() => clear.mutate()}>
          Remove limits
        </Button>
      </div>
    </Dialog>
  );
}
