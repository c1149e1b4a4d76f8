"""Segmented-gather LoRA: y += x Aᵀ B per adapter, for a batch that mixes any adapters and ranks."""
