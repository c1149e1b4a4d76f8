/** Inviting somebody into a tenant. No mail is sent: the link is shown once, to be handed over. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { api, need } from "@/api/client";
import { invitationLink, ROLES, type RoleName } from "@/people/roles";
import { useMe } from "@/session";
import { Button, Dialog, Failure, Field } from "@/ui/parts";
import { SecretDialog } from "@/ui/secret";

export function Invite({ onClose }: { onClose: () => void }) {
  const me = useMe();
  const queries = useQueryClient();
  const [email, setEmail] = useState("");
  const [role, setRole] = useState<RoleName>("member");
  const create = useMutation({
    mutationFn: () =>
      need(
        api.POST("/api/v1/tenants/{tenant}/invitations", {
          params: { path: { tenant: me.tenant } },
          body: { email, role },
        }),
      ),
    onSuccess: () => queries.invalidateQueries({ queryKey: ["invitations"] }),
  });
  if (create.data) {
    return (
      <SecretDialog
        title={`Invitation of ${create.data.email}`}
        warning="Send them this link yourself. It is not shown again."
        text={invitationLink(window.location.origin, create.data.code ?? "")}
        copy="Copy link"
        onClose={onClose}
      />
    );
  }
  return (
    <Dialog title={`Invite somebody to ${me.tenant}`} onClose={onClose}>
      <form
        className="flex flex-col gap-4"
        onSubmit={(event: FormEvent) => {
          event.preventDefault();
          create.mutate();
        }}
      >
        <Field label="E-mail" hint="The account will have this address.">
          {(id) => (
            <input
              id={id}
              type="email"
              required
              className="field"
              value={email}
              onChange={(event) => setEmail(event.target.value)}
            />
          )}
        </Field>
        <Field label="Role" hint={ROLES.find(({ name }) => name === role)?.may}>
          {(id) => (
            <select
              id={id}
              className="field"
              value={role}
              onChange={(event) => setRole(event.target.value as RoleName)}
            >
              {ROLES.map(({ name }) => (
                <option key={name}>{name}</option>
              ))}
            </select>
          )}
        </Field>
        <Failure error={create.error} />
        <div className="flex justify-end gap-2">
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="primary" type="submit" disabled={create.isPending}>
            Make invitation
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
