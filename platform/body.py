"""Owns reading a request body, with errors that name the field at fault."""

import re
from typing import TypeVar

import msgspec

from loraplex.platform.errors import BadRequestError

T = TypeVar("T")

# msgspec's messages: "Expected `int`, got `str` - at `$.prompt[0]`".
_AT = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<field>.*)`", re.DOTALL)


def decode_body(body: bytes, kind: type[T]) -> T:
    """The body as a struct.

    Raises:
        BadRequestError: it is not JSON, or not of this shape; `param` is the field's path.
    """
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


def _shape_error(text: str) -> BadRequestError:
    match = _AT.fullmatch(text)
    what, path = (match["what"], match["path"] or "") if match else (text, "")
    if unknown := _UNKNOWN.fullmatch(what):
        param = _join(path, unknown["field"])
        return BadRequestError(
            f"{param} is not a field of this request; remove it.",
            code="unknown_parameter",
            param=param,
        )
    if missing := _MISSING.fullmatch(what):
        param = _join(path, missing["field"])
        message = f"{param} is missing."
        return BadRequestError(message, code="missing_required_parameter", param=param)
    what = what[:1].lower() + what[1:]
    if not path:
        return BadRequestError(f"The body is wrong: {what}.")
    return BadRequestError(f"{path}: {what}.", param=path, code="invalid_value")


def _join(path: str, field: str) -> str:
    return f"{path}.{field[:100]}" if path else field[:100]
