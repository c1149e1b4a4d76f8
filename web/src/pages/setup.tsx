/** The first operator, made with the one-time code that `serve` prints. */
import { useMutation, useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { type FormEvent, useState } from "react";
import { api, need } from "@/api/client";
import { Entry } from "@/pages/entry";
import { useSignedIn } from "@/session";
import { Button, Failure, Field, Note } from "@/ui/parts";

const FIELDS = [
  {
    name: "code",
    label: "Set-up code",
    type: "text",
    hint: "loraplex serve prints it at its start.",
  },
  { name: "email", label: "E-mail", type: "email", hint: "" },
  { name: "name", label: "Your name", type: "text", hint: "" },
  { name: "password", label: "Password", type: "password", hint: "At least 10 characters." },
] as const;

export function SetUp() {
  const [values, setValues] = useState({ code: "", email: "", name: "", password: "" });
  const state = useQuery({ queryKey: ["setup"], queryFn: () => need(api.GET("/api/v1/setup")) });
  const signedIn = useSignedIn();
  const navigate = useNavigate();
  const make = useMutation({
    mutationFn: () =>
      need(api.POST("/api/v1/setup", { body: { ...values, code: values.code.trim() } })),
    onSuccess: (session) => {
      signedIn(session);
      navigate({ to: "/tenants" });
    },
  });
  if (state.data && !state.data.open) {
    return (
      <Entry title="Set up already">
        <Note tone="accent">There is an operator already, or the code has expired.</Note>
        <p className="text-muted">
          A new code comes with the next start of loraplex serve, as long as there is no operator.
        </p>
        <Link to="/sign-in" className="text-accent underline">
          Sign in
        </Link>
      </Entry>
    );
  }
  return (
    <Entry title="Set up this server">
      <p className="text-muted">You become its first operator.</p>
      <form
        className="flex flex-col gap-4"
        onSubmit={(event: FormEvent) => {
          event.preventDefault();
          make.mutate();
        }}
      >
        {FIELDS.map(({ name, label, type, hint }) => (
          <Field key={name} label={label} hint={hint}>
            {(id) => (
              <input
                id={id}
                type={type}
                required={name !== "name"}
                autoComplete={name === "password" ? "new-password" : name === "code" ? "off" : name}
                className="field"
                value={values[name]}
                onChange={(event) => setValues({ ...values, [name]: event.target.value })}
              />
            )}
          </Field>
        ))}
        <Failure error={make.error ?? state.error} />
        <Button kind="primary" type="submit" disabled={make.isPending}>
          Create operator
        </Button>
      </form>
    </Entry>
  );
}
