"""Passwords: which are refused, that a hash is enough, and that hashing leaves room for others."""

import asyncio

import pytest

from loraplex.platform.accounts.passwords import AT_ONCE, WAITING, Passwords, check_password
from loraplex.platform.errors import BadRequestError, TooManyAttemptsError
from loraplex.platform.settings import PasswordHashing

CHEAP = Passwords(PasswordHashing(memory_kib=64, time_cost=1))


@pytest.mark.parametrize(
    "password",
    [
        "short",
        "nine char",
        "x" * 201,
        "aaaaaaaaaaaa",
        "abababababab",
        "1234567890",
        "0987654321",
        "abcdefghijkl",
        "qwertyuiop",
        "Password1234",
        "!!Changeme2026",
        "ann.example1",
        "ann.example@example.com",
        "Ann Example12",
    ],
)
def test_passwords_anybody_would_try(password: str) -> None:
    with pytest.raises(BadRequestError, match="password: ") as refused:
        check_password(password, "ann.example@example.com", "Ann Example")
    assert (refused.value.code, refused.value.param) == ("weak_password", "password")


@pytest.mark.parametrize(
    "password",
    ["correct horse", "Tr0ub4dor&3x", "ein Satz über Äpfel", "x7Kp2mQ9vL", "𝕒 𝕓 𝕔 𝕕 𝕖 𝕗"],
)
def test_other_passwords_are_fine(password: str) -> None:
    check_password(password, "ann.example@example.com", "Ann Example")


async def test_a_hash_tells_right_from_wrong() -> None:
    stored = await CHEAP.hash("Ångström units")
    assert stored.startswith("$argon2id$v=19$m=64,t=1,p=1$")
    assert await CHEAP.matches(stored, "Ångström units")  # written with another code point
    assert not await CHEAP.matches(stored, "Angstrom units")
    assert not await CHEAP.matches(None, "Ångström units")
    assert not await CHEAP.matches("no hash", "Ångström units")
    assert not CHEAP.is_outdated(stored)
    assert Passwords(PasswordHashing(memory_kib=128, time_cost=1)).is_outdated(stored)


async def test_hashing_takes_few_threads_and_few_wait() -> None:
    passwords = Passwords(PasswordHashing(memory_kib=64, time_cost=1))
    asked = AT_ONCE + WAITING + 10
    found = await asyncio.gather(
        *(passwords.hash(f"password {n}") for n in range(asked)), return_exceptions=True
    )
    refused = [one for one in found if isinstance(one, TooManyAttemptsError)]
    assert len(refused) == 10
    assert all(one.retry_after > 0 for one in refused)
    # And all places are free again.
    assert await passwords.hash("a password")
