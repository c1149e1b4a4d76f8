"""Bodies of millions of values are refused before they are decoded; texts may say what they like."""

import json

import pytest

from loraplex.platform.batches.lines import LineRequest
from loraplex.platform.body import decode_body
from loraplex.platform.body_values import MAX_LISTS, MAX_STRINGS, MAX_VALUES
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.embedding_schemas import EmbeddingRequest
from loraplex.platform.inference.schemas import ChatRequest, CompletionRequest
from loraplex.platform.inference.tokenizing import DetokenizeRequest
from loraplex.platform.messages.schemas import MessagesRequest
from loraplex.platform.responses.schemas import ResponseRequest


def listed(value: bytes, count: int) -> bytes:
    return b"[%s]" % b",".join([value] * count)


@pytest.mark.parametrize(
    ("value", "most"),
    [
        (b"1", MAX_VALUES),
        (b'""', MAX_STRINGS),
        (b'"\\",\\\\"', MAX_STRINGS),
        (b"[1]", MAX_LISTS),
        (b"{}", MAX_LISTS),
    ],
)
def test_more_than_can_be_decoded_in_a_moment_is_refused(value: bytes, most: int) -> None:
    body = b'{"model": "m", "prompt": %s}'
    # The body itself and the list, or the names of its fields and the model.
    around = 3 if most == MAX_STRINGS else 2 if most == MAX_LISTS else 1
    with pytest.raises(BadRequestError) as refused:
        decode_body(body % listed(value, most), CompletionRequest)
    assert refused.value.code == "too_many_values"
    assert decode_body(body % listed(value, most - around), dict)


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (CompletionRequest, "prompt"),
        (EmbeddingRequest, "input"),
        (DetokenizeRequest, "tokens"),
        (ChatRequest, "tools"),
        (ResponseRequest, "input"),
        (MessagesRequest, "messages"),
        (LineRequest, "body"),
    ],
)
def test_every_body_is_counted(kind: type[object], field: str) -> None:
    for value in (b"1", b"[]"):
        body = b'{"model": "m", "%s": %s}' % (field.encode(), listed(value, MAX_VALUES + 1))
        with pytest.raises(BadRequestError, match="more than"):
            decode_body(body, kind)


@pytest.mark.parametrize("text", ['1,2,"3",\\', "[[{{,", '\\"', "\\\\,", "é, "])
def test_a_text_may_be_full_of_commas_quotes_and_brackets(text: str) -> None:
    prompt = text * MAX_LISTS * 2
    body = json.dumps({"model": "m", "prompt": [prompt, prompt]}).encode()
    assert decode_body(body, CompletionRequest).prompt == [prompt, prompt]
