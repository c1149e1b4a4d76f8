import { expect, test } from "vitest";
import { before, modelsOf } from "./conversation";
import { percent, tokensOf, visible } from "./tokens";

test("tokens of both routes have probabilities and alternatives, likeliest first", () => {
  const ln = Math.log;
  const chat = {
    content: [
      {
        token: "a",
        logprob: ln(0.25),
        top_logprobs: [
          { token: "a", logprob: ln(0.25) },
          { token: "b", logprob: ln(0.5) },
        ],
      },
    ],
  };
  const lists = {
    tokens: ["a"],
    token_logprobs: [ln(0.25)],
    top_logprobs: [{ a: ln(0.25), b: ln(0.5) }],
  };
  for (const logprobs of [chat, lists]) {
    const [token] = tokensOf({ choices: [{ logprobs, finish_reason: null }] });
    expect(token?.probability).toBeCloseTo(0.25);
    expect(token?.top.map(({ text }) => text)).toEqual(["b", "a"]);
  }
  expect(tokensOf({ choices: [] })).toEqual([]);
});

test("probabilities and blanks are written so that they can be read", () => {
  expect([0.5, 0.0123, 0.00001, 0].map(percent)).toEqual([
    "50.0 %",
    "1.23 %",
    "< 0.01 %",
    "0.00 %",
  ]);
  expect(visible(" a\n")).toBe("␣a⏎");
});

test("the address names at most four models, each once", () => {
  expect(modelsOf("a,b,a,,c,d,e")).toEqual(["a", "b", "c", "d"]);
  expect(modelsOf(undefined)).toEqual([]);
});

test("a column goes on from its own answers, and skips turns without one", () => {
  const run = (text: string) => ({ text }) as never;
  const runs = { "0:0": run("yes"), "1:1": run("no") };
  expect(before(["p", "q"], runs, 0, 2).map(({ content }) => content)).toEqual(["p", "yes"]);
  expect(before(["p", "q"], runs, 1, 2).map(({ content }) => content)).toEqual(["q", "no"]);
});
