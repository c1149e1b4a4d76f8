"""Owns the KV blocks: who holds which, and which still hold a prefix that another sequence may share."""

import hashlib
from array import array
from collections import OrderedDict

import numpy as np

from loraplex.engine.page_pool import PagePool
from loraplex.engine.pages import BLOCK_SIZE as BLOCK_SIZE
from loraplex.engine.request import EVICTED_BY_KV
from loraplex.engine.sequence import Sequence


class BlockManager:
    """Reference-counted blocks of BLOCK_SIZE tokens with a prefix cache, in pages taken when needed.

    A block of a page that KV holds is in use (somebody's reference), cached (nobody's, but its contents can be found)
    or blank. A full block is known by a chain hash over (salt, adapter, all tokens up to its end). Cached blocks give
    way least recently freed first; a page whose blocks are all blank goes back to the pool at once.

    Attributes:
        num_blocks: blocks there would be if KV held every page.
        tables: [rows, columns] int32, the block table of each sequence in its `row`; entries past its blocks are stale.
            It grows when needed, so take it anew for every step.
    """

    def __init__(self, pages: PagePool, *, enable_prefix_cache: bool = True) -> None:
        self.num_blocks = pages.num_pages * pages.blocks_per_page
        self._pages = pages
        self._per_page = pages.blocks_per_page
        self._enable_prefix_cache = enable_prefix_cache
        self._refs: dict[int, int] = {}  # of blocks in use
        self._hash_of: dict[int, bytes] = {}
        self._by_hash: dict[bytes, int] = {}
        self._cached: OrderedDict[int, int] = OrderedDict()  # when each was freed
        self._in_use: dict[int, int] = {}  # blocks in use of every page that KV holds
        self._idle: OrderedDict[int, int] = OrderedDict()  # pages without, and since when
        self._blank: dict[int, list[int]] = {}  # blank blocks of pages that have others too
        self._num_blank = 0
        self.tables = np.zeros((16, 16), dtype=np.int32)
        self._free_rows = list(range(len(self.tables)))
        pages.join(self)

    @property
    def num_free(self) -> int:
        """Blocks that sequences could get without taking them from others: from blank and cached ones, free pages, and
        pages of idle adapters."""
        pages = self._pages.obtainable(but=self)
        return self._num_blank + len(self._cached) + pages * self._per_page

    @property
    def num_cached(self) -> int:
        return len(self._cached)

    @property
    def num_pages(self) -> int:
        """Pages that KV holds."""
        return len(self._in_use)

    @staticmethod
    def blocks_for(tokens: int) -> int:
        return -(-tokens // BLOCK_SIZE)

    def match_prefix(self, sequence: Sequence) -> None:
        """Give a sequence without blocks the cached blocks its tokens begin with, as far as they are of use."""
        assert not sequence.blocks
        if not self._enable_prefix_cache:
            return
        parent = _root_hash(sequence)
        found: list[int] = []
        for index in range(sequence.reusable // BLOCK_SIZE):
            digest = _block_hash(parent, sequence.tokens, index)
            block = self._by_hash.get(digest)
            if block is None:
                break
            self._hold(block)
            found.append(block)
            sequence.block_hashes.append(digest)
            parent = digest
        if found:
            self._hand_out(sequence, found)
        sequence.num_computed = len(found) * BLOCK_SIZE

    def grow(self, sequence: Sequence, num_tokens: int) -> bool:
        """Give the sequence blocks for its first `num_tokens` tokens; False and no change if too few can be had."""
        missing = self.blocks_for(num_tokens) - len(sequence.blocks)
        if missing > self._num_blank and missing > self.num_free:
            return False
        if missing > 0:
            blocks = self._take(missing)
            self._pages.contents.hold_kv(blocks, sequence.request.adapter)
            self._hand_out(sequence, blocks)
        return True

    def publish(self, sequence: Sequence, num_tokens: int = 0) -> None:
        """Enter the blocks that are full, once the step to be launched next has computed `num_tokens` more tokens, into
        the prefix cache. Sequences that join the same step may read them already: every layer writes all keys and
        values of a step before any are read. A block with a token the host does not know yet is not full."""
        hashes = sequence.block_hashes
        full = min(sequence.num_computed + num_tokens, len(sequence.tokens)) // BLOCK_SIZE
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

    def release(self, sequence: Sequence) -> None:
        """Take all blocks back; the sequence starts again from its first token."""
        now = self._pages.now()
        empty: list[int] = []
        # From the end, so that the beginning of a prefix, which more requests share, is evicted last.
        for block in reversed(sequence.blocks):
            self._let_go(block, now, empty)
        self._give(empty)
        if sequence.row >= 0:
            self._free_rows.append(sequence.row)
            sequence.row = -1
        sequence.blocks.clear()
        sequence.block_hashes.clear()
        sequence.num_computed = 0

    def purge(self, adapter: int) -> int:
        """Make every block of an adapter unfindable, and have those that nobody uses overwritten; returns how many."""
        contents = self._pages.contents
        unused: list[int] = []
        empty: list[int] = []
        for block in contents.kv_of(adapter):
            if block not in self._refs:
                unused.append(block)
            cached = self._cached.pop(block, None)
            self._forget(block)
            if cached is not None:
                self._clear(block, empty)
        self._give(empty)
        contents.wipe(unused)
        return len(unused)

    def idle_pages(self, *, sparing: bool) -> int:
        """See `PageHolder`."""
        return len(self._idle)

    def idle_since(self, *, sparing: bool) -> int | None:
        """See `PageHolder`."""
        return next(iter(self._idle.values()), None)

    def give_up(self, by: int, *, sparing: bool) -> None:
        """See `PageHolder`."""
        page = next(iter(self._idle))
        empty: list[int] = []
        for block in range(page * self._per_page, (page + 1) * self._per_page):
            if self._cached.pop(block, None) is not None:
                self._forget(block)
                self._clear(block, empty)
        self._give(empty)

    def check_integrity(self, running: list[Sequence]) -> set[int]:
        """Assert that reference counts equal what the running sequences hold and that nothing leaked; returns the
        pages that KV holds."""
        counts: dict[int, int] = {}
        for sequence in running:
            for block in sequence.blocks:
                counts[block] = counts.get(block, 0) + 1
        assert counts == self._refs
        in_use = dict.fromkeys(self._in_use, 0)
        for block in counts:
            in_use[block // self._per_page] += 1
        assert in_use == self._in_use
        assert set(self._idle) == {page for page, used in in_use.items() if not used}
        assert list(self._idle.values()) == sorted(self._idle.values())
        assert list(self._cached.values()) == sorted(self._cached.values())
        assert self._by_hash == {digest: block for block, digest in self._hash_of.items()}
        assert set(self._cached) == set(self._hash_of) - set(counts)
        blank = [block for blocks in self._blank.values() for block in blocks]
        assert len(blank) == self._num_blank
        assert sorted([*blank, *counts, *self._cached]) == [
            page * self._per_page + i for page in sorted(in_use) for i in range(self._per_page)
        ]
        for page, blocks in self._blank.items():
            assert 0 < len(blocks) < self._per_page
            assert {block // self._per_page for block in blocks} == {page}
        rows = [sequence.row for sequence in running if sequence.blocks]
        assert sorted(rows + self._free_rows) == list(range(len(self.tables)))
        for sequence in running:
            assert self.tables[sequence.row, : len(sequence.blocks)].tolist() == sequence.blocks
        return set(in_use)

    def _hold(self, block: int) -> None:
        """One reference more."""
        refs = self._refs.get(block, 0)
        self._refs[block] = refs + 1
        if refs:
            return
        self._cached.pop(block, None)
        page = block // self._per_page
        self._in_use[page] += 1
        self._idle.pop(page, None)

    def _let_go(self, block: int, now: int, empty: list[int]) -> None:
        """One reference less; see `_clear`."""
        refs = self._refs[block] - 1
        if refs:
            self._refs[block] = refs
            return
        del self._refs[block]
        if self._per_page == 1 and block not in self._hash_of:
            # Nothing but a short cut, for large models: thousands of blocks may go at a time.
            del self._in_use[block]
            empty.append(block)
            return
        page = block // self._per_page
        self._in_use[page] -= 1
        if not self._in_use[page]:
            self._idle[page] = now
        if block in self._hash_of:
            self._cached[block] = now
        else:
            self._clear(block, empty)

    def _take(self, count: int) -> list[int]:
        """Blank blocks, with one reference each; `num_free` must be at least `count`."""
        taken: list[int] = []
        while (left := count - len(taken)) > 0:
            whole = min(left // self._per_page, self._pages.num_free)
            if whole and not self._blank:
                pages = self._pages.take_last(whole)
                self._in_use |= dict.fromkeys(pages, self._per_page)
                per_page = range(self._per_page)
                taken += [page * self._per_page + i for page in pages for i in per_page]
                continue
            if not self._blank:
                self._make_blank()
            page, blocks = next(reversed(self._blank.items()))
            part = blocks[-left:][::-1]
            del blocks[-left:]
            if not blocks:
                del self._blank[page]
            self._num_blank -= len(part)
            self._in_use[page] += len(part)
            self._idle.pop(page, None)
            taken += part
        self._refs |= dict.fromkeys(taken, 1)
        return taken

    def _make_blank(self) -> None:
        """Make a block or the blocks of a page blank; `_take` uses some at once."""
        pool = self._pages
        if not pool.num_free:
            # Blocks of pages that are in use too are nothing the pool could ask for.
            oldest = next(iter(self._cached.items()), None)
            other = pool.idle_since(but=self)
            if oldest is not None and (other is None or oldest[1] <= other):
                block = oldest[0]
                del self._cached[block]
                self._forget(block)
                self._blank[block // self._per_page] = [block]
                self._num_blank += 1
                return
            pool.make_room(1, EVICTED_BY_KV)
        (page,) = pool.take_last(1)
        self._in_use[page] = 0
        first = page * self._per_page
        self._blank[page] = list(range(first + self._per_page - 1, first - 1, -1))
        self._num_blank += self._per_page

    def _clear(self, block: int, empty: list[int]) -> None:
        """A block is blank now. If all of its page are, KV holds the page no more, and it is added to `empty`."""
        page = block // self._per_page
        blocks = self._blank.setdefault(page, [])
        blocks.append(block)
        self._num_blank += 1
        if len(blocks) == self._per_page:
            del self._blank[page], self._in_use[page], self._idle[page]
            self._num_blank -= self._per_page
            empty.append(page)

    def _give(self, pages: list[int]) -> None:
        if pages:
            self._pages.give(sorted(pages))

    def _forget(self, block: int) -> None:
        digest = self._hash_of.pop(block, None)
        if digest is not None:
            del self._by_hash[digest]

    def _hand_out(self, sequence: Sequence, blocks: list[int]) -> None:
        """Append blocks to the sequence's table."""
        rows, columns = self.tables.shape
        if sequence.row < 0:
            if not self._free_rows:
                self.tables = np.concatenate((self.tables, np.zeros_like(self.tables)))
                self._free_rows = list(range(rows, 2 * rows))
            sequence.row = self._free_rows.pop()
        at = len(sequence.blocks)
        end = at + len(blocks)
        if end > columns:
            wider = np.zeros((len(self.tables), max(end, 2 * columns)), dtype=np.int32)
            wider[:, :columns] = self.tables
            self.tables = wider
        self.tables[sequence.row, at:end] = blocks
        sequence.blocks += blocks


def _root_hash(sequence: Sequence) -> bytes:
    adapter = -1 if sequence.request.adapter is None else sequence.request.adapter
    head = b"loraplex kv\0" + adapter.to_bytes(8, "little", signed=True)
    return hashlib.sha256(head + sequence.request.cache_salt).digest()


def _block_hash(parent: bytes, tokens: list[int], index: int) -> bytes:
    block = array("q", tokens[index * BLOCK_SIZE : (index + 1) * BLOCK_SIZE])
    return hashlib.sha256(parent + block.tobytes()).digest()
