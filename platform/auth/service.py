"""Owns keys in the database: making, listing, revoking and the operator's first one; and
`Authenticator`, which turns a presented key into a `Principal`."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from secrets import compare_digest
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import joinedload

from loraplex.platform.auth.keys import NewKey, generate, hash_token, key_id
from loraplex.platform.auth.principal import Principal, Scope, read_scopes
from loraplex.platform.db.audit import record
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import ApiKey
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.errors import AuthenticationError, NotFoundError
from loraplex.platform.settings import SettingsError

CACHE_SECONDS = 5.0  # a revoked key works at most this long in processes that did not revoke it
CACHE_KEYS = 10_000


class Authenticator:
    """Verifies keys, remembering each answer for `CACHE_SECONDS`; a wrong key is remembered too, so that hammering with
    one costs no queries."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[float, Principal | None]] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[Principal | None]] = {}

    async def authenticate(self, authorization: str | None) -> Principal:
        """Who sent this `Authorization` header.

        Raises:
            AuthenticationError: none, another scheme, or not a valid key.
        """
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise AuthenticationError(
                "No API key was sent; use the header 'Authorization: Bearer KEY'.",
                code="missing_api_key",
            )
        principal = await self._remembered(token)
        if principal is None:
            raise AuthenticationError("This API key is not valid; check it or ask for a new one.")
        return principal

    def forget(self) -> None:
        """Ask the database again for every key; called when a key is revoked in this process."""
        self._known.clear()
        self._asking.clear()

    async def _remembered(self, token: str) -> Principal | None:
        # Keyed by hash: tokens do not stay in memory.
        name = hashlib.sha256(token.encode(errors="replace")).digest()
        now = self._clock()
        known = self._known.get(name)
        if known is not None and known[0] > now:
            return known[1]
        # One question for all who come while it is asked: each time a busy key has to be asked for again, it would
        # otherwise be as many as there are requests in these milliseconds.
        asking = self._asking.get(name)
        if asking is None:
            asking = self._asking[name] = asyncio.create_task(self._ask(name, token))
        # A request that is cancelled leaves the question to the others.
        return await asyncio.shield(asking)

    async def _ask(self, name: bytes, token: str) -> Principal | None:
        now = self._clock()
        try:
            principal = await self._verify(token)
        finally:
            # Not so after `forget`: this answer may then be older than a revocation, and is not kept.
            current = self._asking.get(name) is asyncio.current_task()
            if current:
                del self._asking[name]
        if current:
            self._known[name] = (now + CACHE_SECONDS, principal)
            self._known.move_to_end(name)
            while len(self._known) > CACHE_KEYS:
                self._known.popitem(last=False)
        return principal

    async def _verify(self, token: str) -> Principal | None:
        identifier = key_id(token)
        if identifier is None:
            return None
        query = select(ApiKey).where(ApiKey.id == identifier).options(joinedload(ApiKey.tenant))
        async with self._database.main.reading(EVERY_TENANT) as session:
            key = await session.scalar(query)
        if key is None or not compare_digest(key.sha256, hash_token(token)) or key.revoked_at:
            return None
        return Principal(
            actor_id=key.id,
            actor_name=key.name,
            is_operator=key.tenant_id is None,
            tenant_id=key.tenant_id,
            tenant_name=key.tenant.name if key.tenant else None,
            scopes=read_scopes(key.scopes),
            adapters=None if key.adapters is None else frozenset(key.adapters),
        )


class KeyService:
    """Keys of one tenant at a time; the caller has decided that the principal may manage them."""

    def __init__(self, database: Database, authenticator: Authenticator) -> None:
        self._database = database
        self._authenticator = authenticator

    async def create(
        self, actor: Principal, tenant_id: UUID, name: str, scopes: frozenset[Scope]
    ) -> tuple[ApiKey, str]:
        """A new key of a tenant: its row and its token, which cannot be had again."""
        new = generate()
        key = _row(new, tenant_id, name, scopes)
        key.created_by = actor.actor_id
        async with self._database.main.writing(tenant_id) as session:
            session.add(key)
            record(session, actor, "key.create", new.id, tenant_id, scopes=key.scopes)
        return key, new.token

    async def list(self, tenant_id: UUID) -> Sequence[ApiKey]:
        """Every key of a tenant, oldest first, revoked ones included."""
        query = select(ApiKey).where(ApiKey.tenant_id == tenant_id).order_by(ApiKey.created_at)
        async with self._database.main.reading(tenant_id) as session:
            return (await session.scalars(query)).all()

    async def get(self, tenant_id: UUID, identifier: str) -> ApiKey:
        """One key of a tenant.

        Raises:
            NotFoundError: the tenant has no such key.
        """
        query = select(ApiKey).where(ApiKey.tenant_id == tenant_id, ApiKey.id == identifier)
        async with self._database.main.reading(tenant_id) as session:
            key = await session.scalar(query)
        if key is None:
            raise NotFoundError(f"There is no key {identifier[:12]!r} in this tenant.")
        return key

    async def revoke(self, actor: Principal, tenant_id: UUID, identifier: str) -> None:
        """End a key: at once in this process, within `CACHE_SECONDS` in others. Revoking twice is fine.

        Raises:
            NotFoundError: the tenant has no such key.
        """
        query = select(ApiKey).where(ApiKey.tenant_id == tenant_id, ApiKey.id == identifier)
        async with self._database.main.writing(tenant_id) as session:
            key = await session.scalar(query.with_for_update())
            if key is None:
                raise NotFoundError(f"There is no key {identifier[:12]!r} in this tenant.")
            if key.revoked_at is None:
                key.revoked_at = utc_now()
                record(session, actor, "key.revoke", identifier, tenant_id)
        self._authenticator.forget()


async def ensure_operator_key(database: Database, bootstrap_key: str | None) -> str | None:
    """See that an operator can get in: with `bootstrap_key` when one is given (whoever sets it owns the machine, so
    this is also the way back after a lost key), else with a new key if there is none at all.

    Returns:
        The new token, to be shown once; None when nothing was made up.
    Raises:
        SettingsError: the given key has no usable form.
    """
    new = generate() if bootstrap_key is None else _chosen(bootstrap_key)
    query = select(ApiKey.id).where(ApiKey.tenant_id.is_(None)).limit(1)
    if bootstrap_key is not None:
        # A revoked one stays revoked.
        query = query.where(ApiKey.id == new.id)
    async with database.main.writing(EVERY_TENANT) as session:
        if await session.scalar(query) is not None:
            return None
        session.add(_row(new, None, "bootstrap", frozenset()))
    return None if bootstrap_key is not None else new.token


def _chosen(token: str) -> NewKey:
    identifier = key_id(token)
    if identifier is None:
        raise SettingsError(
            "LORAPLEX_BOOTSTRAP_KEY must be 8 to 200 visible ASCII characters, "
            "or a whole key that begins with lpx_live_."
        )
    return NewKey(identifier, token)


def _row(new: NewKey, tenant_id: UUID | None, name: str, scopes: frozenset[Scope]) -> ApiKey:
    return ApiKey(
        id=new.id,
        tenant_id=tenant_id,
        name=name,
        sha256=hash_token(new.token),
        last4=new.token[-4:],
        scopes=sorted(scopes),
    )
