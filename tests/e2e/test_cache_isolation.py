"""What one tenant has asked makes nothing cheaper or faster for another: equal prompts and equal adapter files of two
tenants share no block of the prefix cache."""

import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.serve import Serve, Tenant

pytestmark = pytest.mark.e2e

BLOCK = 16
PROMPT = [3 + 7 * i % 240 for i in range(20 * BLOCK)]
ROUNDS = 150


def ask(tenant: Tenant, model: str, prompt: list[int]) -> tuple[int, int]:
    """Prompt tokens computed, and prompt tokens from the cache."""
    answer = tenant.complete(model=model, prompt=prompt, max_tokens=1)
    assert answer.status_code == 200, answer.text
    usage = answer.json()["usage"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return usage["prompt_tokens"] - cached, cached


@pytest.fixture(scope="module")
def pair(server: Serve, adapters: list[Path]) -> Iterator[tuple[Tenant, Tenant]]:
    """Two tenants with equal files under the same name."""
    tenants = server.tenant("cache-one"), server.tenant("cache-two")
    for tenant in tenants:
        assert tenant.push("same", adapters[0]).status_code == 201
    yield tenants
    for tenant in tenants:
        tenant.http.delete("/api/v1/adapters/same").raise_for_status()


def test_another_tenants_prompt_is_computed_anew(
    server: Serve, pair: tuple[Tenant, Tenant]
) -> None:
    one, two = pair
    for model in (server.base, "same"):
        assert ask(one, model, PROMPT) == (len(PROMPT), 0)
        # Shows that there is a cache: all but the last block, whose last token must be computed.
        assert ask(one, model, PROMPT) == (BLOCK, len(PROMPT) - BLOCK)
        assert ask(two, model, PROMPT) == (len(PROMPT), 0)
        assert ask(two, model, PROMPT) == (BLOCK, len(PROMPT) - BLOCK)


@pytest.mark.soak
@pytest.mark.parametrize("adapter", [False, True])
def test_the_time_to_the_first_token_tells_nothing(
    server: Serve, pair: tuple[Tenant, Tenant], adapter: bool
) -> None:
    """Of prompts that another tenant has just asked, and of new ones: a rank test cannot tell their times apart, but
    tells those that the same tenant repeats."""
    one, two = pair
    model = "same" if adapter else server.base
    times: dict[str, list[float]] = {"known to another": [], "new": [], "own": []}
    drawn = random.Random(int(adapter))
    for number in range(ROUNDS):
        known, new = ([drawn.randrange(3, 250) for _ in range(100 * BLOCK)] for _ in range(2))
        assert ask(one, model, known)[1] == 0
        asked = [("known to another", two, known), ("new", two, new), ("own", one, known)]
        # Whichever comes first would meet a warmer machine, or a colder one.
        for kind, tenant, prompt in asked[number % 3 :] + asked[: number % 3]:
            began = time.perf_counter()
            assert (ask(tenant, model, prompt)[1] > 0) == (kind == "own")
            times[kind].append(time.perf_counter() - began)
    medians = {kind: f"{1000 * statistics.median(each):.1f} ms" for kind, each in times.items()}
    print(f"{'adapter' if adapter else 'base'}: {medians}")
    # Between equals this is below 4 with a chance of 16,000 to 1.
    assert abs(z_score(times["known to another"], times["new"])) < 4, medians
    assert z_score(times["own"], times["new"]) < -8, "the test would not see a difference"


def z_score(first: list[float], second: list[float]) -> float:
    """Mann-Whitney's U in standard deviations: how clearly `first` is smaller (below 0) or larger than `second`."""
    n, m = len(first), len(second)
    u = sum((a > b) + 0.5 * (a == b) for a in first for b in second)
    deviation: float = (n * m * (n + m + 1) / 12) ** 0.5
    return (u - n * m / 2) / deviation
