"""Owns on whose behalf a batch runs: its key, as it stands now and not as it stood when the batch was made."""

import time
from dataclasses import replace
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import joinedload

from loraplex.platform.auth.authenticator import CACHE_SECONDS, principal_of_key
from loraplex.platform.auth.principal import Principal, Scope
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import ApiKey, Batch


class RightsLostError(Exception):
    """The key may run nothing any more; the text says why."""


class Rights:
    """The rights of one batch, asked for again when they are `CACHE_SECONDS` old, as those of requests are."""

    def __init__(self, database: Database, batch: Batch) -> None:
        self._database = database
        self._tenant_id: UUID = batch.tenant_id
        self._key_id = batch.key_id
        self._batch_id: UUID = batch.id
        self._key: ApiKey | None = None
        self._until = 0.0

    async def principal(self) -> Principal:
        """Who runs a line.

        Raises:
            RightsLostError: the key is gone, has ended, or may not use models.
        """
        if time.monotonic() >= self._until:
            query = select(ApiKey).where(ApiKey.id == self._key_id)
            async with self._database.main.reading(self._tenant_id) as session:
                self._key = await session.scalar(query.options(joinedload(ApiKey.tenant)))
            self._until = time.monotonic() + CACHE_SECONDS
        key = self._key
        if key is None or key.revoked_at is not None:
            raise RightsLostError(
                "The API key that made this batch was revoked; make it again with another."
            )
        if key.expires_at is not None and key.expires_at <= utc_now():
            raise RightsLostError(
                "The API key that made this batch has expired; make it again with another."
            )
        principal = principal_of_key(key)
        if Scope.INFERENCE not in principal.scopes:
            raise RightsLostError("The API key that made this batch lacks the scope 'inference'.")
        return replace(principal, batch=self._batch_id)
