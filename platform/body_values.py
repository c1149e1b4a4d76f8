"""Owns how many values a body may hold. Decoding JSON takes time by the value, up to a microsecond for each, and nobody
else in the process gets a turn meanwhile; text takes next to none."""

from loraplex.platform.errors import BadRequestError

# Each of these takes up to 60 ms on a quiet processor. Token ids are most of what there can be many of: as many as the
# longest contexts have. Of the others, 8192 messages of a chat with some parts each have half.
MAX_VALUES = 2**20
MAX_STRINGS = 150_000
MAX_LISTS = 2**16  # with objects
# Lists in lists are given up by the decoder at this depth, long before there are too many of them.
DEPTH = 1024


def check_values(body: bytes) -> None:
    """Refuse what would hold everybody up. Takes up to 3 ms for each MB, and nothing for short bodies.

    Raises:
        BadRequestError: it has too many values.
    """
    if len(body) <= MAX_LISTS:
        return
    # What stands in texts is counted with the rest at first: most texts are far from it.
    most = body.count(b",")
    lists = body.count(b"[") + body.count(b"{")
    # Each string stands at a comma, or alone in its list or object.
    if most <= MAX_LISTS and min(lists, DEPTH * (most + 1)) <= MAX_LISTS:
        return
    plain = body.replace(rb"\\", b"").replace(rb"\"", b"")
    if plain.count(b'"') > 2 * MAX_STRINGS:
        raise _too_many(MAX_STRINGS, "strings")
    outside = b"".join(plain.split(b'"')[::2])
    if outside.count(b"[") + outside.count(b"{") > MAX_LISTS:
        raise _too_many(MAX_LISTS, "lists and objects")
    if most >= MAX_VALUES and outside.count(b",") >= MAX_VALUES:
        raise _too_many(MAX_VALUES, "values")


def _too_many(most: int, what: str) -> BadRequestError:
    return BadRequestError(
        f"The body has more than {most} {what}; send several requests.", code="too_many_values"
    )
