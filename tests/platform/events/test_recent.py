"""What requests that ended a moment ago took."""

from datetime import UTC, datetime, timedelta

from loraplex.platform.db.database import Database
from loraplex.platform.events.recent import RecentRequests, percentiles
from loraplex.platform.events.schemas import Percentiles
from support.meters import new_tenant
from support.usage import fill

START = datetime(2026, 11, 10, 22, 30, tzinfo=UTC)


def test_percentiles_are_by_nearest_rank() -> None:
    assert percentiles([]) is None
    assert percentiles([7.0]) == Percentiles(7.0, 7.0, 7.0)
    assert percentiles([float(n) for n in range(200, 0, -1)]) == Percentiles(100.0, 190.0, 198.0)


async def test_only_what_ended_within_a_minute_and_is_the_tenants_own(database: Database) -> None:
    acme, globex = await new_tenant(database), await new_tenant(database, "globex")
    await fill(database, acme, START, 12, timedelta(seconds=10))
    await fill(database, globex, START + timedelta(seconds=110), 3, timedelta(seconds=1))
    # Requests of `fill` take half a second.
    recent = RecentRequests(database, lambda: START + timedelta(seconds=115))
    own = (await recent.read(acme, None)).popitem()[1]
    assert own.ended == {"stop": 5, "error": 1}
    assert own.total_ms == Percentiles(500.0, 500.0, 500.0)
    everybody = (await recent.read(None, None)).popitem()[1]
    assert sum(everybody.ended.values()) == 9
    confined = (await recent.read(acme, frozenset({"fox"}))).popitem()[1]
    assert sum(confined.ended.values()) == 2
    assert await recent.read(acme, frozenset({"nobody"})) == {}
    late = RecentRequests(database, lambda: START + timedelta(hours=1))
    assert await late.read(None, None) == {}
