"""Owns weighted splits of an alias: what one looks like, how it is stored, and which of its versions a request
gets."""

import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from uuid import UUID

from loraplex.platform.errors import BadRequestError

MAX_VERSIONS = 10  # each is one hash per request; canaries and A/B tests need two or three
# Shares are fractions of 1 in floating point; two that differ by less were meant to be the same.
SAME_SHARE = 1e-8

# As `AdapterAlias.split` has it: [version number, share] by number, the shares adding up to 1.
Split = list[list[float]]


def read_split(weights: Mapping[str, float], param: str = "split") -> Split:
    """A split from weights by version number; they count relative to each other.

    Raises:
        BadRequestError: no versions or too many, a name that is no number, a weight that is not positive.
    """
    if not 1 <= len(weights) <= MAX_VERSIONS:
        raise BadRequestError(
            f"{param}: name 1 to {MAX_VERSIONS} versions.", param=param, code="invalid_value"
        )
    for name, weight in weights.items():
        if not (name.isascii() and name.isdigit() and not name.startswith("0") and len(name) < 10):
            raise BadRequestError(
                f"{param}: {name[:40]!r} is not a version number; write {{'3': 0.9, '4': 0.1}}.",
                param=param,
                code="invalid_value",
            )
        # The upper bound keeps their sum a number.
        if not 0 < weight <= 1e9:
            raise BadRequestError(
                f"{param}: the weight of version {name} must be above 0 and at most 1e9.",
                param=param,
                code="invalid_value",
            )
    total = math.fsum(weights.values())
    split = sorted([float(int(name)), weight / total] for name, weight in weights.items())
    if any(not share for _, share in split):
        raise BadRequestError(
            f"{param}: the weights are too far apart.", param=param, code="invalid_value"
        )
    return split


def same(one: Split | None, other: Split | None) -> bool:
    """Whether two splits, or the absence of one, mean the same."""
    if one is None or other is None:
        return one is other
    return versions(one) == versions(other) and all(
        abs(a - b) < SAME_SHARE for (_, a), (_, b) in zip(one, other, strict=True)
    )


def versions(split: Split) -> list[int]:
    """The numbers of its versions."""
    return [int(n) for n, _ in split]


def heaviest(split: Split) -> int:
    """The version with the largest share, the newest of several."""
    return max((share, int(n)) for n, share in split)[1]


def shown(split: Split) -> dict[str, float]:
    """Shares by version number, as the API shows them; the sum of floats is not always exactly 1."""
    return {str(int(n)): round(share, 9) for n, share in split}


def choose(split: Sequence[Sequence[float]], tenant: UUID, name: str, sticky: str | None) -> int:
    """The version one request gets.

    Weighted rendezvous hashing: each version draws an exponential from the hash of (tenant, alias, version, `sticky`)
    and the smallest after division by the share wins. So a user stays with a version until its share shrinks relative
    to the others', and no more users move than the shares do.

    Args:
        name: the alias in full, `ADAPTER@ALIAS`.
        sticky: who asks; the same one gets the same version. None: by chance.
    """
    if sticky is None:
        numbers = [int(n) for n, _ in split]
        return random.choices(numbers, [share for _, share in split])[0]  # noqa: S311  # no secret
    start = hashlib.blake2b(f"{tenant}\n{name}\n{sticky}\n".encode(), digest_size=8)
    best, chosen = math.inf, 0
    for n, share in split:
        drawn = start.copy()
        drawn.update(b"%d" % int(n))
        # In (0, 1): the logarithm of neither end is any use.
        uniform = (int.from_bytes(drawn.digest()) + 0.5) / 2**64
        score = -math.log(uniform) / share
        if score < best:
            best, chosen = score, int(n)
    return chosen
