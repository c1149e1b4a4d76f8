/** Streams an answer of the playground, frame by frame, until it ends or is stopped. */
import { createParser } from "eventsource-parser";
import { ApiError, errorOf, tokenHeader } from "./client";

export interface Frame {
  choices: {
    text?: string;
    delta?: { content?: string | null };
    finish_reason: string | null;
  }[];
  usage?: {
    prompt_tokens: number;
    completion_tokens: number;
    prompt_tokens_details?: { cached_tokens: number };
  } | null;
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
    throw errorOf(answer.status, await answer.json().catch(() => null));
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
