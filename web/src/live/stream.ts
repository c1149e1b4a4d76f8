/** Reads the stream of live events: closed while the page is hidden, opened again by itself when it breaks. */
import { useQueryClient } from "@tanstack/react-query";
import { createParser } from "eventsource-parser";
import { useEffect, useState } from "react";
import { ApiError, errorOf, type Schemas } from "@/api/client";
import { type History, NOTHING, remembered } from "@/live/history";
import { pauseBefore } from "@/live/pause";
import { useMe } from "@/session";

export type LiveEvent = Schemas["LiveEvent"];
/** `stale`: what is shown is old, the stream is being opened again. */
export type LiveState = "connecting" | "live" | "stale" | "paused";

// An event comes every second; a server that is this late has gone, though nobody said so.
const SILENCE_MS = 10_000;

interface Watcher {
  onEvent: (event: LiveEvent) => void;
  /** The stream broke, or could not be opened. */
  onBreak: (error: Error) => void;
  /** The session is over; nothing more is tried. */
  onSignedOut: () => void;
}

/** Watch until the returned function is called. */
export function watch(url: string, watcher: Watcher): () => void {
  let stopped = false;
  let attempt = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let reading: AbortController | null = null;

  const open = async () => {
    const own = new AbortController();
    reading = own;
    let silence: ReturnType<typeof setTimeout> | undefined;
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(() => own.abort(), SILENCE_MS);
    };
    try {
      heard();
      const answer = await fetch(url, { signal: own.signal });
      if (answer.status === 401) {
        stopped = true;
        watcher.onSignedOut();
        return;
      }
      if (!answer.ok || answer.body === null) {
        throw errorOf(answer.status, await answer.json().catch(() => null));
      }
      const parser = createParser({
        onEvent: ({ event, data }) => {
          if (event !== "live" || own.signal.aborted) return;
          attempt = 0;
          watcher.onEvent(JSON.parse(data));
        },
      });
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        heard();
        parser.feed(value);
      }
      throw new ApiError(0, "The stream has ended.", null);
    } catch (error) {
      if (stopped || reading !== own) return;
      reading = null;
      watcher.onBreak(error instanceof ApiError ? error : unreachable());
      timer = setTimeout(open, pauseBefore(attempt, Math.random()));
      attempt += 1;
    } finally {
      clearTimeout(silence);
    }
  };
  const close = () => {
    clearTimeout(timer);
    const own = reading;
    reading = null;
    own?.abort();
  };
  const seen = () => {
    close();
    if (!document.hidden && !stopped) open();
  };
  document.addEventListener("visibilitychange", seen);
  seen();
  return () => {
    stopped = true;
    close();
    document.removeEventListener("visibilitychange", seen);
  };
}

function unreachable(): ApiError {
  return new ApiError(0, "The server cannot be reached.", null);
}

export interface Live {
  state: LiveState;
  event: LiveEvent | null;
  history: History;
  error: Error | null;
}

const BEGINNING: Live = { state: "connecting", event: null, history: NOTHING, error: null };

export function useLive(paused: boolean): Live {
  const me = useMe();
  const queries = useQueryClient();
  const tenant = me.user.is_operator ? "" : me.tenant;
  const [live, setLive] = useState(BEGINNING);
  // biome-ignore lint/correctness/useExhaustiveDependencies: another tenant's numbers begin anew
  useEffect(() => setLive(BEGINNING), [tenant]);
  useEffect(() => {
    if (paused) {
      setLive((before) => ({ ...before, state: "paused" }));
      return;
    }
    setLive((before) => ({ ...before, state: before.event === null ? "connecting" : "stale" }));
    const query = tenant ? `?tenant=${encodeURIComponent(tenant)}` : "";
    return watch(`/api/v1/events${query}`, {
      onEvent: (event) =>
        setLive(({ history }) => ({
          state: "live",
          event,
          history: remembered(history, event),
          error: null,
        })),
      onBreak: (error) => setLive((before) => ({ ...before, state: "stale", error })),
      onSignedOut: () => queries.invalidateQueries({ queryKey: ["session"] }),
    });
  }, [paused, tenant, queries]);
  return live;
}
