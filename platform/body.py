"""Owns reading a request body, with errors that name the field at fault."""

import re
from typing import TypeVar

import msgspec

from loraplex.platform.auth.exposure import exposed
from loraplex.platform.auth.keys import holds_key
from loraplex.platform.body_values import check_values
from loraplex.platform.errors import BadRequestError

T = TypeVar("T")

# msgspec's messages: "Expected `int`, got `str` - at `$.prompt[0]`".
# What a client wrote may be part of them, even " - at `$.": so the path is what comes last.
_PATH = r"(?: - at `\$\.?(?P<path>[^`]*)`)?"
_AT = re.compile(rf"(?P<what>.*?){_PATH}", re.DOTALL)
_UNKNOWN = re.compile(rf"Object contains unknown field `(?P<field>.*?)`{_PATH}", re.DOTALL)
_MISSING = re.compile(rf"Object missing required field `(?P<field>.*?)`{_PATH}", re.DOTALL)


def decode_body(body: bytes, kind: type[T]) -> T:
    """The body as a struct.

    Raises:
        BadRequestError: it is not JSON, or not of this shape; `param` is the field's path. Or an API key is in it, or
            too many values.
    """
    if holds_key(body):
        raise exposed("body")
    check_values(body)
    return _decode(body, kind)


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _shape_error(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequestError(
            f"The body is not valid JSON: {error}.", code="invalid_json"
        ) from None
    except RecursionError:
        raise BadRequestError("The body is nested too deeply.", code="invalid_json") from None


def decode_part(part: msgspec.Raw, kind: type[T], path: str) -> T:
    """A part of a body that was left undecoded at first, as a struct.

    Raises:
        BadRequestError: as `decode_body`, which has seen the whole; its `param` begins with `path`, where the part is.
    """
    try:
        return _decode(bytes(part), kind)
    except BadRequestError as error:
        inner = error.param or ""
        param = f"{path}{'' if inner.startswith('[') or not inner else '.'}{inner}"
        text = error.message.removeprefix("The body is wrong: ")
        message = (
            text.replace(inner, param, 1) if inner else f"{param}: {text[:1].lower()}{text[1:]}"
        )
        raise BadRequestError(message, code=error.code, param=param) from None


def _shape_error(text: str) -> BadRequestError:
    if unknown := _UNKNOWN.fullmatch(text):
        param = _join(unknown["path"] or "", unknown["field"])
        return BadRequestError(
            f"{param} is not a field of this request; remove it.",
            code="unknown_parameter",
            param=param,
        )
    if missing := _MISSING.fullmatch(text):
        param = _join(missing["path"] or "", missing["field"])
        message = f"{param} is missing."
        return BadRequestError(message, code="missing_required_parameter", param=param)
    match = _AT.fullmatch(text)
    what, path = (match["what"], match["path"] or "") if match else (text, "")
    what = what[:1].lower() + what[1:]
    if not path:
        return BadRequestError(f"The body is wrong: {what}.")
    return BadRequestError(f"{path}: {what}.", param=path, code="invalid_value")


def _join(path: str, field: str) -> str:
    return f"{path}.{field[:100]}" if path else field[:100]
