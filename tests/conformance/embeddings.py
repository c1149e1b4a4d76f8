"""Owns what is said of POST /v1/embeddings."""

import base64
import struct

from conformance.judged import Ask, Field, Json, Route, Status

TEXT = "Once upon"
SUPPORTED = Status.SUPPORTED


def vectors(body: Json) -> list[list[float]]:
    assert [item["index"] for item in body["data"]] == list(range(len(body["data"])))
    return [item["embedding"] for item in body["data"]]


def inputs(ask: Ask) -> None:
    (one,) = vectors(ask())
    assert len(one) == 64
    assert vectors(ask(input=[TEXT, TEXT])) == [one, one]
    assert vectors(ask(input=[1, 2])) == vectors(ask(input=[[1, 2]])) != [one]


def encoding_format(ask: Ask) -> None:
    (packed,) = [item["embedding"] for item in ask(encoding_format="base64")["data"]]
    (plain,) = vectors(ask(encoding_format="float"))
    data = base64.b64decode(packed)
    told = struct.unpack(f"<{len(data) // 4}f", data)
    assert max(abs(a - b) for a, b in zip(told, plain, strict=True)) < 1e-5


def dimensions(ask: Ask) -> None:
    assert vectors(ask(dimensions=64)) == vectors(ask())


def user(ask: Ask) -> None:
    assert vectors(ask(user="u")) == vectors(ask())


def model(ask: Ask) -> None:
    answer = ask.raw(model="nobody")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


ROUTE = Route(
    "embeddings",
    "/v1/embeddings",
    {"model": "base", "input": TEXT},
    (
        Field("model", SUPPORTED, "a base model, or an adapter of the tenant", model),
        Field(
            "input",
            SUPPORTED,
            "text, token ids, or up to 2048 of either",
            inputs,
            ({"input": ""}, {"input": []}, {"input": ...}, {"input": [[1]] * 2049}),
        ),
        Field("encoding_format", SUPPORTED, "", encoding_format, ({"encoding_format": "x"},)),
        Field(
            "dimensions",
            Status.PARTLY,
            "only the model's own",
            dimensions,
            ({"dimensions": 8}, {"dimensions": 0}),
        ),
        Field("user", SUPPORTED, "who asks, for split aliases", user),
    ),
    dict.fromkeys(
        (
            "object",
            "model",
            "data",
            "data[].object",
            "data[].index",
            "data[].embedding",
            "usage",
            "usage.prompt_tokens",
            "usage.total_tokens",
        ),
        True,
    ),
)
