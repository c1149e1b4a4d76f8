"""Owns the JSON of adapters, versions, aliases and uploads."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from loraplex.platform.catalog.splits import shown, versions
from loraplex.platform.catalog.table import Include, Row
from loraplex.platform.catalog.version_number import MAX_VERSION
from loraplex.platform.db.models import (
    Adapter,
    AdapterAlias,
    AdapterVersion,
    GoldenPrompt,
    Upload,
)
from loraplex.platform.engines.messages import Tier
from loraplex.platform.inference.schemas import NULL


class AliasOut(Struct):
    """An alias; `previous` is the version it named before, if that still exists.

    With a `split` it names several, shares by version number, of which `version` has the largest; `previous_split` is
    the one before.
    """

    alias: str
    version: int
    split: dict[str, float] | None
    previous: int | None
    previous_split: dict[str, float] | None
    updated_at: datetime
    updated_by: str

    @classmethod
    def of(cls, row: AdapterAlias) -> "AliasOut":
        previous = None if row.previous is None else row.previous.n
        return cls(
            alias=row.alias,
            version=row.version.n,
            split=None if row.split is None else shown(row.split),
            previous=previous,
            previous_split=None if row.previous_split is None else shown(row.previous_split),
            updated_at=row.updated_at,
            updated_by=row.updated_by,
        )


class GoldenOut(Struct):
    """A golden prompt, either `prompt` or `messages`. `result` of the last check: `recorded` (the first answer became
    `expected`), `passed`, `failed`; null before the first. `answer` is null if there was none."""

    prompt: str | list[int] | None
    messages: list[dict[str, object]] | None
    max_tokens: int
    expected: str | None
    result: str | None
    answer: str | None
    checked_at: datetime | None

    @classmethod
    def of(cls, row: GoldenPrompt) -> "GoldenOut":
        own = {"max_tokens": row.max_tokens, "expected": row.expected, "result": row.result}
        last = {"answer": row.answer, "checked_at": row.checked_at}
        return msgspec.convert({"prompt": None, "messages": None, **row.prompt, **own, **last}, cls)


class GoldenList(Struct):
    """The golden prompts of a version."""

    data: list[GoldenOut]

    @classmethod
    def of(cls, rows: Iterable[GoldenPrompt]) -> "GoldenList":
        return cls([GoldenOut.of(row) for row in rows])


class VersionOut(Struct, omit_defaults=True):
    """A version. `model` is what a request names it by, `parent` the number of the version it was made from, `source`
    how it came here, `defaults` what a request gets that leaves a field out. `config`, `report` and `golden` are in the
    answer about one version only."""

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
    parent: int | None
    source: dict[str, object] | None
    defaults: dict[str, object] | None
    has_chat_template: bool
    warnings: list[str]
    config: dict[str, object] | UnsetType = UNSET
    report: dict[str, object] | UnsetType = UNSET
    golden: list[GoldenOut] | UnsetType = UNSET

    @classmethod
    def of(
        cls,
        adapter: str,
        row: AdapterVersion,
        aliases: Iterable[AdapterAlias],
        golden: Iterable[GoldenPrompt] | None = None,
    ) -> "VersionOut":
        """With `golden` all that is known of the version."""
        full = golden is not None
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
            aliases=sorted(alias.alias for alias in aliases if names(alias, row)),
            created_at=row.created_at,
            created_by=row.created_by,
            parent=row.parent_n,
            source=row.source,
            defaults=row.defaults,
            has_chat_template=row.chat_template is not None,
            warnings=[str(w) for w in warnings] if isinstance(warnings, list) else [],
            config=msgspec.json.decode(row.config) if full else UNSET,
            report=row.report if full else UNSET,
            golden=UNSET if golden is None else [GoldenOut.of(each) for each in golden],
        )


class NewestOut(Struct):
    """The newest version of an adapter; `size` in bytes."""

    version: int
    base: str
    rank: int
    size: int
    created_at: datetime


class TrafficOut(Struct):
    """Requests in each of the last 24 hours of the clock, the present one last. `last_used_at` is null if the ledger
    has none of its requests any more."""

    hourly: list[int]
    last_used_at: datetime | None


class AdapterOut(Struct, omit_defaults=True):
    """An adapter; `versions`, newest first, are in the answer about one adapter only. `pinned`: what its name and
    aliases mean stays in the memory of engines. `max_running`: requests for one version an engine works on at once.
    `newest` (null if every version was deleted), `residency` (the fastest place any version is in) and `traffic` are in
    a list that was asked to include them."""

    name: str
    created_at: datetime
    aliases: list[AliasOut]
    pinned: bool
    max_running: int | None
    versions: list[VersionOut] | UnsetType = UNSET
    newest: NewestOut | UnsetType | None = UNSET
    residency: Tier | UnsetType = UNSET
    traffic: TrafficOut | UnsetType = UNSET

    @classmethod
    def in_table(cls, row: Row, include: Collection[Include]) -> "AdapterOut":
        """As a list has it."""
        out = cls.of(row.adapter, row.aliases)
        if Include.NEWEST in include:
            out.newest = None if row.newest is None else NewestOut(*row.newest)
        if row.tier is not None:
            out.residency = row.tier
        if row.traffic is not None:
            out.traffic = TrafficOut(*row.traffic)
        return out

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
            versions=UNSET
            if versions is None
            else [VersionOut.of(row.name, version, aliases) for version in versions],
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
    """What an alias shall name: a version, or several with their weights. With `expected`, only if it names that now:
    a version, a split, or null for no such alias."""

    version: Annotated[int, Meta(ge=1, le=MAX_VERSION)] | None = None
    split: dict[str, float] | None = None
    expected: int | dict[str, float] | UnsetType | None = UNSET


class AliasRollback(Struct, forbid_unknown_fields=True):
    """With `expected`, only if the alias names that now."""

    expected: int | dict[str, float] | UnsetType = UNSET


class GoldenSet(Struct, forbid_unknown_fields=True):
    """All golden prompts of a version, in place of those it has."""

    golden: Raw


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
    parent: int | None = None
    defaults: Raw = NULL
    golden: Raw = NULL


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


def names(alias: AdapterAlias, version: AdapterVersion) -> bool:
    """Whether an alias names a version now, alone or in a split."""
    if alias.adapter_id != version.adapter_id:
        return False
    return alias.version_id == version.id or version.n in versions(alias.split or [])
