"""The kernels package where Triton is absent."""

import subprocess
import sys

_PROGRAM = """
import sys
sys.modules["triton"] = sys.modules["triton.language"] = None  # import raises ImportError
import torch
from loraplex.kernels.attention import paged_attention
from loraplex.kernels.lora import apply, embed
from loraplex.kernels import activation, kv_write, norm, qkv, rope, token_ids
from loraplex.kernels.linear import linear
from loraplex.kernels.sampling import choose, top_logprobs
print(norm.rms_norm(torch.ones(1, 4), torch.full((4,), 2.0), 0.0).tolist())
"""


def test_references_run_without_triton() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True, timeout=280
    )
    assert done.stdout.strip() == "[[2.0, 2.0, 2.0, 2.0]]"
