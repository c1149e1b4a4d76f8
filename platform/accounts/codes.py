"""Owns one-time codes: made, shown once, kept as a hash, used once."""

import secrets
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy import delete, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.platform.auth.keys import hash_token
from loraplex.platform.db.models import OneTimeCode, User
from loraplex.platform.errors import BadRequestError

Purpose = Literal["setup", "invitation", "reset"]
LIFETIMES: dict[Purpose, timedelta] = {
    "setup": timedelta(days=1),
    "invitation": timedelta(days=7),
    "reset": timedelta(days=1),
}


def new_code(purpose: Purpose, now: datetime) -> tuple[OneTimeCode, str]:
    """A row to add, and the code itself: 160 random bits, so that guessing needs no throttle."""
    code = secrets.token_hex(20)
    expires_at = now + LIFETIMES[purpose]
    return OneTimeCode(sha256=hash_token(code), purpose=purpose, expires_at=expires_at), code


async def find_code(
    session: AsyncSession, code: str, purpose: Purpose, now: datetime
) -> OneTimeCode:
    """The row of a code that can be used. In a writing session it is locked: whoever finds it and sets `used_at` in the
    same transaction is the only one.

    Raises:
        BadRequestError: wrong, used or too old.
    """
    query = select(OneTimeCode).where(
        OneTimeCode.sha256 == hash_token(code), OneTimeCode.purpose == purpose
    )
    row = await session.scalar(query.with_for_update())
    if row is None or row.used_at is not None or row.expires_at <= now:
        raise BadRequestError(
            "This code is wrong, used or too old; ask for a new one.",
            code="invalid_code",
            param="code",
        )
    return row


async def drop_codes(session: AsyncSession, user_id: str) -> None:
    """Take back what lets somebody set a user's password."""
    await session.execute(
        delete(OneTimeCode).where(
            OneTimeCode.user_id == user_id,
            OneTimeCode.purpose == "reset",
            OneTimeCode.used_at.is_(None),
        )
    )


async def drop_invitations(
    session: AsyncSession, user: User, tenant_id: UUID | None = None
) -> None:
    """Take back what a user who may less than before could come back with: open invitations that the user made, or that
    are for the user; of one tenant, or of all."""
    whose = or_(OneTimeCode.created_by == user.id, OneTimeCode.email == user.email)
    taken = delete(OneTimeCode).where(
        OneTimeCode.purpose == "invitation", OneTimeCode.used_at.is_(None), whose
    )
    if tenant_id is not None:
        taken = taken.where(OneTimeCode.tenant_id == tenant_id)
    await session.execute(taken)
