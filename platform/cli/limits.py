"""Owns `loraplex limit` and `loraplex price`."""

from urllib.parse import quote

import click

from loraplex.platform.cli.client import ApiClient, Json, api_path, rows
from loraplex.platform.cli.output import (
    json_option,
    print_json,
    print_table,
    tenant_option,
    tenant_query,
)

# Field → what it is called, and the field of what is used of it.
_LIMITS = {
    "requests_per_minute": ("requests per minute", "requests_last_minute"),
    "tokens_per_minute": ("tokens per minute", "tokens_last_minute"),
    "max_concurrent": ("requests at once", "running"),
    "tokens_per_month": ("tokens per month", "tokens_this_month"),
    "cost_per_month": ("cost per month", "cost_this_month"),
}
_key_option = click.option("--key", "key_id", help="The limits of this key of the tenant.")
_adapter_option = click.option("--adapter", help="The limits of this adapter of the tenant.")


@click.group()
def limit() -> None:
    """Limit tenants (operators), or their keys and adapters (a tenant's admins too)."""


@limit.command("set")
@click.argument("tenant")
@_key_option
@_adapter_option
@click.option("--requests-per-minute", type=click.IntRange(0), help="Requests in any 60 seconds.")
@click.option("--tokens-per-minute", type=click.IntRange(0), help="Tokens in any 60 seconds.")
@click.option("--max-concurrent", type=click.IntRange(0), help="Requests that run at once.")
@click.option("--tokens-per-month", type=click.IntRange(0), help="Tokens in a month (UTC).")
@click.option("--cost-per-month", help="Money in a month (UTC), for example 12.50.")
@json_option
def set_limit(
    tenant: str,
    key_id: str | None,
    adapter: str | None,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    max_concurrent: int | None,
    tokens_per_month: int | None,
    cost_per_month: str | None,
    as_json: bool,
) -> None:
    """Replace all limits of TENANT, a key or an adapter; those not given are no limits any more."""
    body = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "max_concurrent": max_concurrent,
        "tokens_per_month": tokens_per_month,
        "cost_per_month": cost_per_month,
    }
    if all(value is None for value in body.values()):
        raise click.UsageError("Give a limit, or use `loraplex limit clear`.")
    with ApiClient.from_environment() as api:
        answer = api.call("PUT", _limit_path(tenant, key_id, adapter), body=body)
    _print_limit(answer, as_json)


@limit.command("show")
@click.argument("tenant")
@_key_option
@_adapter_option
@json_option
def show_limit(tenant: str, key_id: str | None, adapter: str | None, as_json: bool) -> None:
    """Show the limits of TENANT, a key or an adapter, and what is used of them."""
    with ApiClient.from_environment() as api:
        answer = api.call("GET", _limit_path(tenant, key_id, adapter))
    _print_limit(answer, as_json)


@limit.command("clear")
@click.argument("tenant")
@_key_option
@_adapter_option
def clear_limit(tenant: str, key_id: str | None, adapter: str | None) -> None:
    """Remove all limits of TENANT, a key or an adapter."""
    with ApiClient.from_environment() as api:
        api.call("DELETE", _limit_path(tenant, key_id, adapter))
    click.echo("No limits.")


@click.group()
def price() -> None:
    """Set what tokens cost (operators), and list it."""


@price.command("set")
@click.argument("base")
@click.option("--input", "per_input", required=True, help="For a million tokens of prompts.")
@click.option("--output", "per_output", required=True, help="For a million tokens of answers.")
@click.option("--cached-input", help="For those of prompts that came from the prefix cache.")
@click.option("--adapter", help="Only for this adapter, of --tenant.")
@tenant_option
@json_option
def set_price(
    base: str,
    per_input: str,
    per_output: str,
    cached_input: str | None,
    adapter: str | None,
    tenant: str | None,
    as_json: bool,
) -> None:
    """Set what a million tokens on the base model BASE cost, or on one adapter of it."""
    if (adapter is None) != (tenant is None):
        raise click.UsageError("Give --adapter and --tenant together, or neither.")
    body = {"input": per_input, "output": per_output, "cached_input": cached_input}
    with ApiClient.from_environment() as api:
        if adapter is None:
            # Not `api_path`: ids of base models may have slashes, and the route takes them.
            answer = api.call("PUT", f"{api_path('prices')}/{quote(base)}", body=body)
        else:
            query = {"base": base, **tenant_query(tenant)}
            answer = api.call("PUT", api_path("adapters", adapter, "price"), body=body, query=query)
    if as_json:
        print_json(answer)
    else:
        _print_prices([answer])


@price.command("list")
@json_option
def list_prices(as_json: bool) -> None:
    """List what base models cost."""
    with ApiClient.from_environment() as api:
        prices = rows(api.call("GET", api_path("prices")))
    if as_json:
        print_json(prices)
    else:
        _print_prices(prices)


def _limit_path(tenant: str, key_id: str | None, adapter: str | None) -> str:
    if key_id is not None and adapter is not None:
        raise click.UsageError("Give --key or --adapter, not both.")
    if key_id is not None:
        return api_path("tenants", tenant, "limits", "keys", key_id)
    if adapter is not None:
        return api_path("tenants", tenant, "limits", "adapters", adapter)
    return api_path("tenants", tenant, "limits")


def _print_limit(answer: Json, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    used = answer.get("used")
    standing = used if isinstance(used, dict) else {}
    lines = []
    for field, (meaning, part) in _LIMITS.items():
        most = "no limit" if answer[field] is None else answer[field]
        lines.append((meaning, most, standing.get(part)))
    print_table(("LIMIT", "AT MOST", "USED"), lines)


def _print_prices(prices: list[Json]) -> None:
    columns = ("base", "adapter", "input", "cached_input", "output")
    print_table(
        ("BASE", "ADAPTER", "INPUT", "CACHED INPUT", "OUTPUT"),
        [[row[column] for column in columns] for row in prices],
    )
