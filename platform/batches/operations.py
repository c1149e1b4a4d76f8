"""Owns the OpenAPI of the route of batches that reads its body itself."""

from dataclasses import dataclass
from typing import get_args

from litestar.openapi.spec import Operation, Schema
from litestar.openapi.spec.enums import OpenAPIType

from loraplex.platform.batches.schemas import Endpoint
from loraplex.platform.body_schema import body_of, object_schema, text_fields
from loraplex.platform.files.operations import EXPIRES_AFTER


@dataclass
class CreateBatchOperation(Operation):
    """What is to be run."""

    def __post_init__(self) -> None:
        text = OpenAPIType.STRING
        fields = text_fields({"input_file_id": "a file with the purpose 'batch'"})
        fields["endpoint"] = Schema(type=text, enum=list(get_args(Endpoint)))
        fields["completion_window"] = Schema(type=text, enum=["24h"])
        fields["metadata"] = Schema(
            type=[OpenAPIType.OBJECT, OpenAPIType.NULL],
            additional_properties=Schema(type=text, max_length=512),
            max_properties=16,
        )
        fields["output_expires_after"] = EXPIRES_AFTER
        required = ["input_file_id", "endpoint", "completion_window"]
        self.request_body = body_of("application/json", object_schema(fields, required=required))
