"""Owns the OpenAPI of routes that read their body themselves, so that Litestar cannot derive it."""

from dataclasses import dataclass

from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType

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
        fields = {"name": "adapter name", **files, **_CHOICES}
        schema = _object(fields, required=["name", *files])
        self.request_body = _body("multipart/form-data", schema)


@dataclass
class OpenUploadOperation(Operation):
    """The announcement of a resumable upload."""

    def __post_init__(self) -> None:
        fields = {
            "name": "adapter name",
            "sha256": "of the weights file, 64 lower-case hex digits",
            "config": "adapter_config.json, as text or as JSON",
            **_CHOICES,
        }
        schema = _object(fields, required=["name", "size", "sha256", "config"])
        assert schema.properties is not None
        schema.properties["size"] = Schema(
            type=OpenAPIType.INTEGER, minimum=1, description="bytes of the weights file"
        )
        schema.properties["config"] = Schema(
            type=[OpenAPIType.STRING, OpenAPIType.OBJECT], description=fields["config"]
        )
        self.request_body = _body("application/json", schema)


@dataclass
class SendUploadOperation(Operation):
    """Raw bytes."""

    def __post_init__(self) -> None:
        schema = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
        self.request_body = _body("application/octet-stream", schema)


def _object(fields: dict[str, str], required: list[str]) -> Schema:
    properties = {
        name: Schema(type=OpenAPIType.STRING, description=text) for name, text in fields.items()
    }
    return Schema(type=OpenAPIType.OBJECT, properties=dict(properties), required=required)


def _body(media_type: str, schema: Schema) -> RequestBody:
    return RequestBody(content={media_type: OpenAPIMediaType(schema=schema)}, required=True)
