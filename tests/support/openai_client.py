"""Owns the official OpenAI client over an app in the same process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import httpx2
import openai


@asynccontextmanager
async def client_of(http: httpx.AsyncClient, key: str) -> AsyncIterator[openai.AsyncOpenAI]:
    """The client, which takes no answer of another shape, over the app that `http` talks to."""
    transport = http._transport
    assert isinstance(transport, httpx.ASGITransport)
    async with openai.AsyncOpenAI(
        api_key=key,
        base_url="http://test/v1",
        http_client=openai.DefaultAsyncHttpxClient(
            transport=httpx2.ASGITransport(transport.app, raise_app_exceptions=False)
        ),
        max_retries=0,
        _strict_response_validation=True,
    ) as client:
        yield client
