/** One request by its id, to be linked to. */
import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import { api, need } from "@/api/client";
import { count, milliseconds, money } from "@/lib/format";
import { Ended, Moment, model } from "@/requests/cells";
import { Fact, Timeline } from "@/requests/timeline";
import { useMe } from "@/session";
import { CopyButton, Failure, Page, Panel, Waiting } from "@/ui/parts";

const RUNNING_MS = 2000;

export function RequestPage() {
  const me = useMe();
  const { id } = useParams({ from: "/shell/requests/$id" });
  const query = useQuery({
    queryKey: ["request", me.tenant, id],
    queryFn: () =>
      need(
        api.GET("/api/v1/requests/{request_id}", {
          // Which tenant's is meant matters for users of several; the document does not list it.
          params: {
            path: { request_id: id },
            query: (me.user.is_operator ? {} : { tenant: me.tenant }) as never,
          },
        }),
      ),
    refetchInterval: ({ state }) => (state.data?.state === "reserved" ? RUNNING_MS : false),
  });
  const row = query.data;
  return (
    <Page
      title={row ? model(row) : "Request"}
      lead={
        <>
          <Link to="/requests" className="text-accent underline">
            Requests
          </Link>{" "}
          / <code className="break-all">{id}</code>
        </>
      }
      actions={<CopyButton text={location.href} label="Copy link" />}
    >
      <Failure error={query.error} />
      {query.isPending && <Waiting />}
      {row && (
        <>
          <Panel title="Where its time went">
            <Timeline row={row} />
          </Panel>
          <Panel title="What it was">
            <dl className="grid grid-cols-2 gap-x-6 gap-y-3 tabular-nums sm:grid-cols-3 lg:grid-cols-4">
              <Fact name="Began">
                <Moment at={row.created_at} />
              </Fact>
              <Fact name="Ended by">
                <Ended reason={row.finish_reason} />
              </Fact>
              <Fact name="In all">
                {row.state === "reserved" ? "–" : milliseconds(row.total_ms)}
              </Fact>
              <Fact name="First token">{milliseconds(row.first_token_ms)}</Fact>
              <Fact name="Prompt">
                {count(row.prompt_tokens)} tokens, {count(row.cached_tokens)} cached
              </Fact>
              <Fact name="Output">{count(row.output_tokens)} tokens</Fact>
              <Fact name="Cost">{money(row.cost, "")}</Fact>
              <Fact name="Route">{row.endpoint}</Fact>
              <Fact name="Tenant">{row.tenant}</Fact>
              <Fact name="Key or user">
                <code className="break-all">{row.key}</code>
              </Fact>
              <Fact name="Base model">{row.base}</Fact>
              <Fact name="Batch">{row.batch ?? "–"}</Fact>
            </dl>
          </Panel>
        </>
      )}
    </Page>
  );
}
