"""Owns what happens once before a service starts, in a short-lived process of its own: the database is brought to the
schema of this release, the first start makes the operator's key, and a set-up code is made as long as there is no user
who is an operator. Takes `Settings.to_json` on standard input and
says in the last line on standard error why the service cannot start."""

import asyncio
import sys

from sqlalchemy.exc import SQLAlchemyError

from loraplex.platform.accounts.setup import ensure_setup_code
from loraplex.platform.auth.bootstrap import ensure_operator_key
from loraplex.platform.db.database import open_database, unusable
from loraplex.platform.db.migrate import upgrade
from loraplex.platform.settings import Settings, SettingsError


def main() -> int:
    """Prepare; 0 when the service can start."""
    settings = Settings.from_json(sys.stdin.read())
    try:
        key, code = asyncio.run(_prepare(settings))
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201 - it belongs to the command line of `serve`
        return 2
    except (SQLAlchemyError, OSError) as error:
        print(unusable(error), file=sys.stderr)  # noqa: T201 - as above
        return 2
    if key is not None:
        print(f"The operator's key, shown this once: {key}", flush=True)  # noqa: T201 - as above
    if code is not None:
        print(f"To make the first user, an operator, within a day: set-up code {code}", flush=True)  # noqa: T201 - as above
    return 0


async def _prepare(settings: Settings) -> tuple[str | None, str | None]:
    """The operator's key if it was made up now, and the set-up code if nobody can sign in as operator."""
    database = open_database(settings)
    try:
        await upgrade(database)
        key = await ensure_operator_key(database, settings.bootstrap_key)
        return key, await ensure_setup_code(database)
    finally:
        await database.close()


if __name__ == "__main__":
    sys.exit(main())
