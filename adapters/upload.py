"""Owns judging an adapter while its bytes arrive: config first, header as soon as it is complete, then every value.
Holds the header and a fraction of a megabyte, never the weights."""

import hashlib
from dataclasses import replace

from loraplex.adapters.admission import AdmissionReport, admit, zero_warnings
from loraplex.adapters.errors import AdapterRejected
from loraplex.adapters.lora_tensors import match_tensors
from loraplex.adapters.peft_config import PeftConfig
from loraplex.adapters.safetensors_header import (
    LENGTH_BYTES,
    Header,
    header_length,
    parse_header,
)
from loraplex.adapters.value_scan import ValueScan
from loraplex.engine.config import MAX_RANK
from loraplex.engine.model_config import Module


class UploadInspector:
    """Fed a weights file piece by piece; every call raises `AdapterRejected` as soon as the fault can be known.

    Not thread-safe: one call at a time, from any thread.

    Args:
        config: the bytes of adapter_config.json; judged at once.
        modules: of the base model.
        base_model: see `admit`.
        expected_size: bytes announced by the sender, if known: a truncated upload is refused at its header.
    """

    def __init__(
        self,
        config: bytes,
        modules: tuple[Module, ...],
        *,
        base_model: str | None = None,
        expected_size: int | None = None,
        max_rank: int = MAX_RANK,
    ) -> None:
        self.size = 0
        self._config = PeftConfig.parse(config)
        self._modules = modules
        self._base_model = base_model
        self._expected_size = expected_size
        self._max_rank = max_rank
        self._digest = hashlib.sha256()
        self._prefix = bytearray()
        self._header: Header | None = None
        self._report: AdmissionReport | None = None
        self._scan: ValueScan | None = None

    @property
    def report(self) -> AdmissionReport | None:
        """The verdict on config and header, once the header has arrived."""
        return self._report

    @property
    def sha256(self) -> str:
        """Hex digest of the bytes fed so far."""
        return self._digest.hexdigest()

    def feed(self, piece: bytes | memoryview) -> None:
        """Judge the next bytes, of any number.

        Raises:
            AdapterRejected: the file cannot be served.
        """
        view = memoryview(piece).cast("B")
        self.size += len(view)
        self._digest.update(view)
        if self._scan is None:
            view = self._feed_header(view)
        if self._scan is not None:
            self._scan.feed(view)

    def finish(self) -> AdmissionReport:
        """The final report, with size and digest.

        Raises:
            AdapterRejected: the file ended too early.
        """
        if self._scan is None or self._report is None or self._header is None:
            header_length(bytes(self._prefix))
            raise AdapterRejected("weights", "the weights file is truncated within its header.")
        self._scan.finish()
        pairs = match_tensors(self._header, self._modules).pairs
        warnings = (*self._report.warnings, *zero_warnings(pairs, self._scan.zeros))
        return replace(self._report, warnings=warnings, size=self.size, weights_sha256=self.sha256)

    def _feed_header(self, view: memoryview) -> memoryview:
        """Collect the header; returns what lies behind it."""
        view = self._collect(view, LENGTH_BYTES)
        if len(self._prefix) < LENGTH_BYTES:
            return view
        end = LENGTH_BYTES + header_length(bytes(self._prefix[:LENGTH_BYTES]))
        view = self._collect(view, end)
        if len(self._prefix) == end:
            header = parse_header(bytes(self._prefix[LENGTH_BYTES:]))
            self._check_size(header)
            self._report = admit(
                self._config,
                header,
                self._modules,
                base_model=self._base_model,
                max_rank=self._max_rank,
            )
            self._header = header
            self._scan = ValueScan(header)
            self._prefix.clear()
        return view

    def _collect(self, view: memoryview, length: int) -> memoryview:
        missing = max(0, length - len(self._prefix))
        self._prefix += view[:missing]
        return view[missing:]

    def _check_size(self, header: Header) -> None:
        expected = self._expected_size
        if expected is None or expected == header.file_size:
            return
        fault = "truncated" if expected < header.file_size else "longer than its tensors"
        raise AdapterRejected(
            "weights",
            f"the weights file is {fault}: its header describes {header.file_size} bytes, and "
            f"{expected} were announced.",
        )
