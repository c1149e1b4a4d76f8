"""Owns reading one adapter from the tiers below into host memory, and what is tried again when that fails."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from loraplex.adapters.blobs import WeightFile, WeightFiles
from loraplex.adapters.errors import BlobInterruptedError, DigestMismatchError
from loraplex.adapters.host_tier import HostEntry
from loraplex.adapters.packing import pack
from loraplex.adapters.recipes import Recipes
from loraplex.engine.lora import LoRAWeights
from loraplex.engine.model_config import Module

# Pauses before another attempt where the store could not be read: a broken connection is replaced at once, a database
# that fails over needs a moment. More belongs to the client, whose request waits meanwhile.
RETRY_SECONDS = (0.05, 0.5)


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """One version of one tenant's adapter, admitted: what it takes to load it.

    Attributes:
        identity: opaque; differs between tenants and versions even where the bytes are equal.
        weights_sha256: hex digest of the safetensors file, under which stores know it.
        size: bytes of that file.
        config: canonical config JSON, see `canonical.canonical_config`.
    """

    identity: str
    weights_sha256: str
    size: int
    config: bytes


@dataclass(frozen=True, slots=True)
class Brought:
    """An adapter as it was read: its memory is held once, and `file` is for the caller to keep and close."""

    entry: HostEntry
    weights: LoRAWeights
    file: WeightFile


class AdapterReader:
    """Reads adapters of one base model. Safe to call from any thread.

    Args:
        reserve: host memory for an identity, that many bytes, held once.
        give_up: ends that hold when the reading failed.
    """

    def __init__(
        self,
        files: WeightFiles,
        modules: tuple[Module, ...],
        dtype: torch.dtype,
        reserve: Callable[[str, int], HostEntry],
        give_up: Callable[[HostEntry], None],
    ) -> None:
        self._files = files
        self._recipes = Recipes(modules, dtype)
        self._reserve = reserve
        self._give_up = give_up

    def read(self, ref: AdapterRef) -> Brought:
        """Read and verify an adapter.

        Raises:
            BlobUnavailableError: it cannot be had, or is damaged everywhere.
            OSError, MemoryError: this machine failed.
        """
        pauses = iter(RETRY_SECONDS)
        fresh = False
        while True:
            try:
                return self._attempt(ref, fresh)
            except DigestMismatchError:
                if fresh:
                    raise
                fresh = True
            except BlobInterruptedError:
                pause = next(pauses, None)
                if pause is None:
                    raise
                time.sleep(pause)

    def _attempt(self, ref: AdapterRef, fresh: bool) -> Brought:
        reserved: list[HostEntry] = []

        def allocate(size: int) -> torch.Tensor:
            reserved.append(self._reserve(ref.identity, size))
            return reserved[0].buffer.data

        name = disk_entry(ref.identity)
        file = self._files.open(name, ref.weights_sha256, ref.size, fresh=fresh)
        try:
            weights = pack(file.pieces(), ref.config, ref.weights_sha256, self._recipes, allocate)
        except BaseException:
            file.close()
            for entry in reserved:
                self._give_up(entry)
            raise
        return Brought(reserved[0], weights, file)


def disk_entry(identity: str) -> str:
    """The name of an adapter's file in the disk tier."""
    return hashlib.sha256(identity.encode()).hexdigest()
