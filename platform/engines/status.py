"""Owns what an engine last said about itself, as the rest of the platform reads it."""

import msgspec


class EngineStatus(msgspec.Struct, frozen=True):
    """What one engine last said about itself.

    Attributes:
        epoch: changes with every start of the process.
        max_model_len: longest prompt plus output, tokens.
        step_seconds: age of the step under way.
        counters: numbers by name; those that count do so since the engine's start.
        device: what it runs on, as its maker calls it.
    """

    ready: bool
    epoch: str | None = None
    max_model_len: int = 0
    step_seconds: float = 0.0
    counters: dict[str, float] = {}
    device: str = ""
