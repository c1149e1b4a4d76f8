"""Owns the OpenAPI of the routes of limits and prices that read their body themselves."""

from dataclasses import dataclass

from litestar.openapi.spec import Operation, Schema
from litestar.openapi.spec.enums import OpenAPIType

from loraplex.platform.body_schema import body_of, object_schema
from loraplex.platform.limits.money import (
    AMOUNT_PLACES,
    MOST_AMOUNT,
    MOST_PER_MILLION,
    PRICE_PLACES,
)
from loraplex.platform.limits.schemas import MAX_COUNT, MAX_TOKENS


@dataclass
class SetLimitOperation(Operation):
    """Every limit there can be."""

    def __post_init__(self) -> None:
        fields = {
            name: Schema(
                type=[OpenAPIType.INTEGER, OpenAPIType.NULL],
                minimum=0,
                maximum=most,
                description=f"{meaning}; null or absent: no limit",
            )
            for name, most, meaning in (
                ("requests_per_minute", MAX_COUNT, "requests in any 60 seconds"),
                ("tokens_per_minute", MAX_TOKENS, "tokens in any 60 seconds, prompts and answers"),
                ("max_concurrent", MAX_COUNT, "requests that run at once"),
                ("tokens_per_month", MAX_TOKENS, "tokens in a month (UTC)"),
            )
        }
        fields["cost_per_month"] = _decimal(
            AMOUNT_PLACES,
            MOST_AMOUNT,
            "money in a month (UTC); null or absent: no limit",
            null=True,
        )
        self.request_body = body_of("application/json", object_schema(fields, required=[]))


@dataclass
class SetPriceOperation(Operation):
    """The three prices per million tokens."""

    def __post_init__(self) -> None:
        fields = {
            "input": _decimal(PRICE_PLACES, MOST_PER_MILLION, "a million tokens of prompts"),
            "output": _decimal(PRICE_PLACES, MOST_PER_MILLION, "a million tokens of answers"),
            "cached_input": _decimal(
                PRICE_PLACES,
                MOST_PER_MILLION,
                "a million tokens of prompts that came from the prefix cache; as input unless given",
                null=True,
            ),
        }
        self.request_body = body_of(
            "application/json", object_schema(fields, required=["input", "output"])
        )


def _decimal(places: int, most: int, meaning: str, *, null: bool = False) -> Schema:
    number = Schema(type=OpenAPIType.NUMBER, minimum=0, maximum=most, multiple_of=10**-places)
    text = Schema(type=OpenAPIType.STRING, pattern=rf"^[0-9]{{1,10}}(\.[0-9]{{1,{places}}})?$")
    forms = [number, text, *([Schema(type=OpenAPIType.NULL)] if null else [])]
    return Schema(any_of=forms, description=f"{meaning}; at most {places} decimals")
