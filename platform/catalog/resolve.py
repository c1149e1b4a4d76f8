"""Owns turning a request's `model` into what is to run, always within one tenant. It is on the way of every request:
what names mean is remembered for a moment, and versions, which never change, for longer."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.bases import BaseModels
from loraplex.platform.catalog.defaults import Defaults, stored_defaults
from loraplex.platform.catalog.epochs import Epochs
from loraplex.platform.catalog.identity import identity
from loraplex.platform.catalog.names import DEFAULT_ALIAS, ModelName, parse_model
from loraplex.platform.catalog.splits import Split, choose
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Adapter, AdapterAlias, AdapterVersion, Blob
from loraplex.platform.errors import ModelNotFoundError, NotFoundError

# Workers of this machine learn of a change at once (`epochs`), those of another one within this time.
REMEMBER_SECONDS = 1.0
REMEMBERED_NAMES = 20_000  # about 10 MB
# Configs and templates of versions in memory, per API worker: some 10,000 adapters of usual size.
REMEMBERED_BYTES = 32 * 1024**2
ENTRY_BYTES = 1024  # of an entry beside its config and template
# A version that is deleted between the two queries: the name is looked up again, and again gives something else.
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class ResolvedVersion:
    """One immutable version, with all an engine needs to load it.

    Attributes:
        id: of the version's row; adapter_id: of its adapter's.
        identity: one opaque string per (tenant, digest); the key of every cache.
        digest: SHA-256 over canonical config and weights, hex.
        weights_sha256, size: of the stored safetensors file.
        config: canonical config, JSON.
        chat_template: the adapter's own, None for the base model's.
        max_running: most requests an engine works on at once, None without a limit.
        defaults: what a request gets that leaves a field out.
    """

    id: UUID
    adapter_id: UUID
    adapter: str
    n: int
    identity: str
    digest: str
    weights_sha256: str
    size: int
    config: bytes
    chat_template: str | None
    max_running: int | None
    defaults: Defaults | None = None

    @property
    def model(self) -> str:
        """The name of this version alone."""
        return f"{self.adapter}@{self.n}"


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A base model, and the version to run on it unless the base itself was asked for."""

    base_name: str
    version: ResolvedVersion | None


class Meaning(NamedTuple):
    """What a name stands for at this moment: version `n`, or one of a split."""

    adapter_id: UUID
    max_running: int | None
    n: int
    split: Split | None


class Facts(NamedTuple):
    """What never changes about a version."""

    id: UUID
    digest: str
    base_model: str
    base_fingerprint: str
    config: bytes
    chat_template: str | None
    defaults: Defaults | None
    weights_sha256: str
    size: int


