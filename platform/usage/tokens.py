"""Owns the tokens that lead to the next page of sums: where the last line stood, as text nobody needs to read."""

import base64
import binascii
from datetime import UTC, datetime

import msgspec

from loraplex.platform.errors import BadRequestError
from loraplex.platform.usage.sums import READ, Group, Place

# What the columns hold.
_MOST_TEXT = 255
_MOST_NUMBER = 2**31 - 1


def write_token(place: Place) -> str:
    """A token for what comes after a place."""
    parts = [str(int(place.start.timestamp())), *map(str, place.values)]
    return base64.urlsafe_b64encode(msgspec.json.encode(parts)).decode().rstrip("=")


def read_token(token: str, by: tuple[Group, ...]) -> Place:
    """The place again.

    Raises:
        BadRequestError: a token that is none, or of a list that was grouped otherwise.
    """
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        start, *texts = msgspec.json.decode(raw, type=list[str])
        values = tuple(_value(group, text) for group, text in zip(by, texts, strict=True))
        return Place(datetime.fromtimestamp(int(start), UTC), values)
    except (binascii.Error, msgspec.MsgspecError, ValueError, OverflowError, OSError):
        raise BadRequestError(
            "after: send the 'next' of the page before, and the same group_by.", param="after"
        ) from None


def _value(group: Group, text: str) -> object:
    value = READ[group](text)
    if isinstance(value, int) and not 0 <= value <= _MOST_NUMBER:
        raise ValueError(text)
    if len(text) > _MOST_TEXT or "\0" in text:
        raise ValueError(text)
    return value
