"""Owns the routes by which versions are given back as files, with ranges and entity tags."""

from typing import Any
from uuid import UUID

from litestar import Controller, Request, Response, get, route
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath
from litestar.response import Stream
from litestar.types import Method

from loraplex.platform.auth.guards import requires_adapters
from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.download import (
    Downloads,
    FileList,
    Slice,
    UnsatisfiableRangeError,
    parse_range,
)
from loraplex.platform.catalog.owner import provide_owner
from loraplex.platform.nul import refuse_nul

_BINARY = "application/octet-stream"
_TAR = "application/x-tar"


def _file_operation(_: HTTPRouteHandler, method: Method, __: object) -> str:
    """One handler serves both methods, and each is an operation of its own."""
    return f"{method.title()}File"


class DownloadController(Controller):
    """Versions as PEFT directories."""

    path = "/api/v1/adapters/{name:str}/versions/{n:int}"
    tags = ("adapters",)
    guards = (requires_adapters, refuse_nul)
    dependencies = {"owner": Provide(provide_owner)}  # noqa: RUF012  # Litestar's declaration

    @get("/files", operation_id="ListFiles")
    async def list_files(
        self,
        owner: NamedDependency[UUID],
        name: FromPath[str],
        n: FromPath[int],
        principal: NamedDependency[Principal],
        downloads: NamedDependency[Downloads],
    ) -> FileList:
        """The files of a version, with sizes and digests."""
        return FileList(downloads.files(await downloads.version(principal, owner, name, n)))

    @route(
        "/files/{file:str}",
        http_method=[HttpMethod.GET, HttpMethod.HEAD],
        operation_id=_file_operation,
        media_type=_BINARY,
        responses={
            206: ResponseSpec(bytes, media_type=_BINARY, description="The part asked for"),
            304: ResponseSpec(None, description="The client has it"),
            416: ResponseSpec(None, description="Past the end"),
        },
    )
    async def get_file(
        self,
        request: Request[Any, Any, State],
        owner: NamedDependency[UUID],
        name: FromPath[str],
        n: FromPath[int],
        file: FromPath[str],
        principal: NamedDependency[Principal],
        downloads: NamedDependency[Downloads],
    ) -> Response[bytes] | Stream:
        """One file of a version. `Range` asks for a part of it; the entity tag is its SHA-256."""
        version = await downloads.version(principal, owner, name, n)
        found = downloads.file(version, file)
        tag = f'"{found.sha256}"'
        headers = {"etag": tag, "accept-ranges": "bytes", "cache-control": "private, no-cache"}
        known = request.headers.get("if-none-match", "")
        if known.strip() == "*" or tag in known:
            return _empty(304, headers)
        part = None
        if request.headers.get("if-range", tag) == tag and request.method == HttpMethod.GET:
            try:
                part = parse_range(request.headers.get("range"), found.size)
            except UnsatisfiableRangeError:
                return _empty(416, {**headers, "content-range": f"bytes */{found.size}"})
        whole = Slice(0, found.size - 1)
        sent = part or whole
        headers["content-length"] = str(sent.length)
        headers["content-disposition"] = f'attachment; filename="{found.name}"'
        if part is not None:
            headers["content-range"] = f"bytes {part.first}-{part.last}/{found.size}"
        if request.method == HttpMethod.HEAD:
            return _empty(200, headers)
        return Stream(
            downloads.read(version, found.name, sent),
            status_code=200 if part is None else 206,
            headers=headers,
            media_type=_BINARY,
        )

    @get("/archive", operation_id="GetArchive", media_type=_TAR)
    async def get_archive(
        self,
        owner: NamedDependency[UUID],
        name: FromPath[str],
        n: FromPath[int],
        principal: NamedDependency[Principal],
        downloads: NamedDependency[Downloads],
    ) -> Stream:
        """Both files of a version in one tar, not compressed."""
        version = await downloads.version(principal, owner, name, n)
        headers = {
            "content-length": str(downloads.archive_size(name, version)),
            "content-disposition": f'attachment; filename="{name}-{n}.tar"',
        }
        return Stream(downloads.archive(name, version), headers=headers, media_type=_TAR)


def _empty(status: int, headers: dict[str, str]) -> Response[bytes]:
    return Response(b"", status_code=status, headers=headers, media_type=_BINARY)
