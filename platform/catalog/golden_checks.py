"""Owns checking golden prompts: when an engine has loaded a version, once per version and life of the engine, whichever
API worker claims it first; and whenever a tenant asks."""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import NamedTuple, Protocol
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.golden import Golden, golden_rows
from loraplex.platform.catalog.identity import identity
from loraplex.platform.catalog.rows import find_adapter, find_golden, find_version
from loraplex.platform.db.audit import record
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Adapter, AdapterVersion, GoldenPrompt, Tenant
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.engine_directory import EngineDirectory
from loraplex.platform.errors import (
    ConflictError,
    DatabaseUnavailableError,
    EngineUnavailableError,
    LimitExceededError,
    PlatformError,
)
from loraplex.platform.webhooks.events import Event, emit

# One small query per worker and period; engines are asked what they have loaded only if something is to be checked.
LOOK_SECONDS = 30.0
# A worker that died during a check holds it no longer than this.
LEASE = timedelta(minutes=10)
RECORDED, PASSED, FAILED = "recorded", "passed", "failed"


class Answers(Protocol):
    """Where answers come from."""

    async def greedy(
        self,
        tenant_id: UUID,
        model: str,
        prompt: dict[str, object],
        max_tokens: int,
        payer: str | None = None,
    ) -> str:
        """What a version answers with temperature 0. It counts as a request of `payer`, the id of a key or a user; for
        None it costs nothing.

        Raises:
            EngineUnavailableError: nobody can answer now.
            LimitExceededError: the payer, the tenant or the adapter has reached a limit.
            PlatformError: this prompt cannot be answered.
        """
        ...


class Subject(NamedTuple):
    """A version that is checked."""

    version_id: UUID
    tenant_id: UUID
    adapter: str
    n: int
    digest: str
    base_model: str

    @property
    def model(self) -> str:
        return f"{self.adapter}@{self.n}"


