"""Owns the account of one running request: the ends of its choices, gathered into one settlement."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from uuid import UUID

from loraplex.platform.engines.messages import Delta
from loraplex.platform.engines.outcome import CANCELLED, LOST, Outcome
from loraplex.platform.errors import BadRequestError, EngineUnavailableError
from loraplex.platform.metering.service import Metering
from loraplex.platform.metering.settlement import SETTLED, Settlement
from loraplex.platform.metering.work import Acknowledge, Settling

REFUSED = "refused"
# The end of an answer is not kept back for longer, whatever is wrong with the database. One that was only restarted is
# back by then, and the shortest timeouts of clients and proxies between two frames are longer.
WRITTEN_SECONDS = 5.0
# Of choices that ended differently, the first of these that occurs is the request's.
GRAVEST_FIRST = ("error", LOST, CANCELLED, "length", "stop")


class Account:
    """Settles the request once: when its last choice has ended, or when it is given up before."""

    def __init__(
        self,
        metering: Metering,
        ledger_id: UUID,
        prompts: int,
        n: int,
        acknowledge: Acknowledge,
        observe: Callable[[Outcome], None],
    ) -> None:
        """Choices `i*n` to `i*n + n-1` answer prompt i. `observe` is told of every choice, for metrics."""
        self._metering = metering
        self._ledger_id = ledger_id
        self._n = n
        self._acknowledge = acknowledge
        self._observe = observe
        self._outcomes: list[Outcome | None] = [None] * (prompts * n)
        self._missing = prompts * n
        self._started = time.monotonic()
        self._settling: Settling | None = None

    def settle(self, choice: int, outcome: Outcome) -> None:
        """A choice has ended. Neither waits nor raises."""
        self._observe(outcome)
        self._missing -= self._outcomes[choice] is None
        self._outcomes[choice] = outcome
        if not self._missing:
            self._close(outcome)

    def handing(self, choice: int, delta: Delta) -> None:
        """More of a choice is about to be handed over. Neither waits nor raises."""
        counts = delta.prompt_tokens, delta.cached_tokens, delta.output_tokens
        self._metering.note(self._ledger_id, choice, choice // self._n, counts)

    async def written(self) -> None:
        """Return when the settlement is committed, or lost, or after `WRITTEN_SECONDS`."""
        if self._settling is None or self._settling.over:
            return
        with suppress(Exception):  # what is lost is logged
            async with asyncio.timeout(WRITTEN_SECONDS):
                await self._settling.ended()

    def give_up(self, error: BaseException) -> None:
        """It did not begin. What was begun of it is not counted: nothing of it was handed over."""
        if self._settling is not None:
            return
        if isinstance(error, BadRequestError | EngineUnavailableError):
            reason = REFUSED
        else:
            reason = CANCELLED if isinstance(error, asyncio.CancelledError) else "error"
        self._send(Settlement(self._ledger_id, SETTLED, reason, 0, 0, 0, self._seconds()))

    def _close(self, last: Outcome) -> None:
        outcomes = [outcome for outcome in self._outcomes if outcome is not None]
        reasons = {outcome.finish_reason for outcome in outcomes}
        # The answers of one prompt share it; each has at most read it from the cache in its own way.
        prompts = [outcomes[i : i + self._n] for i in range(0, len(outcomes), self._n)]
        self._send(
            Settlement(
                self._ledger_id,
                SETTLED,
                next(reason for reason in GRAVEST_FIRST if reason in reasons),
                sum(max(outcome.prompt_tokens for outcome in own) for own in prompts),
                sum(own[0].cached_tokens for own in prompts),
                sum(outcome.output_tokens for outcome in outcomes),
                self._seconds(),
                last.first_token,
                last.timings,
                last.evicted_by,
            )
        )

    def _send(self, settlement: Settlement) -> None:
        if self._settling is None:
            self._settling = self._metering.settle_soon(settlement, self._acknowledge)

    def _seconds(self) -> float:
        return time.monotonic() - self._started
