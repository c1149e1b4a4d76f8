"""Owns how money crosses the API: decimals outside, whole billionths of the currency unit inside."""

from decimal import Context, Decimal

from loraplex.platform.errors import BadRequestError

# 0.001 per million tokens is one billionth per token.
PRICE_PLACES = 3
MOST_PER_MILLION = 1_000_000
AMOUNT_PLACES = 9
MOST_AMOUNT = 1_000_000_000
_IN_A_PRICE = 1_000  # billionths per token in a price of 1 per million
_IN_AN_AMOUNT = 1_000_000_000
_EXACT = Context(prec=100)  # more digits than pass the checks in front of it


def price_nanos(per_million: Decimal, param: str) -> int:
    """Billionths per token, from a price per million tokens.

    Raises:
        BadRequestError: below 0, too high, or with more than three decimals.
    """
    return _scaled(per_million, PRICE_PLACES, MOST_PER_MILLION, param)


def amount_nanos(amount: Decimal, param: str) -> int:
    """Billionths, from an amount.

    Raises:
        BadRequestError: below 0, too high, or with more than nine decimals.
    """
    return _scaled(amount, AMOUNT_PLACES, MOST_AMOUNT, param)


def per_million(nanos: int) -> float:
    """A price per million tokens; the nearest number there is, which is written as the price that was set."""
    return nanos / _IN_A_PRICE


def amount(nanos: int) -> float:
    """An amount; exact as text up to eight million currency units."""
    return nanos / _IN_AN_AMOUNT


def _scaled(value: Decimal, places: int, most: int, param: str) -> int:
    exponent = value.as_tuple().exponent
    # Exponents first: with a vast one, even of zero, arithmetic would fill the memory.
    if isinstance(exponent, int) and -64 <= exponent <= 64 and 0 <= value <= most:
        scaled = _EXACT.scaleb(value, places)
        if (whole := int(scaled)) == scaled:
            return whole
    raise BadRequestError(
        f"{param}: give a number from 0 to {most} with at most {places} decimals.",
        param=param,
        code="invalid_value",
    )
