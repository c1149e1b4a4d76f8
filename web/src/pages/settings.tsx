/** The user's own account: password and where it is signed in. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { api, need } from "@/api/client";
import { ago } from "@/lib/format";
import { useMe, useSignedIn } from "@/session";
import { Badge, Button, Failure, Field, Note, Page, Panel, Waiting } from "@/ui/parts";

export function SettingsPage() {
  const me = useMe();
  return (
    <Page title="Settings" lead={me.user.email}>
      <Password />
      <Sessions />
    </Page>
  );
}

function Password() {
  const signedIn = useSignedIn();
  const [values, setValues] = useState({ current: "", password: "" });
  const change = useMutation({
    mutationFn: () => need(api.POST("/api/v1/session/password", { body: values })),
    onSuccess: (session) => {
      setValues({ current: "", password: "" });
      signedIn(session);
    },
  });
  return (
    <Panel title="Password" note="Changing it ends all other sessions">
      <form
        className="flex max-w-sm flex-col gap-4"
        onSubmit={(event: FormEvent) => {
          event.preventDefault();
          change.mutate();
        }}
      >
        {(["current", "password"] as const).map((name) => (
          <Field key={name} label={name === "current" ? "Password of now" : "New password"}>
            {(id) => (
              <input
                id={id}
                type="password"
                required
                autoComplete={name === "current" ? "current-password" : "new-password"}
                className="field"
                value={values[name]}
                onChange={(event) => setValues({ ...values, [name]: event.target.value })}
              />
            )}
          </Field>
        ))}
        <Failure error={change.error} />
        {change.isSuccess && <Note tone="accent">The password is changed.</Note>}
        <Button type="submit" className="self-start" disabled={change.isPending}>
          Change password
        </Button>
      </form>
    </Panel>
  );
}

function Sessions() {
  const queries = useQueryClient();
  const list = useQuery({
    queryKey: ["sessions"],
    queryFn: () => need(api.GET("/api/v1/session/all")),
  });
  const end = useMutation({
    mutationFn: (session_id: string) =>
      need(api.DELETE("/api/v1/session/all/{session_id}", { params: { path: { session_id } } })),
    onSuccess: () => queries.invalidateQueries({ queryKey: ["sessions"] }),
  });
  return (
    <Panel flush title="Signed in at">
      {list.isPending && <Waiting rows={2} />}
      <Failure error={list.error ?? end.error} />
      {list.data && (
        <table className="grid-table">
          <thead>
            <tr>
              <th>Browser</th>
              <th>Address</th>
              <th>Last seen</th>
              <th />
            </tr>
          </thead>
          <tbody>
            {list.data.data.map((row) => (
              <tr key={row.id}>
                <td className="max-w-md truncate" title={row.user_agent}>
                  {row.user_agent || "unknown"}
                </td>
                <td>{row.address}</td>
                <td className="whitespace-nowrap text-muted">{ago(row.last_seen_at)}</td>
                <td className="num">
                  {row.current ? (
                    <Badge tone="accent">This one</Badge>
                  ) : (
                    <Button kind="danger" onClick={() => end.mutate(row.id)}>
                      End
                    </Button>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Panel>
  );
}
