"""Owns the app of an API worker: the routes of `routes.py` over the services of `services.py`, which handlers get by
name."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from litestar import Litestar
from litestar.di import Provide
from litestar.types import ASGIApp, Receive, Scope, Send

from loraplex.platform.auth.guards import provide_principal
from loraplex.platform.drain import Drain
from loraplex.platform.engines.pool import EnginePool
from loraplex.platform.error_responses import error_response
from loraplex.platform.inference.costs import send_costs
from loraplex.platform.observability import send_request_id
from loraplex.platform.openapi import openapi_config
from loraplex.platform.routes import ROUTES
from loraplex.platform.services import Services, compose
from loraplex.platform.settings import Settings

BODY_LIMIT = 4 * 1024**2  # of routes that set no other


def create_app(settings: Settings, engines: EnginePool, drain: Drain | None = None) -> Litestar:
    """An API worker over a migrated database. `engines` is entered and left by the caller, who sets `drain` when the
    worker is to end.

    Raises:
        UnsupportedModelError: a model directory cannot be served.
        SettingsError: a database URL that is not supported.
    """
    services = compose(settings, engines, drain or Drain())
    current = _Current(services)
    app = Litestar(
        route_handlers=ROUTES,
        dependencies={
            "principal": Provide(provide_principal, sync_to_thread=False),
            **{name: current.provide(name) for name in services.by_name},
        },
        middleware=[current.middleware],
        exception_handlers={Exception: error_response},
        before_send=[send_request_id, send_costs],
        lifespan=[_running],
        request_max_body_size=BODY_LIMIT,
        openapi_config=openapi_config(),
        logging_config=None,  # errors are logged where they are mapped, requests by RequestLog
    )
    app.state.current = current
    return app


def serve_with(app: Litestar, services: Services) -> None:
    """Put other services under the routes of an app that is not running. To build the routes takes 0.3 s of a
    processor, to compose services a hundredth of that."""
    current = app.state.current
    current.services = services
    app.state.clear()
    app.state.update(current=current)


class _Current:
    """The services under an app's routes."""

    def __init__(self, services: Services) -> None:
        self.services = services

    def provide(self, name: str) -> Provide:
        return Provide(lambda: self.services.by_name[name], sync_to_thread=False)

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """In front of one route. Litestar asks for it once, so it is built again when the services are others."""
        built, services = app, None

        async def handle(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal built, services
            if services is not self.services:
                built, services = app, self.services
                for each in reversed(services.middleware):
                    built = each(built)
            await built(scope, receive, send)

        return handle


@asynccontextmanager
async def _running(app: Litestar) -> AsyncGenerator[None]:
    async with app.state.current.services.running():
        yield
