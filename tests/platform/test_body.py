"""Errors of a request body name the field at fault, whatever the client called its fields."""

import msgspec
import pytest

from loraplex.platform.body import decode_body
from loraplex.platform.errors import BadRequestError


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    x: int = 0


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    inner: Inner | None = None


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"name": "a", "bad": 1}, "unknown_parameter", "bad"),
        ({"name": "a", "inner": {"bad": 1}}, "unknown_parameter", "inner.bad"),
        ({"name": "a", "x - at `$.y": 1}, "unknown_parameter", "x - at `$.y"),
        ({"name": "a", "x - at `$.y`": 1}, "unknown_parameter", "x - at `$.y`"),
        ({"name": "a", "inner": {"x - at `$.y": 1}}, "unknown_parameter", "inner.x - at `$.y"),
        ({}, "missing_required_parameter", "name"),
        ({"name": "a", "inner": {"x": "1"}}, "invalid_value", "inner.x"),
        ([], "invalid_request", None),
    ],
)
def test_the_field_is_named(body: object, code: str, param: str | None) -> None:
    with pytest.raises(BadRequestError) as caught:
        decode_body(msgspec.json.encode(body), Outer)
    assert (caught.value.code, caught.value.param) == (code, param)
