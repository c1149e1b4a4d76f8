"""Owns the way of an adapter into the catalog: what is asked for, the admission check, and the one
transaction that makes a new version visible."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import IO
from uuid import UUID

import msgspec
from jinja2 import TemplateSyntaxError
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError, NoResultFound
from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.adapters.admission import AdmissionReport
from loraplex.adapters.errors import AdapterRejected
from loraplex.adapters.upload import UploadInspector
from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.aliases import point_alias
from loraplex.platform.catalog.bases import Base, BaseModels
from loraplex.platform.catalog.defaults import Defaults
from loraplex.platform.catalog.epochs import Epochs
from loraplex.platform.catalog.golden import Golden, golden_rows
from loraplex.platform.catalog.names import check_adapter_name, check_alias
from loraplex.platform.catalog.rows import no_adapter
from loraplex.platform.catalog.weights import Weights
from loraplex.platform.db.audit import record
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Adapter, AdapterVersion
from loraplex.platform.errors import BadRequestError, ConflictError, UnprocessableError
from loraplex.platform.forms import pieces
from loraplex.platform.inference.chat_template import check_syntax
from loraplex.platform.webhooks.events import Event, emit

ATTEMPTS = 3  # of a transaction that met another one creating the same adapter
# What is done in the transaction that makes a version visible; told its number.
Ending = Callable[[AsyncSession, int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Intent:
    """A checked wish: this config and the weights to come, as a new version of `name` on `base`.

    Attributes:
        parent: number of the version it was made from.
        source: how it came here.
        defaults, golden: what the version comes with.
    """

    tenant_id: UUID
    name: str
    base: Base
    alias: str | None
    config: bytes
    chat_template: str | None
    source: dict[str, object] | None = None
    parent: int | None = None
    defaults: Defaults | None = None
    golden: tuple[Golden, ...] = ()

    def inspector(self, size: int) -> UploadInspector:
        """A fresh judge for `size` bytes of weights.

        Raises:
            UnprocessableError: the config alone is refused.
        """
        try:
            return UploadInspector(
                self.config, self.base.modules, base_model=self.base.name, expected_size=size
            )
        except AdapterRejected as error:
            raise rejection(error) from error


def rejection(error: AdapterRejected) -> UnprocessableError:
    """The answer to a refused adapter."""
    return UnprocessableError(
        error.message,
        code="adapter_rejected",
        param=error.field,
        report=AdmissionReport.rejection(error).as_dict(),
    )


class Intake:
    """Admits adapters."""

    def __init__(
        self, database: Database, bases: BaseModels, weights: Weights, epochs: Epochs
    ) -> None:
        self._database = database
        self._epochs = epochs
        self._bases = bases
        self._weights = weights

    def intent(
        self,
        tenant_id: UUID,
        *,
        name: str,
        config: bytes,
        base: str | None,
        alias: str | None,
        chat_template: str | None,
        source: dict[str, object] | None = None,
        parent: int | None = None,
        defaults: Defaults | None = None,
        golden: tuple[Golden, ...] = (),
    ) -> Intent:
        """Check all but the weights, and `parent`, which is checked with them.

        Raises:
            BadRequestError: a name, the base or the template.
            UnprocessableError: the config.
        """
        intent = Intent(
            tenant_id=tenant_id,
            name=check_adapter_name(name, self._bases.names),
            base=self._bases.choose(base),
            alias=None if alias is None else check_alias(alias),
            config=config,
            chat_template=chat_template,
            source=source,
            parent=parent,
            defaults=defaults,
            golden=golden,
        )
        if chat_template is not None:
            _check_template(chat_template)
        intent.inspector(0)
        return intent

    async def push(self, actor: Principal, intent: Intent, weights: IO[bytes], size: int) -> int:
        """Take an adapter whose weights lie in a file; a refused one never reaches the database.

        Returns:
            The number of the new version.
        Raises:
            UnprocessableError: the adapter is refused.
        """
        report = await self.inspect(intent, pieces(weights), size)
        return await self.keep(actor, intent, report, weights)

    async def keep(
        self,
        actor: Principal,
        intent: Intent,
        report: AdmissionReport,
        weights: IO[bytes],
        ending: Ending | None = None,
    ) -> int:
        """Store weights that were judged, and publish them.

        Returns:
            The number of the new version.
        Raises:
            PayloadTooLargeError: they are more than the tenant may store.
        """
        blob_id = await self._weights.find(intent.tenant_id, report.weights_sha256)
        if blob_id is None:
            weights.seek(0)
            blob_id = await self._weights.store(
                intent.tenant_id, report.weights_sha256, report.size, pieces(weights)
            )
            try:
                return await self.publish(actor, intent, report, blob_id, ending)
            except BaseException:
                await self._weights.discard(blob_id)
                raise
        return await self.publish(actor, intent, report, blob_id, ending)

    async def inspect(
        self, intent: Intent, source: AsyncIterator[bytes], size: int
    ) -> AdmissionReport:
        """Judge a whole weights file, off the event loop.

        Raises:
            UnprocessableError: the adapter is refused.
        """
        inspector = intent.inspector(size)
        try:
            async for piece in source:
                await asyncio.to_thread(inspector.feed, piece)
            return inspector.finish()
        except AdapterRejected as error:
            raise rejection(error) from error

    async def publish(
        self,
        actor: Principal,
        intent: Intent,
        report: AdmissionReport,
        blob_id: UUID,
        ending: Ending | None = None,
    ) -> int:
        """Make the new version visible, move its alias and do what `ending` does, all or nothing.

        Returns:
            The number of the new version.
        Raises:
            ConflictError: the weights were deleted in the meantime.
            BadRequestError: the adapter never had a version with the number of the parent.
            NotFoundError: the key may not see an adapter of this name.
        """
        if not actor.may_see(intent.name):
            raise no_adapter(intent.name)
        for attempt in range(ATTEMPTS):
            try:
                async with self._database.main.writing(intent.tenant_id) as session:
                    n, surplus = await self._insert(session, actor, intent, report, blob_id, ending)
                break
            except NoResultFound as error:
                raise ConflictError(
                    "The weights were deleted while they were pushed; push again."
                ) from error
            except IntegrityError:
                # Another push created the same adapter, or stored the same weights, a moment ago.
                if attempt == ATTEMPTS - 1:
                    raise
        self._epochs.change(intent.tenant_id)
        if surplus:
            await self._weights.chunks.delete(blob_id)
        return n

    async def _insert(
        self,
        session: AsyncSession,
        actor: Principal,
        intent: Intent,
        report: AdmissionReport,
        blob_id: UUID,
        ending: Ending | None,
    ) -> tuple[int, bool]:
        adapter = await _own_adapter(session, intent)
        check_parent(intent.name, intent.parent, adapter.last_version)
        adapter.last_version += 1
        if ending is not None:
            # First: the row of an upload goes with its blob, if that turns out to be a second copy.
            await ending(session, adapter.last_version)
        kept, surplus = await self._weights.adopt(
            session, intent.tenant_id, report.weights_sha256, blob_id
        )
        version = AdapterVersion(
            tenant_id=intent.tenant_id,
            adapter_id=adapter.id,
            n=adapter.last_version,
            digest=report.version_digest,
            blob_id=kept,
            base_model=intent.base.name,
            base_fingerprint=intent.base.fingerprint,
            config=report.canonical_config,
            report=report.as_dict(),
            rank=report.max_rank,
            chat_template=intent.chat_template,
            parent_n=intent.parent,
            source=intent.source,
            defaults=None if intent.defaults is None else _plain(intent.defaults),
            created_by=actor.actor_id,
        )
        session.add(version)
        await session.flush()
        session.add_all(golden_rows(intent.tenant_id, version.id, intent.golden))
        name, facts = f"{intent.name}@{version.n}", _facts(version)
        record(session, actor, "version.create", name, intent.tenant_id, after=facts)
        data = {"adapter": intent.name, "version": version.n, **facts}
        await emit(session, intent.tenant_id, Event.VERSION_CREATED, data)
        if intent.alias is not None:
            await point_alias(session, actor, adapter, intent.alias, version)
        return version.n, surplus


def check_parent(name: str, parent: int | None, last: int) -> None:
    """Of an adapter whose newest version has the number `last`; a parent may have been deleted since.

    Raises:
        BadRequestError: it never had such a version.
    """
    if parent is not None and not 1 <= parent <= last:
        raise BadRequestError(
            f"parent: {name} has no version {parent}.", param="parent", code="invalid_value"
        )


def _plain(defaults: Defaults) -> dict[str, object]:
    return msgspec.convert(msgspec.to_builtins(defaults), dict[str, object])


def _facts(version: AdapterVersion) -> dict[str, object]:
    return {
        "digest": version.digest,
        "base": version.base_model,
        "parent": version.parent_n,
        "source": version.source,
    }


async def _own_adapter(session: AsyncSession, intent: Intent) -> Adapter:
    query = (
        select(Adapter)
        .where(Adapter.tenant_id == intent.tenant_id, Adapter.name == intent.name)
        .with_for_update()
    )
    adapter = await session.scalar(query)
    if adapter is None:
        adapter = Adapter(tenant_id=intent.tenant_id, name=intent.name, last_version=0)
        session.add(adapter)
        await session.flush()
    return adapter


def _check_template(text: str) -> None:
    if "\0" in text:
        raise BadRequestError(
            "chat_template: it holds a NUL character; remove it.", param="chat_template"
        )
    try:
        check_syntax(text)
    except RecursionError as error:
        raise UnprocessableError(
            "chat_template: it is nested too deeply; simplify it.", param="chat_template"
        ) from error
    except TemplateSyntaxError as error:
        raise BadRequestError(
            f"chat_template: line {error.lineno} is not valid Jinja: {error.message}.",
            param="chat_template",
        ) from error
