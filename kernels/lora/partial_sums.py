"""Owns how a LoRA shrink splits its sum: parts of in_features, each with a result of its own, summed by the expand."""

import torch


def partial_sums(
    x: torch.Tensor, num_slices: int, columns: int, block: int, most_splits: int
) -> tuple[torch.Tensor, int]:
    """Memory for the parts of x's sums.

    Args:
        x: [tokens, in_features].
        num_slices, columns: of the result.
        block: elements of in_features that a program sums at a time.
        most_splits: parts, where there are as many blocks.

    Returns:
        [splits, num_slices, tokens, columns] float32, not filled, and how many elements of in_features, whole blocks,
        belong to each split.
    """
    tokens, in_features = x.shape
    blocks = -(-in_features // block)
    splits = min(most_splits, blocks)
    s = torch.empty((splits, num_slices, tokens, columns), dtype=torch.float32, device=x.device)
    return s, -(-blocks // splits) * block
