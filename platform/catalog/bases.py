"""Owns the base models adapters can be admitted for: their names and module tables. Loads no
weights and no torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from loraplex.engine.model_config import ModelConfig, Module
from loraplex.platform.errors import BadRequestError
from loraplex.platform.settings import ServedModel


@dataclass(frozen=True, slots=True)
class Base:
    """A served base model. `created` is when its config was written, in seconds since 1970."""

    name: str
    fingerprint: str
    modules: tuple[Module, ...]
    created: int


class BaseModels:
    """The base models of this service by name."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        """Read each model's `config.json`.

        Raises:
            UnsupportedModelError: a directory holds no model that can be served.
        """
        self._bases = {model.name: _read(model) for model in models}

    @property
    def names(self) -> tuple[str, ...]:
        """In the order they were given."""
        return tuple(self._bases)

    def get(self, name: str) -> Base | None:
        """A base model, or None."""
        return self._bases.get(name)

    def all(self) -> tuple[Base, ...]:
        """In the order they were given."""
        return tuple(self._bases.values())

    def choose(self, name: str | None) -> Base:
        """The base model an upload names, or the only one there is.

        Raises:
            BadRequestError: not served here, or there are several and none was named.
        """
        known = ", ".join(self._bases) or "none"
        if name is None:
            if len(self._bases) == 1:
                return next(iter(self._bases.values()))
            raise BadRequestError(f"base: name the base model; served are: {known}.", param="base")
        base = self._bases.get(name)
        if base is None:
            raise BadRequestError(
                f"base: {name[:200]!r} is not served here; served are: {known}.", param="base"
            )
        return base


def _read(model: ServedModel) -> Base:
    config = ModelConfig.from_directory(model.path)
    created = int((model.path / "config.json").stat().st_mtime)
    return Base(model.name, config.fingerprint, config.modules(), created)
