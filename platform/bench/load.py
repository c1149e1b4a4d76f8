"""Owns sending streamed requests to a server, some at a time or each at its moment, and what became of each."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from loraplex.platform.bench.connection import Address, Connection, LoadError, Timing


@dataclass(frozen=True, slots=True)
class Shot:
    """One completion to ask for. `prompt` is token ids, or text; `at` counts seconds from the start of the run, for
    loads that do not wait for answers."""

    model: str
    prompt: tuple[int, ...] | str
    output_tokens: int
    at: float = 0.0
    chat: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """When a shot was sent, on the clock of `time.perf_counter`, and either its timing or what went wrong."""

    sent: float
    timing: Timing | None
    error: str | None


async def closed_loop(address: Address, shots: Sequence[Shot], concurrency: int) -> list[Outcome]:
    """Send shots in order, `concurrency` at a time: a client sends its next one when it has its answer."""
    coming = iter(shots)
    clients = min(concurrency, len(shots))
    results = await asyncio.gather(*(_client(address, coming) for _ in range(clients)))
    return [outcome for result in results for outcome in result]


async def open_loop(address: Address, shots: Sequence[Shot], start: float) -> list[Outcome]:
    """Send each shot at its time after `start` (of `time.perf_counter`), on a connection of its own, whatever became of
    the others."""

    async def fire(shot: Shot) -> Outcome:
        await asyncio.sleep(start + shot.at - time.perf_counter())
        try:
            # An idle one may be closed by the server in the moment of sending.
            connection = await Connection.open(address)
        except LoadError as error:
            return Outcome(time.perf_counter(), None, str(error))
        try:
            return await _send(connection, address, shot)
        finally:
            connection.close()

    return list(await asyncio.gather(*map(fire, shots)))


async def _client(address: Address, coming: Iterator[Shot]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    connection: Connection | None = None
    for shot in coming:
        if connection is None:
            try:
                connection = await Connection.open(address)
            except LoadError as error:
                outcomes.append(Outcome(time.perf_counter(), None, str(error)))
                continue
        outcomes.append(await _send(connection, address, shot))
        if outcomes[-1].error is not None:
            connection.close()
            connection = None
    if connection is not None:
        connection.close()
    return outcomes


async def _send(connection: Connection, address: Address, shot: Shot) -> Outcome:
    body: dict[str, object] = {
        "model": shot.model,
        "max_tokens": shot.output_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if shot.chat:
        body["messages"] = [{"role": "user", "content": shot.prompt}]
    else:
        body["prompt"] = shot.prompt
    route = "/v1/chat/completions" if shot.chat else "/v1/completions"
    data = msgspec.json.encode(body)
    sent = time.perf_counter()
    try:
        return Outcome(sent, await connection.complete(address, route, data), None)
    except LoadError as error:
        return Outcome(sent, None, str(error))
