"""Owns what aliases name: a version or a weighted split, moved and rolled back whole, with what they named before."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from msgspec import UNSET, UnsetType
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.epochs import Epochs
from loraplex.platform.catalog.rows import find_adapter, find_aliases, find_version
from loraplex.platform.catalog.splits import Split, heaviest, read_split, same, shown, versions
from loraplex.platform.db.audit import record
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Adapter, AdapterAlias, AdapterVersion
from loraplex.platform.errors import BadRequestError, ConflictError, NotFoundError
from loraplex.platform.webhooks.events import Event, emit

# What a caller believes an alias names: a version, weights by version number, None for no such alias.
Belief = int | dict[str, float] | UnsetType | None


@dataclass(frozen=True, slots=True)
class Wish:
    """What an alias shall name: version `n`, or one of a split, of which `n` then has the largest share."""

    n: int
    split: Split | None = None

    @classmethod
    def of(cls, version: int | None, split: dict[str, float] | None) -> "Wish":
        """What the body of a request asks for; a split of one version is that version.

        Raises:
            BadRequestError: neither or both, or no valid split.
        """
        if (version is None) == (split is None):
            raise BadRequestError(
                "version: give either a version or a split.",
                param="version",
                code="missing_required_parameter" if version is None else "invalid_value",
            )
        if version is not None:
            return cls(version)
        parts = read_split(split or {})
        return cls(heaviest(parts), parts if len(parts) > 1 else None)


class Aliases:
    """Moves aliases; every method takes the tenant and looks nowhere else."""

    def __init__(self, database: Database, epochs: Epochs) -> None:
        self._database = database
        self._epochs = epochs

    async def set(
        self,
        actor: Principal,
        tenant_id: UUID,
        name: str,
        alias: str,
        wish: Wish,
        expected: Belief = UNSET,
    ) -> AdapterAlias:
        """Let an alias name something else, from the next request on.

        Raises:
            NotFoundError: the tenant has no such adapter or version.
            BadRequestError: versions of several base models in one split.
            ConflictError: the alias does not name what the caller believes.
        """
        async with self._database.main.writing(tenant_id) as session:
            adapter = await find_adapter(session, actor, tenant_id, name, lock=True)
            row = await session.get(AdapterAlias, (adapter.id, alias))
            await _check_belief(session, name, alias, row, expected)
            target = await _targets(session, adapter, wish)
            await point_alias(session, actor, adapter, alias, target, wish.split)
            moved = await _read_again(session, adapter.id, alias)
        self._epochs.change(tenant_id)
        return moved

    async def roll_back(
        self, actor: Principal, tenant_id: UUID, name: str, alias: str, expected: Belief = UNSET
    ) -> AdapterAlias:
        """Let an alias name what it named before; doing it twice changes nothing.

        Raises:
            NotFoundError: the tenant has no such adapter or alias.
            ConflictError: it has named nothing else, or that is deleted, or it does not name what the caller believes.
        """
        async with self._database.main.writing(tenant_id) as session:
            adapter = await find_adapter(session, actor, tenant_id, name, lock=True)
            row = await _find_alias(session, adapter, alias)
            await _check_belief(session, name, alias, row, expected)
            numbers = await _numbers(session, adapter.id)
            split = row.previous_split
            gone = sorted(set(versions(split or [])) - set(numbers.values()))
            if gone:
                raise ConflictError(
                    f"{name}@{alias} named version {gone[0]} before, which is deleted; set it to another one.",
                    code="previous_is_gone",
                )
            if row.previous_id is None:
                raise ConflictError(
                    f"{name}@{alias} has named nothing else that still exists; set it instead.",
                    code="nothing_before",
                )
            before = _named(row, numbers)
            row.version_id, row.previous_id = row.previous_id, row.version_id
            row.split, row.previous_split = split, row.split
            row.updated_by = actor.actor_id
            await _tell(
                session, actor, adapter, alias, "alias.rollback", before, _named(row, numbers)
            )
            moved = await _read_again(session, adapter.id, alias)
        self._epochs.change(tenant_id)
        return moved

    async def delete(self, actor: Principal, tenant_id: UUID, name: str, alias: str) -> None:
        """Remove an alias; its versions stay.

        Raises:
            NotFoundError: the tenant has no such adapter or alias.
        """
        async with self._database.main.writing(tenant_id) as session:
            adapter = await find_adapter(session, actor, tenant_id, name, lock=True)
            row = await _find_alias(session, adapter, alias)
            before = _named(row, await _numbers(session, adapter.id))
            await session.delete(row)
            await _tell(session, actor, adapter, alias, "alias.delete", before, None)
        self._epochs.change(tenant_id)


async def point_alias(
    session: AsyncSession,
    actor: Principal,
    adapter: Adapter,
    alias: str,
    target: AdapterVersion,
    split: Split | None = None,
) -> None:
    """Within a transaction that holds the adapter's row: make or move an alias, remembering what it named before. The
    caller tells `Epochs` after the commit."""
    row = await session.get(AdapterAlias, (adapter.id, alias))
    numbers = await _numbers(session, adapter.id)
    before = None
    if row is None:
        row = AdapterAlias(tenant_id=adapter.tenant_id, adapter_id=adapter.id, alias=alias)
        session.add(row)
    elif row.version_id == target.id and same(row.split, split):
        return
    else:
        before = _named(row, numbers)
        row.previous_id, row.previous_split = row.version_id, row.split
    row.version_id, row.split = target.id, split
    row.updated_by = actor.actor_id
    await _tell(session, actor, adapter, alias, "alias.set", before, _named(row, numbers))


async def _tell(
    session: AsyncSession,
    actor: Principal,
    adapter: Adapter,
    alias: str,
    action: str,
    before: dict[str, object] | None,
    after: dict[str, object] | None,
) -> None:
    target = f"{adapter.name}@{alias}"
    record(session, actor, action, target, adapter.tenant_id, before=before, after=after)
    data = {"adapter": adapter.name, "alias": alias, "before": before, "after": after}
    await emit(session, adapter.tenant_id, Event.ALIAS_CHANGED, data)


async def _find_alias(session: AsyncSession, adapter: Adapter, alias: str) -> AdapterAlias:
    row = await session.get(AdapterAlias, (adapter.id, alias))
    if row is None:
        raise NotFoundError(f"{adapter.name} has no alias {alias[:63]!r}.")
    return row


async def _read_again(session: AsyncSession, adapter_id: UUID, alias: str) -> AdapterAlias:
    await session.flush()
    session.expunge_all()  # so that it comes with the versions it names now
    return next(a for a in await find_aliases(session, [adapter_id]) if a.alias == alias)


async def _numbers(session: AsyncSession, adapter_id: UUID) -> dict[UUID, int]:
    query = select(AdapterVersion.id, AdapterVersion.n).where(
        AdapterVersion.adapter_id == adapter_id
    )
    return {row.id: row.n for row in await session.execute(query)}


def _named(row: AdapterAlias, numbers: dict[UUID, int]) -> dict[str, object]:
    """What an alias names, as people read it."""
    if row.split is not None:
        return {"split": shown(row.split)}
    return {"version": numbers[row.version_id]}


async def _targets(session: AsyncSession, adapter: Adapter, wish: Wish) -> AdapterVersion:
    """The version with the largest share, all others being there too."""
    target = await find_version(session, adapter, wish.n)
    others: Sequence[int] = versions(wish.split or [])
    for n in others:
        other = await find_version(session, adapter, n)
        if (other.base_model, other.base_fingerprint) != (
            target.base_model,
            target.base_fingerprint,
        ):
            raise BadRequestError(
                f"split: versions {n} and {target.n} were made for different base models; split "
                "versions of the same one.",
                param="split",
                code="invalid_value",
            )
    return target


async def _check_belief(
    session: AsyncSession, name: str, alias: str, row: AdapterAlias | None, expected: Belief
) -> None:
    if expected is UNSET:
        return
    if expected is None:
        if row is None:
            return
        raise _changed(f"{name}@{alias} exists already")
    weights = expected if isinstance(expected, dict) else {str(expected): 1.0}
    wanted = read_split(weights, "expected")
    if row is not None:
        version = await session.get_one(AdapterVersion, row.version_id)
        now = row.split or [[float(version.n), 1.0]]
        if same(now, wanted):
            return
    raise _changed(f"{name}@{alias} does not name what you expected")


def _changed(what: str) -> ConflictError:
    return ConflictError(
        f"{what}: somebody changed it; look at it and decide again.",
        code="alias_changed",
        param="expected",
    )
