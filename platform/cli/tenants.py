"""Owns `loraplex tenant`."""

import click

from loraplex.platform.cli.client import ApiClient, api_path
from loraplex.platform.cli.output import json_option, print_json, print_table


@click.group()
def tenant() -> None:
    """Make and list tenants (with an operator's key)."""


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


@tenant.command("list")
@json_option
def list_tenants(as_json: bool) -> None:
    """List tenants by name."""
    with ApiClient.from_environment() as api:
        tenants = list(api.pages(api_path("tenants")))
    if as_json:
        print_json(tenants)
    else:
        print_table(("NAME", "CREATED"), [(t["name"], t["created_at"]) for t in tenants])
