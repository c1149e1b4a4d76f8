"""Owns `loraplex tenant`."""

import sys

import click

from loraplex.platform.cli.client import ApiClient, api_path
from loraplex.platform.cli.output import json_option, print_json, print_table
from loraplex.platform.settings import SettingsError, parse_size


@click.group()
def tenant() -> None:
    """Make, change and list tenants (with an operator's key)."""


@tenant.command()
@click.argument("name")
@json_option
def create(name: str, as_json: bool) -> None:
    """Make the tenant NAME."""
    with ApiClient.from_environment() as api:
        made = api.call("POST", api_path("tenants"), body={"name": name})
    if as_json:
        print_json(made)
    else:
        click.echo(f"Made the tenant {made['name']}. Give it a key: loraplex key create {name}")


@tenant.command("set")
@click.argument("name")
@click.option("--weight", type=click.FloatRange(0.01, 1000), help="Share of a busy engine.")
@click.option(
    "--max-running",
    type=click.IntRange(0),
    help="Most requests an engine works on at once; 0: no limit.",
)
@click.option(
    "--storage-limit", help="Bytes of stored weights, or for example 50GiB; none: no limit."
)
@click.option(
    "--ledger-days",
    type=click.IntRange(0),
    help="How long ledger rows are kept; 0: as the service keeps them.",
)
@json_option
def change(
    name: str,
    weight: float | None,
    max_running: int | None,
    storage_limit: str | None,
    ledger_days: int | None,
    as_json: bool,
) -> None:
    """Change what the tenant NAME may have."""
    body: dict[str, object] = {}
    if weight is not None:
        body["weight"] = weight
    if max_running is not None:
        body["max_running"] = max_running or None
    if storage_limit is not None:
        body["storage_limit"] = _size(storage_limit)
    if ledger_days is not None:
        body["ledger_days"] = ledger_days or None
    with ApiClient.from_environment() as api:
        changed = api.call("PATCH", api_path("tenants", name), body=body)
    if as_json:
        print_json(changed)
    else:
        limit = changed["max_running"] or "no limit"
        click.echo(f"{name}: weight {changed['weight']:g}, most running: {limit}.")


@tenant.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(name: str, yes: bool) -> None:
    """Delete the tenant NAME with its adapters, keys and members; its ledger stays."""
    if not yes and sys.stdin.isatty():
        click.confirm(f"Delete the tenant {name} with everything it has?", abort=True)
    with ApiClient.from_environment() as api:
        api.call("DELETE", api_path("tenants", name), query={"confirm": name})
    click.echo(f"Deleted {name}.")


@tenant.command("list")
@json_option
def list_tenants(as_json: bool) -> None:
    """List tenants by name."""
    with ApiClient.from_environment() as api:
        tenants = list(api.pages(api_path("tenants")))
    if as_json:
        print_json(tenants)
    else:
        print_table(
            ("NAME", "WEIGHT", "MOST RUNNING", "CREATED"),
            [(t["name"], t["weight"], t["max_running"] or "-", t["created_at"]) for t in tenants],
        )


def _size(text: str) -> int | None:
    if text == "none":
        return None
    try:
        return parse_size(text)
    except SettingsError as error:
        raise click.BadParameter(str(error), param_hint="--storage-limit") from error
