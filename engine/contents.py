"""Owns the knowledge whose bytes lie in every block of the arena, also after its owner has given it up.

A block never holds bytes of two owners: what lies in it is overwritten with zeros, in stream order, before another
adapter's keys and values go there, and weights fill whole pages. So deleting an adapter is a look-up, and complete.
"""

import numpy as np

# An arena of small blocks has millions: zeros cost nothing until they are written.
_NOTHING = 0
_BASE = 1


class Contents:
    """The last writer of each block.

    Attributes:
        pending: blocks to overwrite with zeros before the next launch or copy.
    """

    def __init__(self, num_pages: int, blocks_per_page: int) -> None:
        self.pending: list[int] = []
        self._per_page = blocks_per_page
        self._writer = np.zeros(num_pages * blocks_per_page, dtype=np.int64)

    def hold_kv(self, blocks: list[int], adapter: int | None) -> None:
        """Blocks will get keys and values of an adapter, or of the base model."""
        code = _kv_code(adapter)
        before = self._writer[blocks]
        others = np.flatnonzero((before != code) & (before != _NOTHING))
        self.pending += [blocks[index] for index in others.tolist()]
        self._writer[blocks] = code

    def hold_weights(self, pages: list[int], adapter: int) -> None:
        """Whole pages will get an adapter's weights."""
        self._writer.reshape(-1, self._per_page)[pages] = _weights_code(adapter)

    def kv_of(self, adapter: int) -> list[int]:
        """Blocks with keys and values of an adapter."""
        return np.flatnonzero(self._writer == _kv_code(adapter)).tolist()

    def weights_of(self, adapter: int) -> list[int]:
        """Blocks with weights of an adapter."""
        return np.flatnonzero(self._writer == _weights_code(adapter)).tolist()

    def wipe(self, blocks: list[int]) -> None:
        """Have blocks that nobody uses overwritten."""
        self._writer[blocks] = _NOTHING
        self.pending += blocks


def _kv_code(adapter: int | None) -> int:
    return _BASE if adapter is None else adapter + _BASE + 1


def _weights_code(adapter: int) -> int:
    return -adapter - 1
