"""Owns `loraplex adapter`."""

import json
import sys
from pathlib import Path
from typing import cast

import click

from loraplex.platform.cli.client import ApiClient, Json, api_path
from loraplex.platform.cli.imports import import_adapter
from loraplex.platform.cli.output import (
    json_option,
    print_json,
    print_table,
    size_text,
    tenant_option,
    tenant_query,
)
from loraplex.platform.cli.pull import pull

PROD = "prod"
ADAPTERS = "adapters"


@click.group()
def adapter() -> None:
    """Push, look at, promote and delete adapters."""


adapter.add_command(import_adapter)
adapter.add_command(pull)


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
@click.option("--parent", type=click.IntRange(1), help="Number of the version it was made from.")
@click.option(
    "--defaults",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON file with sampling parameters for requests that give none.",
)
@click.option(
    "--golden",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON file with golden prompts.",
)
@tenant_option
@json_option
def push(
    directory: Path,
    name: str,
    alias: str | None,
    base: str | None,
    chat_template: Path | None,
    parent: int | None,
    defaults: Path | None,
    golden: Path | None,
    tenant: str | None,
    as_json: bool,
) -> None:
    """Push the PEFT DIRECTORY as a new version."""
    # Imported here: only this command needs progress bars.
    from loraplex.platform.cli.push import Push, push_adapter

    template = None if chat_template is None else chat_template.read_text()
    wish = Push(
        directory,
        name,
        tenant_query(tenant),
        alias,
        base,
        template,
        parent,
        _json_file(defaults),
        _json_file(golden),
    )
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
@click.argument("version", required=False, type=click.IntRange(1))
@click.option("--version", "flagged", type=click.IntRange(1), help="Default: the newest.")
@click.option("--alias", default=PROD, show_default=True)
@click.option("--split", help="Several versions with their weights, for example 3=90,4=10.")
@tenant_option
def promote(
    name: str,
    version: int | None,
    flagged: int | None,
    alias: str,
    split: str | None,
    tenant: str | None,
) -> None:
    """Let an alias of the adapter NAME name a VERSION. NAME@N and --version N mean the same."""
    name, selected = _split(name)
    asked = {n for n in (version, flagged, selected) if n is not None}
    if len(asked) > 1 or (asked and split):
        raise click.ClickException("Name one version, or a split, not both.")
    if split is not None:
        with ApiClient.from_environment() as api:
            _point(api, name, alias, {"split": _weights(split)}, tenant)
        return
    version = next(iter(asked), None)
    with ApiClient.from_environment() as api:
        if version is None:
            versions = _versions(_get(api, name, tenant))
            if not versions:
                raise click.ClickException(f"{name} has no versions; push one first.")
            version = cast("int", versions[0]["version"])
        _point(api, name, alias, {"version": version}, tenant)


@adapter.command()
@click.argument("name")
@click.option("--alias", default=PROD, show_default=True)
@tenant_option
def rollback(name: str, alias: str, tenant: str | None) -> None:
    """Let an alias of the adapter NAME name what it named before."""
    path = api_path(ADAPTERS, name, "aliases", alias, "rollback")
    with ApiClient.from_environment() as api:
        named = api.call("POST", path, query=tenant_query(tenant))
    click.echo(f"{name}@{alias} names {_named(named)}.")


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


def _point(api: ApiClient, name: str, alias: str, body: Json, tenant: str | None) -> None:
    path = api_path(ADAPTERS, name, "aliases", alias)
    named = api.call("PUT", path, body=body, query=tenant_query(tenant))
    click.echo(f"{name}@{alias} names {_named(named)}.")


def _named(alias: Json) -> str:
    split = cast("dict[str, float] | None", alias["split"])
    if split is None:
        return f"version {alias['version']}"
    return "versions " + ", ".join(f"{n} ({share:.4g})" for n, share in split.items())


def _weights(split: str) -> dict[str, float]:
    """Weights by version number, from `3=90,4=10`."""
    weights: dict[str, float] = {}
    for part in split.split(","):
        version, _, weight = part.strip().partition("=")
        try:
            weights[version] = float(weight)
        except ValueError:
            raise click.ClickException("--split: write VERSION=WEIGHT,VERSION=WEIGHT.") from None
    return weights


def _json_file(path: Path | None) -> object:
    if path is None:
        return None
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise click.ClickException(f"{path} is not valid JSON: {error}.") from None


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
    return [f"{a['alias']} → {_named(a).partition(' ')[2]}" for a in _aliases(found)]
