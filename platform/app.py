"""Owns the composition of an API worker: `create_app` builds every service once and hands it to the
handlers by name."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide
from uuid_utils.compat import uuid7

from loraplex.platform.accounts.compose import HANDLERS, Accounts
from loraplex.platform.audit.controller import AuditController
from loraplex.platform.audit.trail import AuditTrail
from loraplex.platform.auth.authenticator import Authenticator
from loraplex.platform.auth.exposure import KeyExposure
from loraplex.platform.auth.guards import provide_principal
from loraplex.platform.auth.key_service import KeyService
from loraplex.platform.auth.key_use import KeyUse
from loraplex.platform.auth.middleware import AuthMiddleware
from loraplex.platform.catalog.alias_controller import AliasController
from loraplex.platform.catalog.aliases import Aliases
from loraplex.platform.catalog.bases import BaseModels
from loraplex.platform.catalog.controller import AdapterController
from loraplex.platform.catalog.download import Downloads
from loraplex.platform.catalog.download_controller import DownloadController
from loraplex.platform.catalog.epochs import Epochs
from loraplex.platform.catalog.golden_checks import GoldenChecks
from loraplex.platform.catalog.golden_controller import GoldenController
from loraplex.platform.catalog.intake import Intake
from loraplex.platform.catalog.removal import Removals
from loraplex.platform.catalog.resolve import Resolver
from loraplex.platform.catalog.service import CatalogService
from loraplex.platform.catalog.upload_controller import UploadController
from loraplex.platform.catalog.uploads import Uploads
from loraplex.platform.catalog.weights import Weights
from loraplex.platform.db.database import open_database
from loraplex.platform.drain import Drain, DrainGate
from loraplex.platform.engines.pool import EnginePool
from loraplex.platform.error_responses import error_response
from loraplex.platform.health import health, metrics, ready
from loraplex.platform.imports.controller import ImportController
from loraplex.platform.imports.options import ImportOptions
from loraplex.platform.imports.service import ImportService
from loraplex.platform.imports.work import KIND as IMPORT
from loraplex.platform.imports.work import ImportWork
from loraplex.platform.inference.controller import InferenceController
from loraplex.platform.inference.costs import send_costs
from loraplex.platform.inference.greedy import Greedy
from loraplex.platform.inference.templates import Templates
from loraplex.platform.jobs.controller import JobController
from loraplex.platform.jobs.leases import JobQueue
from loraplex.platform.jobs.runner import JobRunner
from loraplex.platform.jobs.service import JobService
from loraplex.platform.landing import landing
from loraplex.platform.ledger.controller import LedgerController
from loraplex.platform.ledger.service import Ledger
from loraplex.platform.limits.controller import LimitController
from loraplex.platform.limits.price_controller import AdapterPriceController, PriceController
from loraplex.platform.limits.prices import PriceService
from loraplex.platform.limits.service import LimitService
from loraplex.platform.metering.service import Metering
from loraplex.platform.metrics import Metrics
from loraplex.platform.observability import RequestLog, send_request_id
from loraplex.platform.openapi import openapi_config
from loraplex.platform.outbound import Outbound
from loraplex.platform.reaper.reaper import Reaper
from loraplex.platform.reaper.roll_call import RollCall
from loraplex.platform.residency.controller import engine_state
from loraplex.platform.residency.names import Names
from loraplex.platform.residency.overview import Overview
from loraplex.platform.residency.pins import Pins
from loraplex.platform.settings import Settings
from loraplex.platform.storage.collection import Collection
from loraplex.platform.storage.controller import collect, stored
from loraplex.platform.tenants.controller import TenantController
from loraplex.platform.tenants.key_controller import KeyController, OperatorKeyController
from loraplex.platform.tenants.removal import TenantRemovals
from loraplex.platform.tenants.service import TenantService
from loraplex.platform.tenants.shares import Shares
from loraplex.platform.tracing.middleware import TraceRequests
from loraplex.platform.tracing.tracing import Tracing
from loraplex.platform.usage.controller import UsageController
from loraplex.platform.usage.organization_controller import OrganizationController
from loraplex.platform.usage.retention import Retention
from loraplex.platform.usage.service import Usage
from loraplex.platform.webhooks.controller import WebhookController
from loraplex.platform.webhooks.sending import Sender
from loraplex.platform.webhooks.service import Webhooks

BODY_LIMIT = 4 * 1024**2  # of routes that set no other
CHORES_SECONDS = 5.0  # that a chore under way may take at the end


def create_app(settings: Settings, engines: EnginePool, drain: Drain | None = None) -> Litestar:
    """An API worker over a migrated database. `engines` is entered and left by the caller, who sets `drain` when the
    worker is to end.

    Raises:
        UnsupportedModelError: a model directory cannot be served.
        SettingsError: a database URL that is not supported.
    """
    drain = drain or Drain()
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
    templates = Templates()
    answers = Greedy(resolver, engines, templates, shares)
    golden = GoldenChecks(database, engines, answers, counters.observe_golden)
    worker_id = uuid7()
    metering = Metering(database, worker_id)
    tracing = Tracing.from_environment()
    roll = RollCall(database, worker_id, engines.service)
    reaper = Reaper(database, roll, engines, metering)
    outbound = Outbound(
        allow_http=settings.webhook_allow_http, allow_hosts=settings.webhook_allow_hosts
    )
    sender = Sender(database, outbound)
    retention = Retention(database, settings.ledger_days)
    removals = Removals(database, weights, engines, epochs)
    queue = JobQueue(database)
    import_options = ImportOptions.of(settings)
    import_work = ImportWork(database, intake, weights, import_options)
    runner = JobRunner(database, queue, {IMPORT: import_work}, counters.observe_job)
    collection = Collection(database, weights, queue, counters.observe_garbage)
    services: dict[str, object] = {
        "settings": settings,
        "engines": engines,
        "drain": drain,
        "database": database,
        "metrics": counters,
        "tenants": TenantService(database, shares),
        "shares": shares,
        "keys": KeyService(database, authenticator),
        "catalog": CatalogService(database, bases, pins, epochs, resolver),
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
        "uploads": Uploads(database, intake, weights),
        "metering": metering,
        "tracing": tracing,
        "ledger": Ledger(database, names),
        "usage": Usage(database),
        "names": names,
        "overview": Overview(engines, names),
        "audit": AuditTrail(database),
        "webhooks": Webhooks(database, outbound),
        **accounts.services,
    }

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncGenerator[None]:
        await reaper.call()  # before anything is reserved
        writing = asyncio.create_task(metering.run())
        ending = asyncio.Event()
        chores = [
            asyncio.create_task(reaper.run(ending)),
            asyncio.create_task(collection.run(ending)),
            asyncio.create_task(runner.run(ending)),
            asyncio.create_task(pins.run(ending)),
            asyncio.create_task(golden.run(ending)),
            asyncio.create_task(key_use.run(ending)),
            asyncio.create_task(accounts.run(ending)),
            asyncio.create_task(sender.run(ending)),
            asyncio.create_task(retention.run(ending)),
        ]
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

    return Litestar(
        route_handlers=[
            landing,
            health,
            ready,
            metrics,
            *HANDLERS,
            TenantController,
            KeyController,
            OperatorKeyController,
            LimitController,
            PriceController,
            AdapterPriceController,
            AdapterController,
            AliasController,
            GoldenController,
            UploadController,
            DownloadController,
            ImportController,
            JobController,
            stored,
            collect,
            InferenceController,
            LedgerController,
            UsageController,
            OrganizationController,
            engine_state,
            AuditController,
            WebhookController,
        ],
        dependencies={
            "principal": Provide(provide_principal, sync_to_thread=False),
            **{name: _constant(service) for name, service in services.items()},
        },
        middleware=[
            TraceRequests(tracing),
            RequestLog(counters),
            DrainGate(drain),
            KeyExposure(),
            AuthMiddleware(authenticator, accounts.sessions, accounts.edge),
        ],
        exception_handlers={Exception: error_response},
        before_send=[send_request_id, send_costs],
        lifespan=[lifespan],
        state=State({"chat_templates": templates}),
        request_max_body_size=BODY_LIMIT,
        openapi_config=openapi_config(),
        logging_config=None,  # errors are logged where they are mapped, requests by RequestLog
    )


def _constant(service: object) -> Provide:
    return Provide(lambda: service, sync_to_thread=False)
