"""Events get to receivers at least once, signed, with patience, and to nobody else."""

import asyncio
import base64
import hashlib
import hmac
import json
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import select, text

from loraplex.platform.db.models import AuditEntry, Webhook, WebhookDelivery
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.outbound import Outbound
from loraplex.platform.webhooks import sending
from loraplex.platform.webhooks.deliveries import (
    ATTEMPTS,
    DISABLED,
    DROPPED,
    LEASE,
    Outcome,
    _first_due,
    disable,
)
from loraplex.platform.webhooks.events import MEANINGS, Event, emit
from loraplex.platform.webhooks.sending import Sender
from loraplex.platform.webhooks.signing import new_secret
from support.patience import PATIENCE_SECONDS
from support.receiver import Received, status
from support.services import sqlite_only
from support.webhooks import Hooks


def verified(request: Received, secret: str) -> bool:
    """As a receiver checks a message that follows the convention."""
    signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode()
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.new(key, signed + request.body, hashlib.sha256).digest())
    given = request.headers["webhook-signature"].split(" ")
    return any(hmac.compare_digest(one.encode(), b"v1," + expected) for one in given)


def test_every_event_has_a_sentence() -> None:
    assert set(MEANINGS) == set(Event)


async def test_a_message_is_signed_and_tells_what_happened(hooks: Hooks) -> None:
    hook = await hooks.add(path="/in?box=1")
    await hooks.emit("key.created", key="abc", limit=timedelta(seconds=1))
    assert await hooks.send() == 1
    (request,) = hooks.got.received
    assert request.target == "/in?box=1"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-timestamp"] == str(int(hooks.clock().timestamp()))
    assert verified(request, hook.secret)
    assert not verified(request, (await hooks.add()).secret)
    body = json.loads(request.body)
    assert (body["type"], body["data"]) == ("key.created", {"key": "abc", "limit": "PT1S"})
    (row,) = await hooks.rows()
    assert request.headers["webhook-id"] == str(row.id)
    assert (row.state, row.attempts, row.last_status) == ("delivered", 1, 204)
    assert row.ended_at == hooks.clock()
    assert await hooks.send() == 0


@sqlite_only
async def test_both_secrets_sign_for_a_day(hooks: Hooks) -> None:
    hook = await hooks.add()
    async with hooks.database.main.writing(EVERY_TENANT) as session:
        row = await session.get_one(Webhook, hook.id)
        row.previous_secret, row.previous_until = hook.secret, hooks.clock() + timedelta(hours=1)
        row.secret = new_secret()
    await hooks.emit()
    await hooks.send()
    hooks.clock.forward(hours=2)
    await hooks.emit()
    await hooks.send()
    during, after = hooks.got.received
    assert verified(during, hook.secret)
    assert verified(during, row.secret)
    assert verified(after, row.secret)
    assert not verified(after, hook.secret)


async def test_it_is_tried_again_after_errors_and_silence(hooks: Hooks) -> None:
    await hooks.add()
    await hooks.emit()
    hooks.got.answers = [status(500), status(302, "location: /secrets")]
    await hooks.send()
    (row,) = await hooks.rows()
    assert (row.state, row.attempts, row.last_status) == ("pending", 1, 500)
    assert row.last_error == "The receiver answered 500."
    assert row.next_at == hooks.clock() + timedelta(seconds=15)
    assert await hooks.send() == 0  # not yet
    hooks.clock.forward(seconds=15)
    await hooks.send()
    (row,) = await hooks.rows()
    assert row.last_error == "The receiver answered 302; redirects are not followed."
    hooks.clock.forward(minutes=1)
    hooks.got.answers = [None]
    await hooks.send(hooks.sender(attempt_seconds=0.05))
    (row,) = await hooks.rows()
    assert (row.state, row.attempts, row.last_status) == ("pending", 3, None)
    assert row.last_error == "No answer came within 0.05 s."
    hooks.clock.forward(minutes=4)
    hooks.got.answers.clear()  # the request may not even have got there
    await hooks.send()
    (row,) = await hooks.rows()
    assert (row.state, row.attempts, row.last_error) == ("delivered", 4, None)
    assert {request.target for request in hooks.got.received} == {"/"}
    assert len({request.headers["webhook-id"] for request in hooks.got.received}) == 1


