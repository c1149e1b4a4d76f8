"""Owns the OpenAPI of routes that read their body themselves, so that Litestar cannot derive it."""

from dataclasses import dataclass

from litestar.openapi.spec import Operation, Schema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType

from loraplex.platform.body_schema import body_of, object_schema, text_fields
from loraplex.platform.catalog.schemas import MAX_VERSION

_CHOICES = {
    "base": "base model id; needed when several are served",
    "alias": "alias that shall name the new version",
    "chat_template": "Jinja template in place of the base model's",
}


@dataclass
class PushOperation(Operation):
    """An adapter in one multipart body."""

    def __post_init__(self) -> None:
        files = {"config": "adapter_config.json", "weights": "adapter_model.safetensors"}
        fields = text_fields({"name": "adapter name", **files, **_CHOICES})
        schema = object_schema(fields, required=["name", *files])
        self.request_body = body_of("multipart/form-data", schema)


@dataclass
class OpenUploadOperation(Operation):
    """The announcement of a resumable upload."""

    def __post_init__(self) -> None:
        sha256 = "of the weights file, 64 lower-case hex digits"
        fields = text_fields({"name": "adapter name", "sha256": sha256, **_CHOICES})
        fields["size"] = Schema(
            type=OpenAPIType.INTEGER, minimum=1, description="bytes of the weights file"
        )
        fields["config"] = Schema(
            type=[OpenAPIType.STRING, OpenAPIType.OBJECT],
            description="adapter_config.json, as text or as JSON",
        )
        schema = object_schema(fields, required=["name", "size", "sha256", "config"])
        self.request_body = body_of("application/json", schema)


@dataclass
class SendUploadOperation(Operation):
    """Raw bytes."""

    def __post_init__(self) -> None:
        schema = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
        self.request_body = body_of("application/octet-stream", schema)


@dataclass
class SetAliasOperation(Operation):
    """What an alias shall name."""

    def __post_init__(self) -> None:
        version = Schema(
            type=OpenAPIType.INTEGER,
            minimum=1,
            maximum=MAX_VERSION,
            description="number of the version",
        )
        schema = object_schema({"version": version}, required=["version"])
        self.request_body = body_of("application/json", schema)


@dataclass
class ChangeAdapterOperation(Operation):
    """What can be changed about an adapter."""

    def __post_init__(self) -> None:
        fields = {
            "pinned": Schema(
                type=OpenAPIType.BOOLEAN,
                description="operators only: keep what its name and aliases mean on the device",
            ),
            "max_running": Schema(
                type=[OpenAPIType.INTEGER, OpenAPIType.NULL],
                minimum=1,
                maximum=1_000_000,
                description="most requests for one version an engine works on at once; null: no limit",
            ),
        }
        self.request_body = body_of("application/json", object_schema(fields, required=[]))
