/** What a tenant, its keys and its adapters may use, what is used of it now, and what tokens cost. */
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { api, need } from "@/api/client";
import { LimitPanel } from "@/limits/panel";
import { Prices } from "@/limits/prices";
import { useMe } from "@/session";
import { Choice } from "@/ui/choice";
import { Empty, Page, Panel } from "@/ui/parts";
import { useCurrency } from "@/usage/currency";

const SHOWN = 20;

export function LimitsPage() {
  const me = useMe();
  const { key, adapter } = useSearch({ from: "/shell/limits" });
  const navigate = useNavigate({ from: "/limits" });
  const currency = useCurrency(me.tenant);
  if (me.tenant === "") {
    return (
      <Page title="Limits">
        <Empty title="There is no tenant yet">
          <Link to="/tenants" className="text-accent underline">
            Tenants
          </Link>
        </Empty>
      </Page>
    );
  }
  const findAdapters = async (search: string) => {
    const query = { tenant: me.tenant, search, limit: SHOWN };
    const found = await need(api.GET("/api/v1/adapters", { params: { query } }));
    return found.data.map(({ name }) => name);
  };
  const findKeys = async (search: string) => {
    const params = { path: { tenant: me.tenant } };
    const found = await need(api.GET("/api/v1/tenants/{tenant}/keys", { params }));
    return found.data
      .filter(({ id, name, revoked_at }) => !revoked_at && `${id} ${name}`.includes(search))
      .map(({ id }) => id)
      .slice(0, SHOWN);
  };
  const admin = me.can("admin");
  const why = "Admins of the tenant change this.";
  return (
    <Page
      title="Limits"
      lead={`What ${me.tenant}, its keys and its adapters may use. The tightest one counts.`}
    >
      <LimitPanel
        title={`Tenant ${me.tenant}`}
        whose={{ name: me.tenant }}
        may={me.user.is_operator}
        why="Operators change this."
        currency={currency}
      />
      <Panel title="Of one key or adapter">
        <div className="grid gap-3 sm:grid-cols-2">
          {admin && (
            <Choice
              label="Key"
              placeholder="Search by name or id"
              kind={["keys", me.tenant]}
              find={findKeys}
              value={key ?? ""}
              onChoose={(id) => navigate({ search: (now) => ({ ...now, key: id }) })}
            />
          )}
          {me.can("adapters:read") && (
            <Choice
              label="Adapter"
              placeholder="Search by name"
              kind={["adapters", me.tenant]}
              find={findAdapters}
              value={adapter ?? ""}
              onChoose={(name) => navigate({ search: (now) => ({ ...now, adapter: name }) })}
            />
          )}
        </div>
      </Panel>
      {key && (
        <LimitPanel
          key={key}
          title={`Key ${key}`}
          whose={{ kind: "keys", name: key }}
          may={admin}
          why={why}
          currency={currency}
        />
      )}
      {adapter && (
        <LimitPanel
          key={adapter}
          title={`Adapter ${adapter}`}
          whose={{ kind: "adapters", name: adapter }}
          may={admin}
          why={why}
          currency={currency}
        />
      )}
      <Prices currency={currency} />
    </Page>
  );
}
