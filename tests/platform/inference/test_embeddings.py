"""Inputs of embeddings: which are refused before any work, and what is read of a model directory."""

import json
import struct
from pathlib import Path

import pytest

from loraplex.platform.engines.base_model import BaseModel, pooling_of
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.embedding_schemas import EmbeddingRequest
from loraplex.platform.inference.embeddings import MAX_TOKENS, check_inputs, numbers, read_inputs


def request(value: str | list[str | int | list[int]]) -> EmbeddingRequest:
    return EmbeddingRequest(model="tiny", input=value)


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ("", "input"),
        ([], "input"),
        ([[]], "input[0]"),
        (["a", ""], "input[1]"),
        (["a", 1], "input"),
        ([1, [1]], "input"),
        (["a"] * 2049, "input"),
    ],
)
def test_refused_inputs(value: str | list[str | int | list[int]], param: str) -> None:
    with pytest.raises(BadRequestError) as raised:
        check_inputs(request(value))
    assert raised.value.param == param


async def test_each_kind_of_input(base_dir: Path) -> None:
    model = BaseModel.load("tiny", base_dir)
    assert model.tokenizer is not None
    ids = tuple(model.tokenizer.encode("Hello"))
    kinds: list[str | list[str | int | list[int]]] = [
        "Hello",
        ["Hello", "Hello"],
        [1, 2],
        [[1], [2, 3]],
    ]
    for value in kinds:
        check_inputs(request(value))
    read = [await read_inputs(request(value), model, 64) for value in kinds]
    assert read == [[ids], [ids, ids], [(1, 2)], [(1,), (2, 3)]]
    # No token is to follow: an input may fill the context.
    assert await read_inputs(request([1] * 64), model, 64)
    with pytest.raises(BadRequestError) as raised:
        await read_inputs(request([1] * 65), model, 64)
    assert raised.value.code == "context_length_exceeded"
    with pytest.raises(BadRequestError, match=f"more than the {MAX_TOKENS}"):
        await read_inputs(request([[1] * 1000] * 301), model, None)
    # More ids than there may be inputs are one input.
    check_inputs(request([1] * 3000))


def test_numbers_are_little_endian() -> None:
    assert numbers(struct.pack("<3f", 1, -2.5, 0)) == [1, -2.5, 0]


def test_pooling_of_a_model_directory(tmp_path: Path) -> None:
    assert pooling_of(tmp_path) == "last"
    (tmp_path / "1_Pooling").mkdir()
    file = tmp_path / "1_Pooling" / "config.json"
    for content, method in [
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_lasttoken": True}, "last"),
        ([], "last"),
    ]:
        file.write_text(json.dumps(content))
        assert pooling_of(tmp_path) == method
    file.write_text("{")
    assert pooling_of(tmp_path) == "last"
