"""Owns reading JSON that a stranger sent: an object, no duplicate keys, no NaN, no runaway nesting."""

import json
from collections import Counter
from typing import Never

from loraplex.adapters.errors import AdapterRejected


def parse_object(data: bytes, field: str, what: str) -> dict[str, object]:
    """Parse `data` as one JSON object.

    Raises:
        AdapterRejected: with `field`; `what` names the document in the message.
    """

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            counts = Counter(key for key, _ in pairs)
            twice = counts.most_common(1)[0][0]
            raise AdapterRejected(field, f"{what} has the key {quote(twice)} twice; keep one.")
        return found

    def no_constant(name: str) -> Never:
        raise AdapterRejected(field, f"{what} contains {name}, which is not JSON; use a number.")

    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=unique, parse_constant=no_constant
        )
    except AdapterRejected:
        raise
    except RecursionError:
        raise AdapterRejected(field, f"{what} is nested too deeply.") from None
    except ValueError as error:
        raise AdapterRejected(field, f"{what} is not valid JSON: {error}.") from None
    if not isinstance(value, dict):
        raise AdapterRejected(field, f"{what} must be a JSON object, not {type(value).__name__}.")
    return value


def quote(text: str) -> str:
    """`text` for a message: quoted, plain ASCII, at most 120 characters, so that it cannot forge log lines."""
    return ascii(text if len(text) <= 120 else text[:117] + "...")
