"""Lines of uploaded files: cut whatever the pieces they come in, judged whatever is in them."""

import json
import random
from collections.abc import AsyncIterator

import pytest

from loraplex.platform.auth.keys import generate
from loraplex.platform.batches import lines, validation
from loraplex.platform.batches.lines import Line, read_judged, read_lines
from loraplex.platform.batches.validation import validate

COMPLETIONS = "/v1/completions"


async def in_pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def request(custom_id: object = "a", **changes: object) -> bytes:
    body = {"model": "m", "prompt": "x"}
    line = {"custom_id": custom_id, "method": "POST", "url": COMPLETIONS, "body": body, **changes}
    return json.dumps({k: v for k, v in line.items() if v is not None}).encode() + b"\n"


async def test_lines_are_cut_whatever_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINE", 20)
    rng = random.Random(1)
    for _ in range(200):
        parts = [b"x" * rng.choice((0, 1, 5, 20, 21, 60)) for _ in range(rng.randrange(1, 9))]
        ends = rng.choice((b"", b"\n", b"\n \r\n"))
        wanted = [
            Line(number, part if len(part) <= 20 else None)
            for number, part in enumerate(parts, 1)
            if part
        ]
        data = b"\n".join(parts) + ends
        for size in (1, 3, 7, 1000):
            assert [line async for line in read_lines(in_pieces(data, size))] == wanted


async def test_a_good_file_is_counted() -> None:
    found = await validate(
        in_pieces(request("a") + b"\n  \n" + request("b").strip(), 9), COMPLETIONS
    )
    assert found == (2, "m", [])
    mixed = request("a") + request("b", body={"model": "other"})
    assert (await validate(in_pieces(mixed, 9), COMPLETIONS)).model is None


async def test_an_input_that_is_cut_off_has_fewer_requests() -> None:
    data = request("a") + b"\n" + request("b")
    for cut in (0, 1, 20):
        source = in_pieces(data[: len(data) - cut], 9)
        numbers = [number async for number, _ in read_judged(source, COMPLETIONS)]
        assert numbers == ([1, 3] if cut < 2 else [1])


async def test_blank_lines_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINES", 5)
    good = b"\n\n\n\n" + request("a")
    assert (await validate(in_pieces(good, 9), COMPLETIONS)).faults == []
    (fault,) = (await validate(in_pieces(good + b"\n", 9), COMPLETIONS)).faults
    assert fault.code == "too_many_lines"


HOSTILE = {
    "nothing": (b"\n \n", "empty_file", None),
    "not json": (b"hello\n", "invalid_json", None),
    "a list": (b"[1]\n", "invalid_request", None),
    "a long model": (request(body={"model": "m" * 513}), "invalid_value", "model"),
    "a model with NUL": (request(body={"model": "m\0"}), "invalid_request", "model"),
    "bad utf-8": (request().replace(b'"a"', b'"\xff"'), "invalid_json", None),
    "nested": (
        request(body=None).replace(b"}\n", b', "body": ' + b"[" * 99_999),
        "invalid_json",
        None,
    ),
    "a deep body": (
        request().replace(b'"x"', b"[" * 99_999 + b"]" * 99_999),
        "invalid_json",
        None,
    ),
    "no id": (request(None), "missing_required_parameter", "custom_id"),
    "an empty id": (request(""), "invalid_value", "custom_id"),
    "a number as id": (request(5), "invalid_value", "custom_id"),
    "a long id": (request("a" * 513), "invalid_value", "custom_id"),
    "the same id": (request("a") + request("b") + request("a"), "duplicate_custom_id", "custom_id"),
    "another method": (request(method="GET"), "invalid_method", "method"),
    "another url": (request(url="/v1/chat/completions"), "invalid_url", "url"),
    "no model": (request(body={"prompt": "x"}), "missing_required_parameter", "model"),
    "no body": (request(body=None), "missing_required_parameter", "body"),
    "an unknown field": (request(colour="red"), "unknown_parameter", "colour"),
    "a key": (request(body={"model": "m", "prompt": generate().token}), "exposed_key", None),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_what_is_wrong_with_a_file_is_told(name: str) -> None:
    data, code, param = HOSTILE[name]
    found = await validate(in_pieces(data, 4096), COMPLETIONS)
    (fault,) = found.faults
    assert (fault.code, fault.param) == (code, param), fault
    if name == "the same id":
        assert (fault.line, "line 1" in fault.message) == (3, True)


async def test_faults_and_requests_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    found = await validate(in_pieces(b"x\n" * 1000, 4096), COMPLETIONS)
    assert (len(found.faults), found.faults[99].line) == (100, 100)
    monkeypatch.setattr(validation, "MAX_REQUESTS", 3)
    data = b"".join(request(str(n)) for n in range(4))
    (fault,) = (await validate(in_pieces(data, 99), COMPLETIONS)).faults
    assert fault.code == "too_many_requests"
    monkeypatch.setattr(lines, "MAX_LINE", 60)
    data = request("a", body={"model": "m", "prompt": "x" * 1000})
    (fault,) = (await validate(in_pieces(data, 99), COMPLETIONS)).faults
    assert (fault.code, fault.line) == ("line_too_long", 1)
