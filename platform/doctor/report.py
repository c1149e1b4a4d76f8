"""Owns what a check says: how something is, and if it is not well, what to do."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """`warning`: it works, but not as an operator would want; `failure`: it does not work."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; `says` is a sentence."""

    name: str
    verdict: Verdict
    says: str


def ok(name: str, says: str) -> Check:
    """It is well."""
    return Check(name, Verdict.OK, says)


def warning(name: str, says: str) -> Check:
    """It works, but."""
    return Check(name, Verdict.WARNING, says)


def failure(name: str, says: str) -> Check:
    """It does not work."""
    return Check(name, Verdict.FAILURE, says)
