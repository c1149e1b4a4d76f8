"""Owns what is said of POST /v1/completions."""

import pytest

from conformance.judged import Ask, Field, Json, Route, Status, same
from conformance.sampling import sampling_fields

PROMPT = "Once upon"
MINIMAL = {"model": "base", "prompt": PROMPT, "max_tokens": 8, "temperature": 0, "ignore_eos": True}


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
    assert all(len(top) == 2 for top in told["top_logprobs"])  # greedy: the token is one of them


def max_tokens(ask: Ask) -> None:
    assert ask(max_tokens=3)["usage"]["completion_tokens"] == 3
    assert ask(max_tokens=...)["usage"]["completion_tokens"] == 16
    none = ask(max_tokens=0)
    assert (text(none), none["choices"][0]["finish_reason"]) == ("", "length")
    assert none["usage"]["completion_tokens"] == 0
    assert ask.refusal(max_tokens=10_000)["code"] == "context_length_exceeded"


def suffix(ask: Ask) -> None:
    answer = ask(suffix="time", return_token_ids=True)
    ids = answer["choices"][0]["prompt_token_ids"]
    shown = ask(prompt=ids, echo=True, logprobs=0, max_tokens=0)["choices"][0]["logprobs"]
    marks = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
    assert shown["tokens"] == ["<s>", marks[0], *PROMPT, marks[1], *"time", marks[2]]


def response(ask: Ask) -> list[Json]:
    return [ask(logprobs=1), *ask.chunks(stream_options={"include_usage": True})]


ROUTE = Route(
    "completions",
    "/v1/completions",
    MINIMAL,
    (
        Field(
            "prompt",
            Status.SUPPORTED,
            "text, token ids, or a list of either",
            prompt,
            ({"prompt": []}, {"prompt": [[]]}, {"prompt": ["a", 1]}, {"prompt": ["a"] * 1025}),
        ),
        Field(
            "best_of",
            Status.PARTLY,
            "0 to 20; above `n` not with `stream`",
            best_of,
            ({"best_of": 21}, {"best_of": 2, "stream": True}, {"best_of": 2, "n": 3}),
        ),
        Field("echo", Status.SUPPORTED, "with `logprobs` too", echo, ({"echo": 1},)),
        Field(
            "logprobs", Status.SUPPORTED, "0 to 5", logprobs, ({"logprobs": 6}, {"logprobs": -1})
        ),
        Field(
            "max_tokens",
            Status.SUPPORTED,
            "0 computes the prompt only",
            max_tokens,
            ({"max_tokens": -1},),
        ),
        Field(
            "suffix",
            Status.PARTLY,
            "models with tokens for filling in the middle; not with `echo`",
            suffix,
            ({"suffix": "x", "prompt": [1]},),
            param="prompt",
        ),
        *sampling_fields(text, 8),
        Field("user", Status.SUPPORTED, "who asks, for split aliases", same(user="u")),
    ),
    {
        "id": True,
        "object": True,
        "created": True,
        "model": True,
        "system_fingerprint": True,
        "choices": True,
        "choices[].index": True,
        "choices[].text": True,
        "choices[].finish_reason": True,
        "choices[].logprobs": True,
        "choices[].logprobs.tokens": True,
        "choices[].logprobs.token_logprobs": True,
        "choices[].logprobs.top_logprobs": True,
        "choices[].logprobs.text_offset": True,
        "usage": True,
        "usage.prompt_tokens": True,
        "usage.completion_tokens": True,
        "usage.total_tokens": True,
        "usage.prompt_tokens_details": True,
        "usage.prompt_tokens_details.cached_tokens": True,
        "usage.prompt_tokens_details.cache_write_tokens": False,
        "usage.prompt_tokens_details.audio_tokens": False,
        "usage.prompt_tokens_details.text_tokens": False,
        "usage.prompt_tokens_details.image_tokens": False,
        "usage.completion_tokens_details": True,
        "usage.completion_tokens_details.reasoning_tokens": True,
        "usage.completion_tokens_details.accepted_prediction_tokens": False,
        "usage.completion_tokens_details.rejected_prediction_tokens": False,
        "usage.completion_tokens_details.audio_tokens": False,
        "usage.completion_tokens_details.text_tokens": False,
    },
    response,
)
