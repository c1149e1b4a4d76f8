"""Owns `loraplex key`."""

import click

from loraplex.platform.auth.principal import Scope
from loraplex.platform.cli.client import ApiClient, api_path, rows
from loraplex.platform.cli.output import json_option, print_json, print_table


@click.group()
def key() -> None:
    """Make, list and revoke API keys of a tenant."""


@key.command()
@click.argument("tenant")
@click.option("--name", default="", help="What the key is for.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What the key may do; repeatable. Default: inference and adapters.",
)
@json_option
def create(tenant: str, name: str, scopes: tuple[str, ...], as_json: bool) -> None:
    """Make a key of TENANT and print it, this once, on standard output."""
    body: dict[str, object] = {"name": name}
    if scopes:
        body["scopes"] = list(scopes)
    with ApiClient.from_environment() as api:
        made = api.call("POST", api_path("tenants", tenant, "keys"), body=body)
    if as_json:
        print_json(made)
        return
    click.echo(f"Key {made['id']} of {tenant}. It cannot be shown again:", err=True)
    click.echo(made["key"])


@key.command("list")
@click.argument("tenant")
@json_option
def list_keys(tenant: str, as_json: bool) -> None:
    """List the keys of TENANT, without their secrets."""
    with ApiClient.from_environment() as api:
        keys = rows(api.call("GET", api_path("tenants", tenant, "keys")))
    if as_json:
        print_json(keys)
        return
    print_table(
        ("ID", "NAME", "SCOPES", "ENDS IN", "CREATED", "REVOKED"),
        [
            (k["id"], k["name"], k["scopes"], k["hint"], k["created_at"], k["revoked_at"])
            for k in keys
        ],
    )


@key.command()
@click.argument("tenant")
@click.argument("key_id")
def revoke(tenant: str, key_id: str) -> None:
    """End the key KEY_ID of TENANT; within five seconds it works nowhere."""
    with ApiClient.from_environment() as api:
        api.call("DELETE", api_path("tenants", tenant, "keys", key_id))
    click.echo(f"Revoked {key_id}.")
