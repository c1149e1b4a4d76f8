"""Owns `loraplex adapter import`: begins an import and follows its job."""

import os
import re
import time
from typing import cast

import click

from loraplex.platform.cli.client import ApiClient, Json, api_path
from loraplex.platform.cli.output import json_option, print_json, tenant_option, tenant_query

POLL_SECONDS = 0.5
_S3 = re.compile(r"s3://(?P<bucket>[^/]+)/?(?P<prefix>.*)")


@click.command("import")
@click.argument("name")
@click.option("--hf", metavar="ORG/NAME[@REV]", help="A repository of the Hugging Face Hub.")
@click.option("--subfolder", help="With --hf: the folder the adapter is in.")
@click.option("--s3", metavar="S3://BUCKET/PREFIX", help="A prefix of a bucket.")
@click.option("--region", help="With --s3.")
@click.option("--endpoint", help="With --s3: another store than Amazon's.")
@click.option("--path", help="Operators only: a directory under the server's --import-dir.")
@click.option("--alias", help="Let this alias name the new version, for example prod.")
@click.option("--base", help="Base model id; needed when the server has several.")
@click.option("--no-wait", is_flag=True, help="Print the job's id and leave.")
@tenant_option
@json_option
def import_adapter(
    name: str,
    hf: str | None,
    subfolder: str | None,
    s3: str | None,
    region: str | None,
    endpoint: str | None,
    path: str | None,
    alias: str | None,
    base: str | None,
    no_wait: bool,
    tenant: str | None,
    as_json: bool,
) -> None:
    """Let the server fetch an adapter as a new version of NAME.

    It reads with HF_TOKEN, or with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, if these are set
    here; the server keeps none of them.
    """
    if sum(value is not None for value in (hf, s3, path)) != 1:
        raise click.UsageError("Give exactly one of --hf, --s3 and --path.")
    if hf is not None:
        source: Json = {"huggingface": _hub(hf, subfolder)}
    elif s3 is not None:
        source = {"s3": _s3(s3, region, endpoint)}
    else:
        source = {"path": path}
    body = {"name": name, "source": source, "alias": alias, "base": base}
    query = tenant_query(tenant)
    with ApiClient.from_environment() as api:
        job = api.call("POST", api_path("imports"), body=body, query=query)
        if not no_wait:
            job = _follow(api, api_path("jobs", str(job["id"])), query)
    if as_json:
        print_json(job)
    elif no_wait:
        click.echo(job["id"])
    if job["state"] == "failed":
        raise click.ClickException(str(job["error"]))
    if not as_json and not no_wait:
        result = cast("Json", job["result"])
        for warning in cast("list[str]", result["warnings"]):
            click.echo(f"Warning: {warning}", err=True)
        named = f", named {name}@{alias}" if alias else ""
        click.echo(f"{result['model']} is ready{named}.")


def _hub(text: str, subfolder: str | None) -> Json:
    repo, _, revision = text.partition("@")
    source: Json = {"repo": repo}
    if revision:
        source["revision"] = revision
    if subfolder:
        source["subfolder"] = subfolder
    if token := os.environ.get("HF_TOKEN"):
        source["token"] = token
    return source


def _s3(text: str, region: str | None, endpoint: str | None) -> Json:
    match = _S3.fullmatch(text)
    if match is None:
        raise click.UsageError("--s3: write s3://BUCKET/PREFIX.")
    source: Json = dict(match.groupdict())
    region = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region:
        source["region"] = region
    if endpoint:
        source["endpoint"] = endpoint
    if access_key := os.environ.get("AWS_ACCESS_KEY_ID"):
        source["credentials"] = {
            "access_key_id": access_key,
            "secret_access_key": os.environ.get("AWS_SECRET_ACCESS_KEY", ""),
            "session_token": os.environ.get("AWS_SESSION_TOKEN"),
        }
    return source


def _follow(api: ApiClient, path: str, query: dict[str, str]) -> Json:
    # Imported here: most commands need no bars.
    from loraplex.platform.cli.progress import transfer_progress

    with transfer_progress() as progress:
        task = progress.add_task("Waiting", total=None)
        while True:
            job = api.call("GET", path, query=query)
            if job["state"] in ("succeeded", "failed"):
                return job
            if isinstance(state := job["progress"], dict):
                progress.update(
                    task, description="Fetching", completed=state["done"], total=state["total"]
                )
            time.sleep(POLL_SECONDS)
