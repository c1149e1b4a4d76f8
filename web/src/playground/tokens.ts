/** Reads the tokens of a streamed answer with their probabilities, from either route. */
import type { Frame } from "@/api/stream";

export interface Token {
  text: string;
  /** From 0 to 1. */
  probability: number;
  /** The likeliest tokens there, likeliest first. */
  top: { text: string; probability: number }[];
}

export function tokensOf(frame: Frame): Token[] {
  const found = frame.choices[0]?.logprobs;
  if (!found) return [];
  if ("content" in found) {
    return (found.content ?? []).map(({ token, logprob, top_logprobs }) => ({
      text: token,
      probability: Math.exp(logprob),
      top: sorted(top_logprobs.map((each) => [each.token, each.logprob])),
    }));
  }
  return found.tokens.map((text, i) => ({
    text,
    probability: Math.exp(found.token_logprobs[i] ?? 0),
    top: sorted(Object.entries(found.top_logprobs?.[i] ?? {})),
  }));
}

function sorted(pairs: [string, number][]): Token["top"] {
  return pairs
    .map(([text, logprob]) => ({ text, probability: Math.exp(logprob) }))
    .sort((a, b) => b.probability - a.probability);
}

export function percent(probability: number): string {
  const value = probability * 100;
  if (value > 0 && value < 0.01) return "< 0.01 %";
  return `${value.toFixed(value < 10 ? 2 : 1)} %`;
}

/** A token in a list of tokens: blanks and line breaks can be seen. */
export function visible(text: string): string {
  return text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replaceAll(" ", "␣") || "(empty)";
}
