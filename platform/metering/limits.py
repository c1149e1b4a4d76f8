"""Owns what is limited, and by how much: subjects, their limits, and what a request demands of them."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

# In the order in which a refusal names them when all of them say no.
TENANT: Literal["tenant"] = "tenant"
KEY: Literal["key"] = "key"
ADAPTER: Literal["adapter"] = "adapter"


class Subject(NamedTuple):
    """Who has limits: a tenant, a key or an adapter, by its id; the id of each is unique among all three."""

    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class Limits:
    """The fields are those of `db.models.Limit`; None: no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrent: int | None = None
    tokens_per_month: int | None = None
    cost_per_month_nanos: int | None = None


class Price(NamedTuple):
    """Billionths of the currency unit per token."""

    input: int = 0
    cached: int = 0
    output: int = 0

    def cost(self, prompt: int, cached: int, output: int) -> int:
        """Of so many tokens; those that came from the prefix cache are among those of the prompt."""
        return (prompt - cached) * self.input + cached * self.cached + output * self.output

    def most(self, prompt: int, output: int) -> int:
        """The most that so many tokens can cost, however many of them come from the prefix cache."""
        return prompt * max(self.input, self.cached) + output * self.output


class Demand(NamedTuple):
    """What a request wants.

    Attributes:
        prompt_tokens: of all prompts, each counted once.
        answers: generations it starts.
        max_tokens: the most that each may write, None if the request does not say: then as many as fit.
        room: the most that each can write, by the model's context length.
        batch: it is a line of a batch, which leaves room for requests that somebody waits for.
    """

    prompt_tokens: int
    answers: int
    max_tokens: int | None
    room: int
    batch: bool = False
