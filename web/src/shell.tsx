/** The frame of all pages of a signed-in user: where one is, for which tenant, and the way elsewhere. */
import { useQuery } from "@tanstack/react-query";
import { Link, Navigate, Outlet, useRouterState } from "@tanstack/react-router";
import { useEffect, useMemo, useState } from "react";
import { api, need, type Session } from "@/api/client";
import {
  allows,
  type Me,
  MeContext,
  rememberedTenant,
  rememberTenant,
  type Scope,
  useSession,
  useSignOut,
} from "@/session";
import { Failure, Waiting } from "@/ui/parts";
import { applyTheme, type Theme, theme } from "@/ui/theme";

export function Shell() {
  const session = useSession();
  if (session.isPending) return <Waiting />;
  if (session.isError) {
    return (
      <div className="p-6">
        <Failure error={session.error} />
      </div>
    );
  }
  if (session.data === null) return <ToSignIn />;
  return <Frame session={session.data} />;
}

/** Remembers the page it first stood on: while it leads away, the address changes already. */
function ToSignIn() {
  const here = useRouterState({ select: ({ location }) => location.href });
  const [next] = useState(here);
  return <Navigate to="/sign-in" search={{ next }} replace />;
}

const PAGES: { to: string; label: string; group: string; needs?: Scope; operator?: boolean }[] = [
  { to: "/overview", label: "Overview", group: "Serve" },
  { to: "/adapters", label: "Adapters", group: "Serve", needs: "adapters:read" },
  { to: "/playground", label: "Playground", group: "Serve", needs: "inference" },
  { to: "/requests", label: "Requests", group: "Observe", needs: "usage" },
  { to: "/usage", label: "Usage", group: "Observe", needs: "usage" },
  { to: "/limits", label: "Limits", group: "Manage", needs: "usage" },
  { to: "/keys", label: "Keys", group: "Manage", needs: "admin" },
  { to: "/members", label: "Members", group: "Manage", needs: "admin" },
  { to: "/webhooks", label: "Webhooks", group: "Manage", needs: "admin" },
  { to: "/tenants", label: "Tenants", group: "Manage", operator: true },
  { to: "/audit", label: "Audit log", group: "Manage", needs: "admin" },
  { to: "/settings", label: "Settings", group: "Manage" },
];

