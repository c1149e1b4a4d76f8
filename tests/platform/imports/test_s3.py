"""Imports from S3, against a real server of its protocol; signatures are those its own library makes."""

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.auth import S3SigV4QueryAuth  # type: ignore[import-untyped]  # ships no types
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]  # ships no types
from botocore.credentials import Credentials as BotocoreCredentials  # type: ignore[import-untyped]  # ships no types
from moto.server import ThreadedMotoServer

from loraplex.platform.errors import UnprocessableError
from loraplex.platform.imports import remote_file
from loraplex.platform.imports.s3 import S3Place
from loraplex.platform.imports.schemas import S3Source
from loraplex.platform.imports.signing import Credentials, signed_url
from loraplex.platform.settings import Settings
from support.importing import imported
from support.services import Api, adapter_files

SECRET = "a-secret-nobody-may-see"  # of the test's own server


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_file, "PAUSE_SECONDS", 0.01)


@pytest.fixture(scope="module")
def store(adapter_dir: Path) -> Iterator[str]:
    """A store with the bucket `models`; returns its endpoint."""
    import boto3  # type: ignore[import-untyped]  # ships no types

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client: Any = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="AKIA",
        aws_secret_access_key=SECRET,
    )
    client.create_bucket(Bucket="models")
    files = adapter_files(adapter_dir)
    for key, data in (
        ("team a/lora/adapter_config.json", files["config"]),
        ("team a/lora/adapter_model.safetensors", files["weights"]),
        ("half/adapter_config.json", files["config"]),
    ):
        client.put_object(Bucket="models", Key=key, Body=data)
    yield endpoint
    server.stop()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The operator allows the store."""
    return replace(settings, import_allow_hosts=("127.0.0.1",))


def source(store: str, **fields: object) -> dict[str, object]:
    credentials = {"access_key_id": "AKIA", "secret_access_key": SECRET}
    return {
        "s3": {
            "bucket": "models",
            "prefix": "team a/lora",
            "endpoint": store,
            "credentials": credentials,
            **fields,
        }
    }


async def test_a_prefix_becomes_a_version(api: Api, store: str, adapter_dir: Path) -> None:
    key = await api.tenant("acme")
    job = await imported(api, key, source(store))
    assert (job["state"], job["error"]) == ("succeeded", None)
    assert isinstance(job["result"], dict)
    kept = job["result"]["source"]
    assert (kept["kind"], kept["bucket"], kept["prefix"]) == ("s3", "models", "team a/lora")
    assert len(kept["etag"]) == 32
    assert SECRET not in str(job)
    pushed = (await api.push(key, adapter_dir, "b")).json()
    assert job["result"]["digest"] == pushed["digest"]
    for fields, says in (
        ({"prefix": "half"}, "has no adapter_model.safetensors"),
        ({"bucket": "absent"}, "has no adapter_config.json"),
    ):
        failed = await imported(api, key, source(store, **fields))
        assert failed["state"] == "failed"
        assert says in str(failed["error"])


@pytest.mark.parametrize("token", [None, "a+session/token=="])
def test_signatures_are_those_of_the_stores_own_library(token: str | None) -> None:
    url = "https://s3.eu-central-1.amazonaws.com/models/team%20a/x~y/adapter_config.json"
    request = AWSRequest("GET", url)
    request.context["timestamp"] = "20261122T101112Z"
    auth = S3SigV4QueryAuth(
        BotocoreCredentials("AKIA", SECRET, token), "s3", "eu-central-1", expires=3600
    )
    now = datetime(2026, 11, 22, 10, 11, 12, tzinfo=UTC)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("botocore.auth.get_current_datetime", lambda **_: now.replace(tzinfo=None))
        auth.add_auth(request)
    ours = signed_url(url, "eu-central-1", Credentials("AKIA", SECRET, token), now)
    signature = ours.rpartition("X-Amz-Signature=")[2]
    assert len(signature) == 64
    assert signature in request.url


async def test_the_name_that_is_sent_is_the_one_signed() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(403)

    credentials = Credentials("AKIA", SECRET)
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        for endpoint in ("https://Store.Example:443/", "https://store.example"):
            place = S3Place(client, S3Source(bucket="abc", endpoint=endpoint), credentials)
            with pytest.raises(UnprocessableError):
                async with place.open():
                    pass
    first, second = (
        signed_url(
            "https://store.example/abc/adapter_config.json",
            "us-east-1",
            credentials,
            datetime.strptime(request.url.params["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(
                tzinfo=UTC
            ),
        )
        == str(request.url)
        for request in asked
    )
    assert first
    assert second


def test_the_servers_own_credentials_play_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "AWS_SESSION_TOKEN", "of-the-server")
    url = signed_url("https://h/b/k", "us-east-1", Credentials("A", "B"), datetime.now(UTC))
    assert "of-the-server" not in url
