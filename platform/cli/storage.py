"""Owns `loraplex storage`."""

import click

from loraplex.platform.cli.client import ApiClient, api_path
from loraplex.platform.cli.output import (
    json_option,
    print_json,
    size_text,
    tenant_option,
    tenant_query,
)


@click.group()
def storage() -> None:
    """See what weights take, and remove what nothing refers to."""


@storage.command()
@tenant_option
@json_option
def show(tenant: str | None, as_json: bool) -> None:
    """Show how much a tenant stores, and may."""
    with ApiClient.from_environment() as api:
        found = api.call("GET", api_path("storage"), query=tenant_query(tenant))
    if as_json:
        print_json(found)
        return
    limit = "no limit" if found["limit"] is None else f"of {size_text(found['limit'])}"
    click.echo(f"{size_text(found['used'])} ({limit}) in {found['files']} files.")


@storage.command()
@json_option
def gc(as_json: bool) -> None:
    """Remove now what goes by itself within ten minutes (operators only)."""
    with ApiClient.from_environment() as api:
        removed = api.call("POST", api_path("gc"))
    if as_json:
        print_json(removed)
        return
    for kind, count in removed.items():
        click.echo(f"{kind.replace('_', ' ')}: {count}")
