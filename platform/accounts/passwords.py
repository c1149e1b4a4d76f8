"""Owns passwords: what makes one acceptable, and hashing them with argon2id without starving the requests beside."""

import asyncio
import unicodedata
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from loraplex.platform.errors import BadRequestError, TooManyAttemptsError
from loraplex.platform.settings import PasswordHashing

MIN_LENGTH, MAX_LENGTH = 10, 200
MIN_DISTINCT = 5
# One hash takes a core for a sixth of a second and 46 MiB: two at a time leave a worker able to stream, and twenty that
# wait are served within a few seconds.
AT_ONCE, WAITING = 2, 20
RETRY_SECONDS = 5.0
# The usual passwords of this length, and what is made of them: compared without digits and signs at both ends.
_USUAL = frozenset(
    (
        *(
            "password",
            "passwordpassword",
            "passw0rd",
            "p@ssw0rd",
            "p@ssword",
            "qwerty",
            "qwertyuiop",
            "qwertzuiop",
        ),
        *(
            "asdfghjkl",
            "letmein",
            "iloveyou",
            "welcome",
            "administrator",
            "superman",
            "princess",
            "football",
        ),
        *("baseball", "sunshine", "changeme", "loraplex", "dragon", "monkey", "secret"),
    )
)
_ROWS = ("0123456789" * 3, "9876543210" * 3, "abcdefghijklmnopqrstuvwxyz", "1q2w3e4r5t6z7u8i9o0p")


class Passwords:
    """Hashes and checks passwords, a few at a time."""

    def __init__(self, hashing: PasswordHashing) -> None:
        self._hasher = PasswordHasher(hashing.time_cost, hashing.memory_kib, parallelism=1)
        self._places = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """The password at rest.

        Raises:
            TooManyAttemptsError: too many others wait.
        """
        async with self._place():
            return await asyncio.to_thread(self._hasher.hash, _normal(password))

    async def matches(self, stored: str | None, password: str) -> bool:
        """Whether this is the password; takes as long where there is none to compare with.

        Raises:
            TooManyAttemptsError: as for `hash`.
        """
        async with self._place():
            return await asyncio.to_thread(self._compare, stored, _normal(password))

    def is_outdated(self, stored: str) -> bool:
        """Whether it was hashed with other parameters than are used now."""
        return self._hasher.check_needs_rehash(stored)

    def _compare(self, stored: str | None, password: str) -> bool:
        if stored is None:
            self._hasher.hash(password)
            return False
        try:
            return self._hasher.verify(stored, password)
        except (VerifyMismatchError, InvalidHashError):
            return False

    @asynccontextmanager
    async def _place(self) -> AsyncGenerator[None]:
        if self._waiting >= WAITING:
            raise TooManyAttemptsError(
                "Too many people sign in at this moment; try again in a few seconds.",
                retry_after=RETRY_SECONDS,
            )
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._places.release()


def check_password(password: str, *about: str) -> None:
    """Refuse a new password that is easy to guess. `about` are words of the user: e-mail address, name.

    Raises:
        BadRequestError: it is; the message says why.
    """
    reason = _weakness(_normal(password), about)
    if reason is not None:
        raise BadRequestError(
            f"password: {reason}; choose another.", code="weak_password", param="password"
        )


def _weakness(password: str, about: tuple[str, ...]) -> str | None:
    plain = password.casefold()
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        return f"it needs {MIN_LENGTH} to {MAX_LENGTH} characters"
    if len(set(plain)) < MIN_DISTINCT:
        return f"it needs at least {MIN_DISTINCT} different characters"
    if any(plain in row for row in _ROWS):
        return "it is a row of the keyboard or of the alphabet"
    if plain.strip("0123456789!?.,;:#*_-+$ ") in _USUAL:
        return "it is one of the first that anybody would try"
    words = {word.casefold() for text in about for word in (text, text.partition("@")[0])}
    rest = min((plain.replace(word, "") for word in words if len(word) > 3), key=len, default=plain)
    if len(rest) < len(plain) and len(rest) < MIN_DISTINCT:
        return "it is little more than your name or e-mail address"
    return None


def _normal(password: str) -> str:
    # Keyboards write one letter in several ways.
    return unicodedata.normalize("NFKC", password)
