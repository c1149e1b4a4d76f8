"""What happens to a fused qkv projection before attention."""

from loraplex.kernels.qkv.to_cache import HeadNorm, qkv_to_cache

__all__ = ["HeadNorm", "qkv_to_cache"]
