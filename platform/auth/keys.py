"""Owns the form of an API key: `lpx_live_<key id>_<secret>_<checksum>`, base62. The id is public
and finds the row, the secret is 32 random bytes, the checksum tells a typing error (or a leaked
string in a scanner) without the database."""

import hashlib
import re
import secrets
import zlib
from typing import NamedTuple

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID, _SECRET, _CHECKSUM = 12, 43, 6  # lengths; 62^43 > 2^256, 62^6 > 2^32
_PREFIX = "lpx_live_"
_KEY = re.compile(rf"{_PREFIX}([0-9A-Za-z]{{{_ID}}})_[0-9A-Za-z]{{{_SECRET}}}_[0-9A-Za-z]{{6}}")
# What an operator may choose as bootstrap key instead: long enough not to be guessed, safe in a header.
_CHOSEN = re.compile(r"[!-~]{8,200}")


class NewKey(NamedTuple):
    """A key just made. `token` is shown once and never stored."""

    id: str
    token: str


def generate() -> NewKey:
    """A new random key."""
    key_id = "".join(secrets.choice(_ALPHABET) for _ in range(_ID))
    body = f"{_PREFIX}{key_id}_{_base62(int.from_bytes(secrets.token_bytes(32)), _SECRET)}"
    return NewKey(key_id, f"{body}_{_checksum(body)}")


def key_id(token: str) -> str | None:
    """The id under which a key is stored; None when the text cannot be one of our keys.

    A bootstrap key may be any text its operator chose: its id is taken from its hash.
    """
    match = _KEY.fullmatch(token)
    if match is not None:
        body, _, checksum = token.rpartition("_")
        return match[1] if secrets.compare_digest(checksum, _checksum(body)) else None
    if token.startswith(_PREFIX) or not _CHOSEN.fullmatch(token):
        return None
    return _base62(int(hash_token(token)[:16], 16), _ID)


def holds_key(data: bytes) -> bool:
    """Whether a text has a whole key of ours in it."""
    if _PREFIX.encode() not in data:
        return False
    text = data.decode("latin-1")
    return any(key_id(match[0]) is not None for match in _KEY.finditer(text))


def hash_token(token: str) -> str:
    """SHA-256 in hex: the secret has 256 random bits, so a slow password hash would add nothing."""
    return hashlib.sha256(token.encode()).hexdigest()


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECKSUM)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
