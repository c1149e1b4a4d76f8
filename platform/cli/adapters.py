"""Owns `loraplex adapter`."""

import sys
from pathlib import Path
from typing import cast

import click

from loraplex.platform.cli.client import ApiClient, Json, api_path
from loraplex.platform.cli.output import (
    json_option,
    print_json,
    print_table,
    size_text,
    tenant_option,
    tenant_query,
)

PROD = "prod"
ADAPTERS = "adapters"


@click.group()
def adapter() -> None:
    """Push, look at, promote and delete adapters."""


@adapter.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--name", required=True, help="What requests call it.")
@click.option("--alias", help="Let this alias name the new version, for example prod.")
@click.option("--base", help="Base model id; needed when the server has several.")
@click.option(
    "--chat-template",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Jinja file in place of the base model's template.",
)
@tenant_option
@json_option
def push(
    directory: Path,
    name: str,
    alias: str | None,
    base: str | None,
    chat_template: Path | None,
    tenant: str | None,
    as_json: bool,
) -> None:
    """Push the PEFT DIRECTORY as a new version."""
    # Imported here: only this command needs progress bars.
    from loraplex.platform.cli.push import Push, push_adapter

    template = None if chat_template is None else chat_template.read_text()
    wish = Push(directory, name, alias, base, template, tenant_query(tenant))
    with ApiClient.from_environment() as api:
        version = push_adapter(api, wish)
    if as_json:
        print_json(version)
        return
    for warning in cast("list[str]", version["warnings"]):
        click.echo(f"Warning: {warning}", err=True)
    named = f", named {name}@{alias}" if alias else ""
    click.echo(f"{version['model']} is ready (rank {version['rank']}){named}.")


@adapter.command("list")
@tenant_option
@json_option
def list_adapters(tenant: str | None, as_json: bool) -> None:
    """List adapters by name."""
    with ApiClient.from_environment() as api:
        adapters = list(api.pages(api_path(ADAPTERS), tenant_query(tenant)))
    if as_json:
        print_json(adapters)
        return
    print_table(
        ("NAME", "ALIASES", "CREATED"),
        [(a["name"], _alias_texts(a), a["created_at"]) for a in adapters],
    )


@adapter.command()
@click.argument("name")
@tenant_option
@json_option
def show(name: str, tenant: str | None, as_json: bool) -> None:
    """Show the adapter NAME with its versions and aliases."""
    with ApiClient.from_environment() as api:
        found = _get(api, name, tenant)
    if as_json:
        print_json(found)
        return
    click.echo(f"{name}, aliases: {', '.join(_alias_texts(found)) or 'none'}")
    print_table(
        ("VERSION", "ALIASES", "BASE", "RANK", "SIZE", "DIGEST", "CREATED"),
        [
            (
                v["version"],
                v["aliases"],
                v["base"],
                v["rank"],
                size_text(v["size"]),
                str(v["digest"])[:12],
                v["created_at"],
            )
            for v in _versions(found)
        ],
    )


@adapter.command()
@click.argument("name")
@click.option("--version", type=click.IntRange(1), help="Default: the newest.")
@click.option("--alias", default=PROD, show_default=True)
@tenant_option
def promote(name: str, version: int | None, alias: str, tenant: str | None) -> None:
    """Let an alias of the adapter NAME name a version. NAME@N is short for --version N."""
    name, number = _split(name)
    version = version or number
    with ApiClient.from_environment() as api:
        if version is None:
            versions = _versions(_get(api, name, tenant))
            if not versions:
                raise click.ClickException(f"{name} has no versions; push one first.")
            version = cast("int", versions[0]["version"])
        _point(api, name, alias, version, tenant)


@adapter.command()
@click.argument("name")
@click.option("--alias", default=PROD, show_default=True)
@tenant_option
def rollback(name: str, alias: str, tenant: str | None) -> None:
    """Let an alias of the adapter NAME name what it named before."""
    with ApiClient.from_environment() as api:
        found = _get(api, name, tenant)
        current = next((a for a in _aliases(found) if a["alias"] == alias), None)
        if current is None:
            raise click.ClickException(f"{name} has no alias {alias!r}; see adapter show {name}.")
        if current["previous"] is None:
            raise click.ClickException(
                f"{name}@{alias} has named nothing else that still exists; use promote."
            )
        _point(api, name, alias, cast("int", current["previous"]), tenant)


@adapter.command("set")
@click.argument("name")
@click.option("--pin/--no-pin", default=None, help="Keep it on the device (operators only).")
@click.option(
    "--max-running",
    type=click.IntRange(0),
    help="Most requests for one version an engine works on at once; 0: no limit.",
)
@tenant_option
@json_option
def change(
    name: str, pin: bool | None, max_running: int | None, tenant: str | None, as_json: bool
) -> None:
    """Pin the adapter NAME, or limit it."""
    body: dict[str, object] = {}
    if pin is not None:
        body["pinned"] = pin
    if max_running is not None:
        body["max_running"] = max_running or None
    with ApiClient.from_environment() as api:
        changed = api.call("PATCH", api_path(ADAPTERS, name), body=body, query=tenant_query(tenant))
    if as_json:
        print_json(changed)
    else:
        pinned = "pinned" if changed["pinned"] else "not pinned"
        click.echo(f"{name}: {pinned}, most running: {changed['max_running'] or 'no limit'}.")


@adapter.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@tenant_option
def delete(name: str, yes: bool, tenant: str | None) -> None:
    """Delete the adapter NAME, or with NAME@N one version, everywhere."""
    if not yes and sys.stdin.isatty():
        click.confirm(f"Delete {name}? This cannot be undone.", abort=True)
    adapter_name, version = _split(name)
    selected = () if version is None else ("versions", str(version))
    path = api_path(ADAPTERS, adapter_name, *selected)
    with ApiClient.from_environment() as api:
        api.call("DELETE", path, query=tenant_query(tenant))
    click.echo(f"Deleted {name}.")


def _get(api: ApiClient, name: str, tenant: str | None) -> Json:
    return api.call("GET", api_path(ADAPTERS, name), query=tenant_query(tenant))


def _point(api: ApiClient, name: str, alias: str, version: int, tenant: str | None) -> None:
    path = api_path(ADAPTERS, name, "aliases", alias)
    api.call("PUT", path, body={"version": version}, query=tenant_query(tenant))
    click.echo(f"{name}@{alias} names version {version}.")


def _split(name: str) -> tuple[str, int | None]:
    adapter_name, at, version = name.partition("@")
    if at and not version.isdigit():
        raise click.ClickException(f"{name}: write NAME or NAME@N with a version number.")
    return adapter_name, int(version) if at else None


def _aliases(found: Json) -> list[Json]:
    return cast("list[Json]", found["aliases"])


def _versions(found: Json) -> list[Json]:
    return cast("list[Json]", found["versions"])


def _alias_texts(found: Json) -> list[str]:
    return [f"{a['alias']} → {a['version']}" for a in _aliases(found)]
