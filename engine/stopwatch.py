"""Owns the measuring of where each request's time goes."""

from dataclasses import dataclass

from loraplex.engine.request import Timings


@dataclass(slots=True, eq=False)
class Absence:
    """How long an adapter that somebody waits for has not been on the device.

    Attributes:
        total: seconds, without the absence that lasts.
        since: when the absence that lasts began; None while the adapter is on the device.
        evicted_by: as in `Timings`.
    """

    total: float = 0.0
    since: float | None = None
    evicted_by: int | None = None

    def begin(self, now: float, evicted_by: int | None) -> None:
        if self.since is None:
            self.since, self.evicted_by = now, evicted_by

    def end(self, now: float) -> None:
        if self.since is not None:
            self.total += now - self.since
            self.since = None

    def until(self, now: float) -> float:
        return self.total if self.since is None else self.total + (now - self.since)


@dataclass(slots=True, eq=False)
class Stopwatch:
    """One request's time. It waits or runs; whoever changes that says when, in seconds of one clock.

    Attributes:
        mark: when the present phase began.
        absence: of the adapter it waits for; None while it runs, and for the base model.
        absent_before: what `absence` said at `mark`.
    """

    mark: float
    queue: float = 0.0
    load: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0
    preemptions: int = 0
    evicted_by: int | None = None
    running: bool = False
    answering: bool = False
    absence: Absence | None = None
    absent_before: float = 0.0

    def wait(self, now: float, absence: Absence | None) -> None:
        """It begins to wait."""
        self._close(now)
        self.running, self.absence = False, absence
        self.absent_before = 0.0 if absence is None else absence.until(now)

    def run(self, now: float) -> None:
        """It is admitted."""
        self._close(now)
        self.running = True

    def first_token(self, now: float) -> None:
        self._close(now)
        self.answering = True

    def timings(self, now: float) -> Timings:
        """It has ended."""
        self._close(now)
        return Timings(
            self.queue, self.load, self.prefill, self.decode, self.preemptions, self.evicted_by
        )

    def _close(self, now: float) -> None:
        spent, self.mark = now - self.mark, now
        if self.running and self.answering:
            self.decode += spent
        elif self.running:
            self.prefill += spent
        else:
            load = 0.0
            if self.absence is not None:
                load = self.absence.until(now) - self.absent_before
                if load > 0 and self.absence.evicted_by is not None:
                    self.evicted_by = self.absence.evicted_by
                self.absent_before += load
            self.load += load
            self.queue += spent - load
