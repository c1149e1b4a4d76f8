/** Signing in, by password or by way of another provider. */
import { useMutation, useQuery } from "@tanstack/react-query";
import { Link, Navigate, useNavigate, useSearch } from "@tanstack/react-router";
import { type FormEvent, useState } from "react";
import { api, need } from "@/api/client";
import { Entry } from "@/pages/entry";
import { expectSession, useSession, useSignedIn } from "@/session";
import { Button, Failure, Field } from "@/ui/parts";

export function SignIn() {
  const { next, returned } = useSearch({ from: "/sign-in" });
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  if (returned) expectSession();
  const session = useSession();
  const ways = useQuery({ queryKey: ["setup"], queryFn: () => need(api.GET("/api/v1/setup")) });
  const signedIn = useSignedIn();
  const navigate = useNavigate();
  const target = next?.startsWith("/") && !next.startsWith("//") ? next : "/overview";
  const signIn = useMutation({
    mutationFn: () => need(api.POST("/api/v1/session", { body: { email, password } })),
    onSuccess: (found) => {
      signedIn(found);
      navigate({ to: target });
    },
  });
  if (session.data) return <Navigate to={target} replace />;
  if (ways.data?.open) return <Navigate to="/setup" replace />;
  const back = `/sign-in?returned=1&next=${encodeURIComponent(target)}`;
  return (
    <Entry title="Sign in">
      <form
        className="flex flex-col gap-4"
        onSubmit={(event: FormEvent) => {
          event.preventDefault();
          signIn.mutate();
        }}
      >
        <Field label="E-mail">
          {(id) => (
            <input
              id={id}
              type="email"
              required
              autoComplete="username"
              className="field"
              value={email}
              onChange={(event) => setEmail(event.target.value)}
            />
          )}
        </Field>
        <Field label="Password">
          {(id) => (
            <input
              id={id}
              type="password"
              required
              autoComplete="current-password"
              className="field"
              value={password}
              onChange={(event) => setPassword(event.target.value)}
            />
          )}
        </Field>
        <Failure error={signIn.error ?? ways.error} />
        <Button kind="primary" type="submit" disabled={signIn.isPending}>
          {signIn.isPending ? "Signing in…" : "Sign in"}
        </Button>
      </form>
      {ways.data?.oidc && (
        <a
          className="rounded-md border border-line px-3 py-1.5 text-center font-medium hover:bg-raised"
          href={`/api/v1/session/oidc?next=${encodeURIComponent(back)}`}
        >
          Sign in with your organisation
        </a>
      )}
      <p className="text-xs text-muted">
        No account yet? An admin of your tenant sends you an invitation. First start of this server:{" "}
        <Link to="/setup" className="text-accent underline">
          set it up
        </Link>
        .
      </p>
    </Entry>
  );
}
