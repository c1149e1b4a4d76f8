/** What stands in place of a page that only admins of a tenant can use. */
import { Link } from "@tanstack/react-router";
import { useMe } from "@/session";
import { Empty, Page } from "@/ui/parts";

export function ForAdmins({ title, what }: { title: string; what: string }) {
  const { tenant } = useMe();
  return (
    <Page title={title}>
      <Empty title={tenant ? "Your role does not allow this" : "There is no tenant yet"}>
        {tenant ? (
          <p>{what}</p>
        ) : (
          <Link to="/tenants" className="text-accent underline">
            Create the first one
          </Link>
        )}
      </Empty>
    </Page>
  );
}
