"""Owns the pages at `/`: the built dashboard if this installation has one, else a plain page that says where things
are."""

import asyncio
import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from litestar import MediaType, Request, Response, get
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath

import loraplex
from loraplex.platform.errors import NotFoundError

# First parts of the addresses of the dashboard's pages. Whatever stands behind one of them is for the dashboard to
# read, so it gets the same document; all other unknown addresses stay 404.
SECTIONS: Final = (
    "sign-in",
    "setup",
    "overview",
    "upload",
    "adapters",
    "playground",
    "requests",
    "usage",
    "limits",
    "keys",
    "members",
    "webhooks",
    "join",
    "reset",
    "tenants",
    "audit",
    "settings",
)
PAGES: Final = [
    "/",
    *(f"/{section}{rest}" for section in SECTIONS for rest in ("", "/{rest:path}")),
]
ASSETS: Final = "/assets/{file:str}"
# Below this, compressing saves less than its header costs.
SMALL_BYTES = 512
_ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}
_PLAIN_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
# Only what this server itself sends, and nothing written into the document: text of a model that finds a way into the
# page can still not run.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "worker-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# The names of assets change with what is in them.
_FOREVER = "public, max-age=31536000, immutable"
_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it is sent; `packed` is it compressed, None if that is not worth it."""

    body: bytes
    packed: bytes | None
    media_type: str


class Dashboard:
    """The built files, each read and compressed when first asked for. There are a few dozen."""

    def __init__(self, web: Path | None = None) -> None:
        """`web` is the folder with `dist` (if it was built) and `static`."""
        self._web = web or Path(loraplex.__file__).parent / "web"
        self._built = (self._web / "dist" / "index.html").is_file()
        assets = self._web / "dist" / "assets"
        self._names = {file.name for file in assets.glob("*")} if self._built else set()
        self._read: dict[str, _File] = {}

    def page(self) -> Response[bytes]:
        """The document of every page."""
        folder, policy = ("dist", _POLICY) if self._built else ("static", _PLAIN_POLICY)
        body = (self._web / folder / "index.html").read_bytes()
        headers = {**_ALWAYS, "content-security-policy": policy, "cache-control": "no-store"}
        return Response(body, media_type=MediaType.HTML, headers=headers)

    def asset(self, name: str, accepts_gzip: bool) -> Response[bytes]:
        """A script or a style sheet.

        Raises:
            NotFoundError: there is none of this name.
        """
        if name not in self._names:
            raise NotFoundError("There is no such file; reload the page.")
        found = self._read.get(name)
        if found is None:
            found = self._read[name] = _load(self._web / "dist" / "assets" / name)
        headers = {**_ALWAYS, "cache-control": _FOREVER, "vary": "accept-encoding"}
        body = found.body
        if accepts_gzip and found.packed is not None:
            body = found.packed
            headers["content-encoding"] = "gzip"
        return Response(body, media_type=found.media_type, headers=headers)


def _load(file: Path) -> _File:
    body = file.read_bytes()
    packed = gzip.compress(body, mtime=0) if len(body) > SMALL_BYTES else None
    return _File(body, packed, _TYPES.get(file.suffix, "application/octet-stream"))


@get(PAGES, include_in_schema=False, opt={"public": True})
async def page(dashboard: NamedDependency[Dashboard]) -> Response[bytes]:
    """A page of the dashboard."""
    return await asyncio.to_thread(dashboard.page)


@get(ASSETS, include_in_schema=False, opt={"public": True})
async def asset(
    file: FromPath[str],
    request: Request[object, object, State],
    dashboard: NamedDependency[Dashboard],
) -> Response[bytes]:
    """A file of the dashboard, kept by browsers for good."""
    packed = "gzip" in request.headers.get("accept-encoding", "")
    return await asyncio.to_thread(dashboard.asset, file, packed)
