"""Owns the operator's first key."""

from sqlalchemy import select

from loraplex.platform.auth.key_service import new_row
from loraplex.platform.auth.keys import NewKey, generate, key_id
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import ApiKey
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.settings import SettingsError


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
        session.add(new_row(new, None, "bootstrap", frozenset()))
    return None if bootstrap_key is not None else new.token


def _chosen(token: str) -> NewKey:
    identifier = key_id(token)
    if identifier is None:
        raise SettingsError(
            "LORAPLEX_BOOTSTRAP_KEY must be 8 to 200 visible ASCII characters, "
            "or a whole key that begins with lpx_live_."
        )
    return NewKey(identifier, token)
