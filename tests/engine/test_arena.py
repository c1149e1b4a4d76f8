"""Pages, blocks and adapters together, under random operations with loads and copies that end late or fail: nothing is
lost, nothing has two owners, what is in use stays, and nobody's bytes outlive their owner."""

from collections import Counter

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from loraplex.engine.adapter_report import PinRefusedError
from loraplex.engine.block_manager import BLOCK_SIZE, BlockManager
from loraplex.engine.lora_pool import LoRAPool, Residency
from loraplex.engine.page_pool import PagePool
from loraplex.engine.request import Request
from loraplex.engine.sampling_params import SamplingParams
from loraplex.engine.sequence import Sequence
from support.late_arena import BLOCK, MODULES, LateArena, LateSource, weights_value

# By handle; the last never fits.
PAGES = {0: 1, 1: 1, 2: 2, 3: 3, 4: 4, 5: 20}
HANDLES = st.sampled_from(sorted(PAGES))


def kv_value(adapter: int | None) -> float:
    return 1.0 if adapter is None else 2.0 + adapter


class ArenaMachine(RuleBasedStateMachine):
    @initialize(pages=st.integers(3, 9), per_page=st.integers(1, 3), prefix_cache=st.booleans())
    def start(self, pages: int, per_page: int, prefix_cache: bool) -> None:
        self.pages = PagePool(pages, per_page)
        self.page_size = per_page * BLOCK
        self.arena = LateArena(self.pages, self.page_size)
        self.source = LateSource(self.page_size, PAGES)
        self.blocks = BlockManager(self.pages, enable_prefix_cache=prefix_cache)
        self.pool = LoRAPool(MODULES, self.source, self.arena)
        self.running: list[Sequence] = []
        self.wanted: set[int] = set()

    # What requests do

    @rule(
        adapter=st.none() | HANDLES,
        length=st.integers(1, 60),
        same=st.booleans(),
        insist=st.booleans(),
    )
    def admit(self, adapter: int | None, length: int, same: bool, insist: bool) -> None:
        if adapter is not None:
            self.wanted.add(adapter)
            stuck, in_use = self.stuck_pages(), self.pages_in_use()
            got = self.pool.acquire(adapter, insist=insist)
            if got is Residency.FULL and insist:
                assert PAGES[adapter] > self.pages.num_pages - stuck - in_use
            if got is Residency.FAILED:
                assert self.pool.failure(adapter)
            if got is not Residency.READY:
                return
            self.wanted.discard(adapter)
        tokens = (0 if same else len(self.running) + 1,) * length
        sequence = Sequence(Request("r", tokens, SamplingParams(), adapter), 0, None)
        self.blocks.match_prefix(sequence)
        for block in sequence.blocks:
            assert (self.block(block) == kv_value(adapter)).all(), "a cached block changed"
        if not self.grow(sequence, length):
            self.blocks.release(sequence)
            if adapter is not None:
                self.pool.release(adapter)
            return
        self.running.append(sequence)
        self.launch(sequence)
        if adapter is not None:
            self.pool.note_use(adapter)

    @rule(pick=st.integers(0, 99), more=st.integers(1, 20))
    def extend(self, pick: int, more: int) -> None:
        if self.running:
            sequence = self.running[pick % len(self.running)]
            sequence.tokens += [7] * more
            if self.grow(sequence, len(sequence.tokens)):
                self.launch(sequence)
            else:
                del sequence.tokens[-more:]

    @rule(pick=st.integers(0, 99))
    def finish(self, pick: int) -> None:
        if self.running:
            self.end(self.running.pop(pick % len(self.running)))

    # What the engine does

    @rule()
    def step(self) -> None:
        self.pool.poll()
        self.pool.keep_waiting(set(self.wanted))

    @rule(handle=HANDLES)
    def prefetch(self, handle: int) -> None:
        self.pool.prefetch(handle)

    @rule(handle=HANDLES)
    def unload(self, handle: int) -> None:
        for sequence in [s for s in self.running if s.request.adapter == handle]:
            self.running.remove(sequence)
            self.end(sequence)
        self.wanted.discard(handle)
        had_host = handle in self.pool._loads.staged or handle in self.pool._places.copying
        before = self.arena.memory.view(-1, BLOCK)
        written = int((before == kv_value(handle)).any(dim=1).sum())
        blocks = self.blocks.purge(handle)
        _, host = self.pool.unload(handle)
        assert blocks >= written
        assert host is had_host
        filling = {p for _, placed in self.pool._places._condemned for p in placed.pages}
        assert filling <= {p for _, _, pages in self.arena.under_way for p in pages}
        left = self.arena.memory.view(-1, self.page_size)
        for page in range(self.pages.num_pages):
            if page not in filling:
                assert not (left[page] == weights_value(handle)).any(), "weights are left"
        assert not (left == kv_value(handle)).any(), "keys and values are left"
        assert self.pool.pages(handle) is None

    @rule(handle=HANDLES, pinned=st.booleans())
    def pin(self, handle: int, pinned: bool) -> None:
        try:
            self.pool.pin(handle, pinned)
        except PinRefusedError:
            assert pinned

    @rule(handles=st.lists(HANDLES, max_size=3))
    def warm(self, handles: list[int]) -> None:
        self.pool.warm(handles)

    # What happens elsewhere

    @rule(pick=st.integers(0, 99), good=st.integers(0, 5))
    def answer(self, pick: int, good: int) -> None:
        if self.source.wanted:
            self.source.answer(self.source.wanted[pick % len(self.source.wanted)], good=good > 0)

    @rule()
    def end_copy(self) -> None:
        if self.arena.under_way:
            self.arena.end_copy()

    # What must hold

    @invariant()
    def books_are_straight(self) -> None:
        if not hasattr(self, "pool"):
            return
        users = Counter(s.request.adapter for s in self.running if s.request.adapter is not None)
        self.pool.check_integrity(users, self.blocks.check_integrity(self.running))
        referenced = {block for sequence in self.running for block in sequence.blocks}
        total = (self.pages.num_pages - self.stuck_pages()) * self.pages.blocks_per_page
        assert self.blocks.num_free == total - len(referenced)
        pinned = sum(report.bytes for report in self.pool.reports() if report.pinned)
        assert 2 * pinned <= self.arena.memory.nbytes

    @invariant()
    def everybody_has_their_bytes(self) -> None:
        if not hasattr(self, "pool"):
            return
        arena = self.arena.memory.view(-1, self.page_size)
        for handle, placed in self.pool._places.ready.items():
            assert (arena[placed.pages] == weights_value(handle)).all()
            first, rank, _, _ = self.pool.tables.index[placed.slot.number, handle % 2].tolist()
            starts = [page * self.page_size for page in placed.pages]
            assert self.pool.tables.a_rows[first : first + rank].tolist() == starts
        pending = set(self.pages.contents.pending)
        for sequence in self.running:
            value = kv_value(sequence.request.adapter)
            for index, block in enumerate(sequence.blocks):
                elements = self.block(block)
                written = len(sequence.tokens) - index * BLOCK_SIZE
                assert (elements[: min(written, BLOCK_SIZE)] == value).all()
                if block not in pending:
                    assert ((elements == value) | (elements == 0)).all(), "somebody else's bytes"
        held = Counter(h for h, buffers in self.source.out.items() for _ in buffers)
        places = self.pool._places
        known = Counter([*self.pool._loads.staged, *places.copying])
        known += Counter(handle for handle, _ in places._condemned)
        known += Counter(r.handle for r in self.source.results if r.weights is not None)
        assert held == known, "a host copy was kept, or given back too early"

    # Parts

    def grow(self, sequence: Sequence, length: int) -> bool:
        missing = BlockManager.blocks_for(length) - len(sequence.blocks)
        free = self.blocks.num_free
        grown = self.blocks.grow(sequence, length)
        assert grown == (missing <= free)
        return grown

    def launch(self, sequence: Sequence) -> None:
        """What a step does: write a token's part of a block for every token."""
        self.arena.overwrite()
        for position in range(sequence.num_computed, len(sequence.tokens)):
            block = self.block(sequence.blocks[position // BLOCK_SIZE])
            block[position % BLOCK_SIZE] = kv_value(sequence.request.adapter)
        sequence.num_computed = len(sequence.tokens)
        self.blocks.publish(sequence)
        self.arena.launched()

    def end(self, sequence: Sequence) -> None:
        self.blocks.release(sequence)
        if sequence.request.adapter is not None:
            self.pool.release(sequence.request.adapter)

    def block(self, number: int) -> torch.Tensor:
        return self.arena.memory.view(-1, BLOCK)[number]

    def stuck_pages(self) -> int:
        """Pages of adapters that cannot be evicted."""
        places = self.pool._places
        placed = [p for h, p in places.ready.items() if p.users or h in places.pinned]
        placed += [*places.copying.values(), *(p for _, p in places._condemned)]
        return sum(len(p.pages) for p in placed)

    def pages_in_use(self) -> int:
        """Pages with a block that a sequence holds."""
        per_page = self.pages.blocks_per_page
        return len({b // per_page for s in self.running for b in s.blocks})


ArenaMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=60, deadline=None)
TestArenaMachine = ArenaMachine.TestCase
