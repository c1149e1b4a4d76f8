/** Where an invitation leads: who is signed in joins at once, others make an account or name theirs. */
import { useMutation } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { type FormEvent, useState } from "react";
import { api, need } from "@/api/client";
import { Entry } from "@/pages/entry";
import { codeIn } from "@/people/roles";
import { useSession, useSignedIn } from "@/session";
import { Button, Failure, Field, Waiting } from "@/ui/parts";

export function Join() {
  const [code, setCode] = useState(() => codeIn(window.location.hash));
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const session = useSession();
  const signedIn = useSignedIn();
  const navigate = useNavigate();
  const known = session.data?.user;
  const accept = useMutation({
    mutationFn: () => {
      const body = known ? { code: code.trim() } : { code: code.trim(), name, password };
      return need(api.POST("/api/v1/invitations/accept", { body }));
    },
    onSuccess: (opened) => {
      signedIn(opened);
      navigate({ to: "/overview", replace: true });
    },
  });
  if (session.isPending) return <Waiting />;
  return (
    <Entry title="You are invited">
      <form
        className="flex flex-col gap-4"
        onSubmit={(event: FormEvent) => {
          event.preventDefault();
          accept.mutate();
        }}
      >
        <Field label="Invitation code">
          {(id) => (
            <input
              id={id}
              required
              autoComplete="off"
              className="field"
              value={code}
              onChange={(event) => setCode(event.target.value)}
            />
          )}
        </Field>
        {known ? (
          <p className="text-muted">You join as {known.email}.</p>
        ) : (
          <>
            <Field label="Your name">
              {(id) => (
                <input
                  id={id}
                  autoComplete="name"
                  className="field"
                  value={name}
                  onChange={(event) => setName(event.target.value)}
                />
              )}
            </Field>
            <Field
              label="Password"
              hint="At least 10 characters. If you have an account with the invited address, its password."
            >
              {(id) => (
                <input
                  id={id}
                  type="password"
                  required
                  autoComplete="new-password"
                  className="field"
                  value={password}
                  onChange={(event) => setPassword(event.target.value)}
                />
              )}
            </Field>
          </>
        )}
        <Failure error={accept.error ?? session.error} />
        <Button kind="primary" type="submit" disabled={accept.isPending}>
          Join
        </Button>
      </form>
    </Entry>
  );
}
