"""An upload is judged while it arrives: same verdict in any pieces, refusal at the first byte that allows one, little
memory."""

import hashlib
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from loraplex.adapters.admission import AdmissionReport
from loraplex.adapters.errors import AdapterRejected
from loraplex.adapters.upload import UploadInspector
from loraplex.engine.model_config import Module
from support.adapter_files import (
    PREFIX,
    config_json,
    file_bytes,
    header_of,
    lora_tensors,
    weights_bytes,
)


def inspect(data: bytes, modules: tuple[Module, ...], step: int) -> AdmissionReport:
    inspector = UploadInspector(config_json(), modules, expected_size=len(data))
    for start in range(0, len(data), step):
        inspector.feed(data[start : start + step])
    return inspector.finish()


def test_pieces_of_any_size_give_the_same_report(modules: tuple[Module, ...]) -> None:
    data = weights_bytes(lora_tensors(modules[:3], dtype="F16"))
    whole = inspect(data, modules, len(data))
    assert whole.weights_sha256 == hashlib.sha256(data).hexdigest()
    assert whole.size == len(data)
    for step in (1, 7, 8, 9, 1000):
        assert inspect(data, modules, step) == whole


def test_the_config_is_judged_before_any_weights(modules: tuple[Module, ...]) -> None:
    with pytest.raises(AdapterRejected, match="DoRA"):
        UploadInspector(config_json(use_dora=True), modules)


def test_the_header_is_judged_before_the_data(modules: tuple[Module, ...]) -> None:
    data = weights_bytes(lora_tensors(modules[:3], rank=2))
    header = 8 + int.from_bytes(data[:8], "little")
    inspector = UploadInspector(config_json(), modules)
    inspector.feed(data[: header - 1])
    assert inspector.report is None
    with pytest.raises(AdapterRejected, match="rank 2"):
        inspector.feed(data[header - 1 : header])


def test_an_absurd_header_is_refused_at_its_eighth_byte(modules: tuple[Module, ...]) -> None:
    inspector = UploadInspector(config_json(), modules)
    length = (53_000_000).to_bytes(8, "little")
    inspector.feed(length[:7])
    with pytest.raises(AdapterRejected, match="53000000"):
        inspector.feed(length[7:])


def test_a_wrong_size_is_refused_at_the_header(modules: tuple[Module, ...]) -> None:
    data = weights_bytes(lora_tensors(modules[:3]))
    header = 8 + int.from_bytes(data[:8], "little")
    for announced, says in ((len(data) - 1, "truncated"), (len(data) + 1, "longer")):
        inspector = UploadInspector(config_json(), modules, expected_size=announced)
        with pytest.raises(AdapterRejected, match=says):
            inspector.feed(data[:header])


def test_a_nan_is_refused_with_its_piece(modules: tuple[Module, ...]) -> None:
    tensors = lora_tensors(modules[:3])
    next(iter(tensors.values()))[0, 0] = np.nan
    data = weights_bytes(tensors)
    header = 8 + int.from_bytes(data[:8], "little")
    inspector = UploadInspector(config_json(), modules)
    inspector.feed(data[:header])
    assert inspector.report is not None
    with pytest.raises(AdapterRejected, match="NaN"):
        inspector.feed(data[header : header + 4])


@pytest.mark.parametrize("cut", [0, 5, 8, 100, -1])
def test_an_upload_that_ends_early_is_refused(cut: int, modules: tuple[Module, ...]) -> None:
    inspector = UploadInspector(config_json(), modules)
    inspector.feed(weights_bytes(lora_tensors(modules[:3]))[:cut])
    with pytest.raises(AdapterRejected, match="truncated"):
        inspector.finish()


def test_a_large_upload_takes_little_memory(modules: tuple[Module, ...]) -> None:
    """300 MB pass through: one huge tensor, so that nothing per tensor hides what is kept."""
    wide = (*modules, Module(len(modules), "wide", modules[0].kind, 64, 18_750_000))
    a, b = f"{PREFIX}wide.lora_A.weight", f"{PREFIX}wide.lora_B.weight"
    tensors = {a: np.ones((4, 64), np.float32), b: np.empty((18_750_000, 4), np.float32)}
    piece = np.full(1 << 18, 0.5, np.float32).tobytes()
    header = file_bytes(header_of(tensors), {a: tensors[a]})
    inspector = UploadInspector(config_json(), wide)
    tracemalloc.start()
    inspector.feed(header)
    left = tensors[b].nbytes
    while left:
        inspector.feed(memoryview(piece)[: min(left, len(piece))])
        left -= min(left, len(piece))
    report = inspector.finish()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert report.size > 300e6
    assert peak < 4e6


def test_api_workers_need_no_torch() -> None:
    code = (
        "import sys, loraplex.adapters.upload, loraplex.adapters.peft_directory;"
        "sys.exit(bool({'torch', 'transformers', 're2'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
