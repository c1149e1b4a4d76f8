"""Changes to single logits."""

import math

import torch

from loraplex.kernels.sampling.penalties import Changes, apply_changes


def test_only_named_places_change(device: torch.device) -> None:
    logits = torch.randn(3, 40, device=device)
    logits[0, 5], logits[0, 6] = 2.0, -2.0
    expected = logits.clone()
    expected[0, 5], expected[0, 6] = 2.0 / 1.6 - 0.5, -2.0 * 1.6
    expected[2, 39] += 3.0
    expected[1, 0] = -math.inf
    apply_changes(
        logits,
        Changes(
            torch.tensor([5, 6, 119, 40, 40], device=device),
            torch.tensor([1.6, 1.6, 1.0, 1.0, 1.0], device=device),
            torch.tensor([-0.5, 0.0, 3.0, -math.inf, -math.inf], device=device),
        ),
    )
    torch.testing.assert_close(logits, expected, rtol=1e-6, atol=0)
