"""Launches inside `compile_ahead` compile and do not run; the launches after it find everything ready."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from loraplex.kernels.compile_ahead import compile_ahead
from loraplex.kernels.language import triton
from loraplex.kernels.token_ids import _resolve_token_ids_kernel


@pytest.mark.gpu
def test_kernels_are_ready_and_have_not_run(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = torch.full((8,), 5, device=device)
    out = torch.zeros((3, 8), dtype=torch.int64, device=device)

    def launch_all() -> None:
        # Sizes that no caller uses.
        for row, block in zip(out, (8, 16, 32), strict=True):
            _resolve_token_ids_kernel[(1,)](ids, ids, row, 8, BLOCK=block)

    compile_ahead(launch_all, ids.device)
    assert not out.any()
    compiled: list[object] = []
    monkeypatch.setattr(
        triton.knobs.runtime, "jit_cache_hook", lambda **asked: compiled.append(asked)
    )
    launch_all()
    assert (out == 5).all()
    assert not compiled
    _resolve_token_ids_kernel[(1,)](ids, ids, out, 8, BLOCK=64)
    assert compiled


# Compiles for a GPU that is not there, which needs a Python without Triton's interpreter.
_WITHOUT_GPU = """
import threading
from types import SimpleNamespace

import torch
import triton
from triton.backends.compiler import GPUTarget

from loraplex.kernels import dispatch
from loraplex.kernels.compile_ahead import compile_ahead
from loraplex.kernels.token_ids import resolve_token_ids

loaded = []
torch.cuda.set_device = lambda device: None
dispatch.use_triton = lambda tensor: True
triton.runtime.driver.set_active(SimpleNamespace(
    get_current_target=lambda: GPUTarget("cuda", 90, 32),
    get_current_device=lambda: 0,
    get_current_stream=lambda device: 0,
    launcher_cls=lambda src, metadata: print,
    utils=SimpleNamespace(
        get_device_properties=lambda device: {"max_shared_mem": 232448},
        load_binary=lambda name, *rest: loaded.append(threading.current_thread().name) or (0, 0, 0, 0, 1024),
    ),
))
ids = torch.full((8,), 5)
result = []

def launch_all():
    for dtype in (torch.int64, torch.int32):
        for _ in range(2):
            result.append(resolve_token_ids(ids.to(dtype), ids))

run = triton.JITFunction.run
compile_ahead(launch_all, torch.device("cuda"))
assert len(result) == 4
assert len(loaded) == 2, loaded
assert all(name.startswith("compile") for name in loaded), loaded
assert triton.JITFunction.run is run
def broken():
    raise RuntimeError("broken")
try:
    compile_ahead(broken, torch.device("cuda"))
except RuntimeError:
    assert triton.JITFunction.run is run
    print("done")
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="the test above does it with a GPU")
def test_each_variant_is_compiled_once_by_a_thread(tmp_path: Path) -> None:
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _WITHOUT_GPU],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "done" in done.stdout, done.stderr
