"""Owns /v1/embeddings: inputs to prompts, and vectors to an answer."""

import asyncio
import base64
from array import array
from collections.abc import AsyncIterator, Sequence
from sys import byteorder
from typing import cast

import msgspec

from loraplex.engine.pooling import Pooling
from loraplex.engine.sampling_params import SamplingParams
from loraplex.platform.auth.principal import Principal
from loraplex.platform.engines.base_model import BaseModel
from loraplex.platform.engines.generation import Generation
from loraplex.platform.engines.messages import Delta
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.answer import Heading
from loraplex.platform.inference.costs import Costs
from loraplex.platform.inference.dialects import renamed
from loraplex.platform.inference.embedding_schemas import (
    Embedding,
    EmbeddingList,
    EmbeddingRequest,
    EmbeddingUsage,
)
from loraplex.platform.inference.prompts import check_length, encode, tokenizer_of
from loraplex.platform.inference.service import InferenceService
from loraplex.platform.inference.work import Work

# OpenAI's own limits of one request.
MAX_INPUTS = 2048
MAX_TOKENS = 300_000
# Vectors written down in a row before others get a turn: one of 4,096 numbers takes 0.4 ms.
VECTORS_PER_TURN = 8


class EmbeddingDelivery:
    """Vectors that are being computed, and the body they go into."""

    def __init__(self, generation: Generation, model: str, *, as_base64: bool) -> None:
        self.generation = generation
        self._model = model
        self._as_base64 = as_base64

    def frames(self) -> AsyncIterator[bytes]:
        """There is no such thing: a vector comes at once."""
        raise NotImplementedError("vectors are not streamed")

    async def whole(self, deltas: Sequence[Delta]) -> bytes:
        """All vectors, in the order of the inputs."""
        encoder = msgspec.json.Encoder()
        items = []
        for index, delta in enumerate(deltas):
            if index % VECTORS_PER_TURN == VECTORS_PER_TURN - 1:
                await asyncio.sleep(0)
            vector = delta.embedding or b""
            written = base64.b64encode(vector).decode() if self._as_base64 else numbers(vector)
            items.append(msgspec.Raw(encoder.encode(Embedding(index, written))))
        tokens = sum(delta.prompt_tokens for delta in deltas)
        return encoder.encode(EmbeddingList(self._model, items, EmbeddingUsage(tokens, tokens)))


def numbers(vector: bytes) -> list[float]:
    """The numbers of little-endian float32."""
    values = array("f", vector)
    if byteorder == "big":
        values.byteswap()
    return values.tolist()


async def embed(
    inference: InferenceService, principal: Principal, request: EmbeddingRequest, costs: Costs
) -> EmbeddingDelivery:
    """Start the work of an embedding request.

    Raises:
        PlatformError: it cannot be served; nothing runs then.
    """
    check_inputs(request)
    target = await inference.target(principal, request, costs)
    model = target.base.model
    width = model.config.hidden_size
    if request.dimensions not in (None, width):
        raise BadRequestError(
            f"dimensions: the vectors of this model have {width} numbers and mean nothing when they are cut; send "
            f"{width}, or leave it out.",
            param="dimensions",
            code="unsupported_value",
        )
    normalize = request.normalize is not False
    params = SamplingParams(
        max_tokens=0, pooling=Pooling(request.pooling or model.pooling, normalize)
    )
    heading = Heading.new("embd-", request.model, model.config.fingerprint)
    try:
        prompts = await read_inputs(request, model, target.context)
        work = Work("embeddings", heading, prompts, params, 1, request.priority or 0)
        generation = await inference.start(principal, target, work, costs)
    except BadRequestError as error:
        raise renamed(error, {"prompt": "input"}) from None
    return EmbeddingDelivery(
        generation, request.model, as_base64=request.encoding_format == "base64"
    )


def check_inputs(request: EmbeddingRequest) -> None:
    """Refuse inputs that no model can read.

    Raises:
        BadRequestError: none, too many, an empty one, or mixed kinds.
    """
    inputs = request.input
    if isinstance(inputs, str):
        inputs = [inputs]
    if not inputs:
        raise _wrong("input", "input: an empty list is no input.")
    kinds = set(map(type, inputs))
    if len(kinds) > 1:
        raise _wrong(
            "input",
            "input: a list holds either texts, or token ids, or lists of token ids, not a mixture.",
        )
    if kinds == {int}:
        # The others are looked at one by one; of these there can be millions.
        return
    if len(inputs) > MAX_INPUTS:
        raise _wrong(
            "input",
            f"input: {len(inputs)} inputs are more than {MAX_INPUTS}; send several requests.",
        )
    for at, item in enumerate(inputs):
        if item in ("", []):
            where = "input" if isinstance(request.input, str) else f"input[{at}]"
            raise _wrong(where, f"{where} must not be empty.")


async def read_inputs(
    request: EmbeddingRequest, model: BaseModel, context: int | None
) -> list[tuple[int, ...]]:
    """Token ids of every input.

    Raises:
        BadRequestError: one is longer than `context`, or all together are too long; `param` is "prompt".
    """
    inputs = [request.input] if isinstance(request.input, str) else request.input
    # Cast: `check_inputs` has seen to it, and there may be a million ids.
    if isinstance(inputs[0], str):
        texts, tokenizer = cast("list[str]", inputs), tokenizer_of(model)
        lists = await encode(tokenizer, texts, special=True, context=context, least=0)
    else:
        of_ids = isinstance(inputs[0], int)
        lists = [cast("list[int]", inputs)] if of_ids else cast("list[list[int]]", inputs)
        check_length(max(map(len, lists)), context, least=0)
    if (total := sum(map(len, lists))) > MAX_TOKENS:
        raise _wrong(
            "input",
            f"input: {total} tokens are more than the {MAX_TOKENS} of one request; send several.",
        )
    if not all(lists):
        raise _wrong("input", "input: one of the texts has no tokens.")
    return [tuple(item) for item in lists]


def _wrong(param: str, message: str) -> BadRequestError:
    return BadRequestError(message, param=param, code="invalid_value")
