"""Owns the OpenAPI of routes of files and uploads that read their body themselves."""

from dataclasses import dataclass

from litestar.openapi.spec import Operation, Schema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType

from loraplex.platform.body_schema import body_of, object_schema, text_fields
from loraplex.platform.files.schemas import HOUR, MONTH, PURPOSES

ANCHOR, SECONDS = "expires_after[anchor]", "expires_after[seconds]"
_BYTES = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
_PURPOSE = Schema(type=OpenAPIType.STRING, enum=list(PURPOSES))
_SECONDS = Schema(type=OpenAPIType.INTEGER, minimum=HOUR, maximum=MONTH)
EXPIRES_AFTER = object_schema(
    {
        "anchor": Schema(type=OpenAPIType.STRING, enum=["created_at"]),
        "seconds": _SECONDS,
    },
    required=["anchor", "seconds"],
)


@dataclass
class CreateFileOperation(Operation):
    """A file with what it is for."""

    def __post_init__(self) -> None:
        fields = {"file": _BYTES, "purpose": _PURPOSE, SECONDS: _SECONDS}
        fields |= text_fields({ANCHOR: "created_at"})
        schema = object_schema(fields, required=["file", "purpose"])
        self.request_body = body_of("multipart/form-data", schema)


@dataclass
class OpenFileUploadOperation(Operation):
    """The announcement of a file that comes in parts."""

    def __post_init__(self) -> None:
        fields = text_fields({"filename": "of the file", "mime_type": "of the file"})
        fields["purpose"] = _PURPOSE
        fields["bytes"] = Schema(type=OpenAPIType.INTEGER, minimum=1, maximum=8 * 1024**3)
        fields["expires_after"] = EXPIRES_AFTER
        required = ["filename", "purpose", "bytes", "mime_type"]
        self.request_body = body_of("application/json", object_schema(fields, required=required))


@dataclass
class AddPartOperation(Operation):
    """Some bytes of the file."""

    def __post_init__(self) -> None:
        schema = object_schema({"data": _BYTES}, required=["data"])
        self.request_body = body_of("multipart/form-data", schema)


@dataclass
class CompleteFileUploadOperation(Operation):
    """The parts in their order."""

    def __post_init__(self) -> None:
        text = Schema(type=OpenAPIType.STRING)
        fields = {
            "part_ids": Schema(type=OpenAPIType.ARRAY, items=text, min_items=1),
            "md5": Schema(type=OpenAPIType.STRING, description="of the whole, in hex digits"),
        }
        schema = object_schema(fields, required=["part_ids"])
        self.request_body = body_of("application/json", schema)
