"""Owns the composition of an API worker: every service is built once, by the name that handlers ask for it, with the
middleware in front of the routes and the chores beside them."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from litestar.middleware import ASGIMiddleware
from uuid_utils.compat import uuid7

from loraplex.platform.accounts.compose import Accounts
from loraplex.platform.audit.trail import AuditTrail
from loraplex.platform.auth.authenticator import Authenticator
from loraplex.platform.auth.exposure import KeyExposure
from loraplex.platform.auth.key_service import KeyService
from loraplex.platform.auth.key_use import KeyUse
from loraplex.platform.auth.middleware import AuthMiddleware
from loraplex.platform.batches import work as batch_work
from loraplex.platform.batches.endpoints import Endpoints
from loraplex.platform.batches.service import Batches
from loraplex.platform.catalog.aliases import Aliases
from loraplex.platform.catalog.bases import BaseModels
from loraplex.platform.catalog.download import Downloads
from loraplex.platform.catalog.epochs import Epochs
from loraplex.platform.catalog.golden_checks import GoldenChecks
from loraplex.platform.catalog.intake import Intake
from loraplex.platform.catalog.removal import Removals
from loraplex.platform.catalog.resolve import Resolver
from loraplex.platform.catalog.service import CatalogService
from loraplex.platform.catalog.table import AdapterTable
from loraplex.platform.catalog.uploads import Uploads
from loraplex.platform.catalog.weights import Weights
from loraplex.platform.dashboard import Dashboard
from loraplex.platform.db.database import open_database
from loraplex.platform.drain import Drain, DrainGate
from loraplex.platform.engines.pool import EnginePool
from loraplex.platform.events.feed import Feed
from loraplex.platform.events.recent import RecentRequests
from loraplex.platform.events.standing import Standing
from loraplex.platform.files.contents import Contents
from loraplex.platform.files.service import Files
from loraplex.platform.files.uploads import FileUploads
from loraplex.platform.imports.options import ImportOptions
from loraplex.platform.imports.service import ImportService
from loraplex.platform.imports.work import KIND as IMPORT
from loraplex.platform.imports.work import ImportWork
from loraplex.platform.inference.greedy import Greedy
from loraplex.platform.inference.service import InferenceService
from loraplex.platform.inference.templates import Templates
from loraplex.platform.jobs.leases import BATCH, JobQueue
from loraplex.platform.jobs.runner import JobRunner
from loraplex.platform.jobs.service import JobService
from loraplex.platform.ledger.service import Ledger
from loraplex.platform.limits.prices import PriceService
from loraplex.platform.limits.service import LimitService
from loraplex.platform.metering.service import Metering
from loraplex.platform.metering.tally import FOLDER, Tallies, Tally
from loraplex.platform.metrics import Metrics
from loraplex.platform.observability import RequestLog
from loraplex.platform.outbound import Outbound
from loraplex.platform.reaper.reaper import Reaper
from loraplex.platform.reaper.roll_call import RollCall
from loraplex.platform.residency.names import Names
from loraplex.platform.residency.overview import Overview
from loraplex.platform.residency.pins import Pins
from loraplex.platform.responses.retention import ResponseRetention
from loraplex.platform.responses.service import Responses
from loraplex.platform.responses.store import Keeping, ResponseStore
from loraplex.platform.settings import Settings
from loraplex.platform.storage.collection import Collection
from loraplex.platform.tenants.removal import TenantRemovals
from loraplex.platform.tenants.service import TenantService
from loraplex.platform.tenants.shares import Shares
from loraplex.platform.tracing.middleware import TraceRequests
from loraplex.platform.tracing.tracing import Tracing
from loraplex.platform.usage.retention import Retention
from loraplex.platform.usage.service import Usage
from loraplex.platform.webhooks.sending import Sender
from loraplex.platform.webhooks.service import Webhooks

CHORES_SECONDS = 5.0  # that a chore under way may take at the end


@dataclass(frozen=True, slots=True)
class Services:
    """What an app needs besides its routes.

    Attributes:
        by_name: what handlers may ask for.
        middleware: outermost first.
        running: to be entered before the first request; its end closes the database.
    """

    by_name: dict[str, object]
    middleware: tuple[ASGIMiddleware, ...]
    running: Callable[[], AbstractAsyncContextManager[None]]


def compose(settings: Settings, engines: EnginePool, drain: Drain) -> Services:
    """The services of an API worker over a migrated database. `engines` is entered and left by the caller.

    Raises:
        UnsupportedModelError: a model directory cannot be served.
        SettingsError: a database URL that is not supported.
    """
    database = open_database(settings)
    bases = BaseModels(settings.models)
    weights = Weights(database)
    key_use = KeyUse(database)
    authenticator = Authenticator(database, use=key_use)
    accounts = Accounts(database, settings)
    epochs = Epochs(settings.data_dir)
    resolver = Resolver(database, bases, epochs)
    intake = Intake(database, bases, weights, epochs)
    counters = Metrics(engines.metrics)
    shares = Shares(database)
    pins = Pins(database, bases, engines)
    names = Names(database)
    templates = Templates(settings.tool_parser, settings.reasoning_parser)
    worker_id = uuid7()
    tallies = settings.data_dir / FOLDER
    metering = Metering(database, worker_id, tally=Tally(tallies, worker_id))
    answers = Greedy(resolver, engines, templates, shares, metering, counters)
    golden = GoldenChecks(database, engines, answers, counters.observe_golden)
    tracing = Tracing.from_environment()
    roll = RollCall(database, worker_id, engines.service)
    reaper = Reaper(database, roll, engines, metering, Tallies(tallies))
    outbound = Outbound(
        allow_http=settings.webhook_allow_http, allow_hosts=settings.webhook_allow_hosts
    )
    sender = Sender(database, outbound)
    retention = Retention(database, settings.ledger_days)
    response_store = ResponseStore(database, Keeping.of(settings))
    response_retention = ResponseRetention(database, response_store, counters.observe_garbage)
    removals = Removals(database, weights, engines, epochs)
    queue = JobQueue(database)
    import_options = ImportOptions.of(settings)
    import_work = ImportWork(database, intake, weights, import_options)
    runner = JobRunner(database, queue, {IMPORT: import_work}, counters.observe_job)
    contents = Contents(database, weights)
    files, file_uploads = Files(database, contents), FileUploads(database, contents)
    collection = Collection(database, weights, files, file_uploads, queue, counters.observe_garbage)
    catalog = CatalogService(database, bases, pins, epochs, resolver)
    inference = InferenceService(catalog, engines, templates, shares, metering, counters, tracing)
    responses = Responses(inference, response_store)
    endpoints = Endpoints(inference, responses)
    batch_runner = JobRunner(
        database,
        JobQueue(database, batches=True),
        {
            BATCH: batch_work.BatchWork(
                database, files, contents, endpoints, settings.data_dir / "spool"
            )
        },
        counters.observe_job,
        at_once=batch_work.AT_ONCE,
        attempts=batch_work.ATTEMPTS,
    )
    overview = Overview(engines, names)
    feed = Feed(overview, RecentRequests(database), counters, drain)
    by_name: dict[str, object] = {
        "settings": settings,
        "dashboard": Dashboard(),
        "engines": engines,
        "inference": inference,
        "responses": responses,
        "drain": drain,
        "database": database,
        "metrics": counters,
        "tenants": TenantService(database, shares),
        "shares": shares,
        "keys": KeyService(database, authenticator),
        "catalog": catalog,
        "adapter_table": AdapterTable(database, engines),
        "aliases": Aliases(database, epochs),
        "golden": golden,
        "removals": removals,
        "tenant_removals": TenantRemovals(
            database, authenticator, removals, weights, shares, accounts.sessions
        ),
        "limits": LimitService(database),
        "prices": PriceService(database, bases),
        "intake": intake,
        "downloads": Downloads(database, weights),
        "imports": ImportService(database, bases, import_options, import_work, runner),
        "jobs": JobService(database),
        "collection": collection,
        "files": files,
        "file_uploads": file_uploads,
        "batches": Batches(database, files, batch_runner),
        "uploads": Uploads(database, intake, weights),
        "metering": metering,
        "tracing": tracing,
        "ledger": Ledger(database, names),
        "usage": Usage(database),
        "names": names,
        "overview": overview,
        "feed": feed,
        "standing": Standing(authenticator, accounts.sessions, accounts.edge),
        "audit": AuditTrail(database),
        "webhooks": Webhooks(database, outbound),
        "response_store": response_store,
        **accounts.services,
    }

    runs = (
        reaper.run,
        collection.run,
        runner.run,
        batch_runner.run,
        pins.run,
        golden.run,
        key_use.run,
        accounts.run,
        sender.run,
        retention.run,
        response_retention.run,
        feed.run,
    )

    @asynccontextmanager
    async def running() -> AsyncGenerator[None]:
        await reaper.call()  # before anything is reserved
        writing = asyncio.create_task(metering.run())
        ending = asyncio.Event()
        chores = [asyncio.create_task(run(ending)) for run in runs]
        try:
            yield
        finally:
            # A query that is cut short leaves a thread behind that answers to nobody.
            ending.set()
            await asyncio.wait(chores, timeout=CHORES_SECONDS)
            for chore in chores:
                chore.cancel()
            await asyncio.gather(*chores, return_exceptions=True)
            await metering.close(writing)
            await reaper.leave()
            await asyncio.to_thread(tracing.close)
            await database.close()

    middleware = (
        TraceRequests(tracing),
        RequestLog(counters),
        DrainGate(drain),
        KeyExposure(),
        AuthMiddleware(authenticator, accounts.sessions, accounts.edge),
    )
    return Services(by_name, middleware, running)
