"""The load generator against a raw server: what it counts, how it notices every kind of failure, when it sends."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from loraplex.platform.bench.connection import Address, Connection, LoadError, Timing
from loraplex.platform.bench.load import Outcome, Shot, closed_loop, open_loop
from loraplex.platform.bench.report import percentile, summarise
from support.patience import PATIENCE_SECONDS

Answer = Callable[[asyncio.StreamWriter, bytes], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
USAGE = (
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\ndata: [DONE]\n\n'
)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[Address]:
    """A server that reads one request after the other and answers each with `answer`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await answer(writer, head + await reader.readexactly(length))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        yield Address.of(f"http://127.0.0.1:{port}/base/", "secret")


async def two_tokens(writer: asyncio.StreamWriter, request: bytes, pause: float = 0.03) -> None:
    writer.write(HEAD + chunk(b'data: {"choices":[{"text":"a"}]}\n\n'))
    await asyncio.sleep(pause)
    writer.write(chunk(b'data: {"choices":[{"text":"b"}]}\n\n' + USAGE) + b"0\r\n\r\n")


async def test_counts_tokens_and_times_arrivals() -> None:
    seen: list[bytes] = []

    async def answer(writer: asyncio.StreamWriter, request: bytes) -> None:
        seen.append(request)
        await two_tokens(writer, request, 0.3)

    async with server(answer) as address:
        connection = await Connection.open(address)
        first = await connection.complete(address, "/v1/completions", b"{}")
        second = await connection.complete(address, "/v1/completions", b"[]")
        connection.close()
    assert (first.tokens, second.tokens) == (2, 2)
    assert len(first.gaps) == 1
    assert 0 < first.first < first.last <= first.total
    assert first.last >= 0.3
    assert first.last == pytest.approx(first.first + first.gaps[0])
    assert seen[0].startswith(b"POST /base/v1/completions HTTP/1.1\r\n")
    assert b"\r\nauthorization: Bearer secret\r\n" in seen[0]
    assert seen[1].endswith(b"\r\n\r\n[]")


async def test_answers_cut_anywhere_are_read_alike() -> None:
    whole = HEAD + chunk(b'data: {"choices":[{"text":"a"}]}\n\n' + USAGE) + b"0\r\n\r\n"

    async def drip(writer: asyncio.StreamWriter, request: bytes) -> None:
        for i in range(0, len(whole), 7):
            writer.write(whole[i : i + 7])
            await asyncio.sleep(0.001)

    async with server(drip) as address:
        connection = await Connection.open(address)
        assert (await connection.complete(address, "/", b"{}")).tokens == 2
        connection.close()


async def refused(writer: asyncio.StreamWriter, request: bytes) -> None:
    writer.write(b'HTTP/1.1 404 Not Found\r\nContent-Length: 12\r\n\r\n{"no":"such"}'[:-1])


async def breaks_off(writer: asyncio.StreamWriter, request: bytes) -> None:
    writer.write(HEAD + chunk(b'data: {"choices":[]}\n\n'))
    await writer.drain()
    writer.close()


async def fails_in_the_middle(writer: asyncio.StreamWriter, request: bytes) -> None:
    writer.write(HEAD + chunk(b'data: {"error":{"message":"It broke."}}\n\n') + b"0\r\n\r\n")


async def says_nothing(writer: asyncio.StreamWriter, request: bytes) -> None:
    writer.write(HEAD + b"0\r\n\r\n")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (refused, "answered 404: {.no"),
        (breaks_off, "closed the connection"),
        (fails_in_the_middle, "It broke"),
        (says_nothing, "without its usage"),
    ],
)
async def test_every_failure_is_an_error_of_its_request_alone(answer: Answer, message: str) -> None:
    turns = iter([answer, two_tokens])

    async def reply(writer: asyncio.StreamWriter, request: bytes) -> None:
        await next(turns)(writer, request)

    async with server(reply) as address:
        outcomes = await closed_loop(address, [Shot("m", (1,), 2)] * 2, 1)
    failed, good = outcomes
    assert failed.timing is None
    with pytest.raises(LoadError, match=message):
        raise LoadError(failed.error)
    assert good.timing is not None
    report = summarise(outcomes)
    assert (report.requests, report.errors, report.output_tokens) == (1, 1, 2)
    assert report.ttft_under_6s == 0.5


