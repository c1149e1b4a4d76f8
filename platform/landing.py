"""Owns the page at `/`."""

from pathlib import Path

from litestar import MediaType, Response, get

import loraplex

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


@get("/", include_in_schema=False, opt={"public": True}, sync_to_thread=True)
def landing() -> Response[bytes]:
    """What this server is and where its routes are."""
    page = Path(loraplex.__file__).parent / "web" / "static" / "index.html"
    return Response(page.read_bytes(), media_type=MediaType.HTML, headers=_HEADERS)