@sqlite_only
async def test_it_is_given_up_after_about_a_day(hooks: Hooks) -> None:
    await hooks.add(url="http://127.0.0.1:1/")  # nobody listens there
    await hooks.emit()
    begun = hooks.clock()
    for attempt in range(1, ATTEMPTS + 1):
        assert await hooks.send() == 1
        (row,) = await hooks.rows()
        assert row.attempts == attempt
        hooks.clock.now = row.next_at
    assert (row.state, row.ended_at) == ("failed", hooks.clock())
    assert row.last_error is not None
    assert row.last_error.startswith("The connection failed")
    assert timedelta(hours=20) < hooks.clock() - begun < timedelta(hours=28)
    hooks.clock.forward(days=1)
    assert await hooks.send() == 0


async def test_workers_that_claim_at_once_get_different_deliveries(hooks: Hooks) -> None:
    for _ in range(4):
        await hooks.add()
    for _ in range(3):
        await hooks.emit()
    seen: list[WebhookDelivery] = []
    while True:
        batches = await asyncio.gather(*(hooks.deliveries().claim(3) for _ in range(4)))
        claimed = [row for batch in batches for row in batch]
        if not claimed:
            break
        # Of one webhook only one is under way.
        assert len({row.webhook_id for row in claimed}) == len(claimed)
        assert await hooks.deliveries().claim(32) == []
        seen += claimed
        for row in claimed:
            await hooks.deliveries().settle(row, Outcome(200))
    assert len({row.id for row in seen}) == len(seen) == 12
    for hook in {row.webhook_id for row in seen}:
        in_turn = [row.id for row in seen if row.webhook_id == hook]
        assert in_turn == sorted(in_turn)


async def test_two_senders_deliver_once_each(hooks: Hooks) -> None:
    for path in ("/a", "/b", "/c"):
        await hooks.add(path=path)
    await hooks.emit()
    senders = [hooks.sender(), hooks.sender()]
    started = await asyncio.gather(*(sender.start_due() for sender in senders))
    await asyncio.gather(*(sender.finish() for sender in senders))
    assert sum(started) == 3
    assert sorted(request.target for request in hooks.got.received) == ["/a", "/b", "/c"]


async def test_what_a_dead_worker_held_is_taken_over(hooks: Hooks) -> None:
    await hooks.add()
    await hooks.emit()
    (held,) = await hooks.deliveries().claim(1)
    assert await hooks.send() == 0
    hooks.clock.forward(seconds=LEASE.total_seconds())
    (taken,) = await hooks.deliveries().claim(1)
    assert (taken.id, taken.attempts) == (held.id, 2)
    # It was not dead after all; what it has to say does not count any more.
    await hooks.deliveries().settle(held, Outcome(500, "late"))
    (row,) = await hooks.rows()
    assert (row.state, row.last_error, row.locked_until) == ("pending", None, taken.locked_until)
    await hooks.deliveries().settle(taken, Outcome(200))
    (row,) = await hooks.rows()
    assert row.state == "delivered"


async def test_a_disabled_webhook_gets_nothing(hooks: Hooks) -> None:
    hook = await hooks.add()
    await hooks.emit()
    async with hooks.database.main.writing(hooks.tenant) as session:
        await disable(session, await session.get_one(Webhook, hook.id), hooks.clock())
    await hooks.emit()
    assert await hooks.send() == 0
    (row,) = await hooks.rows()
    assert (row.state, row.last_error) == ("failed", DISABLED)
    assert hooks.got.received == []


@sqlite_only
async def test_an_event_that_was_written_while_it_was_disabled_waits(hooks: Hooks) -> None:
    hook = await hooks.add()
    await hooks.emit()
    async with hooks.database.main.writing(EVERY_TENANT) as session:
        (await session.get_one(Webhook, hook.id)).disabled_at = hooks.clock()
    assert await hooks.send() == 0


async def fail_for_good(hooks: Hooks) -> None:
    """An event that gets through in no attempt."""
    hooks.got.answers = [status(503)] * ATTEMPTS
    await hooks.emit()
    for _ in range(ATTEMPTS):
        await hooks.send()
        hooks.clock.forward(hours=18)


