"""Owns the ids of ledger rows: UUIDs (version 7) in the order of time, so that rows of a time can be found by them."""

import secrets
from datetime import datetime
from uuid import UUID

_VERSION = 7 << 76
_VARIANT = 2 << 62


def new_id(at: datetime) -> UUID:
    """Of a row that begins at a time; the rest of the millisecond (RFC 9562, 6.2, method 3), then chance."""
    milliseconds, micros = divmod(round(at.timestamp() * 1_000_000), 1000)
    fraction = micros * 4096 // 1000 << 64
    return UUID(int=milliseconds << 80 | _VERSION | fraction | _VARIANT | secrets.randbits(62))


def first_id(at: datetime) -> UUID:
    """The smallest that rows of this moment can have."""
    return UUID(int=int(at.timestamp() * 1000) << 80 | _VERSION)
