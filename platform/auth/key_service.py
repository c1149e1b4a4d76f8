"""Owns keys in the database: making, listing, changing, replacing and ending them."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from msgspec import UNSET, UnsetType
from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.platform.auth.authenticator import Authenticator
from loraplex.platform.auth.keys import NewKey, generate, hash_token
from loraplex.platform.auth.principal import Principal, Scope, read_scopes
from loraplex.platform.db.audit import record
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import ApiKey, Limit, Meter
from loraplex.platform.db.scope import whose
from loraplex.platform.errors import BadRequestError, ConflictError, NotFoundError
from loraplex.platform.metering.beginning import begin_meter
from loraplex.platform.metering.limits import KEY, Subject
from loraplex.platform.webhooks.events import Event, emit

# Far from the end of the calendar, so that a key can be rotated as often as one likes.
LONGEST_LIFE = timedelta(days=36_500)


class NewKeyTerms(NamedTuple):
    """What a key is to be: its name and scopes, the adapters it is confined to (None: all), and when it ends."""

    name: str
    scopes: frozenset[Scope] = frozenset()
    adapters: frozenset[str] | None = None
    expires_at: datetime | None = None


class KeyService:
    """Keys of one tenant at a time, or, where the tenant is None, operators' keys; the caller has decided that the
    principal may manage them."""

    def __init__(
        self,
        database: Database,
        authenticator: Authenticator,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._database = database
        self._authenticator = authenticator
        self._now = now

    async def create(
        self, actor: Principal, tenant_id: UUID | None, terms: NewKeyTerms
    ) -> tuple[ApiKey, str]:
        """A new key: its row and its token, which cannot be had again.

        Raises:
            BadRequestError: scopes that do not go together, or an end that is not to come.
        """
        _check_scopes(terms.scopes, terms.adapters)
        new = generate()
        key = new_row(new, tenant_id, terms.name, terms.scopes)
        key.adapters = None if terms.adapters is None else sorted(terms.adapters)
        key.created_at = self._now()
        key.expires_at = self._end(terms.expires_at)
        key.created_by = actor.actor_id
        async with self._database.main.writing(whose(tenant_id)) as session:
            session.add(key)
            record(session, actor, "key.create", new.id, tenant_id, after=_told(key))
            await emit(session, tenant_id, Event.KEY_CREATED, {"id": new.id, **_told(key)})
        return key, new.token

    async def list(self, tenant_id: UUID | None) -> Sequence[ApiKey]:
        """Every key, oldest first, those that ended included."""
        query = _keys(tenant_id).order_by(ApiKey.created_at, ApiKey.id)
        async with self._database.main.reading(whose(tenant_id)) as session:
            return (await session.scalars(query)).all()

    async def get(self, tenant_id: UUID | None, identifier: str) -> ApiKey:
        """One key.

        Raises:
            NotFoundError: there is none.
        """
        async with self._database.main.reading(whose(tenant_id)) as session:
            return await find_key(session, tenant_id, identifier)

    async def change(
        self,
        actor: Principal,
        tenant_id: UUID | None,
        identifier: str,
        name: str | UnsetType = UNSET,
        adapters: frozenset[str] | UnsetType | None = UNSET,
        expires_at: datetime | UnsetType | None = UNSET,
    ) -> ApiKey:
        """Give a key another name, other adapters or another end: at once in this process, within `CACHE_SECONDS` in
        others.

        Raises:
            NotFoundError: there is no such key.
            BadRequestError: an end that is not to come.
            ConflictError: the key has ended, by itself or revoked.
        """
        async with self._database.main.writing(whose(tenant_id)) as session:
            key = await find_key(session, tenant_id, identifier, lock=True)
            self._check_usable(key)
            before = _told(key)
            if name is not UNSET:
                key.name = name
            if adapters is not UNSET:
                _check_scopes(read_scopes(key.scopes), adapters)
                key.adapters = None if adapters is None else sorted(adapters)
            if expires_at is not UNSET:
                key.expires_at = self._end(expires_at)
            after = _told(key)
            if after != before:
                record(
                    session, actor, "key.change", identifier, tenant_id, before=before, after=after
                )
        self._authenticator.forget()
        return key

    async def rotate(
        self, actor: Principal, tenant_id: UUID | None, identifier: str, overlap: timedelta
    ) -> tuple[ApiKey, str]:
        """Replace a key by a new one of the same name, scopes, adapters, limits and length of life; the old one ends
        when `overlap` is over, or when it would have ended anyway.

        The new key's limits are its own from then on, and what the old one has used this month counts as used: a
        budget is not doubled by rotating.

        Returns:
            The new key's row and its token, which cannot be had again.
        Raises:
            NotFoundError: there is no such key.
            ConflictError: the key has ended, or was rotated before.
        """
        async with self._database.main.writing(whose(tenant_id)) as session:
            old = await find_key(session, tenant_id, identifier, lock=True)
            self._check_usable(old)
            successor = select(ApiKey.id).where(ApiKey.replaces == old.id)
            if (known := await session.scalar(successor)) is not None:
                raise ConflictError(
                    f"The key {identifier!r} was rotated before, to {known!r}; rotate that one."
                )
            _check_scopes(read_scopes(old.scopes), None)
            now = self._now()
            new = generate()
            key = new_row(new, tenant_id, old.name, read_scopes(old.scopes))
            key.adapters = old.adapters
            key.created_at = now
            key.created_by = actor.actor_id
            key.replaces = old.id
            if old.expires_at is not None:
                key.expires_at = now + (old.expires_at - old.created_at)
            end = now + overlap
            old.expires_at = end if old.expires_at is None else min(old.expires_at, end)
            session.add(key)
            await _take_over_limits(session, old.id, new.id, now)
            record(
                session,
                actor,
                "key.rotate",
                identifier,
                tenant_id,
                after=_told(key),
                new_key=new.id,
                ends_at=old.expires_at,
            )
            told = {"id": identifier, "replaced_by": new.id, "ends_at": old.expires_at}
            await emit(session, tenant_id, Event.KEY_ROTATED, told)
        self._authenticator.forget()
        return key, new.token

    async def revoke(self, actor: Principal, tenant_id: UUID | None, identifier: str) -> None:
        """End a key: at once in this process, within `CACHE_SECONDS` in others. Revoking twice is fine.

        Raises:
            NotFoundError: there is no such key.
            ConflictError: it is the last operators' key that can be used.
        """
        async with self._database.main.writing(whose(tenant_id)) as session:
            if tenant_id is None:
                await self._keep_one_operator(session, identifier)
            key = await find_key(session, tenant_id, identifier, lock=True)
            if key.revoked_at is None:
                key.revoked_at = self._now()
                record(session, actor, "key.revoke", identifier, tenant_id, before=_told(key))
                told = {"id": identifier, "name": key.name}
                await emit(session, tenant_id, Event.KEY_REVOKED, told)
        self._authenticator.forget()

    async def _keep_one_operator(self, session: AsyncSession, leaving: str) -> None:
        # All are locked, so that two who revoke one each cannot both find the other's.
        query = _keys(None).order_by(ApiKey.id).with_for_update()
        usable = {key.id for key in await session.scalars(query) if self._is_usable(key)}
        if usable == {leaving}:
            raise ConflictError(
                "This is the last operators' key that can be used; make another one first."
            )

    def _end(self, moment: datetime | None) -> datetime | None:
        if moment is None:
            return None
        if not self._now() < moment < self._now() + LONGEST_LIFE:
            raise BadRequestError(
                "expires_at: give a moment to come, within 100 years, or null for no end.",
                param="expires_at",
            )
        return moment.astimezone(UTC)

    def _check_usable(self, key: ApiKey) -> None:
        if not self._is_usable(key):
            raise ConflictError(f"The key {key.id!r} has ended; make a new one.")

    def _is_usable(self, key: ApiKey) -> bool:
        ended = key.expires_at is not None and key.expires_at <= self._now()
        return key.revoked_at is None and not ended


def new_row(new: NewKey, tenant_id: UUID | None, name: str, scopes: frozenset[Scope]) -> ApiKey:
    """The row of a key that was just made."""
    return ApiKey(
        id=new.id,
        tenant_id=tenant_id,
        name=name,
        sha256=hash_token(new.token),
        last4=new.token[-4:],
        scopes=sorted(scopes),
    )


def _keys(tenant_id: UUID | None) -> Select[ApiKey]:
    return select(ApiKey).where(ApiKey.tenant_id == tenant_id)


async def find_key(
    session: AsyncSession, tenant_id: UUID | None, identifier: str, *, lock: bool = False
) -> ApiKey:
    """A key of a tenant, or of operators, its row held until the transaction ends if `lock`.

    Raises:
        NotFoundError: there is none.
    """
    query = _keys(tenant_id).where(ApiKey.id == identifier)
    key = await session.scalar(query.with_for_update() if lock else query)
    if key is None:
        whose = "among the operators' keys" if tenant_id is None else "in this tenant"
        raise NotFoundError(f"There is no key {identifier[:12]!r} {whose}.")
    return key


def _told(key: ApiKey) -> dict[str, object]:
    """What others may know of a key."""
    return {
        "name": key.name,
        "scopes": key.scopes,
        "adapters": key.adapters,
        "expires_at": key.expires_at,
    }


def _check_scopes(scopes: frozenset[Scope], adapters: frozenset[str] | None) -> None:
    if scopes >= {Scope.ADMIN, Scope.INFERENCE}:
        raise BadRequestError(
            "scopes: 'admin' and 'inference' do not go into one key; make two keys.", param="scopes"
        )
    if Scope.ADMIN in scopes and adapters is not None:
        # It could make itself a key that is not.
        raise BadRequestError(
            "adapters: a key with the scope 'admin' cannot be confined to some adapters.",
            param="adapters",
        )


async def _take_over_limits(session: AsyncSession, old: str, new: str, now: datetime) -> None:
    """Give a key the limits of another, and let what that one has used this month count for both."""
    limits = select(Limit).where(Limit.subject == KEY, Limit.subject_id == old)
    limit = await session.scalar(limits)
    if limit is None:
        return
    session.add(
        Limit(
            tenant_id=limit.tenant_id,
            subject=KEY,
            subject_id=new,
            requests_per_minute=limit.requests_per_minute,
            tokens_per_minute=limit.tokens_per_minute,
            max_concurrent=limit.max_concurrent,
            tokens_per_month=limit.tokens_per_month,
            cost_per_month_nanos=limit.cost_per_month_nanos,
        )
    )
    meter = await _meter(session, limit, now)
    session.add(
        Meter(
            tenant_id=meter.tenant_id,
            subject=KEY,
            subject_id=new,
            window=[],
            month=meter.month,
            month_tokens=meter.month_tokens,
            month_cost_nanos=meter.month_cost_nanos,
        )
    )


async def _meter(session: AsyncSession, limit: Limit, now: datetime) -> Meter:
    """The meter of a limited key, which begins with its first request since; or here, with what was used before."""
    query = (
        select(Meter)
        .where(Meter.subject == KEY, Meter.subject_id == limit.subject_id)
        .with_for_update()
    )
    meter = await session.scalar(query)
    if meter is not None:
        return meter
    subject, tenant_id = Subject(KEY, limit.subject_id), limit.tenant_id
    begun = await session.run_sync(
        lambda plain: begin_meter(plain.connection(), subject, tenant_id, now)
    )
    meter = (await session.scalars(query)).one()
    if begun is not None:
        meter.running, meter.window = begun.running, begun.window
        meter.month, meter.month_tokens = begun.month, begun.month_tokens
        meter.month_cost_nanos = begun.month_cost_nanos
    return meter
