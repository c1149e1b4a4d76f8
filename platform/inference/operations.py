"""Owns the OpenAPI of embeddings, tokenize and detokenize, which read their body themselves."""

from dataclasses import dataclass

from litestar.openapi.spec import Operation, Schema
from litestar.openapi.spec.enums import OpenAPIType

from loraplex.platform.body_schema import body_of, object_schema

_MODEL = Schema(type=OpenAPIType.STRING, description="a base model, or an adapter")
_FLAG = Schema(type=OpenAPIType.BOOLEAN)


@dataclass
class EmbedOperation(Operation):
    """What a vector needs."""

    def __post_init__(self) -> None:
        fields = {
            "model": _MODEL,
            "input": Schema(description="a text, texts, token ids, or lists of token ids"),
            "encoding_format": Schema(type=OpenAPIType.STRING, enum=["float", "base64"]),
            "dimensions": Schema(type=OpenAPIType.INTEGER, minimum=1),
            "user": Schema(type=OpenAPIType.STRING),
            "pooling": Schema(type=OpenAPIType.STRING, enum=["last", "mean"]),
            "normalize": _FLAG,
            "priority": Schema(type=OpenAPIType.INTEGER, minimum=0, maximum=1000),
        }
        self.request_body = body_of("application/json", object_schema(fields, ["model", "input"]))


@dataclass
class TokenizeOperation(Operation):
    """What is needed to tokenize; either a prompt or messages."""

    def __post_init__(self) -> None:
        objects = Schema(type=OpenAPIType.ARRAY, items=Schema(type=OpenAPIType.OBJECT))
        fields = {
            "model": _MODEL,
            "prompt": Schema(type=OpenAPIType.STRING),
            "messages": objects,
            "tools": objects,
            "add_special_tokens": _FLAG,
            "return_token_strs": _FLAG,
        }
        self.request_body = body_of("application/json", object_schema(fields, ["model"]))


@dataclass
class DetokenizeOperation(Operation):
    """What is needed to get a text back."""

    def __post_init__(self) -> None:
        ids = Schema(type=OpenAPIType.ARRAY, items=Schema(type=OpenAPIType.INTEGER))
        fields = {"model": _MODEL, "tokens": ids}
        self.request_body = body_of("application/json", object_schema(fields, ["model", "tokens"]))
