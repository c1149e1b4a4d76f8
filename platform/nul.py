"""Owns refusing NUL characters in paths and queries: no name has one, and PostgreSQL takes none in a text."""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.handlers import BaseRouteHandler

from loraplex.platform.errors import BadRequestError, NotFoundError


async def refuse_nul(
    connection: ASGIConnection[Any, Any, Any, State],  # Litestar's own generic
    _: BaseRouteHandler,
) -> None:
    """A guard for routes that look up what the URL names.

    Raises:
        NotFoundError: a NUL in the path.
        BadRequestError: one in the query.
    """
    if "\0" in connection.scope["path"]:
        raise NotFoundError("Nothing has a NUL character in its name.")
    for name, value in connection.query_params.multi_items():
        if "\0" in value:
            raise BadRequestError(f"{name[:63]}: remove the NUL character.", param=name[:63])
