"""The shrink that reads an adapter once for all of its tokens in a tile: which tokens share it must not show."""

import pytest
import torch

from loraplex.kernels.lora import shrink
from loraplex.kernels.lora.shrink import lora_shrink_triton
from loraplex.kernels.lora.tables import LoRASegments
from loraplex.kernels.lora.tuning import RunShrink, decode_constants
from support.lora_tables import RandomAdapters, random_adapters
from support.numerics import assert_near

WIDE = 300
MODULES = ((WIDE, 80), (WIDE, 24), (WIDE, 40))
RANKS: tuple[dict[int, int], ...] = ({0: 8, 1: 8, 2: 40}, {0: 3}, {}, {0: 16, 1: 1, 2: 2})
# Adapters that go on in the next tile, one that comes back in the same tile, base tokens between.
SLOTS = [1, 1, 1, 0, 0, 3, 3, -1, 0, -1, 2, 3, 3, 3, 3, 3, 3, 3, -1, 1]


@pytest.fixture(autouse=True)
def _per_run(monkeypatch: pytest.MonkeyPatch) -> None:
    regime = decode_constants(1)._replace(shrink=RunShrink(64, 2, 3, 2))
    monkeypatch.setattr(shrink, "decode_constants", lambda tokens: regime)


def shrunk(adapters: RandomAdapters, x: torch.Tensor, slots: list[int]) -> torch.Tensor:
    """[splits, slices, tokens, R]; NaN where nothing was written."""
    token_slots = torch.tensor(slots, dtype=torch.int32, device=x.device)
    segments = LoRASegments((), token_slots, 40)
    return lora_shrink_triton(x, adapters.tables, segments, 0, len(MODULES))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_each_token_gets_its_adapters_rows_and_no_others(
    dtype: torch.dtype, device: torch.device
) -> None:
    adapters = random_adapters(MODULES, RANKS, dtype=dtype, device=device)
    x = torch.randn(len(SLOTS), WIDE).to(device, dtype)
    s = shrunk(adapters, x, SLOTS)
    for token, slot in enumerate(SLOTS):
        for part in range(len(MODULES)):
            rank = RANKS[slot].get(part, 0) if slot >= 0 else 0
            assert s[:, part, token, rank:].isnan().all()
            if rank:
                a = adapters.tables.matrix_a(slot, part, WIDE).double()
                assert_near("s", s[:, part, token, :rank].sum(0), a @ x[token].double())


# The interpreter computes with NumPy, which remarks on every NaN.
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_broken_numbers_stay_with_their_tokens(device: torch.device) -> None:
    """A NaN in one token's x, and one in an adapter's A."""
    adapters = random_adapters(MODULES, RANKS, device=device)
    x = torch.randn(len(SLOTS), WIDE, device=device)
    clean = shrunk(adapters, x, SLOTS)
    x[4, 7] = float("nan")
    tables = adapters.tables
    tables.arena[tables.a_rows[int(tables.index[3, 0, 0])]] = float("nan")
    dirty = shrunk(adapters, x, SLOTS)
    sound = [token for token, slot in enumerate(SLOTS) if slot in (0, 1) and token != 4]
    assert torch.equal(dirty[:, :, sound].nan_to_num(7.0), clean[:, :, sound].nan_to_num(7.0))
    assert dirty[0, 0, 4, :8].isnan().all()
    assert dirty[0, 0, 5, 0].isnan()


# Not on a CPU: there the interpreter multiplies with NumPy, which sums a row in an order that depends on its place.
@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_neighbours_do_not_show(dtype: torch.dtype, device: torch.device) -> None:
    """Tokens of one adapter, then with each neighbour another, and at other places of the tile."""
    adapters = random_adapters(MODULES, RANKS, dtype=dtype, device=device)
    x = torch.randn(len(SLOTS), WIDE).to(device, dtype)
    got = shrunk(adapters, x, SLOTS).nan_to_num(7.0)
    order = torch.randperm(len(SLOTS)).tolist()
    moved = shrunk(adapters, x[order], [SLOTS[token] for token in order]).nan_to_num(7.0)
    assert torch.equal(moved, got[:, :, order])
    for token, slot in enumerate(SLOTS):
        alone = shrunk(adapters, x[token : token + 1], [slot]).nan_to_num(7.0)
        assert torch.equal(alone[:, :, 0], got[:, :, token])
