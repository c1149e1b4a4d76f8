"""Owns the routes of uploads of the OpenAI API, each at `/v1/...` and at `/t/{tenant}/v1/...`."""

from typing import Any

from litestar import Controller, Request, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath

from loraplex.platform.auth.principal import Principal
from loraplex.platform.body import decode_body
from loraplex.platform.errors import BadRequestError
from loraplex.platform.files.ids import UPLOAD, read
from loraplex.platform.files.operations import (
    AddPartOperation,
    CompleteFileUploadOperation,
    OpenFileUploadOperation,
)
from loraplex.platform.files.owner import owner_of
from loraplex.platform.files.schemas import FileUploadOut, NewUpload, UploadPartOut, UploadParts
from loraplex.platform.files.uploads import MAX_PART, FileUploads
from loraplex.platform.forms import FormShape, pieces, read_form
from loraplex.platform.nul import refuse_nul
from loraplex.platform.settings import Settings

_SHAPE = FormShape("part", (), 0, "data", "send the bytes as this part", MAX_PART)
_UPLOADS = "/v1/uploads"
_ONE = "/v1/uploads/{file_upload_id:str}"


class FileUploadController(Controller):
    """Files that come in parts."""

    tags = ("files",)
    guards = (refuse_nul,)

    @post(
        [_UPLOADS, f"/t/{{tenant:str}}{_UPLOADS}"],
        operation_class=OpenFileUploadOperation,
        status_code=200,
    )
    async def open_file_upload(
        self,
        request: Request[Any, Any, State],
        principal: NamedDependency[Principal],
        file_uploads: NamedDependency[FileUploads],
    ) -> FileUploadOut:
        """Announce a file."""
        new = decode_body(await request.body(), NewUpload)
        return FileUploadOut.of(*await file_uploads.open(principal, owner_of(principal), new))

    @post(
        [f"{_ONE}/parts", f"/t/{{tenant:str}}{_ONE}/parts"],
        operation_class=AddPartOperation,
        request_max_body_size=MAX_PART + 64 * 1024,
        status_code=200,
    )
    async def add_part(
        self,
        request: Request[Any, Any, State],
        file_upload_id: FromPath[str],
        principal: NamedDependency[Principal],
        settings: NamedDependency[Settings],
        file_uploads: NamedDependency[FileUploads],
    ) -> UploadPartOut:
        """Send some bytes of the file; several at a time, in any order."""
        owner, upload_id = owner_of(principal), read(UPLOAD, file_upload_id)
        await file_uploads.check_open(owner, upload_id)
        content_type = request.headers.get("content-type", "")
        folder = settings.data_dir / "spool"
        form = await read_form(content_type, request.stream(), folder, _SHAPE)
        with form.file:
            if not form.size:
                raise BadRequestError("data: it is empty.", param="data", code="invalid_value")
            part = await file_uploads.add_part(owner, upload_id, form.size, pieces(form.file))
        return UploadPartOut.of(part)

    @post(
        [f"{_ONE}/complete", f"/t/{{tenant:str}}{_ONE}/complete"],
        operation_class=CompleteFileUploadOperation,
        status_code=200,
    )
    async def complete_file_upload(
        self,
        request: Request[Any, Any, State],
        file_upload_id: FromPath[str],
        principal: NamedDependency[Principal],
        file_uploads: NamedDependency[FileUploads],
    ) -> FileUploadOut:
        """Put the parts together; the answer has the file."""
        owner, upload_id = owner_of(principal), read(UPLOAD, file_upload_id)
        await file_uploads.check_open(owner, upload_id)
        parts = decode_body(await request.body(), UploadParts)
        done = await file_uploads.complete(principal, owner, upload_id, parts.part_ids, parts.md5)
        return FileUploadOut.of(*done)

    @post([f"{_ONE}/cancel", f"/t/{{tenant:str}}{_ONE}/cancel"], status_code=200)
    async def cancel_file_upload(
        self,
        file_upload_id: FromPath[str],
        principal: NamedDependency[Principal],
        file_uploads: NamedDependency[FileUploads],
    ) -> FileUploadOut:
        """Forget the parts."""
        seen = await file_uploads.cancel(owner_of(principal), read(UPLOAD, file_upload_id))
        return FileUploadOut.of(*seen)
