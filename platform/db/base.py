"""Owns the two declarative bases: `Base` for everything small, `WeightsBase` for the chunk rows of
adapter weights, which live in a second file on SQLite so that uploads never hold the writer lock of
the rest."""

from datetime import UTC, datetime
from typing import ClassVar
from uuid import UUID

from sqlalchemy import JSON, DateTime, Dialect, MetaData, TypeDecorator, Uuid
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from uuid_utils.compat import uuid7

# Named constraints, so that migrations can drop them on both databases.
_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


# None is SQL's NULL, so that it can be asked for.
_JSON = JSON(none_as_null=True)


def utc_now() -> datetime:
    """The present, timezone-aware."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment, always timezone-aware here; SQLite stores it without its zone, which is UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """From UTC."""
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


class Base(DeclarativeBase):
    """Tables of the main database."""

    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map: ClassVar = {
        UUID: Uuid,
        datetime: UtcDateTime,
        dict[str, object]: _JSON,
        list[str]: _JSON,
        list[list[str]]: _JSON,
        list[list[int]]: _JSON,
        list[list[float]]: _JSON,
    }


class WeightsBase(DeclarativeBase):
    """Tables of the weights database."""

    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map: ClassVar = {UUID: Uuid}


class TenantOwned:
    """Rows of tenants: a session opened for one tenant neither sees nor writes those of another (`db.scope`). Each
    table gives the column itself, with `mapped_column`: an annotation alone would inherit this one's NULL."""

    tenant_id: Mapped[UUID | None] = mapped_column()


class Row:
    """Time-ordered id and creation time, which most tables share."""

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7, sort_order=-2)
    created_at: Mapped[datetime] = mapped_column(default=utc_now, sort_order=-1)
