/** Who is signed in, for which tenant the pages speak, and what may be done there. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { createContext, useContext } from "react";
import { api, need, rememberToken, type Session } from "@/api/client";

// No script can see the cookie. Without this mark every visit would begin with a request that fails.
const MARK = "loraplex.signed-in";
const TENANT = "loraplex.tenant";

export function forgetSession(): void {
  localStorage.removeItem(MARK);
}

export function useSession() {
  return useQuery({
    queryKey: ["session"],
    queryFn: async (): Promise<Session | null> => {
      if (localStorage.getItem(MARK) === null) return null;
      try {
        return rememberToken(await need(api.GET("/api/v1/session")));
      } catch (error) {
        if ((error as { status?: number }).status !== 401) throw error;
        forgetSession();
        return null;
      }
    },
    staleTime: 60_000,
  });
}

/** What to do with the answer of a sign-in. */
export function useSignedIn(): (session: Session) => void {
  const queries = useQueryClient();
  return (session) => {
    localStorage.setItem(MARK, "1");
    // Nothing of whoever was signed in before. What is on the page now stays: its parts would not learn of its successor.
    queries.removeQueries({ type: "inactive" });
    queries.setQueryData(["session"], rememberToken(session));
  };
}

/** Comes back from another provider with a cookie and nothing else: look for the session at once. */
export function expectSession(): void {
  localStorage.setItem(MARK, "1");
}

export function useSignOut(): () => Promise<void> {
  const queries = useQueryClient();
  return async () => {
    await need(api.DELETE("/api/v1/session"));
    forgetSession();
    queries.setQueryData(["session"], null);
  };
}

export interface Me {
  user: Session["user"];
  /** The tenant the pages speak for; empty while there is none. */
  tenant: string;
  tenants: string[];
  role: string;
  can: (scope: Scope) => boolean;
  choose: (tenant: string) => void;
}
export type Scope = "inference" | "adapters:read" | "adapters:write" | "usage" | "admin";

export const MeContext = createContext<Me | null>(null);

export function useMe(): Me {
  const me = useContext(MeContext);
  if (me === null) throw new Error("useMe outside of the shell");
  return me;
}

export function rememberedTenant(): string {
  return localStorage.getItem(TENANT) ?? "";
}

export function rememberTenant(tenant: string): void {
  localStorage.setItem(TENANT, tenant);
}

/** What a session may do for a tenant. Operators stand above tenants, but run models only where they are members. */
export function allows(session: Session, tenant: string, scope: Scope): boolean {
  const scopes: readonly string[] =
    session.tenants.find(({ name }) => name === tenant)?.scopes ?? [];
  if (session.user.is_operator && scope !== "inference") return true;
  return scopes.includes(scope);
}
