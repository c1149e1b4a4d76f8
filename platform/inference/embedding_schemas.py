"""Owns the bodies of /v1/embeddings, of requests and of answers."""

from typing import Annotated, Literal

import msgspec

from loraplex.engine.pooling import Method
from loraplex.platform.inference.schemas import TokenId


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """OpenAI's fields, then the extras of this server."""

    model: str
    input: str | list[str | TokenId | list[TokenId]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None
    user: str | None = None

    pooling: Method | None = None
    normalize: bool | None = None
    priority: Annotated[int, msgspec.Meta(ge=0, le=1000)] | None = None


class Embedding(msgspec.Struct):
    """One vector: numbers, or their little-endian float32 in base64."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class EmbeddingUsage(msgspec.Struct):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(msgspec.Struct):
    """The whole answer."""

    model: str
    data: list[Embedding] | list[msgspec.Raw]
    usage: EmbeddingUsage
    object: Literal["list"] = "list"
