"""Owns `loraplex doctor`, which looks at a deployment and says what is not well and what to do about it."""

import asyncio
import json
import os
from pathlib import Path

import click

from loraplex.platform.cli.database import data_dir_option, database_url_option

_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failure": ("✗", "red")}


@click.command()
@data_dir_option
@database_url_option
@click.option(
    "--model",
    "models",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A base model's directory; repeat it for several.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def doctor(data_dir: Path, database_url: str, models: tuple[Path, ...], as_json: bool) -> None:
    """Look at the machine, the database and, with LORAPLEX_URL, the running service.

    Ends with 1 if something does not work. With an operator's key in LORAPLEX_API_KEY it looks at the engines as well.
    """
    # Imported here: the client commands start without SQLAlchemy and torch.
    from loraplex.platform.db.database import open_database, sqlite_files
    from loraplex.platform.doctor.database import look_at_database
    from loraplex.platform.doctor.machine import look_at_machine
    from loraplex.platform.doctor.report import Check, Verdict, ok
    from loraplex.platform.doctor.service import look_at_service
    from loraplex.platform.settings import ServedModel, Settings, SettingsError

    settings = Settings(
        data_dir=data_dir.absolute(),
        database_url=database_url,
        models=tuple(ServedModel(path.absolute(), path.absolute().name) for path in models),
    )

    async def database() -> list[Check]:
        files = sqlite_files(settings)
        if files is not None and not files[0].exists():
            # Opening would make it.
            return [ok("database", f"{files[0]} is made at the first start.")]
        opened = open_database(settings)
        try:
            return await look_at_database(opened)
        finally:
            await opened.close()

    checks = look_at_machine(settings)
    try:
        checks += asyncio.run(database())
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    if url := os.environ.get("LORAPLEX_URL"):
        checks += look_at_service(url, os.environ.get("LORAPLEX_API_KEY") or None)
    if as_json:
        rows = [{"name": c.name, "verdict": c.verdict, "says": c.says} for c in checks]
        click.echo(json.dumps(rows, indent=1))
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            mark, color = _MARKS[check.verdict]
            click.echo(f"{click.style(mark, fg=color)} {check.name:<{width}}  {check.says}")
    if any(check.verdict is Verdict.FAILURE for check in checks):
        raise SystemExit(1)
