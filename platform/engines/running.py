"""Owns what the loop of an engine process knows of the API workers it serves and of their unfinished generations."""

import time
from collections.abc import Collection

from loraplex.engine.request import Output
from loraplex.platform.engines.messages import Final, Generate, Step
from loraplex.platform.engines.traffic import Account


class Client:
    """One API worker: what is to be sent to it, its unfinished generations, and how those ended whose last news are
    among what is to be sent."""

    def __init__(self) -> None:
        self.step = Step([], [], [])
        self.requests: set[str] = set()
        self.finals: dict[str, Final] = {}  # by request

    def take(self) -> Step | None:
        if not (self.step.deltas or self.step.accepted or self.step.refused):
            return None
        taken, self.step = self.step, Step([], [], [])
        return taken

    def acknowledge(self, accounts: Collection[bytes]) -> None:
        """These are written down. An abort may have come in the same round, so that its end is not in the book yet."""
        if self.finals:
            self.finals = {
                request_id: final
                for request_id, final in self.finals.items()
                if final.account not in accounts
            }


class Running:
    """An unfinished generation: whose it is, where its tokens count (`traffic` is None for the base model), and what it
    gave last. It is accepted later than it comes if its output is to have a structure, which may prove impossible."""

    __slots__ = ("accepted", "client", "last", "message", "started", "traffic")

    def __init__(self, client: bytes, message: Generate, traffic: Account | None) -> None:
        self.client = client
        self.message = message
        self.traffic = traffic
        self.last: Output | None = None
        self.accepted = message.params.structure is None
        self.started = time.monotonic()

    def final(self, reason: str, evicted_by: str | None = None) -> Final:
        """Its end, after what it gave last."""
        message, last = self.message, self.last
        prompt_tokens = len(message.prompt_ids)
        return Final(
            message.account,
            message.choice,
            message.prompt,
            reason,
            prompt_tokens,
            0 if last is None else last.cached_tokens,
            0 if last is None else last.output_tokens,
            time.monotonic() - self.started,
            None if last is None else last.timings,
            evicted_by,
        )
