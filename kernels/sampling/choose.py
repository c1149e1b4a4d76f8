"""Owns the public operation that chooses one token per row."""

import torch

from loraplex.kernels import dispatch
from loraplex.kernels.sampling.chunks import sum_chunks
from loraplex.kernels.sampling.cuts import draw_with_cuts
from loraplex.kernels.sampling.draws import Draws
from loraplex.kernels.sampling.pick import pick
from loraplex.kernels.sampling.reference import choose_reference


def choose(logits: torch.Tensor, draws: Draws | None, banned: bool = False) -> torch.Tensor:
    """Choose one token per row: the most likely one (the lowest id of equals), or one drawn at random.

    A draw keeps the tokens that pass every cut: rank below top_k, mass of all higher ranked tokens below top_p,
    probability of at least min_p times the highest. Equal logits rank by token id. The kept masses are cumulated in
    vocabulary order, and the first token that lifts them above uniform × their sum is taken.

    Args:
        logits: [rows, vocab], float32, float16 or bfloat16, last dimension contiguous.
        draws: what each row wants; None if all are greedy.
        banned: whether -inf stands for a token that must not be taken, rather than for a number gone wrong.

    Returns:
        [2, rows] int64: tokens, and 1 where all logits of the row are usable. An unusable row's token is 0.
    """
    if dispatch.use_triton(logits):
        return choose_triton(logits, draws, banned)
    return choose_reference(logits, draws, banned)


def choose_triton(logits: torch.Tensor, draws: Draws | None, banned: bool = False) -> torch.Tensor:
    """Triton launcher of `choose`."""
    result = torch.empty((2, len(logits)), dtype=torch.int64, device=logits.device)
    if len(logits) == 0:
        return result
    sums = sum_chunks(logits, draws, banned)
    candidates = pick(logits, draws, sums, result)
    if draws is not None and draws.cuts:
        draw_with_cuts(logits, draws, candidates, result)
    return result
