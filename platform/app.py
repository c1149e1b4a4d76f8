"""Owns the composition of an API worker: `create_app` builds every service once and hands it to the
handlers by name."""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import structlog
from litestar import Litestar, MediaType, Router
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from sqlalchemy.exc import SQLAlchemyError

import loraplex
from loraplex.platform.auth.guards import provide_principal
from loraplex.platform.auth.middleware import AuthMiddleware
from loraplex.platform.auth.service import Authenticator, KeyService
from loraplex.platform.catalog.bases import BaseModels
from loraplex.platform.catalog.controller import AdapterController
from loraplex.platform.catalog.intake import Intake
from loraplex.platform.catalog.removal import Removals
from loraplex.platform.catalog.service import CatalogService
from loraplex.platform.catalog.upload_controller import UploadController
from loraplex.platform.catalog.uploads import Uploads
from loraplex.platform.catalog.weights import Weights
from loraplex.platform.db.database import open_database
from loraplex.platform.engine_directory import EngineDirectory
from loraplex.platform.error_responses import error_response
from loraplex.platform.health import health, metrics, ready
from loraplex.platform.inference.controller import InferenceController
from loraplex.platform.landing import landing
from loraplex.platform.ledger.controller import LedgerController
from loraplex.platform.ledger.recorder import Recorder
from loraplex.platform.ledger.service import Ledger
from loraplex.platform.metrics import Metrics
from loraplex.platform.observability import RequestLog, send_request_id
from loraplex.platform.residency.controller import engine_state
from loraplex.platform.residency.names import Names
from loraplex.platform.residency.overview import Overview
from loraplex.platform.residency.pins import Pins
from loraplex.platform.settings import Settings
from loraplex.platform.tenants.controller import KeyController, TenantController
from loraplex.platform.tenants.service import TenantService
from loraplex.platform.tenants.shares import Shares

BODY_LIMIT = 4 * 1024**2  # of routes that set no other
SWEEP_SECONDS = 600.0
CHORES_SECONDS = 5.0  # that a chore under way may take at the end


def create_app(settings: Settings, engines: EngineDirectory) -> Litestar:
    """An API worker over a migrated database. `engines` is entered and left by the caller.

    Raises:
        UnsupportedModelError: a model directory cannot be served.
        SettingsError: a database URL that is not supported.
    """
    database = open_database(settings)
    bases = BaseModels(settings.models)
    weights = Weights(database)
    authenticator = Authenticator(database)
    intake = Intake(database, bases, weights)
    counters = Metrics(engines.metrics)
    shares = Shares(database)
    pins = Pins(database, bases, engines)
    names = Names(database)
    recorder = Recorder(database, counters.observe_answer)
    services: dict[str, object] = {
        "settings": settings,
        "engines": engines,
        "database": database,
        "metrics": counters,
        "tenants": TenantService(database, shares),
        "shares": shares,
        "keys": KeyService(database, authenticator),
        "catalog": CatalogService(database, bases, pins),
        "removals": Removals(database, weights, engines),
        "intake": intake,
        "uploads": Uploads(database, intake, weights),
        "recorder": recorder,
        "ledger": Ledger(database, names),
        "names": names,
        "overview": Overview(engines, names),
    }

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncGenerator[None]:
        recording = asyncio.create_task(recorder.run())
        ending = asyncio.Event()
        chores = [
            asyncio.create_task(_sweep(weights, ending)),
            asyncio.create_task(pins.run(ending)),
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
            await recorder.close(recording)
            await database.close()

    return Litestar(
        route_handlers=[
            landing,
            health,
            ready,
            metrics,
            TenantController,
            KeyController,
            AdapterController,
            UploadController,
            InferenceController,
            LedgerController,
            engine_state,
        ],
        dependencies={
            "principal": Provide(provide_principal, sync_to_thread=False),
            **{name: _constant(service) for name, service in services.items()},
        },
        middleware=[RequestLog(counters), AuthMiddleware(authenticator)],
        exception_handlers={Exception: error_response},
        before_send=[send_request_id],
        lifespan=[lifespan],
        request_max_body_size=BODY_LIMIT,
        openapi_config=_openapi(),
        logging_config=None,  # errors are logged where they are mapped, requests by RequestLog
    )


def _constant(service: object) -> Provide:
    return Provide(lambda: service, sync_to_thread=False)


def _openapi() -> OpenAPIConfig:
    # Only the document itself: every viewer Litestar knows loads its scripts from elsewhere.
    return OpenAPIConfig(
        title="loraplex",
        version=loraplex.__version__,
        description=loraplex.__doc__,
        render_plugins=[JsonRenderPlugin(media_type=MediaType.JSON)],
        openapi_router=Router(
            "/schema", route_handlers=[], include_in_schema=False, opt={"public": True}
        ),
        components=Components(
            security_schemes={"key": SecurityScheme(type="http", scheme="bearer")}
        ),
        security=[{"key": []}],
    )


async def _sweep(weights: Weights, ending: asyncio.Event) -> None:
    """Remove what broken uploads left, now and then. Workers begin at different times, so that one does the work."""
    log = structlog.get_logger()
    while True:
        pause = SWEEP_SECONDS * random.uniform(0.1, 1)  # noqa: S311  # no secret
        with suppress(TimeoutError):
            await asyncio.wait_for(ending.wait(), pause)
            return
        try:
            if count := await weights.sweep():
                log.info("swept stored weights", blobs=count)
        except SQLAlchemyError as error:
            log.error("sweep failed", error=str(error))
