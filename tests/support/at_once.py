"""Owns two hundred requests at once against each limit of a running `serve`, and whether it was ever exceeded."""

import asyncio
import ssl
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import httpx
from sqlalchemy import select

from loraplex.platform.db.database import open_database
from loraplex.platform.db.models import LedgerEntry
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.metering.settlement import RESERVED
from loraplex.platform.settings import Settings
from support.patience import PATIENCE_SECONDS
from support.serve import Serve

AT_ONCE = 200
_PROMPT, _WRITTEN = [1, 2, 3], 5
_TOKENS = len(_PROMPT) + _WRITTEN  # of one request, reserved and used
_MINUTE = timedelta(minutes=1)
# Each limit, and how many of the requests it lets through.
LIMITS: dict[str, tuple[float, int]] = {
    "requests_per_minute": (10, 10),
    "tokens_per_minute": (100, 100 // _TOKENS),
    "tokens_per_month": (100, 100 // _TOKENS),
    "cost_per_month": (0.1, 100 // _TOKENS),
    "max_concurrent": (3, 3),
}
_PER_MINUTE = {"requests_per_minute", "tokens_per_minute"}


async def _ask(
    client: httpx.AsyncClient, model: str, others: asyncio.Barrier, *, hold: bool
) -> int:
    """One request; the status. `hold`: it goes on until all `others` have begun or were refused."""
    body: dict[str, object] = {"model": model, "prompt": _PROMPT, "ignore_eos": True}
    body |= {"stream": True, "max_tokens": 16_000} if hold else {"max_tokens": _WRITTEN}
    async with client.stream("POST", "/v1/completions", json=body) as answer:
        if hold:
            await others.wait()
        else:
            await answer.aread()
        return answer.status_code


async def _ask_all(serve: Serve, key: str, limit: str) -> Counter[int]:
    """All at once, each on a connection of its own: each worker has a listening socket, among which the kernel spreads
    them."""
    async with httpx.AsyncClient(
        base_url=serve.url,
        headers={"authorization": f"Bearer {key}"},
        timeout=PATIENCE_SECONDS,
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),  # no need to read authorities
        trust_env=False,
    ) as client:
        barrier, hold = asyncio.Barrier(AT_ONCE), limit == "max_concurrent"
        return Counter(
            await asyncio.gather(
                *(_ask(client, serve.base, barrier, hold=hold) for _ in range(AT_ONCE))
            )
        )


async def _rows_of(settings: Settings) -> list[LedgerEntry]:
    """The ledger, once every row is closed."""
    database = open_database(settings)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                async with database.main.reading(EVERY_TENANT) as session:
                    rows = list(await session.scalars(select(LedgerEntry).order_by(LedgerEntry.id)))
                if all(row.state != RESERVED for row in rows):
                    return rows
                await asyncio.sleep(0.1)
    finally:
        await database.close()


def _most_in_a_minute(rows: Sequence[LedgerEntry]) -> int:
    """The most requests that were let in within any sixty seconds."""
    moments = [row.created_at for row in rows]
    return max(sum(at <= other < at + _MINUTE for other in moments) for at in moments)


async def check_limits(serve: Serve, settings: Settings, limits: Sequence[str]) -> None:
    """A tenant for each of `limits`, and all of their requests at the same time.

    Raises:
        AssertionError: a limit was exceeded, or let in too little.
    """
    # A token costs a thousandth: so many tokens are as many thousandths.
    price = {"input": 1000, "output": 1000}
    serve.operator.put(f"/api/v1/prices/{serve.base}", json=price).raise_for_status()
    tenants = {limit: serve.tenant(limit.replace("_", "-")) for limit in limits}
    for limit, tenant in tenants.items():
        path = f"/api/v1/tenants/{tenant.name}/limits"
        serve.operator.put(path, json={limit: LIMITS[limit][0]}).raise_for_status()
    asked = [_ask_all(serve, tenant.key, limit) for limit, tenant in tenants.items()]
    statuses = dict(zip(limits, await asyncio.gather(*asked), strict=True))
    rows = await _rows_of(settings)
    for limit in limits:
        most, let_in = LIMITS[limit][1], statuses[limit][200]
        assert statuses[limit] == {200: let_in, 429: AT_ONCE - let_in}, (limit, statuses)
        own = [row for row in rows if row.key_id == tenants[limit].key.split("_")[2]]
        assert len(own) == let_in, limit
        if limit in _PER_MINUTE:
            # What takes longer than a minute may hold more.
            assert _most_in_a_minute(own) == most, limit
        else:
            assert let_in == most, limit
        if limit != "max_concurrent":
            assert {row.prompt_tokens + row.output_tokens for row in own} == {_TOKENS}
