"""Owns what is said of POST /v1/embeddings."""

import base64
import struct

import pytest
from openai.types import CreateEmbeddingResponse, EmbeddingCreateParams

from conformance.judged import Ask, Json, Reply, Route, at, keeps_version, no, partly, supported
from conformance.sampling import ADAPTER, WHO_ASKS

TEXT = "Once upon"
WIDTH = 64  # of the model
BAD = "invalid_value"


def vectors(body: Json) -> list[list[float]]:
    assert [item["index"] for item in body["data"]] == list(range(len(body["data"])))
    return [item["embedding"] for item in body["data"]]


def inputs(ask: Ask) -> None:
    (one,) = vectors(ask())
    assert len(one) == WIDTH
    assert vectors(ask(input=[TEXT, TEXT])) == [one, one]
    assert vectors(ask(input=[1, 2])) == vectors(ask(input=[[1, 2]])) != [one]


def encoding_format(ask: Ask) -> None:
    (packed,) = [item["embedding"] for item in ask(encoding_format="base64")["data"]]
    (plain,) = vectors(ask(encoding_format="float"))
    data = base64.b64decode(packed)
    told = struct.unpack(f"<{len(data) // 4}f", data)
    assert list(told) == pytest.approx(plain, abs=1e-6)


def dimensions(ask: Ask) -> None:
    assert vectors(ask(dimensions=WIDTH)) == vectors(ask())


def model(ask: Ask) -> None:
    assert vectors(ask(model=ADAPTER)) != vectors(ask())
    answer = ask.raw(model="nobody")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def answers(ask: Ask) -> list[Json]:
    body = ask(input=[TEXT, TEXT])
    assert (body["object"], body["model"]) == ("list", "base")
    assert [item["object"] for item in body["data"]] == ["embedding"] * 2
    tokens = 2 * (1 + len(TEXT))
    assert body["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    return [body]


ROUTE = Route(
    "Embeddings",
    "POST /v1/embeddings",
    EmbeddingCreateParams,
    at("/v1/embeddings", {"model": "base", "input": TEXT}),
    (
        supported(
            "model",
            model,
            no("missing_required_parameter", model=...),
            note="a base model, or an adapter of the tenant",
        ),
        supported(
            "input",
            inputs,
            no(BAD, input=""),
            no(BAD, input=[]),
            no("missing_required_parameter", input=...),
            no(BAD, input=[[1]] * 2049),
            note="text, token ids, or up to 2048 of either",
        ),
        supported("encoding_format", encoding_format, no(BAD, encoding_format="x")),
        partly(
            "dimensions",
            "only the model's own",
            dimensions,
            no("unsupported_value", dimensions=8),
            no(BAD, dimensions=0),
        ),
        supported("user", keeps_version("user"), no(BAD, user=1), note=WHO_ASKS),
    ),
    (
        Reply(
            "",
            CreateEmbeddingResponse,
            answers,
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
        ),
    ),
)
