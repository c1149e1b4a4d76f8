/** Streams an answer of the playground, frame by frame, until it ends or is stopped. */
import { createParser } from "eventsource-parser";
import { ApiError, errorOf, tokenHeader } from "./client";

export interface TokenEntry {
  token: string;
  logprob: number;
  top_logprobs: { token: string; logprob: number }[];
}
/** As completions have them: lists with one entry per token. */
export interface TokenLists {
  tokens: string[];
  token_logprobs: (number | null)[];
  top_logprobs: (Record<string, number> | null)[] | null;
}
export interface Frame {
  id?: string;
  choices: {
    text?: string;
    delta?: { content?: string | null };
    logprobs?: { content: TokenEntry[] } | TokenLists | null;
    finish_reason: string | null;
  }[];
  usage?: {
    prompt_tokens: number;
    completion_tokens: number;
    prompt_tokens_details?: { cached_tokens: number };
  } | null;
}

/** A limit was reached. `retrySeconds` is null where waiting does not help soon. */
export class LimitReachedError extends ApiError {
  constructor(
    error: ApiError,
    readonly retrySeconds: number | null,
  ) {
    super(error.status, error.message, error.code, error.report, error.param);
  }
}

/** The new text of a frame, whichever route sent it. */
export function textOf(frame: Frame): string {
  const choice = frame.choices[0];
  return choice?.delta?.content ?? choice?.text ?? "";
}

export async function stream(
  url: string,
  body: unknown,
  signal: AbortSignal,
  onFrame: (frame: Frame) => void,
): Promise<void> {
  const answer = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", ...tokenHeader() },
    body: JSON.stringify(body),
    signal,
  });
  if (!answer.ok || answer.body === null) {
    const error = errorOf(answer.status, await answer.json().catch(() => null));
    if (answer.status !== 429) throw error;
    const after = answer.headers.get("retry-after");
    throw new LimitReachedError(error, after === null ? null : Number(after));
  }
  let failure: ApiError | null = null;
  let complete = false;
  const parser = createParser({
    onEvent: ({ data }) => {
      if (data === "[DONE]") {
        complete = true;
        return;
      }
      const frame = JSON.parse(data);
      if (frame.error) failure = errorOf(200, frame);
      else onFrame(frame);
    },
  });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    parser.feed(value);
  }
  if (failure) throw failure;
  if (!complete) throw new ApiError(0, "The answer broke off. Try again.", null);
}
