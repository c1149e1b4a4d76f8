"""Choosing tokens: kernels and reference against a plain reading of the definition, in float64, one row at a time."""

import math
from collections.abc import Callable

import pytest
import torch

from loraplex.kernels.sampling.choose import choose_triton
from loraplex.kernels.sampling.draws import Column, Draws
from loraplex.kernels.sampling.reference import choose_reference

Choose = Callable[..., torch.Tensor]
both = pytest.mark.parametrize("op", [choose_triton, choose_reference], ids=["kernel", "reference"])
# One chunk; one and a bit; and a last chunk that is nearly empty.
shapes = pytest.mark.parametrize(
    ("dtype", "vocab"),
    [(torch.float32, 50), (torch.float32, 4100), (torch.float16, 5000), (torch.bfloat16, 8193)],
    ids=str,
)


def table(
    uniforms: list[float],
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
) -> torch.Tensor:
    return torch.tensor(
        [[1 / temperature, top_k, top_p, min_p, uniform] for uniform in uniforms],
        dtype=torch.float64,
    )


def draws(lines: torch.Tensor, device: torch.device) -> Draws:
    cuts = (
        (lines[:, Column.TOP_K] > 0) | (lines[:, Column.TOP_P] < 1) | (lines[:, Column.MIN_P] > 0)
    )
    return Draws(lines.to(device), bool(cuts.any()))


def kept(row: list[float], line: list[float]) -> dict[int, float]:
    """Tokens that pass the cuts, with their weights."""
    inverse, top_k, top_p, min_p, _ = line
    highest = max(row)
    weights = [math.exp((x - highest) * inverse) for x in row]
    total, before, result = sum(weights), 0.0, {}
    for rank, token in enumerate(sorted(range(len(row)), key=lambda t: (-row[t], t))):
        if (
            (top_k and rank >= top_k)
            or (top_p < 1 and before >= top_p * total)
            or weights[token] < min_p
        ):
            break
        result[token] = weights[token]
        before += weights[token]
    return result


def expected(row: list[float], line: list[float]) -> int:
    weights = kept(row, line)
    target, passed, token = line[Column.UNIFORM] * sum(weights.values()), 0.0, -1
    for token in sorted(weights):
        passed += weights[token]
        if passed > target:
            break
    return token


@both
@shapes
def test_greedy(op: Choose, dtype: torch.dtype, vocab: int, device: torch.device) -> None:
    # Few distinct values, so that the maximum has equals in several chunks.
    logits = torch.randint(-5, 5, (4, vocab)).to(device, dtype)
    logits[1] = -3.0
    tokens, usable = op(logits, None).tolist()
    wide = logits.float().tolist()
    assert tokens == [row.index(max(row)) for row in wide]
    assert usable == [1] * 4


@both
@pytest.mark.parametrize(
    ("bad", "place", "top_p"), [(math.nan, 0, 0.5), (math.inf, 4200, 1.0), (-math.inf, 4199, 1.0)]
)
def test_unusable_rows_fail_alone(
    op: Choose, bad: float, place: int, top_p: float, device: torch.device
) -> None:
    logits = torch.randn(4, 4201, device=device, dtype=torch.bfloat16)
    clean = logits.clone()
    logits[1, place] = logits[2, place] = bad
    wanted = draws(table([0.3, 0.3, 0.6, 0.9], top_p=top_p), device)
    wanted.table[1, Column.INVERSE_TEMPERATURE] = 0.0
    tokens, usable = op(logits, wanted).tolist()
    assert usable == [1, 0, 0, 1]
    assert tokens[1] == tokens[2] == 0
    undisturbed = op(clean, wanted)[0].tolist()
    assert (tokens[0], tokens[3]) == (undisturbed[0], undisturbed[3])


@both
def test_bans_are_not_errors(op: Choose, device: torch.device) -> None:
    logits = torch.full((3, 300), -math.inf, device=device)
    logits[:, 7], logits[:, 200] = 1.0, 1.0
    lines = table([0.9, 0.1, 0.9], top_p=0.7)
    lines[0, Column.INVERSE_TEMPERATURE] = 0.0
    tokens, usable = op(logits, draws(lines, device), banned=True).tolist()
    assert tokens == [7, 7, 200]
    assert usable == [1, 1, 1]


