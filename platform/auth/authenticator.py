"""Owns turning a presented key into a `Principal`, and remembering it for a moment."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from secrets import compare_digest
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import joinedload

from loraplex.platform.auth.key_use import KeyUse
from loraplex.platform.auth.keys import hash_token, key_id
from loraplex.platform.auth.principal import Principal, read_scopes
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import ApiKey
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.errors import AuthenticationError

CACHE_SECONDS = 5.0  # a revoked key works at most this long in processes that did not revoke it
CACHE_KEYS = 10_000


class _Verified(NamedTuple):
    """A key that is good until `expires_at`, None for ever."""

    principal: Principal
    expires_at: datetime | None


class Authenticator:
    """Verifies keys, remembering each answer for `CACHE_SECONDS`; a wrong key is remembered too, so that hammering with
    one costs no queries. `use` is told of each key that was let in."""

    def __init__(
        self,
        database: Database,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
        use: KeyUse | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._now = now
        self._use = use
        self._known: OrderedDict[bytes, tuple[float, _Verified | None]] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[_Verified | None]] = {}

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
        verified = await self._remembered(token)
        moment = self._now()
        # Asked each time: a key that expires does so to the second, remembered or not.
        if verified is None or (verified.expires_at is not None and verified.expires_at <= moment):
            raise AuthenticationError("This API key is not valid; check it or ask for a new one.")
        if self._use is not None:
            self._use.note(verified.principal.actor_id, moment)
        return verified.principal

    def forget(self) -> None:
        """Ask the database again for every key; called when a key is revoked or changed in this process."""
        self._known.clear()
        self._asking.clear()

    async def _remembered(self, token: str) -> _Verified | None:
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

    async def _ask(self, name: bytes, token: str) -> _Verified | None:
        now = self._clock()
        try:
            verified = await self._verify(token)
        finally:
            # Not so after `forget`: this answer may then be older than a revocation, and is not kept.
            current = self._asking.get(name) is asyncio.current_task()
            if current:
                del self._asking[name]
        if current:
            self._known[name] = (now + CACHE_SECONDS, verified)
            self._known.move_to_end(name)
            while len(self._known) > CACHE_KEYS:
                self._known.popitem(last=False)
        return verified

    async def _verify(self, token: str) -> _Verified | None:
        identifier = key_id(token)
        if identifier is None:
            return None
        query = select(ApiKey).where(ApiKey.id == identifier).options(joinedload(ApiKey.tenant))
        async with self._database.main.reading(EVERY_TENANT) as session:
            key = await session.scalar(query)
        if key is None or not compare_digest(key.sha256, hash_token(token)) or key.revoked_at:
            return None
        return _Verified(principal_of_key(key), key.expires_at)


def principal_of_key(key: ApiKey) -> Principal:
    """Whom a key stands for; its tenant must have been loaded."""
    return Principal(
        actor_id=key.id,
        actor_name=key.name,
        is_operator=key.tenant_id is None,
        tenant_id=key.tenant_id,
        tenant_name=key.tenant.name if key.tenant else None,
        scopes=read_scopes(key.scopes),
        adapters=None if key.adapters is None else frozenset(key.adapters),
    )
