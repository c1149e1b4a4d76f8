"""Owns answering requests of the Responses API as chats, with the conversation they build on in front."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from loraplex.platform.auth.principal import Principal
from loraplex.platform.body import decode_part
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.costs import Costs
from loraplex.platform.inference.dialects import Dialect, Opening
from loraplex.platform.inference.service import InferenceService
from loraplex.platform.responses.bodies import (
    Json,
    ReasoningConfig,
    Response,
    TextConfig,
)
from loraplex.platform.responses.chat import chat_of, of_response, tools_of, wants_logprobs
from loraplex.platform.responses.checks import check_input, check_response
from loraplex.platform.responses.delivery import ResponseDelivery
from loraplex.platform.responses.items import Item
from loraplex.platform.responses.reading import read_input
from loraplex.platform.responses.schemas import (
    FunctionTool,
    InputFields,
    ResponseRequest,
    TextFormat,
    TokensRequest,
)
from loraplex.platform.responses.store import PREFIX, Chain, ResponseStore
from loraplex.platform.responses.transcript import Transcript
from loraplex.platform.responses.writer import ResponseWriter


class _Writing(NamedTuple):
    subject: str
    writer: ResponseWriter


class Responses:
    """Makes responses."""

    def __init__(self, inference: InferenceService, store: ResponseStore) -> None:
        self._inference = inference
        self._store = store

    async def create(
        self, principal: Principal, request: ResponseRequest, costs: Costs
    ) -> ResponseDelivery:
        """Start the answer.

        Raises:
            PlatformError: it cannot be served; nothing runs then.
        """
        check_response(request)
        kept = self._is_kept(request)
        own, before = await self._conversation(principal, request)
        response = _response_to(request, tools_of(request), kept=kept)

        def write(opening: Opening) -> _Writing:
            heading, params = opening.heading, opening.params
            begun = msgspec.structs.replace(
                response,
                id=heading.id,
                created_at=heading.created,
                temperature=params.temperature,
                top_p=params.top_p,
            )
            transcript = Transcript(
                begun,
                streams=bool(request.stream),
                obfuscates=bool(
                    request.stream_options and request.stream_options.include_obfuscation
                ),
                logprobs=wants_logprobs(request),
            )
            writer = ResponseWriter(transcript, opening.readers(), opening.tokenizer)
            return _Writing(opening.subject, writer)

        try:
            chat = chat_of(request, [*before.items, *own])
            dialect = Dialect("responses", PREFIX, write)
            generation, writing = await self._inference.speak(principal, chat, costs, dialect)
        except BadRequestError as error:
            raise of_response(error) from None
        keep = self._keeper(principal, writing.subject, own, before.ids) if kept else _forget
        return ResponseDelivery(generation, writing.writer, keep)

    async def count(self, principal: Principal, request: TokensRequest, costs: Costs) -> int:
        """How many tokens the prompt of a request has.

        Raises:
            PlatformError: it could not be served.
        """
        check_input(request)
        own, before = await self._conversation(principal, request)
        try:
            chat = chat_of(request, [*before.items, *own])
            return await self._inference.count(principal, chat, costs)
        except BadRequestError as error:
            raise of_response(error) from None

    async def _conversation(
        self, principal: Principal, request: InputFields
    ) -> tuple[list[Item], Chain]:
        """The items of the request itself, and what came before."""
        own = read_input(request.input)
        if request.previous_response_id is None:
            return own, Chain([], [])
        return own, await self._store.chain(principal, request.previous_response_id)

    def _is_kept(self, request: ResponseRequest) -> bool:
        if self._store.keeping.enabled:
            return request.store is not False
        if request.store:
            raise BadRequestError(
                "store: this server stores no responses; send false, or leave it out.",
                param="store",
                code="unsupported_value",
            )
        return False

    def _keeper(
        self, principal: Principal, subject: str, own: list[Item], chain: list[str]
    ) -> Callable[[Response], Awaitable[None]]:
        async def keep(response: Response) -> None:
            assert principal.tenant_id is not None
            await self._store.keep(principal.tenant_id, subject, response, own, chain)

        return keep


async def _forget(_: Response) -> None:
    """Keep nothing."""


def _response_to(request: ResponseRequest, tools: list[FunctionTool], *, kept: bool) -> Response:
    """What an answer repeats of its request; the rest is filled in when it begins."""
    text, reasoning = request.text, request.reasoning
    return Response(
        id="",
        created_at=0,
        status="in_progress",
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        max_tool_calls=request.max_tool_calls,
        model=request.model,
        output=[],
        parallel_tool_calls=request.parallel_tool_calls is not False,
        previous_response_id=request.previous_response_id,
        prompt_cache_key=request.prompt_cache_key,
        reasoning=ReasoningConfig(None if reasoning is None else reasoning.effort),
        safety_identifier=request.safety_identifier,
        service_tier="flex" if request.service_tier == "flex" else "default",
        store=kept,
        temperature=1.0,
        text=TextConfig(
            _format(None if text is None else text.format),
            None if text is None else text.verbosity,
        ),
        tool_choice=_told_choice(request.tool_choice),
        tools=[_tool(tool) for tool in tools],
        top_logprobs=request.top_logprobs or 0,
        top_p=1.0,
        user=request.user,
        metadata=request.metadata or {},
    )


def _told_choice(raw: msgspec.Raw) -> str | Json:
    # Two steps, since a union is no type to mypy; what is none of the two, `chat_of` refuses with its place.
    choice = decode_part(raw, object, "tool_choice")
    return choice if isinstance(choice, str | dict) else "auto"


def _format(form: TextFormat | None) -> Json:
    if form is None:
        return {"type": "text"}
    if form.type != "json_schema":
        return {"type": form.type}
    return {
        "type": form.type,
        "name": form.name,
        "description": form.description,
        "schema": form.schema,
        "strict": bool(form.strict),
    }


def _tool(tool: FunctionTool) -> Json:
    return {
        "type": tool.type,
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": bool(tool.strict),
    }