CUTS: dict[str, dict[str, float]] = {
    "none": {},
    "temperature": {"temperature": 0.6},
    "coldest": {"temperature": 1e-5},
    "top_k 1": {"top_k": 1},
    "top_k": {"top_k": 20},
    "top_k beyond the peaks": {"top_k": 3000},
    "tiny top_p": {"top_p": 1e-6},
    "top_p": {"top_p": 0.8},
    "wide top_p": {"top_p": 0.999, "temperature": 2.0},
    "min_p": {"min_p": 0.2},
    "all": {"top_k": 40, "top_p": 0.9, "min_p": 0.02, "temperature": 0.8},
}


@both
@pytest.mark.parametrize(
    ("dtype", "vocab", "cuts"),
    [
        # Fewer for the widest keys, in which a cut is searched longest.
        *((torch.float32, 50, CUTS[name]) for name in ("none", "top_k", "min_p", "all")),
        *((torch.bfloat16, 8193, cuts) for cuts in CUTS.values()),
        (torch.float16, 5000, CUTS["all"]),
        (torch.float32, 4100, CUTS["wide top_p"]),
    ],
    ids=str,
)
def test_draws(
    op: Choose, dtype: torch.dtype, vocab: int, cuts: dict[str, float], device: torch.device
) -> None:
    logits = (2 * torch.randn(2, vocab)).to(device, dtype)
    lines = table([0.37, 1 - 2**-53], **cuts)  # type: ignore[arg-type]  # counts are whole
    tokens, usable = op(logits, draws(lines, device)).tolist()
    rows = zip(logits.double().tolist(), lines.tolist(), strict=True)
    assert tokens == [expected(row, line) for row, line in rows]
    assert usable == [1, 1]


@both
@pytest.mark.parametrize("cuts", [{"top_k": 1201}, {"top_p": 0.2002}, {"top_k": 7}], ids=str)
def test_equals_are_kept_from_the_lowest_token_id_on(
    op: Choose, cuts: dict[str, float], device: torch.device
) -> None:
    # 6000 equal logits: candidates of a chunk exceed their share, and the kept set ends inside a chunk.
    logits = torch.full((2, 6000), 0.5, device=device, dtype=torch.bfloat16)
    lines = table([0.0, 1 - 2**-53], **cuts)  # type: ignore[arg-type]  # counts are whole
    first, last = op(logits, draws(lines, device))[0].tolist()
    count = int(cuts.get("top_k", 0)) or math.ceil(6000 * cuts["top_p"])
    assert first == 0
    assert last == count - 1


@both
def test_zeros_of_both_signs_are_equals(op: Choose, device: torch.device) -> None:
    logits = torch.tensor([[-0.0, 0.0, -0.0, -9.0]] * 2, device=device)
    assert op(logits, None)[0].tolist() == [0, 0]
    assert op(logits, draws(table([0.0, 0.99], top_k=2), device))[0].tolist() == [0, 1]


@both
def test_neighbours_and_padding_change_nothing(op: Choose, device: torch.device) -> None:
    padded = torch.full((5, 5008), math.nan, device=device, dtype=torch.bfloat16)
    logits = padded[:, :5000]
    logits.copy_(torch.randn(5, 5000))
    lines = table([0.1, 0.5, 0.9, 0.7, 0.3])
    lines[1, Column.TOP_P], lines[2, Column.TOP_K] = 0.9, 50.0
    lines[3, Column.INVERSE_TEMPERATURE] = 0.0
    together = op(logits, draws(lines, device))
    for row in range(5):
        alone = op(logits[row : row + 1].contiguous(), draws(lines[row : row + 1], device))
        assert torch.equal(alone[:, 0], together[:, row])
    assert together[0, 3] == logits[3].float().argmax()


@both
def test_no_rows(op: Choose, device: torch.device) -> None:
    assert op(torch.zeros(0, 9, device=device), None).shape == (2, 0)


@pytest.mark.gpu
@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_kernel_and_reference_agree_on_a_large_vocabulary(
    spread: float, device: torch.device
) -> None:
    logits = (spread * torch.randn(64, 128256, device=device)).bfloat16()
    for cuts in CUTS.values():
        lines = table(torch.rand(64).tolist(), **cuts)  # type: ignore[arg-type]  # counts are whole
        wanted = draws(lines, device)
        assert torch.equal(choose_triton(logits, wanted), choose_reference(logits, wanted))