@sqlite_only
async def test_a_webhook_that_fails_for_days_is_disabled(hooks: Hooks) -> None:
    hook = await hooks.add()
    await fail_for_good(hooks)
    hooks.clock.forward(days=30)  # but one thing gets through
    await hooks.emit()
    await hooks.send()
    await fail_for_good(hooks)
    async with hooks.database.main.reading(EVERY_TENANT) as session:
        assert (await session.get_one(Webhook, hook.id)).disabled_at is None
    await fail_for_good(hooks)
    async with hooks.database.main.reading(EVERY_TENANT) as session:
        assert (await session.get_one(Webhook, hook.id)).disabled_at is not None
        (entry,) = await session.scalars(select(AuditEntry))
    assert (entry.action, entry.actor, entry.target) == ("webhook.disable", "system", str(hook.id))
    assert (entry.before, entry.after) == ({"enabled": True}, {"enabled": False})
    assert entry.tenant_id == hooks.tenant


async def test_a_receiver_that_is_gone_is_asked_no_more(hooks: Hooks) -> None:
    hook = await hooks.add()
    hooks.got.answers = [status(410)]
    await hooks.emit()
    await hooks.emit()
    await hooks.send()
    assert [row.state for row in await hooks.rows()] == ["failed", "failed"]
    assert len(hooks.got.received) == 1
    async with hooks.database.main.reading(EVERY_TENANT) as session:
        assert (await session.get_one(Webhook, hook.id)).disabled_at == hooks.clock()


async def test_only_the_webhooks_of_the_tenant_that_want_an_event_get_it(hooks: Hooks) -> None:
    await hooks.add(path="/all")
    await hooks.add("key.created", "key.revoked", path="/keys")
    await hooks.add("member.joined", path="/members")
    await hooks.add(path="/globex", tenant=hooks.other)
    await hooks.emit("key.revoked")
    await hooks.send()
    assert sorted(request.target for request in hooks.got.received) == ["/all", "/keys"]
    async with hooks.database.main.writing(EVERY_TENANT) as session:
        await emit(session, hooks.other, "member.joined", {})
        await emit(session, None, "member.joined", {})
    hooks.got.received.clear()
    await hooks.send()
    assert [request.target for request in hooks.got.received] == ["/globex"]
    with pytest.raises(ValueError, match="no-such"):
        await hooks.emit("no-such.event")


async def test_a_change_that_is_undone_emits_nothing(hooks: Hooks) -> None:
    await hooks.add()

    async def change_and_fail() -> None:
        async with hooks.database.main.writing(hooks.tenant) as session:
            await emit(session, hooks.tenant, "key.created", {})
            await session.flush()
            raise LookupError

    with pytest.raises(LookupError):
        await change_and_fail()
    assert await hooks.rows() == []
    assert await hooks.send() == 0


@sqlite_only
async def test_a_long_answer_is_cut(hooks: Hooks) -> None:
    await hooks.add()
    await hooks.emit()
    size = 64 * 1024**2  # far above what sockets hold
    head = f"HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n".encode()
    hooks.got.answers = [head + bytes(size)]
    await hooks.send()
    (row,) = await hooks.rows()
    assert (row.state, row.last_status) == ("delivered", 200)
    assert 0 < hooks.got.written < size / 2


@sqlite_only
async def test_an_answer_that_never_ends_counts_by_its_status(hooks: Hooks) -> None:
    await hooks.add()
    await hooks.emit()
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"
    hooks.got.answers = [head]
    await hooks.send()
    (row,) = await hooks.rows()
    assert (row.state, row.last_status) == ("delivered", 200)


@sqlite_only
async def test_a_name_that_leads_inside_is_refused_without_saying_where(hooks: Hooks) -> None:
    await hooks.add(url=f"http://hooks.example:{hooks.got.port}/")
    await hooks.emit()

    async def resolve(_: str, __: int) -> list[str]:
        return ["127.0.0.1"]

    outbound = Outbound(allow_http=True, resolve=resolve)
    await hooks.send(Sender(hooks.database, outbound, hooks.clock))
    (row,) = await hooks.rows()
    assert row.state == "pending"
    assert row.last_error is not None
    assert "public internet" in row.last_error
    assert "127" not in row.last_error
    assert hooks.got.received == []


