"""Owns usage and costs as OpenAI groups them: whole buckets, each with its results."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from loraplex.platform.metering.rollups import Sums
from loraplex.platform.usage.service import Usage
from loraplex.platform.usage.sums import Group, Line, Wanted

# Ids of users begin so where ids of keys stand.
_USER = "usr_"
# Lines of one answer: 31 days of the 300 busiest models.
MOST_LINES = 10_000


class By(StrEnum):
    """By what results can be told apart."""

    PROJECT = "project_id"
    USER = "user_id"
    KEY = "api_key_id"
    MODEL = "model"


GROUPS: Mapping[By, tuple[Group, ...]] = {
    By.PROJECT: (Group.TENANT,),
    By.USER: (Group.KEY,),
    By.KEY: (Group.KEY,),
    By.MODEL: (Group.ADAPTER, Group.BASE),
}


class Labels(NamedTuple):
    """What a result is about; None for what was not asked."""

    project_id: str | None
    user_id: str | None
    api_key_id: str | None
    model: str | None


class Result(NamedTuple):
    """One of a bucket."""

    labels: Labels
    sums: Sums


@dataclass(frozen=True, slots=True)
class Bucket:
    """Some time and its results, none where nothing was used."""

    start: datetime
    end: datetime
    results: list[Result]


class Buckets(NamedTuple):
    """A page; `following` is when the next one begins."""

    data: list[Bucket]
    following: datetime | None


class Organization:
    """Usage in buckets."""

    def __init__(self, usage: Usage) -> None:
        self._usage = usage

    async def buckets(self, wanted: Wanted, by: frozenset[By], limit: int) -> Buckets:
        """The first `limit` buckets, or fewer if they have very many results, but whole ones. Grouped by `by`, not by
        what `wanted` says."""
        chosen = {group for one in by for group in GROUPS[one]}
        wanted = replace(wanted, by=tuple(group for group in Group if group in chosen))
        length = wanted.width.length
        end = min(wanted.end, wanted.start + limit * length)
        lines = await self._usage.lines(replace(wanted, end=end), MOST_LINES + 1)
        if len(lines) > MOST_LINES:
            # The last bucket may not be whole.
            end = max(lines[-1].place.start, wanted.start + length)
            lines = [line for line in lines if line.place.start < end]
            if lines and lines[-1].place.start == wanted.start:
                lines = await self._usage.lines(replace(wanted, end=end))
        results = await self._results(wanted.by, by, lines)
        data, start = list[Bucket](), wanted.start
        while start < end:
            data.append(Bucket(start, start + length, results.get(start, [])))
            start += length
        return Buckets(data, start if start < wanted.end else None)

    async def _results(
        self, groups: tuple[Group, ...], by: frozenset[By], lines: list[Line]
    ) -> dict[datetime, list[Result]]:
        """Adds up lines that are one result: of an adapter for two base models, for example."""
        valued = [(line, dict(zip(groups, line.place.values, strict=True))) for line in lines]
        names = await self._names(values.get(Group.TENANT) for _, values in valued)
        sums: dict[tuple[datetime, Labels], Sums] = {}
        for line, values in valued:
            place = line.place.start, _labels(values, by, names)
            known = sums.get(place, Sums(0, 0, 0, 0, 0, 0))
            sums[place] = Sums(*(a + b for a, b in zip(known, line.sums, strict=True)))
        results: dict[datetime, list[Result]] = {}
        for (start, labels), total in sums.items():
            results.setdefault(start, []).append(Result(labels, total))
        return results

    async def _names(self, tenants: Iterable[object]) -> dict[UUID, str]:
        return await self._usage.names(id_ for id_ in tenants if isinstance(id_, UUID))


def _labels(values: Mapping[Group, object], by: frozenset[By], names: Mapping[UUID, str]) -> Labels:
    tenant, who = values.get(Group.TENANT), str(values.get(Group.KEY, ""))
    is_user = who.startswith(_USER)
    return Labels(
        project_id=names[tenant] if isinstance(tenant, UUID) else None,
        user_id=who if By.USER in by and is_user else None,
        api_key_id=who if By.KEY in by and not is_user else None,
        model=str(values[Group.ADAPTER] or values[Group.BASE]) if By.MODEL in by else None,
    )
