"""Owns the plain-torch definition of a choice."""

import torch

from loraplex.kernels.sampling.draws import Column, Draws


def choose_reference(
    logits: torch.Tensor, draws: Draws | None, banned: bool = False
) -> torch.Tensor:
    """Plain-torch twin of `choose`."""
    wide = logits.float()
    usable = (wide.isfinite() | (wide.isneginf() if banned else False)).all(-1)
    tokens = wide.argmax(-1)
    if draws is not None:
        rows = (draws.table[:, Column.INVERSE_TEMPERATURE] > 0).nonzero()[:, 0]
        tokens[rows] = _draw(wide[rows].double(), draws.table[rows])
    return torch.stack((tokens.where(usable, torch.zeros_like(tokens)), usable.long()))


def _draw(logits: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Draw one of the kept tokens of each row through the inverse of their masses, cumulated in vocabulary order."""

    def column(which: Column) -> torch.Tensor:
        return table[:, which, None]

    size = logits.shape[-1]
    probs = (logits * column(Column.INVERSE_TEMPERATURE)).softmax(-1)
    values, ids = probs.sort(dim=-1, descending=True, stable=True)
    before = values.cumsum(-1) - values
    top_k, top_p = column(Column.TOP_K), column(Column.TOP_P)
    # The most likely token has nothing before it, so it survives every cut.
    keep = (torch.arange(size, device=logits.device) < top_k) | (top_k == 0)
    keep &= (before < top_p) | (top_p >= 1.0)
    keep &= values >= column(Column.MIN_P) * values[:, :1]
    kept = probs.where(torch.zeros_like(keep).scatter(-1, ids, keep), torch.zeros_like(probs))
    cumulated = kept.cumsum(-1)
    index = torch.searchsorted(cumulated, column(Column.UNIFORM) * cumulated[:, -1:], right=True)
    # Rounding may leave the target at the end; a row of NaN keeps nothing, and its index must still be valid.
    places = torch.arange(size, device=logits.device).expand_as(kept)
    last = places.where(kept > 0, torch.zeros_like(places)).amax(-1, keepdim=True)
    return torch.minimum(index, last)[:, 0]
