"""Owns the JSON of usage and costs as OpenAI's clients read it."""

from collections.abc import Callable

from msgspec import Struct

from loraplex.platform.limits.money import amount
from loraplex.platform.usage.organization import Buckets, Result

Out = Callable[[Result], "CompletionsResult | CostsResult"]


class CompletionsResult(Struct, tag_field="object", tag="organization.usage.completions.result"):
    """Tokens and requests."""

    input_tokens: int
    output_tokens: int
    input_cached_tokens: int
    num_model_requests: int
    project_id: str | None
    user_id: str | None
    api_key_id: str | None
    model: str | None
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    batch: bool | None = None
    service_tier: str | None = None

    @classmethod
    def of(cls, result: Result) -> "CompletionsResult":
        """From sums; cached tokens are among those of the input."""
        sums = result.sums
        return cls(
            sums.prompt_tokens,
            sums.output_tokens,
            sums.cached_tokens,
            sums.requests,
            *result.labels,
        )


class Amount(Struct):
    """Money; `currency` in small letters, as OpenAI writes it."""

    value: float
    currency: str


class CostsResult(Struct, tag_field="object", tag="organization.costs.result"):
    """Money spent; `line_item` is the model."""

    amount: Amount
    project_id: str | None
    user_id: str | None
    api_key_id: str | None
    line_item: str | None
    quantity: float | None = None

    @classmethod
    def of(cls, result: Result, currency: str) -> "CostsResult":
        """From sums."""
        money = Amount(amount(result.sums.cost_nanos), currency.lower())
        return cls(money, *result.labels)


class BucketOut(Struct):
    """From `start_time` to before `end_time`, in Unix seconds."""

    start_time: int
    end_time: int
    results: list[CompletionsResult | CostsResult]
    object: str = "bucket"


class Page(Struct):
    """Buckets, oldest first; `next_page` is the `page` of the following ones."""

    data: list[BucketOut]
    has_more: bool
    next_page: str | None
    object: str = "page"

    @classmethod
    def of(cls, buckets: Buckets, write: Out) -> "Page":
        """Whose results are written by `write`."""
        following = buckets.following
        return cls(
            [
                BucketOut(
                    int(bucket.start.timestamp()),
                    int(bucket.end.timestamp()),
                    [write(result) for result in bucket.results],
                )
                for bucket in buckets.data
            ],
            following is not None,
            None if following is None else f"page_{int(following.timestamp())}",
        )
