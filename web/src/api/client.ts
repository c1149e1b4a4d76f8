/** Talks to the server as the signed-in user: typed from its OpenAPI document, with the token that proves a request is ours. */
import createClient, { type Middleware } from "openapi-fetch";
import type { components, paths } from "./schema";

export type Schemas = components["schemas"];
export type Session = Schemas["SessionOut"];

/** What went wrong, in the server's own sentence. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly code: string | null,
    readonly report: unknown = null,
    readonly param: string | null = null,
  ) {
    super(message);
  }
}

let csrfToken = "";

export function rememberToken(session: Session): Session {
  csrfToken = session.csrf_token;
  return session;
}

export function tokenHeader(): Record<string, string> {
  return csrfToken ? { "x-csrf-token": csrfToken } : {};
}

const token: Middleware = {
  onRequest({ request }) {
    if (request.method !== "GET" && csrfToken) request.headers.set("x-csrf-token", csrfToken);
    return request;
  },
};

export const api = createClient<paths>({ baseUrl: "/", credentials: "same-origin" });
api.use(token);

/** The error that an answer's body tells of; bodies that are no problem documents come from proxies in between. */
export function errorOf(status: number, body: unknown): ApiError {
  const problem = (body ?? {}) as Record<string, unknown>;
  const inner = (problem.error ?? problem) as Record<string, unknown>;
  const said = inner.detail ?? inner.message;
  const text = typeof said === "string" ? said : `The server answered with status ${status}.`;
  return new ApiError(
    status,
    text,
    typeof inner.code === "string" ? inner.code : null,
    inner.report ?? null,
    typeof inner.param === "string" ? inner.param : null,
  );
}

type Answer<Data> = { data?: Data; error?: unknown; response: Response };

/** The data of an answer, else an `ApiError`. Answers as text, which some routes have for other formats, are left out. */
export async function need<Data>(answer: Promise<Answer<Data>>): Promise<Exclude<Data, string>> {
  const { data, error, response } = await answer.catch(() => {
    throw new ApiError(
      0,
      "The server cannot be reached. Check the connection, then try again.",
      null,
    );
  });
  if (!response.ok) throw errorOf(response.status, error);
  return data as Exclude<Data, string>;
}
