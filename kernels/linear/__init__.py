"""Projections of few tokens: y = x Wᵀ + bias at the speed at which memory gives W away."""

from loraplex.kernels.linear.projection import linear

__all__ = ["linear"]
