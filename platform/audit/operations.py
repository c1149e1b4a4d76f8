"""Owns the OpenAPI of the route of the audit trail, which answers in several forms."""

from dataclasses import dataclass

from litestar.openapi.spec import OpenAPIMediaType, OpenAPIResponse, Operation, Schema
from litestar.openapi.spec.enums import OpenAPIType

from loraplex.platform.audit.export import MEDIA_TYPES


@dataclass
class ListAuditOperation(Operation):
    """A page as JSON, or a file."""

    def __post_init__(self) -> None:
        answer = (self.responses or {}).get("200")
        if isinstance(answer, OpenAPIResponse) and answer.content is not None:
            text = Schema(type=OpenAPIType.STRING)
            for media_type in MEDIA_TYPES.values():
                answer.content[media_type.partition(";")[0]] = OpenAPIMediaType(schema=text)
