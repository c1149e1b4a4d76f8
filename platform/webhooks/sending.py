"""Owns sending: a chore of every API worker that claims what is due, posts it, and writes down what came of it. A
message arrives at least once, mostly in the order of events."""

import asyncio
import random
import ssl
from collections.abc import Callable
from datetime import datetime, timedelta

import httpx
import structlog
from sqlalchemy.exc import SQLAlchemyError

from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import WebhookDelivery
from loraplex.platform.outbound import Outbound, RefusedTargetError
from loraplex.platform.webhooks.deliveries import Deliveries, Outcome
from loraplex.platform.webhooks.service import secrets_at
from loraplex.platform.webhooks.signing import signed_headers

POLL_SECONDS = 1.0  # between an event and its first attempt at most
SLOTS = 32  # attempts under way in one worker; each webhook takes one
ATTEMPT_SECONDS = 10.0  # for resolving, connecting, sending and the answer together
ANSWER_BYTES = 64 * 1024  # read of an answer, so that the receiver can write it; nobody looks at it
LAST_SECONDS = 3.0  # for attempts under way when the worker ends
FORGET_EVERY = timedelta(hours=1)
DROP_EVERY = timedelta(minutes=1)


class Sender:
    """Sends what is due, from any number of workers."""

    def __init__(
        self,
        database: Database,
        outbound: Outbound,
        clock: Callable[[], datetime] = utc_now,
        random: Callable[[], float] = random.random,
        attempt_seconds: float = ATTEMPT_SECONDS,
    ) -> None:
        self._deliveries = Deliveries(database.main, clock, random)
        self._outbound = outbound
        self._clock = clock
        self._attempt_seconds = attempt_seconds
        self._sending: set[asyncio.Task[None]] = set()
        self._delivered = asyncio.Event()

    async def run(self, ending: asyncio.Event) -> None:
        """Send until `ending` is set, then wait a little for what is under way; another worker takes up the rest."""
        forget_at = self._clock() + FORGET_EVERY * random.random()  # noqa: S311  # no secret
        drop_at = self._clock() + DROP_EVERY * random.random()  # noqa: S311  # no secret
        while not ending.is_set():
            self._delivered.clear()
            try:
                await self.start_due()
                if self._clock() >= drop_at:
                    drop_at = self._clock() + DROP_EVERY
                    await self._deliveries.drop_surplus()
                if self._clock() >= forget_at:
                    forget_at = self._clock() + FORGET_EVERY
                    await self._deliveries.forget_old()
            except (SQLAlchemyError, OSError) as error:
                structlog.get_logger().error("claiming webhook deliveries failed", error=str(error))
                # Not at once again, whatever gets through meanwhile.
                self._delivered.clear()
            await self._pause(ending)
        await self.finish(LAST_SECONDS)

    async def start_due(self) -> int:
        """Begin as many attempts as are due and there are free slots for; how many."""
        free = SLOTS - len(self._sending)
        claimed = await self._deliveries.claim(free) if free else ()
        for held in claimed:
            task = asyncio.create_task(self._deliver(held))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        return len(claimed)

    async def finish(self, seconds: float | None = None) -> None:
        """Wait for attempts under way, and break off those that take longer than `seconds`."""
        if self._sending:
            _, late = await asyncio.wait(self._sending, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _pause(self, ending: asyncio.Event) -> None:
        """Until it is time to look again: a webhook takes one message at a time, so that the next of a backlog goes as
        soon as one has got through. One that fails is not met with the rest of it any faster."""
        pause = POLL_SECONDS * random.uniform(0.5, 1)  # noqa: S311  # no secret
        waits = [asyncio.create_task(event.wait()) for event in (ending, self._delivered)]
        await asyncio.wait(waits, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    async def _deliver(self, held: WebhookDelivery) -> None:
        outcome = await self._attempt(held)
        try:
            await self._deliveries.settle(held, outcome)
            if outcome.delivered:
                self._delivered.set()
        except (SQLAlchemyError, OSError) as error:
            # Sent again when the lease has run out.
            structlog.get_logger().error("settling a webhook delivery failed", error=str(error))

    async def _attempt(self, held: WebhookDelivery) -> Outcome:
        now = self._clock()
        headers = {
            "content-type": "application/json",
            "user-agent": "loraplex",
            **signed_headers(str(held.id), now, held.body, secrets_at(held.webhook, now)),
        }
        status: int | None = None
        try:
            async with (
                asyncio.timeout(self._attempt_seconds),
                self._outbound.client(self._attempt_seconds) as client,
                client.stream(
                    "POST", held.webhook.url, content=held.body, headers=headers
                ) as answer,
            ):
                status = answer.status_code
                await _read_some(answer)
        except RefusedTargetError as error:
            return Outcome(None, str(error))
        except (TimeoutError, httpx.TimeoutException):
            if status is None:
                return Outcome(None, f"No answer came within {self._attempt_seconds:g} s.")
        except (httpx.HTTPError, OSError, ssl.SSLError) as error:
            if status is None:
                return Outcome(None, _reason(error))
        except Exception as error:
            # It counts as an attempt, whatever it is: else there would be no end of them.
            structlog.get_logger().error(
                "unexpected error in a webhook delivery", error=repr(error)
            )
            return Outcome(None, "Something went wrong on our side.")
        assert status is not None
        if 200 <= status < 300:
            return Outcome(status)
        redirected = "; redirects are not followed" if 300 <= status < 400 else ""
        return Outcome(status, f"The receiver answered {status}{redirected}.")


async def _read_some(answer: httpx.Response) -> None:
    read = 0
    # Raw: a small body may unpack to a large one.
    async for chunk in answer.aiter_raw(ANSWER_BYTES):
        read += len(chunk)
        if read >= ANSWER_BYTES:
            return


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
    return f"The connection failed: {text}."
