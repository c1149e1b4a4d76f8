"""Owns the tables of people: users, what they are in tenants, their sessions, and the codes that let them in."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String, false
from sqlalchemy.orm import Mapped, mapped_column, relationship

from loraplex.platform.db.base import Base, Row, TenantOwned, utc_now
from loraplex.platform.db.models.tenancy import Tenant


class User(Base):
    """Somebody who signs in. The id is `usr_` and eight letters or digits, so that it stands where key ids stand.

    `email` is in lower case. `password_hash` is argon2id, None for those who sign in elsewhere: then `oidc_subject` is
    `issuer|subject`.
    """

    __tablename__ = "user_account"

    id: Mapped[str] = mapped_column(String(12), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    email: Mapped[str] = mapped_column(String(254), unique=True)
    name: Mapped[str] = mapped_column(String(100), default="")
    password_hash: Mapped[str | None] = mapped_column(String(255))
    oidc_subject: Mapped[str | None] = mapped_column(String(512), unique=True)
    is_operator: Mapped[bool] = mapped_column(default=False, server_default=false())
    disabled_at: Mapped[datetime | None]
    last_sign_in_at: Mapped[datetime | None]


class Membership(TenantOwned, Base):
    """What a user is in a tenant: `owner`, `admin`, `member` or `viewer`."""

    __tablename__ = "membership"

    tenant_id: Mapped[UUID] = mapped_column(
        ForeignKey("tenant.id", ondelete="CASCADE"), primary_key=True
    )
    user_id: Mapped[str] = mapped_column(
        ForeignKey("user_account.id", ondelete="CASCADE"), primary_key=True
    )
    role: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)

    user: Mapped[User] = relationship(lazy="raise")
    tenant: Mapped[Tenant] = relationship(lazy="raise")

    __table_args__ = (Index(None, "user_id"),)


class UserSession(Row, Base):
    """A signed-in browser. Only hashes of its tokens are kept; the token changes now and then, and for a moment
    `previous_sha256`, the one before, is good as well, for requests that were on their way."""

    __tablename__ = "user_session"

    user_id: Mapped[str] = mapped_column(ForeignKey("user_account.id", ondelete="CASCADE"))
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    previous_sha256: Mapped[str | None] = mapped_column(String(64), index=True)
    csrf_token: Mapped[str] = mapped_column(String(64))
    rotated_at: Mapped[datetime] = mapped_column(default=utc_now)
    last_seen_at: Mapped[datetime] = mapped_column(default=utc_now)
    expires_at: Mapped[datetime]
    address: Mapped[str] = mapped_column(String(64), default="")
    user_agent: Mapped[str] = mapped_column(String(255), default="")

    user: Mapped[User] = relationship(lazy="raise")

    __table_args__ = (Index(None, "user_id"),)


class OneTimeCode(Row, TenantOwned, Base):
    """A code that can be used once: `setup` (the first operator), `invitation` (to a tenant, or as operator), `reset`
    (a new password). Only its hash is kept."""

    __tablename__ = "one_time_code"

    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    purpose: Mapped[str] = mapped_column(String(16))
    tenant_id: Mapped[UUID | None] = mapped_column(ForeignKey("tenant.id", ondelete="CASCADE"))
    user_id: Mapped[str | None] = mapped_column(ForeignKey("user_account.id", ondelete="CASCADE"))
    email: Mapped[str | None] = mapped_column(String(254))
    role: Mapped[str | None] = mapped_column(String(16))
    created_by: Mapped[str | None] = mapped_column(String(12))
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]

    __table_args__ = (Index(None, "tenant_id"), Index(None, "user_id"))


class SignInThrottle(Base):
    """Failed sign-ins of one subject, an account or an address, by its hash."""

    __tablename__ = "sign_in_throttle"

    subject: Mapped[str] = mapped_column(String(64), primary_key=True)
    failures: Mapped[int] = mapped_column(default=0)
    blocked_until: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(default=utc_now)
