"""Owns admitting a PEFT directory of this machine straight into the loader's terms, for use without a service."""

from pathlib import Path

from loraplex.adapters.blobs import FileBlobs
from loraplex.adapters.peft_directory import WEIGHTS_NAME, admit_directory
from loraplex.adapters.reading import AdapterRef
from loraplex.engine.model_config import Module


def local_adapter(
    path: Path, modules: tuple[Module, ...], files: FileBlobs | None = None
) -> tuple[AdapterRef, FileBlobs]:
    """Judge the PEFT directory `path` and make its weights readable.

    Args:
        files: where to add the weights, so that one `AdapterCache` can load many adapters; None makes a new one.

    Raises:
        AdapterRejected: it cannot be served.
    """
    report = admit_directory(path, modules)
    files = files or FileBlobs()
    files.add(report.weights_sha256, path / WEIGHTS_NAME)
    ref = AdapterRef(
        identity=report.version_digest,
        weights_sha256=report.weights_sha256,
        size=report.size,
        config=report.canonical_config,
    )
    return ref, files
