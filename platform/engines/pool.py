"""Owns all engines of a service as an API worker sees them, by the name of their base model."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from loraplex.platform.engines.base_model import BaseModel
from loraplex.platform.engines.client import EngineClient
from loraplex.platform.engines.process import ModelEndpoint
from loraplex.platform.errors import ModelNotFoundError

# An engine that is there answers a purge after its present step. One that is not is told when it is back.
PURGE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ServedBase:
    """A base model together with the engine that runs it."""

    model: BaseModel
    client: EngineClient


class EngineStatus(msgspec.Struct, frozen=True):
    """What one engine last said about itself.

    Attributes:
        epoch: changes with every start of the process.
        max_model_len: longest prompt plus output, tokens.
        step_seconds: age of the step under way.
        counters: numbers by name; those that count do so since the engine's start.
    """

    ready: bool
    epoch: str | None = None
    max_model_len: int = 0
    step_seconds: float = 0.0
    counters: dict[str, float] = {}


class EnginePool:
    """The engines by base model name. Use as an async context manager."""

    def __init__(self, models: Sequence[ModelEndpoint]) -> None:
        """Read tokenizers and configs; connects to nothing yet.

        Raises:
            UnsupportedModelError: a model directory cannot be served.
        """
        self._bases = {
            model.name: ServedBase(
                BaseModel.load(model.name, Path(model.directory)),
                EngineClient(model.name, model.endpoint),
            )
            for model in models
        }

    async def __aenter__(self) -> "EnginePool":
        for base in self._bases.values():
            await base.client.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        for base in self._bases.values():
            await base.client.close()

    @property
    def names(self) -> tuple[str, ...]:
        """Base models in the order they were given."""
        return tuple(self._bases)

    def for_base(self, name: str) -> ServedBase:
        """One base model.

        Raises:
            ModelNotFoundError: it is not served here.
        """
        try:
            return self._bases[name]
        except KeyError:
            raise ModelNotFoundError(name) from None

    def ready(self) -> bool:
        """Every engine takes requests."""
        return all(base.client.ready for base in self._bases.values())

    async def purge(self, base: str, identity: str) -> None:
        """Remove an adapter from all tiers of the engine of `base`. An engine that is down at the moment is told when
        it comes back, after this has returned."""
        served = self._bases.get(base)
        if served is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(served.client.purge(identity), PURGE_SECONDS)

    def stats(self) -> dict[str, EngineStatus]:
        """Live state of each engine."""
        return {name: _status(base.client) for name, base in self._bases.items()}

    def metrics(self) -> dict[str, dict[str, float]]:
        """Counters and gauges by base model; an engine that is not running has none."""
        return {name: status.counters for name, status in self.stats().items() if status.ready}


def _status(client: EngineClient) -> EngineStatus:
    beat = client.beat
    if beat is None:
        return EngineStatus(ready=False)
    return EngineStatus(client.ready, beat.epoch, beat.max_model_len, beat.step_seconds, beat.stats)
