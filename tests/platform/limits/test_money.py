"""Money crosses the API exactly, and numbers made to hurt are refused at once."""

from decimal import Decimal

import pytest

from loraplex.platform.errors import BadRequestError
from loraplex.platform.limits.money import amount, amount_nanos, per_million, price_nanos


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("0", 0),
        ("0.001", 1),
        ("2.50", 2500),
        ("2.5000000", 2500),
        ("1e3", 10**6),
        ("1000000", 10**9),
    ],
)
def test_prices(text: str, nanos: int) -> None:
    assert price_nanos(Decimal(text), "input") == nanos
    assert per_million(nanos) == float(text)


@pytest.mark.parametrize(
    ("text", "nanos"), [("0.000000001", 1), ("12.5", 12_500_000_000), ("1000000000", 10**18)]
)
def test_amounts(text: str, nanos: int) -> None:
    assert amount_nanos(Decimal(text), "cost_per_month") == nanos
    assert amount(nanos) == float(text)


def test_what_was_set_is_shown() -> None:
    for nanos in (1, 999, 123_456_789, 10**9 - 1):
        assert price_nanos(Decimal(repr(per_million(nanos))), "input") == nanos
    for nanos in (1, 10**9 + 1, 8 * 10**15 - 1):
        assert amount_nanos(Decimal(repr(amount(nanos))), "x") == nanos


@pytest.mark.parametrize(
    "text",
    [
        "-0.001",
        "0.0001",
        "1000000.001",
        "NaN",
        "sNaN",
        "Infinity",
        "-Infinity",
        "1e999999999",
        "0e999999999",
        "0e-999999999",
        "1e-999999999",
        "1.0000000000000000000000000000000000001",
    ],
)
def test_what_is_no_price(text: str) -> None:
    with pytest.raises(BadRequestError, match="input") as caught:
        price_nanos(Decimal(text), "input")
    assert caught.value.param == "input"
