"""Owns judging a PEFT directory on the local disk, as `save_pretrained` leaves it."""

from pathlib import Path

from loraplex.adapters.admission import AdmissionReport
from loraplex.adapters.errors import AdapterRejected
from loraplex.adapters.peft_config import MAX_CONFIG_BYTES
from loraplex.adapters.upload import UploadInspector
from loraplex.engine.config import MAX_RANK
from loraplex.engine.model_config import Module

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
_PICKLE_NAME = "adapter_model.bin"
_PIECE_BYTES = 1024 * 1024


def admit_directory(
    path: Path,
    modules: tuple[Module, ...],
    *,
    base_model: str | None = None,
    max_rank: int = MAX_RANK,
) -> AdmissionReport:
    """Judge the adapter in `path`, reading its weights once, a megabyte at a time.

    Raises:
        AdapterRejected: a file is missing, or the adapter cannot be served.
    """
    weights = path / WEIGHTS_NAME
    if not weights.is_file() and (path / _PICKLE_NAME).is_file():
        raise AdapterRejected(
            "weights",
            f"{path} holds only {_PICKLE_NAME}, a pickle, which is never loaded; save with "
            "save_pretrained(..., safe_serialization=True).",
        )
    config = _open_bytes(path / CONFIG_NAME, "config")
    try:
        with weights.open("rb") as file:
            inspector = UploadInspector(
                config,
                modules,
                base_model=base_model,
                expected_size=weights.stat().st_size,
                max_rank=max_rank,
            )
            while piece := file.read(_PIECE_BYTES):
                inspector.feed(piece)
            return inspector.finish()
    except OSError as error:
        raise AdapterRejected("weights", f"{weights} cannot be read: {error.strerror}.") from error


def _open_bytes(path: Path, field: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise AdapterRejected(field, f"{path} cannot be read: {error.strerror}.") from error