class GoldenChecks:
    """Checks of all tenants' golden prompts."""

    def __init__(
        self,
        database: Database,
        engines: EngineDirectory,
        answers: Answers,
        count: Callable[[str, str], None],
    ) -> None:
        """`count` is told base model and result of each prompt, for metrics."""
        self._database = database
        self._engines = engines
        self._answers = answers
        self._count = count

    async def run(self, ending: asyncio.Event) -> None:
        """`sweep` now and then, until `ending` is set."""
        log = structlog.get_logger()
        while not ending.is_set():
            pause = LOOK_SECONDS * random.uniform(0.5, 1)  # noqa: S311  # no secret
            with suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), pause)
                return
            try:
                await self.sweep()
            except Exception as error:
                # Whatever one version does to a tokenizer or a template, the others must be checked too.
                log.error("checking golden prompts failed", error=str(error))

    async def sweep(self) -> None:
        """Check what engines have loaded and nobody has checked in their present lives."""
        for base, status in self._engines.stats().items():
            if not status.ready or status.epoch is None:
                continue
            pending = await self._pending(base, status.epoch)
            if not pending:
                continue
            described = (await self._engines.describe()).get(base)
            loaded = {a.identity for a in described.adapters if a.loads} if described else set()
            for subject in pending:
                if identity(subject.tenant_id, subject.digest) not in loaded:
                    continue
                unchecked = or_(GoldenPrompt.epoch.is_(None), GoldenPrompt.epoch != status.epoch)
                async with self._database.main.writing(subject.tenant_id) as session:
                    ids = await _claim(session, subject.version_id, unchecked)
                # Nobody waits for an answer; what cannot be checked now is tried again when its lease is over.
                with suppress(EngineUnavailableError):
                    await self._check(subject, ids, status.epoch)

    async def replace(
        self, actor: Principal, tenant_id: UUID, name: str, n: int, golden: Sequence[Golden]
    ) -> Sequence[GoldenPrompt]:
        """Give a version other golden prompts.

        Raises:
            NotFoundError: the tenant has no such adapter or version.
        """
        async with self._database.main.writing(tenant_id) as session:
            adapter = await find_adapter(session, actor, tenant_id, name, lock=True)
            version = await find_version(session, adapter, n)
            before = await find_golden(session, version.id)
            for row in before:
                await session.delete(row)
            rows = golden_rows(tenant_id, version.id, golden)
            session.add_all(rows)
            # How many: prompts are nothing for the audit trail.
            record(
                session,
                actor,
                "golden.set",
                f"{name}@{n}",
                tenant_id,
                before={"prompts": len(before)},
                after={"prompts": len(rows)},
            )
        return rows

    async def check(
        self, viewer: Principal, tenant_id: UUID, name: str, n: int
    ) -> Sequence[GoldenPrompt]:
        """Check a version now: each prompt is a request of `viewer`. A tenant has one check at a time.

        Raises:
            NotFoundError: the tenant has no such adapter or version.
            ConflictError: a check of this tenant is under way.
            EngineUnavailableError: no engine can answer.
            LimitExceededError: a limit does not admit all of the prompts; nothing is written down then.
        """
        async with self._database.main.writing(tenant_id) as session:
            adapter = await find_adapter(session, viewer, tenant_id, name)
            version = await find_version(session, adapter, n)
            # Two that ask at the same time wait for each other here.
            own = select(Tenant.id).where(Tenant.id == tenant_id)
            await session.execute(own.with_for_update(key_share=True))
            busy = select(func.count()).where(
                GoldenPrompt.tenant_id == tenant_id, GoldenPrompt.locked_until > utc_now()
            )
            if await session.scalar(busy):
                raise ConflictError(
                    "Golden prompts of this tenant are being checked; look at the result later.",
                    code="golden_check_running",
                )
            ids = await _claim(session, version.id)
            subject = Subject(version.id, tenant_id, name, n, version.digest, version.base_model)
        status = self._engines.stats().get(subject.base_model)
        try:
            await self._check(
                subject, ids, None if status is None else status.epoch, viewer.actor_id
            )
        finally:
            await self._release(tenant_id, ids)
        async with self._database.main.reading(tenant_id) as session:
            return await find_golden(session, subject.version_id)

    async def _pending(self, base: str, epoch: str) -> list[Subject]:
        query = (
            select(
                AdapterVersion.id,
                AdapterVersion.tenant_id,
                Adapter.name,
                AdapterVersion.n,
                AdapterVersion.digest,
                AdapterVersion.base_model,
            )
            .join(GoldenPrompt, GoldenPrompt.version_id == AdapterVersion.id)
            .join(Adapter, Adapter.id == AdapterVersion.adapter_id)
            .where(
                AdapterVersion.base_model == base,
                or_(GoldenPrompt.epoch.is_(None), GoldenPrompt.epoch != epoch),
                _free(),
            )
            .distinct()
        )
        async with self._database.main.reading(EVERY_TENANT) as session:
            return [Subject(*row) for row in await session.execute(query)]

    async def _check(
        self, subject: Subject, ids: Sequence[UUID], epoch: str | None, payer: str | None = None
    ) -> None:
        async with self._database.main.reading(subject.tenant_id) as session:
            query = select(GoldenPrompt).where(GoldenPrompt.id.in_(ids)).order_by(GoldenPrompt.id)
            claimed = (await session.scalars(query)).all()
        answers: dict[UUID, str | None] = {}
        for each in claimed:
            try:
                text = await self._answers.greedy(
                    subject.tenant_id, subject.model, each.prompt, each.max_tokens, payer
                )
                answers[each.id] = text.replace("\0", "\ufffd")  # PostgreSQL keeps no NUL
            except (EngineUnavailableError, DatabaseUnavailableError, LimitExceededError):
                raise
            except PlatformError:
                answers[each.id] = None
        if answers:
            await self._write_down(subject, answers, epoch)

    async def _write_down(
        self, subject: Subject, answers: dict[UUID, str | None], epoch: str | None
    ) -> None:
        """What the check found; a prompt that fails and did not before is told to the tenant."""
        turned, results = 0, []
        async with self._database.main.writing(subject.tenant_id) as session:
            # Those that were replaced meanwhile are not there any more.
            query = select(GoldenPrompt).where(GoldenPrompt.id.in_(answers)).with_for_update()
            for row in await session.scalars(query):
                answer = answers[row.id]
                result = _judge(row, answer)
                turned += result == FAILED != row.result
                if result == RECORDED:
                    row.expected = answer
                row.result, row.answer, row.checked_at = result, answer, utc_now()
                row.epoch, row.locked_until = epoch, None
                results.append(result)
            if turned:
                failed, prompts = results.count(FAILED), len(results)
                # What tenants do bears the name of a key or a user; this is nobody's doing.
                actor = Principal(
                    actor_id="golden", actor_name="golden prompts", tenant_id=subject.tenant_id
                )
                record(
                    session,
                    actor,
                    "golden.fail",
                    subject.model,
                    subject.tenant_id,
                    digest=subject.digest,
                    failed=failed,
                    prompts=prompts,
                )
                data = {
                    "adapter": subject.adapter,
                    "version": subject.n,
                    "failed": failed,
                    "prompts": prompts,
                }
                await emit(session, subject.tenant_id, Event.GOLDEN_FAILED, data)
        for result in results:
            self._count(subject.base_model, result)

    async def _release(self, tenant_id: UUID, ids: Sequence[UUID]) -> None:
        async with self._database.main.writing(tenant_id) as session:
            free = update(GoldenPrompt).where(GoldenPrompt.id.in_(ids)).values(locked_until=None)
            await session.execute(free)


def _judge(row: GoldenPrompt, answer: str | None) -> str:
    if answer is None:
        return FAILED
    if row.expected is None:
        return RECORDED
    return PASSED if answer == row.expected else FAILED


async def _claim(
    session: AsyncSession, version_id: UUID, condition: ColumnElement[bool] | None = None
) -> list[UUID]:
    """The prompts of a version that are the caller's to check now."""
    claim = (
        update(GoldenPrompt)
        .where(GoldenPrompt.version_id == version_id, _free())
        .values(locked_until=utc_now() + LEASE)
        .returning(GoldenPrompt.id)
        .execution_options(synchronize_session=False)
    )
    if condition is not None:
        claim = claim.where(condition)
    return list(await session.scalars(claim))


def _free() -> ColumnElement[bool]:
    return or_(GoldenPrompt.locked_until.is_(None), GoldenPrompt.locked_until < utc_now())