function Frame({ session }: { session: Session }) {
  const own = useMemo(() => session.tenants.map(({ name }) => name), [session]);
  const operator = session.user.is_operator;
  const all = useQuery({
    queryKey: ["tenants"],
    queryFn: () => need(api.GET("/api/v1/tenants", { params: { query: { limit: 1000 } } })),
    enabled: operator,
  });
  const tenants = operator ? (all.data?.data.map(({ name }) => name) ?? own) : own;
  const [chosen, setChosen] = useState(rememberedTenant);
  const tenant = tenants.includes(chosen) ? chosen : (own[0] ?? tenants[0] ?? "");
  const [open, setOpen] = useState(false);
  const path = useRouterState({ select: ({ location }) => location.pathname });
  // biome-ignore lint/correctness/useExhaustiveDependencies: another page closes the menu
  useEffect(() => setOpen(false), [path]);

  const me: Me = {
    user: session.user,
    tenant,
    tenants,
    role: session.tenants.find(({ name }) => name === tenant)?.role ?? (operator ? "operator" : ""),
    can: (scope) => tenant !== "" && allows(session, tenant, scope),
    choose: (name) => {
      rememberTenant(name);
      setChosen(name);
    },
  };
  const pages = PAGES.filter((page) =>
    page.operator ? operator : page.needs === undefined || me.can(page.needs),
  );
  if (operator && all.isPending) return <Waiting />;
  return (
    <MeContext value={me}>
      <a
        href="#content"
        className="sr-only focus:not-sr-only focus:absolute focus:z-20 focus:bg-panel focus:p-2"
      >
        Skip to content
      </a>
      <div className="md:grid md:min-h-dvh md:grid-cols-[13rem_1fr]">
        <aside className="border-line bg-panel max-md:sticky max-md:top-0 max-md:z-10 max-md:border-b md:border-r">
          <div className="md:sticky md:top-0 md:flex md:h-dvh md:flex-col">
            <div className="flex items-center justify-between px-4 py-3">
              <Link to="/overview" className="flex items-center gap-2 font-semibold tracking-tight">
                <Mark />
                loraplex
              </Link>
              <button
                type="button"
                className="rounded border border-line px-2 py-1 md:hidden"
                aria-expanded={open}
                onClick={() => setOpen(!open)}
              >
                Menu
              </button>
            </div>
            <div
              className={`${open ? "flex" : "hidden"} flex-col pb-3 md:flex md:min-h-0 md:flex-1`}
            >
              <TenantChoice me={me} />
              <nav
                aria-label="Pages"
                className="flex flex-col gap-3 px-2 py-2 md:flex-1 md:overflow-y-auto"
              >
                {["Serve", "Observe", "Manage"].map((group) => (
                  <div key={group} className="flex flex-col">
                    <span className="px-2 pb-0.5 text-2xs font-medium text-muted">{group}</span>
                    {pages
                      .filter((page) => page.group === group)
                      .map((page) => (
                        <Link
                          key={page.to}
                          to={page.to}
                          className="rounded-md px-2 py-1 hover:bg-raised"
                          activeProps={{
                            className: "bg-accent-soft text-accent font-medium",
                            "aria-current": "page",
                          }}
                        >
                          {page.label}
                        </Link>
                      ))}
                  </div>
                ))}
              </nav>
              <Foot me={me} />
            </div>
          </div>
        </aside>
        <main id="content" className="min-w-0 p-4 md:p-6">
          <Outlet />
        </main>
      </div>
    </MeContext>
  );
}

function TenantChoice({ me }: { me: Me }) {
  if (me.tenants.length === 0) return null;
  return (
    <div className="px-4 pb-2">
      <label htmlFor="tenant" className="text-2xs font-medium text-muted">
        Tenant
      </label>
      <select
        id="tenant"
        className="field py-1"
        value={me.tenant}
        onChange={(event) => me.choose(event.target.value)}
      >
        {me.tenants.map((name) => (
          <option key={name}>{name}</option>
        ))}
      </select>
    </div>
  );
}

function Foot({ me }: { me: Me }) {
  const signOut = useSignOut();
  const [look, setLook] = useState<Theme>(theme);
  const next: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };
  return (
    <div className="flex flex-col gap-2 border-t border-line px-4 pt-3 text-xs">
      <div className="min-w-0">
        <div className="truncate font-medium" title={me.user.email}>
          {me.user.name || me.user.email}
        </div>
        <div className="text-muted">{me.role || "no tenant yet"}</div>
      </div>
      <div className="flex gap-3 text-muted">
        <button type="button" className="hover:text-ink" onClick={signOut}>
          Sign out
        </button>
        <button
          type="button"
          className="ml-auto hover:text-ink"
          onClick={() => {
            applyTheme(next[look]);
            setLook(next[look]);
          }}
        >
          Theme: {look}
        </button>
      </div>
    </div>
  );
}

export function Mark() {
  return (
    <svg viewBox="0 0 24 24" className="size-5" aria-hidden="true">
      <rect x="2" y="15" width="20" height="6" rx="1.5" className="fill-muted" />
      <rect x="2" y="9" width="5.5" height="4.5" rx="1" className="fill-accent" />
      <rect x="9.2" y="9" width="5.5" height="4.5" rx="1" className="fill-accent" />
      <rect x="16.5" y="9" width="5.5" height="4.5" rx="1" className="fill-accent" />
      <rect x="9.2" y="3" width="5.5" height="4.5" rx="1" className="fill-accent opacity-55" />
    </svg>
  );
}
