"""Owns how much service each client, and each adapter of a client, has had: the virtual token counters that decide
whose turn it is (VTC: Sheng et al., "Fairness in Serving Large Language Models", 2024)."""

from dataclasses import dataclass

# What a token costs. Reading a prompt is batched, writing goes token by token: the paper and the price lists of hosted
# models agree on about this ratio. Prompt tokens found in the prefix cache cost nothing, as nothing is computed.
PROMPT_COST = 1
OUTPUT_COST = 2


@dataclass(slots=True, eq=False)
class ClientAccount:
    """Attributes:
    counter: cost of the tokens it got, over its weight.
    weight: share of the engine while others wait too.
    running: its sequences that were admitted and have not ended.
    """

    number: int
    counter: float = 0.0
    weight: float = 1.0
    running: int = 0


@dataclass(slots=True, eq=False)
class AdapterAccount:
    """One adapter, or the base model, in one client."""

    client: ClientAccount
    counter: float = 0.0

    def charge(self, cost: float) -> None:
        self.counter += cost
        self.client.counter += cost / self.client.weight
