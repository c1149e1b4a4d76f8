"""Owns the JSON of adapters, versions, aliases and uploads."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from loraplex.platform.db.models import Adapter, AdapterAlias, AdapterVersion, Upload

MAX_VERSION = 2**31 - 1  # what the column holds


class AliasOut(Struct):
    """An alias; `previous` is the version it named before, if that still exists."""

    alias: str
    version: int
    previous: int | None
    updated_at: datetime

    @classmethod
    def of(cls, row: AdapterAlias) -> "AliasOut":
        previous = None if row.previous is None else row.previous.n
        return cls(row.alias, row.version.n, previous, row.updated_at)


class VersionOut(Struct, omit_defaults=True):
    """A version. `model` is what a request names it by; `report` is in the answer about one version only."""

    adapter: str
    version: int
    model: str
    state: str
    base: str
    digest: str
    weights_sha256: str
    size: int
    rank: int
    aliases: list[str]
    created_at: datetime
    created_by: str
    has_chat_template: bool
    warnings: list[str]
    report: dict[str, object] | UnsetType = UNSET

    @classmethod
    def of(
        cls, adapter: str, row: AdapterVersion, aliases: Iterable[str], *, full: bool = False
    ) -> "VersionOut":
        warnings = row.report.get("warnings", [])
        return cls(
            adapter=adapter,
            version=row.n,
            model=f"{adapter}@{row.n}",
            state=row.state,
            base=row.base_model,
            digest=row.digest,
            weights_sha256=row.blob.sha256,
            size=row.blob.size,
            rank=row.rank,
            aliases=sorted(aliases),
            created_at=row.created_at,
            created_by=row.created_by,
            has_chat_template=row.chat_template is not None,
            warnings=[str(w) for w in warnings] if isinstance(warnings, list) else [],
            report=row.report if full else UNSET,
        )


class AdapterOut(Struct, omit_defaults=True):
    """An adapter; `versions`, newest first, are in the answer about one adapter only. `pinned`: what its name and
    aliases mean stays in the memory of engines. `max_running`: requests for one version an engine works on at once."""

    name: str
    created_at: datetime
    aliases: list[AliasOut]
    pinned: bool
    max_running: int | None
    versions: list[VersionOut] | UnsetType = UNSET

    @classmethod
    def of(
        cls,
        row: Adapter,
        aliases: Sequence[AdapterAlias],
        versions: Sequence[AdapterVersion] | None = None,
    ) -> "AdapterOut":
        return cls(
            name=row.name,
            created_at=row.created_at,
            aliases=[AliasOut.of(alias) for alias in aliases],
            pinned=row.pinned,
            max_running=row.max_running,
            versions=UNSET if versions is None else versions_out(row, aliases, versions),
        )


class AdapterList(Struct):
    """A page of adapters by name; `next` is the `after` of the following page."""

    data: list[AdapterOut]
    next: str | None


class VersionList(Struct):
    """Every version of an adapter, newest first."""

    data: list[VersionOut]


class AdapterChange(Struct, forbid_unknown_fields=True):
    """What is to change about an adapter; null for `max_running` is no limit. Only operators pin."""

    pinned: bool | UnsetType = UNSET
    max_running: Annotated[int, Meta(ge=1, le=1_000_000)] | UnsetType | None = UNSET


class AliasSet(Struct, forbid_unknown_fields=True):
    """What an alias shall name: a version. Weighted splits are part of the contract and still to come."""

    version: Annotated[int, Meta(ge=1, le=MAX_VERSION)] | None = None
    split: dict[str, float] | None = None


class UploadCreate(Struct, forbid_unknown_fields=True):
    """A resumable upload to come. `config` is adapter_config.json, as JSON or as text holding it."""

    name: str
    size: Annotated[int, Meta(ge=1)]
    sha256: Annotated[
        str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)", description="64 lower-case hex digits")
    ]
    config: Raw
    base: str | None = None
    alias: str | None = None
    chat_template: Annotated[str, Meta(max_length=65536)] | None = None


class UploadOut(Struct):
    """An upload under way: send the bytes from `received` on, before `expires_at`."""

    id: str
    name: str
    size: int
    received: int
    expires_at: datetime

    @classmethod
    def of(cls, row: Upload, received: int) -> "UploadOut":
        return cls(str(row.id), row.adapter_name, row.blob.size, received, row.expires_at)


def versions_out(
    adapter: Adapter, aliases: Sequence[AdapterAlias], versions: Sequence[AdapterVersion]
) -> list[VersionOut]:
    """Versions with the aliases that name each."""
    return [
        VersionOut.of(adapter.name, v, [a.alias for a in aliases if a.version_id == v.id])
        for v in versions
    ]
