"""Owns `loraplex key`."""

import re
from datetime import UTC, datetime, timedelta

import click

from loraplex.platform.auth.principal import ADAPTERS, Scope
from loraplex.platform.cli.client import ApiClient, Json, api_path, rows
from loraplex.platform.cli.output import json_option, print_json, print_table

_PERIOD = re.compile(r"([1-9][0-9]{0,8})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Period(click.ParamType[timedelta]):
    """A length of time, as `90d`, `12h`, `30m` or `45s`."""

    name = "period"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Raises what click shows for a bad value."""
        if isinstance(value, timedelta):
            return value
        period = _period(str(value))
        if period is None:
            self.fail(f"{value!r} is not a period; write for example 90d, 12h or 30m.", param, ctx)
        return period


class Moment(click.ParamType[datetime]):
    """A moment to come: a period from now, or ISO 8601 with a zone."""

    name = "moment"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Raises what click shows for a bad value."""
        if isinstance(value, datetime):
            return value
        text = str(value)
        try:
            period = _period(text)
            moment = datetime.fromisoformat(text) if period is None else datetime.now(UTC) + period
        except (ValueError, OverflowError):
            moment = None
        if moment is None or moment.tzinfo is None:
            self.fail(
                f"{text!r} is not a moment; write a period such as 90d, or 2027-01-31T18:00:00Z.",
                param,
                ctx,
            )
        return moment


def _period(text: str) -> timedelta | None:
    match = _PERIOD.fullmatch(text)
    if match is None:
        return None
    try:
        return timedelta(**{_UNITS[match[2]]: int(match[1])})
    except OverflowError:
        return None


@click.group()
def key() -> None:
    """Make, list, rotate and revoke API keys of a tenant."""


@key.command()
@click.argument("tenant")
@click.option("--name", default="", help="What the key is for.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([*(scope.value for scope in Scope), ADAPTERS]),
    help="What the key may do; repeatable. Default: all but admin.",
)
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    help="An adapter the key may use and see; repeatable. Default: all.",
)
@click.option(
    "--expires", type=Moment(), help="When the key ends: 90d, 12h, or 2027-01-31T18:00:00Z."
)
@json_option
def create(
    tenant: str,
    name: str,
    scopes: tuple[str, ...],
    adapters: tuple[str, ...],
    expires: datetime | None,
    as_json: bool,
) -> None:
    """Make a key of TENANT and print it, this once, on standard output."""
    body: dict[str, object] = {"name": name}
    if scopes:
        body["scopes"] = list(scopes)
    if adapters:
        body["adapters"] = list(adapters)
    if expires is not None:
        body["expires_at"] = expires.isoformat()
    with ApiClient.from_environment() as api:
        made = api.call("POST", api_path("tenants", tenant, "keys"), body=body)
    _show(made, tenant, as_json)


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
    columns = {
        "ID": "id",
        "NAME": "name",
        "SCOPES": "scopes",
        "ADAPTERS": "adapters",
        "ENDS IN": "hint",
        "CREATED": "created_at",
        "LAST USED": "last_used_at",
        "EXPIRES": "expires_at",
        "REVOKED": "revoked_at",
    }
    print_table(tuple(columns), [[k.get(field) for field in columns.values()] for k in keys])


@key.command()
@click.argument("tenant")
@click.argument("key_id")
@click.option("--overlap", type=Period(), help="How long the old key goes on; a day.")
@json_option
def rotate(tenant: str, key_id: str, overlap: timedelta | None, as_json: bool) -> None:
    """Replace the key KEY_ID of TENANT by a new one, and print that, this once, on standard output."""
    body = {} if overlap is None else {"overlap_seconds": int(overlap.total_seconds())}
    with ApiClient.from_environment() as api:
        made = api.call("POST", api_path("tenants", tenant, "keys", key_id, "rotate"), body=body)
    _show(made, tenant, as_json)


@key.command()
@click.argument("tenant")
@click.argument("key_id")
def revoke(tenant: str, key_id: str) -> None:
    """End the key KEY_ID of TENANT; within five seconds it works nowhere."""
    with ApiClient.from_environment() as api:
        api.call("DELETE", api_path("tenants", tenant, "keys", key_id))
    click.echo(f"Revoked {key_id}.")


def _show(made: Json, tenant: str, as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    click.echo(f"Key {made['id']} of {tenant}. It cannot be shown again:", err=True)
    click.echo(made["key"])
