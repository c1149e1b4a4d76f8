/** Which page is at which address. Each page is a script of its own, loaded when first visited. */
import {
  createRootRoute,
  createRoute,
  createRouter,
  lazyRouteComponent,
  Outlet,
  redirect,
} from "@tanstack/react-router";
import { type Search, TIERS } from "@/adapters/table-search";
import { Shell } from "@/shell";
import { Button, Empty } from "@/ui/parts";

const root = createRootRoute({
  component: Outlet,
  notFoundComponent: () => (
    <Empty title="There is no such page">
      <a className="text-accent underline" href="/">
        Back to the start
      </a>
    </Empty>
  ),
});

const signIn = createRoute({
  getParentRoute: () => root,
  path: "/sign-in",
  validateSearch: (search): { next?: string; returned?: string } => ({
    next: text(search.next),
    returned: text(search.returned),
  }),
  component: lazyRouteComponent(() => import("@/pages/sign-in"), "SignIn"),
});
const setup = createRoute({
  getParentRoute: () => root,
  path: "/setup",
  component: lazyRouteComponent(() => import("@/pages/setup"), "SetUp"),
});

const shell = createRoute({
  getParentRoute: () => root,
  id: "shell",
  component: Shell,
  errorComponent: ({ error, reset }) => (
    <Empty title="This page has failed">
      <p>{error instanceof Error ? error.message : String(error)}</p>
      <Button onClick={reset}>Try again</Button>
    </Empty>
  ),
});
const home = createRoute({
  getParentRoute: () => shell,
  path: "/",
  beforeLoad: () => {
    throw redirect({ to: "/overview" });
  },
});
const overview = createRoute({
  getParentRoute: () => shell,
  path: "/overview",
  component: lazyRouteComponent(() => import("@/pages/overview"), "OverviewPage"),
});
const adapters = createRoute({
  getParentRoute: () => shell,
  path: "/adapters",
  validateSearch: (search): Search => ({
    search: text(search.search),
    base: text(search.base),
    alias: text(search.alias),
    tier: TIERS.find((tier) => tier === search.tier),
    after: text(search.after),
  }),
  component: lazyRouteComponent(() => import("@/pages/adapters"), "AdaptersPage"),
});
const adapter = createRoute({
  getParentRoute: () => shell,
  path: "/adapters/$name",
  validateSearch: (search): { version?: number } => ({ version: number(search.version) }),
  component: lazyRouteComponent(() => import("@/pages/adapter"), "AdapterPage"),
});
const upload = createRoute({
  getParentRoute: () => shell,
  path: "/upload",
  component: lazyRouteComponent(() => import("@/pages/upload"), "UploadPage"),
});
const playground = createRoute({
  getParentRoute: () => shell,
  path: "/playground",
  validateSearch: (search): { model?: string; mode?: "completion" } => ({
    model: text(search.model),
    mode: search.mode === "completion" ? "completion" : undefined,
  }),
  component: lazyRouteComponent(() => import("@/pages/playground"), "PlaygroundPage"),
});
const requests = createRoute({
  getParentRoute: () => shell,
  path: "/requests",
  validateSearch: (
    search,
  ): {
    every?: boolean;
    adapter?: string;
    key?: string;
    finish?: string;
    slower?: number;
    before?: string;
  } => ({
    every: search.every === true || undefined,
    adapter: text(search.adapter),
    key: text(search.key),
    finish: text(search.finish),
    slower: number(search.slower),
    before: text(search.before),
  }),
  component: lazyRouteComponent(() => import("@/pages/requests"), "RequestsPage"),
});
const request = createRoute({
  getParentRoute: () => shell,
  path: "/requests/$id",
  component: lazyRouteComponent(() => import("@/pages/request"), "RequestPage"),
});
const usage = createRoute({
  getParentRoute: () => shell,
  path: "/usage",
  validateSearch: (
    search,
  ): { days?: number; by?: "key" | "tenant"; unit?: "1h"; whose?: "all"; shown?: "cost" } => ({
    days: number(search.days),
    by: search.by === "key" || search.by === "tenant" ? search.by : undefined,
    unit: search.unit === "1h" ? "1h" : undefined,
    whose: search.whose === "all" ? "all" : undefined,
    shown: search.shown === "cost" ? "cost" : undefined,
  }),
  component: lazyRouteComponent(() => import("@/pages/usage"), "UsagePage"),
});
const limits = createRoute({
  getParentRoute: () => shell,
  path: "/limits",
  validateSearch: (search): { key?: string; adapter?: string } => ({
    key: text(search.key),
    adapter: text(search.adapter),
  }),
  component: lazyRouteComponent(() => import("@/pages/limits"), "LimitsPage"),
});
const keys = createRoute({
  getParentRoute: () => shell,
  path: "/keys",
  component: lazyRouteComponent(() => import("@/pages/keys"), "KeysPage"),
});
const members = createRoute({
  getParentRoute: () => shell,
  path: "/members",
  component: lazyRouteComponent(() => import("@/pages/members"), "MembersPage"),
});
const webhooks = createRoute({
  getParentRoute: () => shell,
  path: "/webhooks",
  component: lazyRouteComponent(() => import("@/pages/webhooks"), "WebhooksPage"),
});
const join = createRoute({
  getParentRoute: () => root,
  path: "/join",
  component: lazyRouteComponent(() => import("@/pages/join"), "Join"),
});
const reset = createRoute({
  getParentRoute: () => root,
  path: "/reset",
  component: lazyRouteComponent(() => import("@/pages/reset"), "Reset"),
});
const tenants = createRoute({
  getParentRoute: () => shell,
  path: "/tenants",
  component: lazyRouteComponent(() => import("@/pages/tenants"), "TenantsPage"),
});
const audit = createRoute({
  getParentRoute: () => shell,
  path: "/audit",
  validateSearch: (search): { before?: string; action?: string } => ({
    before: text(search.before),
    action: text(search.action),
  }),
  component: lazyRouteComponent(() => import("@/pages/audit"), "AuditPage"),
});
const settings = createRoute({
  getParentRoute: () => shell,
  path: "/settings",
  component: lazyRouteComponent(() => import("@/pages/settings"), "SettingsPage"),
});

export const router = createRouter({
  routeTree: root.addChildren([
    signIn,
    setup,
    join,
    reset,
    shell.addChildren([
      home,
      overview,
      adapters,
      adapter,
      upload,
      playground,
      requests,
      request,
      usage,
      limits,
      keys,
      members,
      webhooks,
      tenants,
      audit,
      settings,
    ]),
  ]),
  defaultPreload: "intent",
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}

function text(value: unknown): string | undefined {
  if (typeof value === "number") return String(value);
  return typeof value === "string" && value !== "" ? value : undefined;
}

function number(value: unknown): number | undefined {
  const read = Number(value);
  return value !== undefined && Number.isFinite(read) ? read : undefined;
}
