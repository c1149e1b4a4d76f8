/** Runs one prompt on several models at a time; each answer can fail or be stopped alone. */
import { useEffect, useRef, useState } from "react";
import { type Frame, stream, textOf } from "@/api/stream";
import { type Ask, body } from "@/lib/snippets";
import { type Token, tokensOf } from "./tokens";

export interface Run {
  ask: Ask;
  id: string | null;
  text: string;
  tokens: Token[];
  state: "running" | "done" | "stopped" | "failed";
  error: unknown;
  began: number;
  first: number | null;
  ended: number | null;
  finish: string | null;
  usage: Frame["usage"];
}

/** `runs` by column and turn. */
export function useRuns(tenant: string) {
  const [runs, setRuns] = useState<Record<string, Run>>({});
  const controls = useRef(new Map<string, AbortController>());
  useEffect(() => {
    const all = controls.current;
    return () => {
      for (const control of all.values()) control.abort();
    };
  }, []);

  const start = async (place: string, ask: Ask) => {
    controls.current.get(place)?.abort();
    const control = new AbortController();
    controls.current.set(place, control);
    let now: Run = {
      ask,
      id: null,
      text: "",
      tokens: [],
      state: "running",
      error: null,
      began: performance.now(),
      first: null,
      ended: null,
      finish: null,
      usage: null,
    };
    // Frames come faster than anybody reads: they are shown with the next picture of the screen.
    let due = 0;
    const show = () => {
      due = 0;
      // What was begun anew in the same place is not ours any more.
      if (controls.current.get(place) === control) setRuns((all) => ({ ...all, [place]: now }));
    };
    const end = (change: Partial<Run>) => {
      now = { ...now, ...change, ended: performance.now() };
      cancelAnimationFrame(due);
      show();
    };
    show();
    const route = ask.chat ? "chat/completions" : "completions";
    const url = `/api/v1/playground/${route}?tenant=${encodeURIComponent(tenant)}`;
    const sent = { ...body(ask), stream: true, stream_options: { include_usage: true } };
    try {
      await stream(url, sent, control.signal, (frame) => {
        const text = textOf(frame);
        const tokens = tokensOf(frame);
        now = {
          ...now,
          id: frame.id ?? now.id,
          text: now.text + text,
          tokens: tokens.length > 0 ? [...now.tokens, ...tokens] : now.tokens,
          first: now.first ?? (text || tokens.length > 0 ? performance.now() : null),
          finish: frame.choices[0]?.finish_reason ?? now.finish,
          usage: frame.usage ?? now.usage,
        };
        if (due === 0) due = requestAnimationFrame(show);
      });
      end({ state: "done" });
    } catch (error) {
      if (control.signal.aborted) end({ state: "stopped" });
      else end({ state: "failed", error });
    }
  };
  const stop = (place: string) => controls.current.get(place)?.abort();
  const stopAll = () => {
    for (const control of controls.current.values()) control.abort();
  };
  const clear = (kept: (place: string) => boolean) => {
    for (const [place, control] of controls.current) {
      if (!kept(place)) {
        control.abort();
        controls.current.delete(place);
      }
    }
    setRuns((all) => Object.fromEntries(Object.entries(all).filter(([place]) => kept(place))));
  };
  return { runs, start, stop, stopAll, clear };
}
