"""Owns the composition of everything about people: services by the names handlers ask for, routes, and the chore that
clears away what is over."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

import structlog
from sqlalchemy import delete
from sqlalchemy.exc import SQLAlchemyError

from loraplex.platform.accounts.code_controller import CodeController
from loraplex.platform.accounts.edge import Edge
from loraplex.platform.accounts.invitations import InvitationService
from loraplex.platform.accounts.member_controller import InvitationController, MemberController
from loraplex.platform.accounts.members import MemberService
from loraplex.platform.accounts.oidc import Provider
from loraplex.platform.accounts.oidc_controller import OidcController
from loraplex.platform.accounts.oidc_sign_in import OidcSignIn
from loraplex.platform.accounts.passwords import Passwords
from loraplex.platform.accounts.session_controller import SessionController
from loraplex.platform.accounts.sessions import Sessions
from loraplex.platform.accounts.setup import Setup
from loraplex.platform.accounts.sign_in import SignIn
from loraplex.platform.accounts.throttle import Throttle
from loraplex.platform.accounts.user_controller import UserController
from loraplex.platform.accounts.users import UserService
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import OneTimeCode
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.settings import Settings

SWEEP_SECONDS = 3600.0
HANDLERS = (
    SessionController,
    OidcController,
    CodeController,
    UserController,
    MemberController,
    InvitationController,
)


class Accounts:
    """Everything about people.

    Raises:
        SettingsError: `public_url`, a trusted proxy or the OIDC provider cannot be used.
    """

    def __init__(
        self, database: Database, settings: Settings, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self.edge = Edge(settings)
        self.sessions = Sessions(database, clock)
        self._database = database
        self._clock = clock
        self._throttle = Throttle(database, clock)
        passwords = Passwords(settings.password_hashing)
        sign_in = SignIn(database, self.sessions, passwords, self._throttle, clock)
        invitations = InvitationService(database, self.sessions, sign_in, passwords, clock)
        self.services: dict[str, object] = {
            "edge": self.edge,
            "oidc": _provider(settings),
            "oidc_sign_in": OidcSignIn(
                database, self.sessions, sign_in, invitations, settings.oidc_allowed_domains
            ),
            "sessions": self.sessions,
            "sign_in": sign_in,
            "setup": Setup(database, sign_in, passwords, clock),
            "users": UserService(database, self.sessions, passwords, clock),
            "members": MemberService(database, self.sessions),
            "invitations": invitations,
        }

    async def run(self, ending: asyncio.Event) -> None:
        """Clear away what is over, now and then, until `ending`. Workers begin at different times."""
        while True:
            pause = SWEEP_SECONDS * random.uniform(0.1, 1)  # noqa: S311  # no secret
            with suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), pause)
                return
            try:
                await self.sweep()
            except SQLAlchemyError as error:
                structlog.get_logger().error("clearing sessions failed", error=str(error))

    async def sweep(self) -> None:
        """Delete sessions, codes and counts of failures that mean nothing any more."""
        await self.sessions.sweep()
        await self._throttle.sweep()
        async with self._database.main.writing(EVERY_TENANT) as session:
            over = OneTimeCode.expires_at <= self._clock()
            await session.execute(delete(OneTimeCode).where(over))


def _provider(settings: Settings) -> Provider | None:
    if not settings.oidc_issuer:
        return None
    # Most have none, and its libraries take half a second to load.
    from loraplex.platform.accounts.oidc_provider import OidcProvider

    return OidcProvider(settings.oidc_issuer, settings.oidc_client_id, settings.oidc_client_secret)
