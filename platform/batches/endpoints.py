"""Owns running one line of a batch as if it had come by itself: the same services, in the same process."""

import time
from typing import NamedTuple, Protocol

import msgspec

from loraplex.platform.auth.principal import Principal
from loraplex.platform.body import decode_body
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.costs import Costs
from loraplex.platform.inference.delivery import ChunkDelivery, Delivery
from loraplex.platform.inference.embedding_schemas import EmbeddingRequest
from loraplex.platform.inference.embeddings import embed
from loraplex.platform.inference.schemas import ChatRequest, CompletionRequest
from loraplex.platform.inference.service import InferenceService
from loraplex.platform.responses.schemas import ResponseRequest
from loraplex.platform.responses.service import Responses


class LineRunner(Protocol):
    """What runs lines."""

    async def answer(self, principal: Principal, endpoint: str, body: bytes) -> bytes:
        """The body of the answer.

        Raises:
            PlatformError: there is none.
        """
        ...


class Tokens(NamedTuple):
    """What an answer took."""

    input: int
    cached: int
    output: int


class Endpoints:
    """Every endpoint a batch may be for; implements `LineRunner`."""

    def __init__(self, inference: InferenceService, responses: Responses) -> None:
        self._inference = inference
        self._responses = responses

    async def answer(self, principal: Principal, endpoint: str, body: bytes) -> bytes:
        """See `LineRunner`."""
        delivery = await self._start(principal, endpoint, body)
        generation = delivery.generation
        try:
            return await delivery.whole(await generation.collect())
        except BaseException:
            generation.close()
            raise

    async def _start(self, principal: Principal, endpoint: str, body: bytes) -> Delivery:
        costs = Costs(time.perf_counter())
        inference = self._inference
        match endpoint:
            case "/v1/chat/completions":
                chat = decode_body(body, ChatRequest)
                _refuse_stream(chat.stream)
                return ChunkDelivery(await inference.chat(principal, chat, costs))
            case "/v1/completions":
                completion = decode_body(body, CompletionRequest)
                _refuse_stream(completion.stream)
                return ChunkDelivery(await inference.complete(principal, completion, costs))
            case "/v1/embeddings":
                return await embed(inference, principal, decode_body(body, EmbeddingRequest), costs)
            case "/v1/responses":
                response = decode_body(body, ResponseRequest)
                _refuse_stream(response.stream)
                return await self._responses.create(principal, response, costs)
        raise BadRequestError(f"{endpoint} runs no batches.", param="url")


class _Cached(msgspec.Struct):
    cached_tokens: int = 0


class _Usage(msgspec.Struct):
    """Completions and chat name them one way, responses another."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Cached | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    input_tokens_details: _Cached | None = None


class _Answer(msgspec.Struct):
    usage: _Usage | None = None


def tokens_of(answer: bytes) -> Tokens:
    """What an answer says that it took."""
    usage = msgspec.json.decode(answer, type=_Answer).usage or _Usage()
    details = usage.prompt_tokens_details or usage.input_tokens_details or _Cached()
    return Tokens(
        usage.prompt_tokens or usage.input_tokens,
        details.cached_tokens,
        usage.completion_tokens or usage.output_tokens,
    )


def _refuse_stream(stream: bool | None) -> None:
    if stream:
        raise BadRequestError(
            "stream: answers of a batch come whole; leave it out.",
            param="stream",
            code="unsupported_value",
        )
