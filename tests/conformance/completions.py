"""Owns what is said of POST /v1/completions."""

import pytest
from openai.types import Completion
from openai.types.completion_create_params import CompletionCreateParams

from conformance.judged import Ask, Json, Reply, Route, at, no, partly, supported
from conformance.sampling import sampling_fields

PROMPT = "Once upon"
MINIMAL = {"model": "base", "prompt": PROMPT, "max_tokens": 8, "temperature": 0, "ignore_eos": True}
BAD, CANNOT = "invalid_value", "unsupported_value"
USAGE_NEVER = (
    "usage.prompt_tokens_details.audio_tokens",
    "usage.prompt_tokens_details.image_tokens",
    "usage.prompt_tokens_details.text_tokens",
    "usage.prompt_tokens_details.cache_write_tokens",
    "usage.completion_tokens_details.accepted_prediction_tokens",
    "usage.completion_tokens_details.audio_tokens",
    "usage.completion_tokens_details.rejected_prediction_tokens",
    "usage.completion_tokens_details.text_tokens",
)
USAGE_SENT = (
    "usage",
    "usage.prompt_tokens",
    "usage.completion_tokens",
    "usage.total_tokens",
    "usage.prompt_tokens_details",
    "usage.prompt_tokens_details.cached_tokens",
    "usage.completion_tokens_details",
    "usage.completion_tokens_details.reasoning_tokens",
)


def text(body: Json) -> str:
    return str(body["choices"][0]["text"])


def prompt(ask: Ask) -> None:
    one = ask(return_token_ids=True)
    ids = one["choices"][0]["prompt_token_ids"]
    assert text(ask(prompt=ids)) == text(ask(prompt=[PROMPT])) == text(one)
    assert [c["text"] for c in ask(prompt=[ids, ids])["choices"]] == [text(one)] * 2
    assert ask(prompt=None)["usage"]["prompt_tokens"] == 1


def best_of(ask: Ask) -> None:
    four = {"temperature": 1, "seed": 3, "logprobs": 0}
    answer = ask(**four, n=2, best_of=4)
    assert answer["usage"]["completion_tokens"] == 4 * 8
    sums = [sum(c["logprobs"]["token_logprobs"]) for c in ask(**four, n=4)["choices"]]
    best = [sum(c["logprobs"]["token_logprobs"]) for c in answer["choices"]]
    assert best == pytest.approx(sorted(sums, reverse=True)[:2], abs=1e-3)


def echo(ask: Ask) -> None:
    assert text(ask(echo=True)) == PROMPT + text(ask())
    scored = ask(echo=True, logprobs=1, max_tokens=0)["choices"][0]
    assert scored["text"] == PROMPT
    told = scored["logprobs"]
    assert told["tokens"] == ["<s>", *PROMPT]
    assert told["text_offset"] == [0, *range(len(PROMPT))]
    assert told["token_logprobs"][0] is told["top_logprobs"][0] is None
    assert all(logprob < 0 for logprob in told["token_logprobs"][1:])
    chunks = ask.chunks(echo=True, logprobs=1, max_tokens=2)
    streamed = [c["choices"][0]["logprobs"]["token_logprobs"] for c in chunks]
    assert sum(map(len, streamed)) == len(told["tokens"]) + 2


def logprobs(ask: Ask) -> None:
    assert ask()["choices"][0]["logprobs"] is None
    told = ask(logprobs=2)["choices"][0]["logprobs"]
    assert [len(told[name]) for name in ("tokens", "token_logprobs", "text_offset")] == [8] * 3
    # Greedy: the token is one of them, and the first.
    assert all(len(top) == 2 for top in told["top_logprobs"])
    assert [max(top.values()) for top in told["top_logprobs"]] == told["token_logprobs"]


def max_tokens(ask: Ask) -> None:
    assert ask(max_tokens=3)["usage"]["completion_tokens"] == 3
    assert ask(max_tokens=...)["usage"]["completion_tokens"] == 16
    none = ask(max_tokens=0)
    assert (text(none), none["choices"][0]["finish_reason"]) == ("", "length")
    assert none["usage"]["completion_tokens"] == 0


def suffix(ask: Ask) -> None:
    answer = ask(suffix="time", return_token_ids=True)
    ids = answer["choices"][0]["prompt_token_ids"]
    shown = ask(prompt=ids, echo=True, logprobs=0, max_tokens=0)["choices"][0]["logprobs"]
    marks = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
    assert shown["tokens"] == ["<s>", marks[0], *PROMPT, marks[1], *"time", marks[2]]


def answers(ask: Ask) -> list[Json]:
    body = ask(logprobs=1)
    assert (body["object"], body["model"]) == ("text_completion", "base")
    assert body["id"].startswith("cmpl-")
    assert body["system_fingerprint"].startswith("fp_")
    (choice,) = body["choices"]
    assert (choice["index"], choice["finish_reason"]) == (0, "length")
    check_usage(body["usage"], 1 + len(PROMPT), 8)
    chunks = ask.chunks(stream_options={"include_usage": True})
    check_usage(chunks[-1]["usage"], 1 + len(PROMPT), 8)
    # Chunks are like it, but that there is no reason to end before the last one, which OpenAI sends as null, too.
    assert {path for chunk in chunks for path in chunk} <= {*body}
    return [body]


def check_usage(usage: Json, prompt: int, completion: int) -> None:
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (prompt, completion)
    assert usage["total_tokens"] == prompt + completion
    assert 0 <= usage["prompt_tokens_details"]["cached_tokens"] < prompt
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 0


ROUTE = Route(
    "Completions",
    "POST /v1/completions",
    CompletionCreateParams,
    at("/v1/completions", MINIMAL),
    (
        supported(
            "prompt",
            prompt,
            no(BAD, prompt=[]),
            no(BAD, prompt=[[]]),
            no(BAD, prompt=["a", 1]),
            no("invalid_request", prompt=["a"] * 1025),
            note="text, token ids, or a list of up to 1024 of either",
        ),
        partly(
            "best_of",
            "0 to 20; above `n` not with `stream`",
            best_of,
            no(CANNOT, best_of=21),
            no(CANNOT, best_of=2, stream=True),
            no(CANNOT, best_of=2, n=3),
        ),
        supported("echo", echo, no(BAD, echo=1), note="with `logprobs` too"),
        supported("logprobs", logprobs, no(BAD, logprobs=6), no(BAD, logprobs=-1), note="0 to 5"),
        supported(
            "max_tokens",
            max_tokens,
            no(BAD, max_tokens=-1),
            no("context_length_exceeded", max_tokens=10_000),
            note="0 computes the prompt only",
        ),
        partly(
            "suffix",
            "models with tokens for filling in the middle; not with `echo`",
            suffix,
            no(CANNOT, suffix="x", prompt=[1], at="prompt"),
            no(CANNOT, suffix="x", echo=True, at="echo"),
        ),
        *sampling_fields(text, 8, "max_tokens"),
    ),
    (
        Reply(
            "",
            Completion,
            answers,
            (
                "id",
                "object",
                "created",
                "model",
                "system_fingerprint",
                "choices",
                "choices[].index",
                "choices[].text",
                "choices[].finish_reason",
                "choices[].logprobs",
                "choices[].logprobs.tokens",
                "choices[].logprobs.token_logprobs",
                "choices[].logprobs.top_logprobs",
                "choices[].logprobs.text_offset",
                *USAGE_SENT,
            ),
            never=USAGE_NEVER,
        ),
    ),
)
