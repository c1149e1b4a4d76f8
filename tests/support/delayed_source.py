"""Owns an adapter source whose results come some steps after they were asked for."""

from loraplex.engine.lora import LoadResult, LoRAWeights


class DelayedSource:
    """Weights by handle, `delay` collections after the request; a missing handle is an error.

    Attributes:
        asked: handles in the order of their requests.
    """

    def __init__(self, weights: dict[int, LoRAWeights] | None = None, delay: int = 0) -> None:
        self.weights = weights or {}
        self.asked: list[int] = []
        self._delay = delay
        self._due: list[list[int]] = []

    def request(self, handle: int) -> None:
        self.asked.append(handle)
        self._due.append([handle, self._delay])

    def collect(self) -> list[LoadResult]:
        for entry in self._due:
            entry[1] -= 1
        done = [handle for handle, left in self._due if left < 0]
        self._due = [entry for entry in self._due if entry[1] >= 0]
        return [self._result(handle) for handle in done]

    def release(self, handle: int) -> None:
        pass

    def wait(self, timeout: float) -> None:
        pass

    def _result(self, handle: int) -> LoadResult:
        weights = self.weights.get(handle)
        return LoadResult(handle, weights, None if weights else "The adapter vanished.")