class Resolver:
    """Resolves for all tenants; every call names one and looks nowhere else."""

    def __init__(
        self,
        database: Database,
        bases: BaseModels,
        epochs: Epochs,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._bases = bases
        self._epochs = epochs
        self._clock = clock
        self._meanings: dict[tuple[UUID, ModelName], tuple[bytes, float, Meaning]] = {}
        self._versions = _Versions()
        self._by_number = _by_number()
        self._by_alias = _by_alias()
        self._facts = _facts()

    async def resolve(
        self, viewer: Principal, model: str, sticky: str | None = None
    ) -> ResolvedModel:
        """What `model` means now to whoever holds `viewer`'s key. `sticky` is who asks, for aliases that are split.

        Raises:
            ModelNotFoundError: nothing, or nothing for this key to see.
            NotFoundError: an adapter of this tenant whose base model is not served here.
        """
        tenant_id = viewer.tenant_id
        if tenant_id is None:
            raise ModelNotFoundError(model)
        if self._bases.get(model) is not None:
            if not viewer.may_see(model):
                raise ModelNotFoundError(model)
            return ResolvedModel(model, None)
        name = parse_model(model)
        # Before the database is asked: how long this takes tells nothing of what is there.
        if name is None or not viewer.may_see(name.adapter):
            raise ModelNotFoundError(model)
        found = await self._find(tenant_id, name, sticky)
        if found is None:
            raise ModelNotFoundError(model)
        meaning, n, facts = found
        base = self._bases.get(facts.base_model)
        if base is None or base.fingerprint != facts.base_fingerprint:
            raise NotFoundError(
                f"{name.adapter}@{n} was made for the base model {facts.base_model!r}, "
                "which is not served here now.",
                code=ModelNotFoundError.default_code,
                param="model",
            )
        return ResolvedModel(
            base.name,
            ResolvedVersion(
                id=facts.id,
                adapter_id=meaning.adapter_id,
                adapter=name.adapter,
                n=n,
                identity=identity(tenant_id, facts.digest),
                digest=facts.digest,
                weights_sha256=facts.weights_sha256,
                size=facts.size,
                config=facts.config,
                chat_template=facts.chat_template,
                max_running=meaning.max_running,
                defaults=facts.defaults,
            ),
        )

    async def _find(
        self, tenant_id: UUID, name: ModelName, sticky: str | None
    ) -> tuple[Meaning, int, Facts] | None:
        key, epoch, now = (tenant_id, name), self._epochs.of(tenant_id), self._clock()
        known = self._meanings.get(key)
        if known is not None and known[0] == epoch and known[1] > now:
            meaning = known[2]
            n = _chosen(meaning, tenant_id, name, sticky)
            facts = self._versions.get((meaning.adapter_id, n))
            if facts is not None:
                return meaning, n, facts
        async with self._database.main.reading(tenant_id) as session:
            for _ in range(ATTEMPTS):
                fresh = await self._meaning(session, tenant_id, name)
                if fresh is None:
                    return None
                n = _chosen(fresh, tenant_id, name, sticky)
                facts = await self._version(session, tenant_id, fresh.adapter_id, n)
                if facts is not None:
                    if len(self._meanings) >= REMEMBERED_NAMES:
                        self._meanings.clear()
                    self._meanings[key] = (epoch, now + REMEMBER_SECONDS, fresh)
                    return fresh, n, facts
        return None

    async def _meaning(
        self, session: AsyncSession, tenant_id: UUID, name: ModelName
    ) -> Meaning | None:
        values: dict[str, object] = {"tenant": tenant_id, "name": name.adapter}
        if name.version is not None:
            exact = (await session.execute(self._by_number, {**values, "n": name.version})).first()
            return None if exact is None else Meaning(exact[0], exact[1], exact[2], None)
        values["alias"] = name.alias or DEFAULT_ALIAS
        row = (await session.execute(self._by_alias, values)).first()
        if row is None:
            return None
        adapter_id, max_running, alias, named, split, newest = row
        if alias is None:
            # Without the alias `prod` the name alone means the newest; an alias that is asked for has to be there.
            named = None if name.alias else newest
        return None if named is None else Meaning(adapter_id, max_running, named, split)

    async def _version(
        self, session: AsyncSession, tenant_id: UUID, adapter_id: UUID, n: int
    ) -> Facts | None:
        # Numbers are never given twice, so what was read once holds for as long as the version is there.
        facts = self._versions.get((adapter_id, n))
        if facts is not None:
            return facts
        values = {"tenant": tenant_id, "adapter": adapter_id, "n": n}
        row = (await session.execute(self._facts, values)).first()
        if row is None:
            return None
        version_id, digest, base, fingerprint, config, template, defaults, sha256, size = row
        own = stored_defaults(defaults)
        facts = Facts(version_id, digest, base, fingerprint, config, template, own, sha256, size)
        self._versions.put((adapter_id, n), facts)
        return facts


@dataclass(slots=True)
class _Versions:
    """The versions used last, by adapter and number."""

    _entries: OrderedDict[tuple[UUID, int], Facts] = field(default_factory=OrderedDict)
    _bytes: int = 0

    def get(self, key: tuple[UUID, int]) -> Facts | None:
        facts = self._entries.get(key)
        if facts is not None:
            self._entries.move_to_end(key)
        return facts

    def put(self, key: tuple[UUID, int], facts: Facts) -> None:
        if key not in self._entries:
            self._entries[key] = facts
            self._bytes += _bytes_of(facts)
        while self._bytes > REMEMBERED_BYTES:
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= _bytes_of(oldest)


def _chosen(meaning: Meaning, tenant_id: UUID, name: ModelName, sticky: str | None) -> int:
    if meaning.split is None:
        return meaning.n
    alias = f"{name.adapter}@{name.alias or DEFAULT_ALIAS}"
    return choose(meaning.split, tenant_id, alias, sticky)


def _bytes_of(facts: Facts) -> int:
    return ENTRY_BYTES + len(facts.config) + 4 * len(facts.chat_template or "")


def _own_adapter() -> ColumnElement[bool]:
    return and_(
        Adapter.tenant_id == bindparam("tenant"),
        Adapter.name == bindparam("name"),
    )


def _by_number() -> Select[UUID, int | None, int]:
    return (
        select(Adapter.id, Adapter.max_running, AdapterVersion.n)
        .join(AdapterVersion, AdapterVersion.adapter_id == Adapter.id)
        .where(_own_adapter(), AdapterVersion.n == bindparam("n"), AdapterVersion.state == "ready")
    )


def _by_alias() -> Select[UUID, int | None, str, int, Split | None, int]:
    newest = (
        select(func.max(AdapterVersion.n))
        .where(AdapterVersion.adapter_id == Adapter.id, AdapterVersion.state == "ready")
        .scalar_subquery()
    )
    named = AdapterVersion.__table__.alias()
    return (
        select(
            Adapter.id,
            Adapter.max_running,
            AdapterAlias.alias,
            named.c.n,
            AdapterAlias.split,
            newest,
        )
        .outerjoin(
            AdapterAlias,
            and_(AdapterAlias.adapter_id == Adapter.id, AdapterAlias.alias == bindparam("alias")),
        )
        .outerjoin(named, named.c.id == AdapterAlias.version_id)
        .where(_own_adapter())
    )


def _facts() -> Select[UUID, str, str, str, bytes, str | None, dict[str, object] | None, str, int]:
    return (
        select(
            AdapterVersion.id,
            AdapterVersion.digest,
            AdapterVersion.base_model,
            AdapterVersion.base_fingerprint,
            AdapterVersion.config,
            AdapterVersion.chat_template,
            AdapterVersion.defaults,
            Blob.sha256,
            Blob.size,
        )
        .join(Blob, Blob.id == AdapterVersion.blob_id)
        .where(
            AdapterVersion.tenant_id == bindparam("tenant"),
            AdapterVersion.adapter_id == bindparam("adapter"),
            AdapterVersion.n == bindparam("n"),
        )
    )
