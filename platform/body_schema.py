"""Owns the words in which routes that read their body themselves describe it in OpenAPI: Litestar cannot derive it."""

from collections.abc import Mapping

from litestar.openapi.spec import OpenAPIMediaType, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType


def text_fields(fields: Mapping[str, str]) -> dict[str, Schema]:
    """Schemas of text fields, from name to description."""
    return {
        name: Schema(type=OpenAPIType.STRING, description=text) for name, text in fields.items()
    }


def object_schema(fields: Mapping[str, Schema], required: list[str]) -> Schema:
    """An object of these fields."""
    return Schema(type=OpenAPIType.OBJECT, properties=dict(fields), required=required or None)


def body_of(media_type: str, schema: Schema) -> RequestBody:
    """A required body."""
    return RequestBody(content={media_type: OpenAPIMediaType(schema=schema)}, required=True)
