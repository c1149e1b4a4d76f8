"""Owns API workers reduced to their metering: several processes that reserve at the same time in one database."""

import asyncio
import multiprocessing
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from uuid import UUID

from loraplex.platform.db.database import open_database
from loraplex.platform.errors import LimitExceededError
from loraplex.platform.metering.service import Metering
from loraplex.platform.settings import Settings
from support.meters import Clock, ended, metering, request

Refusals = Counter[tuple[str, str | None]]


def reserve_in_processes(
    settings: Settings, tenants: list[UUID], processes: int, each: int
) -> list[tuple[dict[UUID, int], Refusals]]:
    """What each process was granted and refused, of `each` requests of 5 + 5 tokens for every tenant, sent at once; all
    it was granted is settled with 5 + 1 tokens when every process has its answers."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(processes, mp_context=context) as pool:
        barrier = manager.Barrier(processes)
        started = [
            pool.submit(_work, settings.to_json(), tenants, each, barrier) for _ in range(processes)
        ]
        return [work.result() for work in started]


def _work(
    settings: str, tenants: list[UUID], each: int, barrier: object
) -> tuple[dict[UUID, int], Refusals]:
    return asyncio.run(_reserve(Settings.from_json(settings), tenants, each, barrier))


async def _reserve(
    settings: Settings, tenants: list[UUID], each: int, barrier: object
) -> tuple[dict[UUID, int], Refusals]:
    database = open_database(settings)
    granted: dict[UUID, list[UUID]] = {tenant: [] for tenant in tenants}
    refusals: Refusals = Counter()

    async def one(own: Metering, tenant: UUID) -> None:
        try:
            granted[tenant].append((await own.reserve(request(tenant))).id)
        except LimitExceededError as error:
            refusals[str(tenant), error.code] += 1

    # The time stands still: no slow machine makes a minute pass.
    async with metering(database, Clock()) as own:
        await asyncio.to_thread(barrier.wait)  # type: ignore[attr-defined]  # a proxy
        await asyncio.gather(*(one(own, tenant) for _ in range(each) for tenant in tenants))
        await asyncio.to_thread(barrier.wait)  # type: ignore[attr-defined]  # as above
        # Each twice, as a worker and a reaper may.
        for ids in granted.values():
            await asyncio.gather(*(own.settle(ended(id_, 5, 1)) for id_ in [*ids, *ids]))
    await database.close()
    return {tenant: len(ids) for tenant, ids in granted.items()}, refusals