async def test_no_server_is_an_error() -> None:
    async with server(two_tokens) as address:
        pass
    (outcome,) = await closed_loop(address, [Shot("m", "text", 2)], 4)
    assert outcome.error is not None
    (outcome,) = await open_loop(address, [Shot("m", "text", 2)], time.perf_counter())
    assert outcome.error is not None
    assert math.isnan(summarise([outcome]).ttft_p50)


async def test_a_closed_loop_keeps_so_many_in_flight() -> None:
    running = most = 0

    async def answer(writer: asyncio.StreamWriter, request: bytes) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await two_tokens(writer, request)
        running -= 1

    async with server(answer) as address:
        outcomes = await closed_loop(address, [Shot("m", (1,), 2)] * 7, 3)
    assert most == 3
    assert [outcome.error for outcome in outcomes] == [None] * 7


async def test_an_open_loop_does_not_wait_for_answers() -> None:
    arrived, all_arrived = 0, asyncio.Event()

    async def slow(writer: asyncio.StreamWriter, request: bytes) -> None:
        nonlocal arrived
        arrived += 1
        if arrived == 4:
            all_arrived.set()
        await all_arrived.wait()
        await two_tokens(writer, request)

    async with server(slow) as address, asyncio.timeout(PATIENCE_SECONDS):
        start = time.perf_counter() + 0.05
        shots = [Shot("m", (1,), 2, at=0.05 * i) for i in range(4)]
        outcomes = await open_loop(address, shots, start)
    assert [outcome.error for outcome in outcomes] == [None] * 4
    assert all(o.sent >= start + shot.at for o, shot in zip(outcomes, shots, strict=True))


def test_the_report_of_several_processes_spans_all_of_them() -> None:
    outcomes = [
        Outcome(10.0, Timing(0.1, 1.0, 1.1, 10, (0.1,) * 9), None),
        Outcome(11.0, Timing(0.3, 1.0, 1.2, 8, (0.1,) * 7), None),
    ]
    report = summarise(outcomes)
    assert report.seconds == pytest.approx(2.2)
    assert report.output_tokens_per_s == pytest.approx(18 / 2.2)
    assert report.ttft_p50 == pytest.approx(300)
    assert report.ttft_p99 == pytest.approx(300)
    assert report.ttft_mean == pytest.approx(200)
    assert report.tpot_p50 == pytest.approx(100)


def test_percentiles_of_few_values() -> None:
    assert [percentile([1.0, 2.0, 3.0, 4.0], share) for share in (0, 0.5, 0.99)] == [1, 3, 4]
    assert math.isnan(percentile([], 0.5))


def test_satisfaction_falls_with_the_square_of_the_time_and_errors_count_as_none() -> None:
    outcomes = [
        Outcome(0.0, Timing(first, first + 1.0, first + 1.0, 2, (1.0,)), None)
        for first in (0.0, 3.0, 6.5)
    ]
    report = summarise([*outcomes, Outcome(0.0, None, "refused")])
    assert report.ttft_under_6s == pytest.approx(2 / 4)
    assert report.satisfaction == pytest.approx((1 + 0.75) / 4)


async def test_an_open_loop_never_sends_on_a_connection_that_the_server_has_closed() -> None:
    """A server closes idle connections after some seconds, and a request sent at that moment would be lost."""

    async def closes(writer: asyncio.StreamWriter, request: bytes) -> None:
        await two_tokens(writer, request)
        await writer.drain()
        writer.close()

    async with server(closes) as address:
        shots = [Shot("m", (1,), 2, at=0.03 * i) for i in range(3)]
        outcomes = await open_loop(address, shots, time.perf_counter())
    assert [outcome.error for outcome in outcomes] == [None] * 3
