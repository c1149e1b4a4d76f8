"""Owns reading an adapter from the Hugging Face Hub, or a mirror that answers as it does."""

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import quote

import httpx

from loraplex.platform.errors import BadRequestError, PlatformError, UnprocessableError
from loraplex.platform.imports.places import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    Found,
    missing,
    read_config,
    weights_of,
)
from loraplex.platform.imports.remote_file import RemoteFile, RemoteStatusError, remote_file
from loraplex.platform.imports.schemas import HubSource

_REPO = re.compile(r"[A-Za-z0-9_][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9_][\w./-]{0,199}", re.ASCII)
# Names and slashes must alternate: were the slash optional, one long name could be read in very many ways, one after
# the other, while the worker answers nobody.
_FOLDER = re.compile(r"(?:[A-Za-z0-9_][\w.-]{0,95}(?:/[A-Za-z0-9_][\w.-]{0,95}){0,7}/?)?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TOKEN = re.compile(r"[!-~]+")
_SHA256 = re.compile(r'"?([0-9a-f]{64})"?')


def check_hub(source: HubSource) -> None:
    """Look at what a source names before anything is asked.

    Raises:
        BadRequestError: no repository, revision or folder is called so.
    """
    for field, value, form in (
        ("repo", source.repo, _REPO),
        ("revision", source.revision, _REVISION),
        ("subfolder", source.subfolder, _FOLDER),
    ):
        if not form.fullmatch(value) or ".." in value:
            param = f"source.huggingface.{field}"
            raise BadRequestError(
                f"{param}: this cannot be one; write for example org/name, main, checkpoint-100.",
                param=param,
            )
    if source.token is not None and not _TOKEN.fullmatch(source.token):
        param = "source.huggingface.token"
        raise BadRequestError(f"{param}: no token has such characters.", param=param)


class HubPlace:
    """A repository at one revision.

    Args:
        client: asks; it drops the token where a redirect leads to another host.
        endpoint: of the Hub, without a slash at its end.
        token: of somebody who may read it, if it is not public.
    """

    def __init__(
        self, client: httpx.AsyncClient, endpoint: str, source: HubSource, token: str | None
    ) -> None:
        self._client = client
        self._endpoint = endpoint
        self._source = source
        self._headers = {"authorization": f"Bearer {token}"} if token else {}

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Found]:
        """See `Place.open`. Both files come from one commit, also when the branch moves meanwhile."""
        try:
            async with remote_file(
                self._client, lambda: self._url(CONFIG_NAME, self._source.revision), self._headers
            ) as file:
                commit = _header(file, "x-repo-commit")
                config = await read_config(file)
        except RemoteStatusError as error:
            raise self._refused(error, CONFIG_NAME) from error
        if not _COMMIT.fullmatch(commit):
            raise UnprocessableError("The server does not tell the commit, as the Hub would.")
        try:
            async with (
                remote_file(
                    self._client, lambda: self._url(WEIGHTS_NAME, commit), self._headers
                ) as file,
                weights_of(file) as weights,
            ):
                etag = _header(file, "x-linked-etag") or file.etag
                digest = _SHA256.fullmatch(etag)
                source: dict[str, object] = {
                    "kind": "huggingface",
                    "repo": self._source.repo,
                    "revision": self._source.revision,
                    "commit": commit,
                }
                if self._source.subfolder:
                    source["subfolder"] = self._source.subfolder
                yield Found(config, weights, file.size, source, digest[1] if digest else None)
        except RemoteStatusError as error:
            raise self._refused(error, WEIGHTS_NAME) from error

    def _url(self, name: str, revision: str) -> str:
        folder = self._source.subfolder.strip("/")
        path = f"{folder}/{name}" if folder else name
        return f"{self._endpoint}/{self._source.repo}/resolve/{quote(revision, safe='')}/{path}"

    def _refused(self, error: RemoteStatusError, name: str) -> PlatformError:
        repo = f"{self._source.repo} at {self._source.revision}"
        if error.code == "EntryNotFound":
            return missing(repo, name)
        if error.code == "GatedRepo" or error.status in (401, 403, 404):
            return UnprocessableError(
                f"{repo} is not there, or may not be read; check its name and revision, and give a "
                "token that may read it if it is private or gated.",
            )
        return UnprocessableError(
            f"The Hub answered {error.status} for {repo}; import again later.",
        )


def _header(file: RemoteFile, name: str) -> str:
    """The first answer on the way that has it; redirects lead to servers that know nothing of repositories."""
    return next((headers[name] for headers in file.hops if name in headers), "")
