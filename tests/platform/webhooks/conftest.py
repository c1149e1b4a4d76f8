"""Owns the settings and the tenants that tests of webhooks run with."""

from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Tenant
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.settings import Settings
from support.receiver import receiver
from support.webhooks import Clock, Hooks


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The app may reach receivers on loopback."""
    return replace(settings, webhook_allow_http=True, webhook_allow_hosts=("127.0.0.1",))


@pytest.fixture
async def hooks(database: Database) -> AsyncGenerator[Hooks]:
    async with database.main.writing(EVERY_TENANT) as session:
        tenants = [Tenant(name="acme"), Tenant(name="globex")]
        session.add_all(tenants)
    async with receiver() as got:
        yield Hooks(database, got, Clock(), tenants[0].id, tenants[1].id)
