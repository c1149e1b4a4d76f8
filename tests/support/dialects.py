"""Owns the official clients in front of a service in this process, and what a dialect is tested with without one."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx2
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from loraplex.engine.request import FinishReason
from loraplex.platform.engines.messages import Delta
from loraplex.platform.inference.chat_events import ChatEvent
from loraplex.platform.responses.bodies import ReasoningConfig, Response, TextConfig
from support.served import Served


@asynccontextmanager
async def openai_client(service: Served, key: str) -> AsyncIterator[AsyncOpenAI]:
    """OpenAI's, which judges every answer strictly."""
    async with (
        _http(service) as http,
        AsyncOpenAI(
            base_url="http://test/v1",
            api_key=key,
            max_retries=0,
            http_client=http,
            _strict_response_validation=True,
        ) as client,
    ):
        yield client


@asynccontextmanager
async def anthropic_client(service: Served, key: str) -> AsyncIterator[AsyncAnthropic]:
    """Anthropic's, as strict."""
    async with (
        _http(service) as http,
        AsyncAnthropic(
            base_url="http://test",
            api_key=key,
            max_retries=0,
            http_client=http,
            _strict_response_validation=True,
        ) as client,
    ):
        yield client


class ScriptedReader:
    """Tells one list of events for each delta."""

    def __init__(self, told: Sequence[list[ChatEvent]], reasoning_tokens: int = 0) -> None:
        self.reasoning_tokens = reasoning_tokens
        self._told = iter(told)

    def read(self, _: Delta) -> list[ChatEvent]:
        return next(self._told)


def delta(text: str = "", output: int = 1, finish: FinishReason | None = None) -> Delta:
    """News of a prompt of five tokens, of which two were cached."""
    return Delta("r", (output,), text, None, finish, None, 5, 2, output)


def begun_response() -> Response:
    """One of which nothing is written yet."""
    return Response(
        id="resp_1",
        created_at=1,
        status="in_progress",
        instructions=None,
        max_output_tokens=None,
        max_tool_calls=None,
        model="m",
        output=[],
        parallel_tool_calls=True,
        previous_response_id=None,
        prompt_cache_key=None,
        reasoning=ReasoningConfig(None),
        safety_identifier=None,
        store=True,
        temperature=1.0,
        text=TextConfig({"type": "text"}, None),
        tool_choice="auto",
        tools=[],
        top_logprobs=0,
        top_p=1.0,
        user=None,
        metadata={},
    )


def _http(service: Served) -> httpx2.AsyncClient:
    # The ignore: Litestar's ASGI types are narrower than the protocol's own.
    transport = httpx2.ASGITransport(service.app, raise_app_exceptions=False)  # type: ignore[arg-type]
    return httpx2.AsyncClient(transport=transport)
