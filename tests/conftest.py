"""Settings every test shares: kernels run under the Triton interpreter where there is no GPU, seeds are fixed, and each
process computes on one thread."""

import os

import pytest
import torch

from support.interpreter import remember_the_language

# Must be set before the first `import triton` anywhere.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
    remember_the_language()

# Everything is small here: threads would cost more than they bring, and tests run side by side. The variable is for
# the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` where there is none."""
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs an NVIDIA GPU")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
