"""Owns sending concurrent streamed completions to a server and timing what comes back."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
import msgspec


class LoadError(Exception):
    """The server refused or broke off; the message is fit for the user."""


@dataclass(frozen=True, slots=True)
class Load:
    """What to send: `requests` completions, at most `concurrency` at a time, models taken in turn."""

    models: tuple[str, ...]
    requests: int
    concurrency: int
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Timing:
    """One request: seconds to the first token and to the end, and tokens received."""

    first_token: float
    total: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a run measured; times in milliseconds."""

    requests: int
    seconds: float
    output_tokens_per_s: float
    ttft_p50: float
    ttft_p99: float
    tpot_p50: float
    tpot_p99: float


class _Choice(msgspec.Struct):
    text: str = ""


class _Usage(msgspec.Struct):
    completion_tokens: int


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: msgspec.Raw | None = None


async def run_load(url: str, key: str, load: Load) -> Report:
    """Send the load and summarise it.

    Raises:
        LoadError: a request failed.
    """
    numbers = iter(range(load.requests))
    limits = httpx.Limits(max_connections=load.concurrency)
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(
        base_url=url.rstrip("/"), headers=headers, limits=limits, timeout=600
    ) as client:

        async def worker() -> list[Timing]:
            return [await _complete(client, load, number) for number in numbers]

        start = time.perf_counter()
        try:
            async with asyncio.TaskGroup() as group:
                workers = [group.create_task(worker()) for _ in range(load.concurrency)]
        except* (LoadError, httpx.HTTPError) as errors:
            first = errors.exceptions[0]
            raise LoadError(str(first) or type(first).__name__) from None
        seconds = time.perf_counter() - start
    return _summarise([timing for task in workers for timing in task.result()], seconds)


async def _complete(client: httpx.AsyncClient, load: Load, number: int) -> Timing:
    body = {
        "model": load.models[number % len(load.models)],
        # Token ids that every vocabulary has, different for each request so that no prefix is shared.
        "prompt": [2 + (number * 7919 + i * 31) % 97 for i in range(load.prompt_tokens)],
        "max_tokens": load.output_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    start = time.perf_counter()
    first = 0.0
    tokens = 0
    async with client.stream("POST", "/v1/completions", json=body) as answer:
        if answer.status_code != httpx.codes.OK:
            detail = (await answer.aread()).decode(errors="replace")
            raise LoadError(f"The server answered {answer.status_code}: {detail[:300]}")
        async for line in answer.aiter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            chunk = msgspec.json.decode(line[len("data: ") :], type=_Chunk)
            if chunk.error is not None:
                raise LoadError(f"A stream ended with an error: {bytes(chunk.error).decode()}")
            if not first:
                first = time.perf_counter() - start
            if chunk.usage is not None:
                tokens = chunk.usage.completion_tokens
    return Timing(first, time.perf_counter() - start, tokens)


def _summarise(timings: Sequence[Timing], seconds: float) -> Report:
    ttft = sorted(1000 * t.first_token for t in timings)
    tpot = sorted(1000 * (t.total - t.first_token) / max(t.tokens - 1, 1) for t in timings)
    return Report(
        requests=len(timings),
        seconds=seconds,
        output_tokens_per_s=sum(t.tokens for t in timings) / seconds,
        ttft_p50=_percentile(ttft, 0.5),
        ttft_p99=_percentile(ttft, 0.99),
        tpot_p50=_percentile(tpot, 0.5),
        tpot_p99=_percentile(tpot, 0.99),
    )


def _percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
