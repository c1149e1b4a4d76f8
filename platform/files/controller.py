"""Owns the routes of files, each at `/v1/...` and at `/t/{tenant}/v1/...`."""

from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, Request, delete, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.response import Stream

from loraplex.platform.auth.principal import Principal
from loraplex.platform.errors import BadRequestError
from loraplex.platform.files.ids import FILE, read, read_cursor
from loraplex.platform.files.operations import ANCHOR, SECONDS, CreateFileOperation
from loraplex.platform.files.owner import maker_of, owner_of
from loraplex.platform.files.schemas import (
    PURPOSES,
    ExpiresAfter,
    FileDeleted,
    FileOut,
    FilePage,
)
from loraplex.platform.files.service import MAX_FILE, Files, Wanted
from loraplex.platform.forms import Form, FormShape, pieces, read_form
from loraplex.platform.nul import refuse_nul
from loraplex.platform.settings import Settings

_BINARY = "application/octet-stream"
_SHAPE = FormShape(
    "file", ("purpose", ANCHOR, SECONDS), 1024, "file", "send the file as this part", MAX_FILE
)
# Beside the file: the other parts, boundaries and headers.
_AROUND = 1024**2
Limit = Annotated[int, QueryParameter(ge=1, le=10_000)]


class FileController(Controller):
    """A tenant's files."""

    tags = ("files",)
    guards = (refuse_nul,)

    @post(
        ["/v1/files", "/t/{tenant:str}/v1/files"],
        operation_class=CreateFileOperation,
        request_max_body_size=MAX_FILE + _AROUND,
        status_code=200,
    )
    async def create_file(
        self,
        request: Request[Any, Any, State],
        principal: NamedDependency[Principal],
        settings: NamedDependency[Settings],
        files: NamedDependency[Files],
    ) -> FileOut:
        """Keep a file."""
        content_type = request.headers.get("content-type", "")
        folder = settings.data_dir / "spool"
        form = await read_form(content_type, request.stream(), folder, _SHAPE)
        with form.file:
            purpose = form.required("purpose")
            if purpose not in PURPOSES:
                raise BadRequestError(
                    f"purpose: send one of {', '.join(PURPOSES)}.",
                    param="purpose",
                    code="invalid_value",
                )
            if not form.size:
                raise BadRequestError("file: it is empty.", param="file", code="invalid_value")
            wanted = Wanted(
                owner_of(principal), principal.actor_id, form.filename, purpose, _lifetime(form)
            )
            return FileOut.of(await files.create(wanted, form.size, pieces(form.file)))

    @get(["/v1/files", "/t/{tenant:str}/v1/files"])
    async def list_openai_files(
        self,
        principal: NamedDependency[Principal],
        files: NamedDependency[Files],
        purpose: FromQuery[str | None] = None,
        after: FromQuery[str | None] = None,
        limit: Limit = 10_000,
        order: FromQuery[Literal["asc", "desc"]] = "desc",
    ) -> FilePage:
        """Files, newest first unless told otherwise."""
        cursor = read_cursor(FILE, after)
        owner, maker = owner_of(principal), maker_of(principal)
        rows = await files.list(owner, purpose, cursor, limit + 1, order, maker=maker)
        data = [FileOut.of(row) for row in rows[:limit]]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return FilePage(data, first, last, len(rows) > limit)

    @get(["/v1/files/{file_id:str}", "/t/{tenant:str}/v1/files/{file_id:str}"])
    async def get_openai_file(
        self,
        file_id: FromPath[str],
        principal: NamedDependency[Principal],
        files: NamedDependency[Files],
    ) -> FileOut:
        """What is known of a file."""
        owner, maker = owner_of(principal), maker_of(principal)
        return FileOut.of(await files.get(owner, read(FILE, file_id), maker=maker))

    @get(
        ["/v1/files/{file_id:str}/content", "/t/{tenant:str}/v1/files/{file_id:str}/content"],
        media_type=_BINARY,
    )
    async def get_content(
        self,
        file_id: FromPath[str],
        principal: NamedDependency[Principal],
        files: NamedDependency[Files],
    ) -> Stream:
        """The bytes of a file."""
        owner, maker = owner_of(principal), maker_of(principal)
        file = await files.get(owner, read(FILE, file_id), maker=maker)
        headers = {
            "content-length": str(file.size),
            "content-disposition": "attachment",
            "cache-control": "private, no-cache",
        }
        return Stream(files.read(file), headers=headers, media_type=_BINARY)

    @delete(["/v1/files/{file_id:str}", "/t/{tenant:str}/v1/files/{file_id:str}"], status_code=200)
    async def delete_file(
        self,
        file_id: FromPath[str],
        principal: NamedDependency[Principal],
        files: NamedDependency[Files],
    ) -> FileDeleted:
        """Remove a file."""
        owner, maker = owner_of(principal), maker_of(principal)
        await files.delete(owner, read(FILE, file_id), maker=maker)
        return FileDeleted(file_id)


def _lifetime(form: Form) -> int | None:
    """`expires_after`, which clients send as two parts."""
    anchor, seconds = form.text(ANCHOR), form.text(SECONDS)
    if anchor is None and seconds is None:
        return None
    try:
        given = {"anchor": anchor, "seconds": seconds}
        return msgspec.convert(given, ExpiresAfter, strict=False).seconds
    except msgspec.ValidationError as error:
        raise BadRequestError(
            f"expires_after: send anchor 'created_at' and seconds from an hour to 30 days ({error}).",
            param="expires_after",
            code="invalid_value",
        ) from None
