"""Owns what the times of an engine's steps say; the same arithmetic for every engine that is measured."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Run:
    """What one batch of requests, all added at once, showed.

    Attributes:
        step_ms: median time between two steps that each brought one token to every sequence.
        tpot_ms: median over sequences of the time per token after the first.
        ttft_ms: median over sequences of the time to the first token.
        last_ttft_ms: until the last sequence had its first token.
        wall_s: from the first request to the last token.
        context: mean KV length in the steps that `step_ms` is about.
    """

    step_ms: float
    tpot_ms: float
    ttft_ms: float
    last_ttft_ms: float
    wall_s: float
    context: float


class Stamps:
    """Collects the return of every step.

    Args:
        sequences: how many there are.
        prompt: mean tokens of their prompts.
        start: seconds, when the first was added.
    """

    def __init__(self, sequences: int, prompt: float, start: float) -> None:
        self._sequences, self._prompt, self._start = sequences, prompt, start
        self._first: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._tokens: dict[str, int] = {}
        self._steady: list[float] = []
        self._contexts: list[float] = []
        self._before: float | None = None  # when the last step ended, if it was a full one

    def add(self, now: float, brought: Mapping[str, int]) -> None:
        """A step ended and brought so many tokens to each of these sequences."""
        full = (
            len(self._first) == self._sequences == len(brought)
            and sum(brought.values()) == self._sequences
        )
        for name, count in brought.items():
            self._first.setdefault(name, now)
            self._last[name] = now
            self._tokens[name] = self._tokens.get(name, 0) + count
        if full and self._before is not None:
            self._steady.append(now - self._before)
            self._contexts.append(self._prompt + sum(self._tokens.values()) / self._sequences)
        self._before = now if full else None

    def run(self, output: int) -> Run:
        """The figures, after every sequence got its `output` tokens."""
        assert len(self._tokens) == self._sequences, (len(self._tokens), self._sequences)
        assert set(self._tokens.values()) == {output}, self._tokens
        first, last = self._first, self._last
        each = [(last[name] - first[name]) / max(output - 1, 1) for name in first]
        # The first full step may still end work on prompts.
        steady, contexts = self._steady[1:], self._contexts[1:]
        return Run(
            step_ms=1000 * statistics.median(steady) if steady else 0.0,
            tpot_ms=1000 * statistics.median(each),
            ttft_ms=1000 * (statistics.median(first.values()) - self._start),
            last_ttft_ms=1000 * (max(first.values()) - self._start),
            wall_s=max(last.values()) - self._start,
            context=statistics.fmean(contexts) if contexts else self._prompt,
        )
