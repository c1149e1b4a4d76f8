"""LoRA kernels for prompts: what the other tokens of a tile are must not show in a token's bits."""

import pytest
import torch

from loraplex.kernels import activation
from loraplex.kernels.activation import silu_mul_triton
from loraplex.kernels.lora import expand, shrink
from loraplex.kernels.lora.apply import LoRADelta
from loraplex.kernels.lora.expand import lora_expand_triton
from loraplex.kernels.lora.shrink import lora_shrink_triton
from loraplex.kernels.lora.tables import MANY_WAYS, LoRASegments, ways_for
from support.lora_tables import RandomAdapters, random_adapters

WIDE, SIZE = 144, 272
RANKS: tuple[dict[int, int], ...] = (
    {0: 16, 1: 16},
    {0: 40, 1: 3},
    {1: 1},
    {0: 100, 1: 130},
    {0: 8},
)
TOKENS = 70


@pytest.fixture(autouse=True)
def _tiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels for prompts, which few tokens would not get otherwise."""
    for module in (activation, expand, shrink):
        monkeypatch.setattr(module, "MOST_DECODE_TOKENS", 0)


def outputs(
    adapters: RandomAdapters,
    slots: torch.Tensor,
    x: torch.Tensor,
    y: torch.Tensor,
    ways: int = 1,
) -> torch.Tensor:
    """Both uses of a delta for one batch, side by side: [tokens, 3 × SIZE]."""
    present = sorted({int(slot) for slot in slots} - {-1})
    segments = LoRASegments((), slots, adapters.max_rank(present), ways)
    s = lora_shrink_triton(x, adapters.tables, segments, 0, 2)
    activated = silu_mul_triton(y, LoRADelta(s, adapters.tables, segments, 0))
    added = y.clone()
    lora_expand_triton(added, s, adapters.tables, segments, 0, (SIZE, SIZE))
    return torch.cat([activated, added], dim=1)


# Not on a CPU: there the interpreter multiplies with NumPy, which sums a column in an order that depends on its place.
@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=lambda d: str(d)[6:])
@pytest.mark.parametrize("scattered", [True, False], ids=["scattered", "adjacent"])
def test_neighbours_do_not_show(dtype: torch.dtype, scattered: bool, device: torch.device) -> None:
    """Tokens of one adapter, then with each neighbour another, and at other places of the tile."""
    modules = [(WIDE, SIZE)] * 2
    adapters = random_adapters(modules, RANKS, dtype=dtype, device=device, scattered=scattered)
    x = torch.randn(TOKENS, WIDE).to(device, dtype)
    y = torch.randn(TOKENS, 2 * SIZE).to(device, dtype)
    mixed = torch.randint(-1, len(RANKS), (TOKENS,), dtype=torch.int32).to(device)
    order = torch.randperm(TOKENS).to(device)
    got = outputs(adapters, mixed, x, y)
    moved = outputs(adapters, mixed[order], x[order], y[order])
    assert torch.equal(moved, got[order])
    for slot in range(-1, len(RANKS)):
        alone = outputs(adapters, torch.full_like(mixed, slot), x, y)
        assert torch.equal(alone[mixed == slot], got[mixed == slot])


@pytest.mark.gpu
def test_programs_that_share_a_tile_do_what_one_does(device: torch.device) -> None:
    adapters = random_adapters([(WIDE, SIZE)] * 2, RANKS, dtype=torch.bfloat16, device=device)
    x = torch.randn(TOKENS, WIDE).to(device, torch.bfloat16)
    y = torch.randn(TOKENS, 2 * SIZE).to(device, torch.bfloat16)
    mixed = torch.randint(-1, len(RANKS), (TOKENS,), dtype=torch.int32).to(device)
    alone = outputs(adapters, mixed, x, y)
    for ways in (3, MANY_WAYS):
        assert torch.equal(outputs(adapters, mixed, x, y, ways), alone)


def test_only_crowded_tiles_are_shared() -> None:
    chunks = tuple((slot, 64 * slot, 64 * slot + 64) for slot in range(32))
    decodes = tuple((slot, slot, slot + 1) for slot in range(32))
    assert ways_for(()) == ways_for(chunks) == ways_for(decodes[:4]) == 1
    assert (
        ways_for(decodes)
        == ways_for((*chunks[:1], *((s, s + 64, s + 65) for s in range(1, 9))))
        > 1
    )
