"""No client learns of the end of its answer before the ledger does: should its worker and the engine both die in the
next moment, what was handed over is on record."""

import asyncio
import json

import pytest

from loraplex.platform.db.models import LedgerEntry
from loraplex.platform.engines.outcome import LOST
from loraplex.platform.metering import account as account_module
from loraplex.platform.metering.service import Metering
from loraplex.platform.metering.settlement import RESERVED, SETTLED
from loraplex.platform.metering.transaction import Decision
from loraplex.platform.metering.work import Batch
from loraplex.platform.settings import Settings
from support.asgi_call import AsgiCall
from support.meters import entries
from support.scripted_engine import until
from support.served import Served, served
from support.services import sqlite_only

# Of each dialect: the path, what asks for `tokens` of them, and what only the last frame of a good end and of a bad one
# says.
TALK = [{"role": "user", "content": "a"}]
DIALECTS: dict[str, tuple[str, dict[str, object], str, bytes, bytes]] = {
    "completions": ("/v1/completions", {"prompt": [1, 2]}, "max_tokens", b"[DONE]", b'"error"'),
    "chat": ("/v1/chat/completions", {"messages": TALK}, "max_tokens", b"[DONE]", b'"error"'),
    "responses": (
        "/v1/responses",
        {"input": "a"},
        "max_output_tokens",
        b"response.incomplete",
        b"response.failed",
    ),
    "messages": (
        "/v1/messages",
        {"messages": TALK},
        "max_tokens",
        b"message_stop",
        b"event: error",
    ),
}
TOKENS = 16  # responses are not shorter
TURNS = 200  # of the event loop: far more than a frame takes on its way


class Ledger:
    """Holds settlements, not reservations, in front of the database while `shut`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.held = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()
        commit = Metering._commit

        async def committing(metering: Metering, batch: Batch) -> list[Decision]:
            if batch.settles:
                self.held.set()
                await self._open.wait()
            return await commit(metering, batch)

        monkeypatch.setattr(Metering, "_commit", committing)

    def shut(self) -> None:
        self.held.clear()
        self._open.clear()

    def open(self) -> None:
        self._open.set()


async def nothing_more_leaves(call: AsgiCall, ledger: Ledger, last: bytes) -> None:
    """The settlement is on its way, and the end waits for it."""
    held = asyncio.ensure_future(ledger.held.wait())
    await asyncio.wait({held, call.task}, return_when=asyncio.FIRST_COMPLETED)
    for _ in range(TURNS):
        await asyncio.sleep(0)
    assert last not in call.body
    assert not call.task.done()


async def newest(service: Served) -> LedgerEntry:
    return (await entries(service.database))[-1]


def asked(service: Served, key: str, dialect: str, tokens: int, *, stream: bool) -> AsgiCall:
    path, body, most, _, _ = DIALECTS[dialect]
    return AsgiCall(
        service.app, path, key, {"model": "tiny", **body, most: tokens, "stream": stream}
    )


@sqlite_only
async def test_in_every_dialect(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_module, "WRITTEN_SECONDS", 3600.0)
    ledger = Ledger(monkeypatch)
    async with served(settings) as service:
        key = await service.tenant("acme")
        engine, client = service.engine.engine, service.pool.for_base("tiny").client
        for dialect, (_, _, _, good, bad) in DIALECTS.items():
            # A stream to its end, of which no token is kept back.
            ledger.shut()
            call = asked(service, key, dialect, TOKENS, stream=True)
            await nothing_more_leaves(call, ledger, good)
            await until(lambda: text_of(call.body) == "abcdefghijklmnop")  # noqa: B023 - at once
            ledger.open()
            await call.task
            assert good in call.sent[-1], dialect
            row = await newest(service)
            assert (row.state, row.finish_reason, row.output_tokens) == (SETTLED, "length", TOKENS)

            # A stream that the loss of the engine ends.
            engine.step_seconds = 0.02
            ledger.shut()
            call = asked(service, key, dialect, 900, stream=True)
            await until(lambda: bool(text_of(call.body)))  # noqa: B023 - at once
            client.cut_off()
            await nothing_more_leaves(call, ledger, bad)
            assert (await newest(service)).state == RESERVED
            ledger.open()
            await call.task
            assert bad in call.sent[-1], dialect
            row = await newest(service)
            assert (row.state, row.finish_reason) == (SETTLED, LOST)
            assert row.output_tokens == len(text_of(call.body)), dialect
            engine.step_seconds = 0.0

            # A whole answer.
            ledger.shut()
            call = asked(service, key, dialect, TOKENS, stream=False)
            await nothing_more_leaves(call, ledger, b"{")
            ledger.open()
            await call.task
            assert call.status == 200, dialect
            assert (await newest(service)).state == SETTLED


@sqlite_only
async def test_a_ledger_that_is_away_keeps_no_answer_back_for_ever(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_module, "WRITTEN_SECONDS", 0.05)
    ledger = Ledger(monkeypatch)
    async with served(settings) as service:
        key = await service.tenant("acme")
        ledger.shut()
        call = asked(service, key, "chat", TOKENS, stream=True)
        await call.task
        assert call.body.endswith(b"data: [DONE]\n\n")
        assert (await newest(service)).state == RESERVED
        ledger.open()
        while (await newest(service)).state == RESERVED:  # noqa: ASYNC110 - of the database
            await asyncio.sleep(0.01)
        assert (await newest(service)).output_tokens == TOKENS


def text_of(body: bytes) -> str:
    """What the frames of a stream have told so far, whatever its dialect."""
    told = ""
    for line in body.splitlines():
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line.removeprefix(b"data: "))
        if choices := event.get("choices"):
            told += choices[0].get("text") or choices[0].get("delta", {}).get("content") or ""
        elif event.get("type") == "response.output_text.delta":
            told += event["delta"]
        elif event.get("type") == "content_block_delta":
            told += event["delta"]["text"]
    return told
