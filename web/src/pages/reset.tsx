/** A new password by a code that an operator made. */
import { useMutation } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type FormEvent, useState } from "react";
import { api, need } from "@/api/client";
import { Entry } from "@/pages/entry";
import { codeIn } from "@/people/roles";
import { Button, Failure, Field, Note } from "@/ui/parts";

export function Reset() {
  const [code, setCode] = useState(() => codeIn(window.location.hash));
  const [password, setPassword] = useState("");
  const reset = useMutation({
    mutationFn: () =>
      need(api.POST("/api/v1/password-reset", { body: { code: code.trim(), password } })),
  });
  if (reset.isSuccess) {
    return (
      <Entry title="Password set">
        <Note tone="accent">All sessions of the account have ended.</Note>
        <Link to="/sign-in" className="text-accent underline">
          Sign in
        </Link>
      </Entry>
    );
  }
  return (
    <Entry title="Set a new password">
      <form
        className="flex flex-col gap-4"
        onSubmit={(event: FormEvent) => {
          event.preventDefault();
          reset.mutate();
        }}
      >
        <Field label="Code" hint="An operator of this server makes one for you.">
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
        <Field label="New password" hint="At least 10 characters.">
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
        <Failure error={reset.error} />
        <Button kind="primary" type="submit" disabled={reset.isPending}>
          Set password
        </Button>
      </form>
    </Entry>
  );
}
