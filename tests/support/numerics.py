"""Comparing tensors: an element that happens to be near zero may be as wrong as its neighbours."""

import torch

# Largest error allowed, in units of (RMS of the expected values + the element). A 16-bit result carries the rounding
# of the output and of intermediates; Triton's interpreter truncates bfloat16 where hardware rounds.
TOLERANCES = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


def assert_near(
    name: str, actual: torch.Tensor, expected: torch.Tensor, ratio: float | None = None
) -> None:
    """Every element of `actual` lies within `ratio` × (RMS + element) of `expected`; NaN never does.

    Args:
        name: of the quantity, for the message.
        actual: what was computed.
        expected: same shape, more precise.
        ratio: largest error allowed; by default that of `actual`'s dtype in TOLERANCES.
    """
    assert actual.shape == expected.shape, f"{name}: {actual.shape} is not {expected.shape}"
    if not expected.numel():
        return
    wanted = expected.double()
    rms = wanted.square().mean().sqrt().clamp_min(1e-12)
    error = float(((actual.double() - wanted).abs() / (rms + wanted.abs())).max())
    limit = TOLERANCES[actual.dtype] if ratio is None else ratio
    assert error <= limit, f"{name}: error is {error:.2e}, {limit:.0e} is allowed"