@sqlite_only
async def test_an_attempt_that_fails_in_an_unknown_way_counts(hooks: Hooks) -> None:
    await hooks.add(url="http://hooks.example/")
    await hooks.emit()

    async def resolve(_: str, __: int) -> list[str]:
        raise RuntimeError

    outbound = Outbound(allow_http=True, resolve=resolve)
    await hooks.send(Sender(hooks.database, outbound, hooks.clock))
    (row,) = await hooks.rows()
    assert (row.state, row.attempts, row.locked_until) == ("pending", 1, None)
    assert row.last_error == "Something went wrong on our side."


@sqlite_only
async def test_receivers_that_hang_with_a_backlog_leave_slots_to_others(hooks: Hooks) -> None:
    for _ in range(3):
        await hooks.add("key.created")
    for _ in range(60):
        await hooks.emit("key.created")
    healthy = await hooks.add("key.revoked")
    await hooks.emit("key.revoked")
    turns: list[UUID] = []
    while healthy.id not in turns:
        assert len(turns) < 150, "the others' backlog came first"
        claimed = await hooks.deliveries().claim(1)
        turns += [row.webhook_id for row in claimed]
        for row in claimed:
            await hooks.deliveries().settle(row, Outcome(None, "No answer came."))


async def test_of_too_long_a_backlog_the_oldest_are_given_up(hooks: Hooks) -> None:
    hook, calm = await hooks.add(), await hooks.add("key.revoked")
    await hooks.emit("key.revoked")
    for _ in range(6):
        await hooks.emit()
    deliveries = hooks.deliveries()
    (held,) = [row for row in await deliveries.claim(9) if row.webhook_id == hook.id]
    assert await deliveries.drop_surplus(most=7) == 0
    # The oldest of seven is under way, and what is under way is left alone.
    assert await deliveries.drop_surplus(most=4) == 2
    rows = [row for row in await hooks.rows() if row.webhook_id == hook.id]
    assert [row.state for row in rows] == ["pending", "failed", "failed"] + ["pending"] * 4
    assert {row.last_error for row in rows if row.state == "failed"} == {DROPPED}
    assert [row.state for row in await hooks.rows() if row.webhook_id == calm.id] == ["pending"]
    async with hooks.database.main.reading(EVERY_TENANT) as session:
        (entry,) = await session.scalars(select(AuditEntry))
    assert (entry.action, entry.target) == ("webhook.drop", str(hook.id))
    assert entry.detail["deliveries"] == 2
    await deliveries.settle(held, Outcome(200))
    assert await deliveries.drop_surplus(most=4) == 0


@sqlite_only
async def test_a_backlog_goes_as_fast_as_it_is_taken(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A test that waited for the next look would not end.
    monkeypatch.setattr(sending, "POLL_SECONDS", 10 * PATIENCE_SECONDS)
    await hooks.add()
    for _ in range(5):
        await hooks.emit()
    ending = asyncio.Event()
    running = asyncio.create_task(hooks.sender().run(ending))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(hooks.got.received) < 5:  # noqa: ASYNC110 - the receiver sets no event
            await asyncio.sleep(0.01)
    ending.set()
    await running
    assert [row.state for row in await hooks.rows()] == ["delivered"] * 5


@sqlite_only
async def test_a_backlog_does_not_cost_its_square(hooks: Hooks) -> None:
    statement = _first_due(hooks.clock()).compile()
    async with hooks.database.main.connection() as connection:
        values = dict.fromkeys(statement.params, "")
        plan = await connection.execute(text(f"EXPLAIN QUERY PLAN {statement}"), values)
        steps = [str(row[3]) for row in plan]
    assert steps
    assert not [step for step in steps if "CORRELATED" in step]


@sqlite_only
async def test_what_ended_long_ago_is_forgotten(hooks: Hooks) -> None:
    await hooks.add()
    await hooks.emit()
    await hooks.send()
    hooks.clock.forward(days=29)
    await hooks.deliveries().forget_old()
    assert len(await hooks.rows()) == 1
    await hooks.add(url="http://127.0.0.1:1/")
    await hooks.emit()
    hooks.clock.forward(days=2)
    await hooks.deliveries().forget_old()
    assert {row.state for row in await hooks.rows()} == {"pending"}
