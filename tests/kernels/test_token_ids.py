"""Token ids sampled on the device are filled in, and known ones stay."""

import pytest
import torch

from loraplex.kernels.token_ids import resolve_token_ids_reference, resolve_token_ids_triton

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("tokens", [0, 1, 7, 1030])
def test_references_are_filled_in(tokens: int) -> None:
    sampled = torch.randint(0, 128_000, (13,), device=DEVICE)
    ids = torch.randint(0, 128_000, (tokens,), device=DEVICE)
    rows = torch.randint(0, 13, (tokens,), device=DEVICE)
    refers = torch.rand(tokens, device=DEVICE) < 0.5
    expected = [
        int(sampled[row]) if refer else int(known)
        for known, row, refer in zip(ids, rows, refers, strict=True)
    ]
    encoded = torch.where(refers, ~rows, ids)
    for resolve in (resolve_token_ids_reference, resolve_token_ids_triton):
        assert resolve(encoded, sampled).tolist() == expected
