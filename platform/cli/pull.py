"""Owns `loraplex adapter pull`: a version as a PEFT directory, whole and verified or not there at all."""

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import cast

import click

from loraplex.platform.cli.client import ApiClient, Json, api_path, rows
from loraplex.platform.cli.output import tenant_option, tenant_query

_PROD = "prod"


@click.command()
@click.argument("name", metavar="NAME[@N|@ALIAS]")
@click.argument("directory", type=click.Path(path_type=Path))
@tenant_option
def pull(name: str, directory: Path, tenant: str | None) -> None:
    """Save a version as the PEFT directory DIRECTORY, which must not exist yet.

    NAME alone is what requests mean by it: the alias prod, or else the newest version.
    """
    if directory.exists():
        raise click.ClickException(f"{directory} exists already; name a new directory.")
    query = tenant_query(tenant)
    with ApiClient.from_environment() as api:
        adapter, _, selector = name.partition("@")
        n = _number(api, adapter, selector, query)
        path = api_path("adapters", adapter, "versions", str(n))
        files = rows(api.call("GET", f"{path}/files", query=query))
        directory.parent.mkdir(parents=True, exist_ok=True)
        # Beside its place, so that moving it there is one step.
        partial = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
        try:
            _fetch(api, path, files, partial, query)
            partial.chmod(0o755)
            partial.rename(directory)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    click.echo(f"{adapter}@{n} is in {directory}.")


def _number(api: ApiClient, adapter: str, selector: str, query: dict[str, str]) -> int:
    if selector.isdigit():
        return int(selector)
    found = api.call("GET", api_path("adapters", adapter), query=query)
    for alias in cast("list[Json]", found["aliases"]):
        if alias["alias"] == (selector or _PROD):
            return cast("int", alias["version"])
    versions = cast("list[Json]", found["versions"])
    if selector or not versions:
        raise click.ClickException(
            f"{adapter} has no {f'alias {selector!r}' if selector else 'versions'}; see adapter "
            f"show {adapter}."
        )
    return cast("int", versions[0]["version"])


def _fetch(
    api: ApiClient, path: str, files: list[Json], folder: Path, query: dict[str, str]
) -> None:
    # Imported here: most commands need no bars.
    from loraplex.platform.cli.progress import transfer_progress

    with transfer_progress() as progress:
        for file in files:
            name = Path(str(file["name"])).name  # whatever a server says, it stays in the folder
            task = progress.add_task(name, total=cast("int", file["size"]))
            digest = hashlib.sha256()
            with (folder / name).open("wb") as target:
                for piece in api.get_bytes(f"{path}/files/{name}", query):
                    digest.update(piece)
                    target.write(piece)
                    progress.advance(task, len(piece))
            if digest.hexdigest() != file["sha256"]:
                raise click.ClickException(f"{name} arrived damaged; pull again.")
