"""Owns reading an adapter from S3, or a store that speaks its protocol."""

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import quote

import httpx

from loraplex.platform.db.base import utc_now
from loraplex.platform.errors import BadRequestError, PlatformError, UnprocessableError
from loraplex.platform.imports.places import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    Found,
    missing,
    read_config,
    weights_of,
)
from loraplex.platform.imports.remote_file import RemoteStatusError, remote_file
from loraplex.platform.imports.schemas import S3Source
from loraplex.platform.imports.signing import Credentials, signed_url

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


def check_s3(source: S3Source) -> None:
    """Look at what a source names before anything is asked; the endpoint is judged where it is asked.

    Raises:
        BadRequestError: no bucket, region or prefix is called so.
    """
    segments = source.prefix.split("/")
    for field, fits in (
        ("bucket", _BUCKET.fullmatch(source.bucket) is not None),
        ("region", _REGION.fullmatch(source.region) is not None),
        ("prefix", not {".", ".."} & set(segments) and source.prefix.isprintable()),
    ):
        if not fits:
            param = f"source.s3.{field}"
            raise BadRequestError(f"{param}: this cannot be one.", param=param)


class S3Place:
    """A prefix of a bucket.

    Args:
        client: asks.
        credentials: None: the objects must be public.
    """

    def __init__(
        self, client: httpx.AsyncClient, source: S3Source, credentials: Credentials | None
    ) -> None:
        self._client = client
        self._source = source
        self._credentials = credentials

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Found]:
        """See `Place.open`."""
        try:
            async with remote_file(self._client, lambda: self._url(CONFIG_NAME), {}) as file:
                config = await read_config(file)
        except RemoteStatusError as error:
            raise self._refused(error, CONFIG_NAME) from error
        try:
            async with (
                remote_file(self._client, lambda: self._url(WEIGHTS_NAME), {}) as file,
                weights_of(file) as weights,
            ):
                yield Found(config, weights, file.size, self._found(file.etag, file.hops[-1]))
        except RemoteStatusError as error:
            raise self._refused(error, WEIGHTS_NAME) from error

    def _found(self, etag: str, headers: httpx.Headers) -> dict[str, object]:
        source: dict[str, object] = {
            "kind": "s3",
            "bucket": self._source.bucket,
            "prefix": self._source.prefix,
            "region": self._source.region,
            "etag": etag.strip('"'),
        }
        if version := headers.get("x-amz-version-id"):
            source["version_id"] = version
        if self._source.endpoint:
            source["endpoint"] = self._source.endpoint
        return source

    def _url(self, name: str) -> str:
        region, prefix = self._source.region, self._source.prefix.strip("/")
        domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        # As it will be asked: capitals and the usual port are not sent, and the name sent is signed.
        endpoint = str(httpx.URL(self._source.endpoint or f"https://s3.{region}.{domain}"))
        endpoint = endpoint.rstrip("/")
        key = f"{prefix}/{name}" if prefix else name
        url = f"{endpoint}/{self._source.bucket}/{quote(key, safe='-_.~/')}"
        if self._credentials is None:
            return url
        return signed_url(url, region, self._credentials, utc_now())

    def _refused(self, error: RemoteStatusError, name: str) -> PlatformError:
        where = f"s3://{self._source.bucket}/{self._source.prefix}"
        if error.status == 404:
            return missing(where, name)
        if error.status in (400, 401, 403):
            return UnprocessableError(
                f"{where} may not be read, or is not there; check bucket, prefix, region and "
                "credentials.",
            )
        return UnprocessableError(
            f"The store answered {error.status} for {where}; check bucket and region, or import "
            "again later.",
        )
