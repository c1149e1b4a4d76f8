"""Owns all engines of a service as an API worker sees them, by the name of their base model."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loraplex.platform.engines.base_model import BaseModel
from loraplex.platform.engines.client import EngineClient
from loraplex.platform.engines.messages import (
    AdapterFile,
    Description,
    FinalsOf,
    Purged,
)
from loraplex.platform.engines.process import ModelEndpoint
from loraplex.platform.engines.status import EngineStatus
from loraplex.platform.errors import ModelNotFoundError

# An engine that is there answers a purge after its present step. One that is not is told when it is back.
PURGE_SECONDS = 10.0
# Thousands of adapters cost an engine some milliseconds to describe, however many look.
DESCRIPTION_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class ServedBase:
    """A base model together with the engine that runs it."""

    model: BaseModel
    client: EngineClient

    @property
    def context(self) -> int | None:
        """The most tokens of a prompt and its answer, once the engine has told."""
        beat = self.client.beat
        return beat.max_model_len or None if beat is not None else None


class EnginePool:
    """The engines by base model name. Use as an async context manager.

    Attributes:
        service: the same for all API workers that talk to the same engines.
    """

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
        # Sockets have names that no two runs of `serve` share.
        endpoints = "\n".join(model.endpoint for model in models)
        self.service = hashlib.sha256(endpoints.encode()).hexdigest()
        self._described: asyncio.Future[dict[str, Description]] | None = None
        self._described_at = 0.0

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

    def cut_off(self) -> None:
        """Fail what is in flight: this worker ends and can wait no longer."""
        for base in self._bases.values():
            base.client.cut_off()

    def ready(self) -> bool:
        """Every engine takes requests."""
        return all(base.client.ready for base in self._bases.values())

    async def finals(self, base: str, accounts: Sequence[bytes]) -> FinalsOf | None:
        """What the engine of `base` knows of these ledger rows; None if it does not answer at the moment. Of a base
        model that is not served nothing is known."""
        served = self._bases.get(base)
        if served is None:
            return FinalsOf(0, [], [])
        return await served.client.control.finals(accounts)

    def acknowledge(self, base: str, accounts: Sequence[bytes]) -> None:
        """What these ledger rows took is written down: the engine of `base` may forget it."""
        if (served := self._bases.get(base)) is not None:
            served.client.acknowledge(accounts)

    async def purge(self, base: str, identity: str) -> Purged | None:
        """Remove an adapter from all tiers of the engine of `base`; what was there. None if the engine did not answer:
        one that is down at the moment is told when it comes back, after this has returned."""
        served = self._bases.get(base)
        if served is None:
            return None
        try:
            return await asyncio.wait_for(served.client.control.purge(identity), PURGE_SECONDS)
        except TimeoutError:
            return None
        finally:
            self._described = None  # who looks now must not see what was there before

    def pin(self, base: str, adapters: list[AdapterFile]) -> None:
        """Keep these adapters, and no others, on the device of the engine of `base`, also of one that comes later."""
        if (served := self._bases.get(base)) is not None:
            served.client.control.pin(adapters)
            self._described = None

    async def describe(self) -> dict[str, Description]:
        """Every adapter each engine knows of, at most a second old; an engine that is not running is not there."""
        now = asyncio.get_running_loop().time()
        if self._described is None or now - self._described_at > DESCRIPTION_SECONDS:
            # Whoever asks meanwhile waits for the same answer.
            self._described = asyncio.ensure_future(self._describe())
            self._described_at = now
        return await asyncio.shield(self._described)

    async def _describe(self) -> dict[str, Description]:
        names = list(self._bases)
        answers = await asyncio.gather(
            *(base.client.control.describe() for base in self._bases.values())
        )
        return {n: a for n, a in zip(names, answers, strict=True) if a is not None}

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
    return EngineStatus(
        client.ready, beat.epoch, beat.max_model_len, beat.step_seconds, beat.stats, beat.device
    )
