"""Owns the KV blocks: who holds which, and which still hold a prefix that another sequence may share."""

import hashlib
from array import array
from collections import OrderedDict

import numpy as np

from loraplex.engine.sequence import Sequence

BLOCK_SIZE = 16


class BlockManager:
    """Reference-counted blocks of BLOCK_SIZE tokens with a prefix cache.

    A full block is known by a chain hash over (salt, adapter, all tokens up to its end). A block that nobody holds
    keeps its contents, and can be found by that hash, until it is handed out again; least recently freed goes first.

    Attributes:
        tables: [rows, columns] int32, the block table of each sequence in its `row`; entries past its blocks are stale.
            It grows when needed, so take it anew for every step.
    """

    def __init__(self, num_blocks: int, *, enable_prefix_cache: bool = True) -> None:
        self.num_blocks = num_blocks
        self._enable_prefix_cache = enable_prefix_cache
        self._refs = [0] * num_blocks
        self._hash_of: list[bytes | None] = [None] * num_blocks
        self._adapter_of: list[int | None] = [None] * num_blocks
        self._by_hash: dict[bytes, int] = {}
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(num_blocks))
        self.tables = np.zeros((16, 16), dtype=np.int32)
        self._free_rows = list(range(len(self.tables)))

    @property
    def num_free(self) -> int:
        return len(self._free)

    @staticmethod
    def blocks_for(tokens: int) -> int:
        return -(-tokens // BLOCK_SIZE)

    def match_prefix(self, sequence: Sequence) -> None:
        """Give a sequence without blocks the cached blocks its tokens begin with; one token at least stays."""
        assert not sequence.blocks
        if not self._enable_prefix_cache:
            return
        parent = _root_hash(sequence)
        for index in range((len(sequence.tokens) - 1) // BLOCK_SIZE):
            digest = _block_hash(parent, sequence.tokens, index)
            block = self._by_hash.get(digest)
            if block is None:
                break
            if self._refs[block] == 0:
                del self._free[block]
            self._refs[block] += 1
            self._hand_out(sequence, block)
            sequence.block_hashes.append(digest)
            parent = digest
        sequence.num_computed = len(sequence.blocks) * BLOCK_SIZE

    def grow(self, sequence: Sequence, num_tokens: int) -> bool:
        """Give the sequence blocks for its first `num_tokens` tokens; False and no change if too few are free."""
        missing = self.blocks_for(num_tokens) - len(sequence.blocks)
        if missing > len(self._free):
            return False
        for _ in range(missing):
            block, _ = self._free.popitem(last=False)
            self._forget(block)
            self._refs[block] = 1
            self._hand_out(sequence, block)
        return True

    def publish(self, sequence: Sequence) -> None:
        """Enter the blocks that have become full into the prefix cache; call after the launch of the step that writes
        them. A block with a token the host does not know yet is not full."""
        hashes = sequence.block_hashes
        full = min(sequence.num_computed, len(sequence.tokens)) // BLOCK_SIZE
        if len(hashes) == full or not self._enable_prefix_cache:
            return
        for index in range(len(hashes), full):
            parent = hashes[-1] if hashes else _root_hash(sequence)
            digest = _block_hash(parent, sequence.tokens, index)
            hashes.append(digest)
            # An equal block may have been published by a sequence that ran beside this one; the first one stays.
            if digest not in self._by_hash:
                block = sequence.blocks[index]
                self._by_hash[digest] = block
                self._hash_of[block] = digest
                self._adapter_of[block] = sequence.request.adapter

    def release(self, sequence: Sequence) -> None:
        """Take all blocks back; the sequence starts again from its first token."""
        # From the end, so that the beginning of a prefix, which more requests share, is evicted last.
        for block in reversed(sequence.blocks):
            self._refs[block] -= 1
            if self._refs[block] == 0:
                self._free[block] = None
        if sequence.row >= 0:
            self._free_rows.append(sequence.row)
            sequence.row = -1
        sequence.blocks.clear()
        sequence.block_hashes.clear()
        sequence.num_computed = 0

    def purge(self, adapter: int) -> None:
        """Make every cached block of an adapter unfindable."""
        for block, owner in enumerate(self._adapter_of):
            if owner == adapter:
                self._forget(block)

    def check_integrity(self, running: list[Sequence]) -> None:
        """Assert that reference counts equal what the running sequences hold and that nothing leaked."""
        counts = [0] * self.num_blocks
        for sequence in running:
            for block in sequence.blocks:
                counts[block] += 1
        assert counts == self._refs
        assert {b for b, c in enumerate(counts) if c == 0} == set(self._free)
        assert all(self._hash_of[block] == digest for digest, block in self._by_hash.items())
        rows = [sequence.row for sequence in running if sequence.blocks]
        assert sorted(rows + self._free_rows) == list(range(len(self.tables)))
        for sequence in running:
            assert self.tables[sequence.row, : len(sequence.blocks)].tolist() == sequence.blocks

    def _hand_out(self, sequence: Sequence, block: int) -> None:
        """Append a block to the sequence's table."""
        rows, columns = self.tables.shape
        if sequence.row < 0:
            if not self._free_rows:
                self.tables = np.concatenate((self.tables, np.zeros_like(self.tables)))
                self._free_rows = list(range(rows, 2 * rows))
            sequence.row = self._free_rows.pop()
        at = len(sequence.blocks)
        if at == columns:
            self.tables = np.concatenate((self.tables, np.zeros_like(self.tables)), axis=1)
        self.tables[sequence.row, at] = block
        sequence.blocks.append(block)

    def _forget(self, block: int) -> None:
        digest = self._hash_of[block]
        if digest is not None:
            del self._by_hash[digest]
            self._hash_of[block] = None
            self._adapter_of[block] = None


def _root_hash(sequence: Sequence) -> bytes:
    adapter = -1 if sequence.request.adapter is None else sequence.request.adapter
    head = b"loraplex kv\0" + adapter.to_bytes(8, "little", signed=True)
    return hashlib.sha256(head + sequence.request.cache_salt).digest()


def _block_hash(parent: bytes, tokens: list[int], index: int) -> bytes:
    block = array("q", tokens[index * BLOCK_SIZE : (index + 1) * BLOCK_SIZE])
    return hashlib.sha256(parent + block.tobytes()).digest()
