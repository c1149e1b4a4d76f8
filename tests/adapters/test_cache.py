"""Adapters come to the host off the engine's thread: shared loads, isolated failures, bounded memory, real removal."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from loraplex.adapters.blobs import FileBlobs
from loraplex.adapters.cache import AdapterCache
from loraplex.adapters.disk_cache import DiskCache
from loraplex.adapters.errors import BlobInterruptedError, BlobUnavailableError
from loraplex.adapters.figures import Forgotten
from loraplex.adapters.host_memory import SharedMemory
from loraplex.adapters.local import local_adapter
from loraplex.adapters.reading import AdapterRef, disk_entry
from loraplex.engine.lora import AdapterSource, LoadResult
from loraplex.engine.model_config import Module
from support.adapter_files import config_json, lora_tensors, unpack, weights_bytes
from support.checkpoints import peft_adapter
from support.patience import PATIENCE_SECONDS
from support.stores import MemoryStore

PAGE = 2 * 1024 * 1024  # an adapter of the tests takes one


class StuckDisk(DiskCache):
    """A disk that takes for ever to make a file safe, until `free`."""

    def __init__(self, store: MemoryStore, directory: Path) -> None:
        super().__init__(store, directory, 10**9)
        self.free = threading.Event()
        self.stuck = threading.Event()

    def adopt(self, entry: str, temporary: Path, size: int, seconds: float) -> None:
        if not self.free.is_set():
            self.stuck.set()
        self.free.wait(30)
        super().adopt(entry, temporary, size, seconds)

    def give_up_waiting(self) -> None:
        """End threads that wait for a file to be closed, lest a test that fails never ends."""
        self.free.set()
        with self._idle:
            self._busy.clear()
            self._idle.notify_all()


class Tiers:
    """A store, a disk cache and an adapter cache of the tests' base model."""

    def __init__(self, modules: tuple[Module, ...], path: Path) -> None:
        self.modules = modules
        self.store = MemoryStore()
        self.disk = DiskCache(self.store, path, 10**9)
        self.cache = AdapterCache(self.disk, modules, torch.float32, host_bytes=3 * PAGE, threads=3)

    def adapter(self, seed: int, tenant: str = "t") -> AdapterRef:
        data = weights_bytes(lora_tensors(self.modules[:2], seed=seed))
        return self.store.add_adapter(config_json(), data, self.modules, tenant)

    def register(self, *seeds: int) -> list[AdapterRef]:
        """Adapter `seed` under handle `seed`."""
        refs = [self.adapter(seed) for seed in seeds]
        for seed, ref in zip(seeds, refs, strict=True):
            self.cache.register(seed, ref)
        return refs

    def load(self, *handles: int) -> dict[int, LoadResult]:
        """Request and wait for all results."""
        for handle in handles:
            self.cache.request(handle)
        return self.results(len(set(handles)))

    def results(self, count: int) -> dict[int, LoadResult]:
        found: list[LoadResult] = []
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(found) < count and time.monotonic() < deadline:
            self.cache.wait(1.0)
            found += self.cache.collect()
        assert len(found) == count
        for result in found:
            if result.weights is not None:
                self.cache.release(result.handle)
        by_handle = {result.handle: result for result in found}
        assert len(by_handle) == count
        return by_handle

    def wait_for_file(self, identity: str) -> Path:
        """The file appears after the result."""
        path = self.disk.path(disk_entry(identity))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not path.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return path

    def wait_for_removal(self, identity: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.disk.path(disk_entry(identity)).exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def tiers(modules: tuple[Module, ...], tmp_path: Path) -> Iterator[Tiers]:
    made = Tiers(modules, tmp_path / "disk")
    yield made
    made.store.gate.set()
    made.cache.close()


def test_it_is_an_adapter_source(tiers: Tiers) -> None:
    source: AdapterSource = tiers.cache
    assert source.collect() == []


def test_the_right_weights_come_from_every_tier(tiers: Tiers) -> None:
    refs = tiers.register(*range(5))
    for _ in range(3):  # five adapters in a host tier of three: some from disk, some from the host
        for handle, result in tiers.load(*range(5)).items():
            assert result.weights is not None
            rows = unpack(result.weights, tiers.modules)
            expected = lora_tensors(tiers.modules[:2], seed=handle)
            for name, (a, b) in rows.items():
                tensor_a = expected[f"base_model.model.{name}.lora_A.weight"]
                tensor_b = expected[f"base_model.model.{name}.lora_B.weight"]
                assert torch.equal(a, torch.from_numpy(tensor_a))
                assert torch.equal(b.T, torch.from_numpy(tensor_b) * 2)
    for ref in refs:
        tiers.wait_for_file(ref.identity)
    stats = tiers.cache.stats()
    assert stats.failures == stats.loading == 0
    assert stats.loads + stats.hits == 15
    assert stats.host_entries == 3
    assert stats.host_bytes == 3 * PAGE
    assert stats.disk_entries == 5
    assert stats.disk_bytes == sum(ref.size for ref in refs)
    assert stats.load_seconds > 0
    assert all(count == 1 for count in tiers.store.reads.values()), "the disk answers again"


def test_a_host_hit_is_ready_at_once(tiers: Tiers) -> None:
    tiers.register(1)
    first = tiers.load(1)[1]
    tiers.cache.request(1)
    (again,) = tiers.cache.collect()
    assert again.weights is first.weights
    assert tiers.cache.stats().hits == 1


def test_requests_of_one_handle_give_one_result(tiers: Tiers) -> None:
    tiers.register(1)
    tiers.store.gate.clear()
    for _ in range(5):
        tiers.cache.request(1)
    assert tiers.cache.collect() == []
    assert tiers.cache.stats().loading == 1
    tiers.store.gate.set()
    tiers.results(1)
    assert tiers.cache.stats().loads == 1


def test_handles_of_one_adapter_share_a_load(tiers: Tiers) -> None:
    ref = tiers.adapter(1)
    for handle in (10, 11, 12):
        tiers.cache.register(handle, ref)
    tiers.store.gate.clear()
    tiers.cache.request(10)
    assert tiers.store.started.wait(PATIENCE_SECONDS)
    tiers.cache.request(11)
    tiers.cache.request(12)
    tiers.store.gate.set()
    results = tiers.results(3)
    assert len({id(result.weights) for result in results.values()}) == 1
    stats = tiers.cache.stats()
    assert (stats.loads, stats.joins) == (1, 2)


def test_equal_files_of_two_tenants_are_two_entries(tiers: Tiers) -> None:
    first, second = tiers.adapter(1, "one"), tiers.adapter(1, "two")
    assert first.weights_sha256 == second.weights_sha256
    tiers.cache.register(1, first)
    tiers.cache.register(2, second)
    results = tiers.load(1, 2)
    assert results[1].weights is not results[2].weights
    assert tiers.cache.stats().host_entries == 2
    tiers.cache.forget(1)
    assert tiers.cache.stats().host_entries == 1
    tiers.wait_for_removal(first.identity)
    tiers.wait_for_file(second.identity)  # the other tenant has its own
    tiers.cache.forget(2)
    tiers.wait_for_removal(second.identity)


def test_a_slow_load_does_not_hold_up_others(tiers: Tiers) -> None:
    tiers.register(1, 2)
    tiers.load(2)
    tiers.store.gate.clear()
    tiers.cache.request(1)
    assert tiers.store.started.wait(PATIENCE_SECONDS)
    assert tiers.load(2)[2].weights is not None
    tiers.store.gate.set()
    assert tiers.results(1)[1].weights is not None


def test_a_failed_load_fails_alone_and_may_be_tried_again(tiers: Tiers) -> None:
    bad, *_ = tiers.register(1, 2, 3)
    tiers.store.failures[bad.weights_sha256] = [
        BlobUnavailableError("the database is not reachable."),
        OSError(28, "No space left on device"),
        RuntimeError("a bug"),
    ]
    for says in ("not reachable", "No space left on device", "internal error"):
        results = tiers.load(1, 2, 3)
        assert results[1].weights is None
        assert results[1].error is not None
        assert says in results[1].error
        assert results[2].error is results[3].error is None
    assert tiers.load(1)[1].error is None
    assert tiers.cache.stats().failures == 3


def test_a_broken_connection_is_tried_again(tiers: Tiers) -> None:
    (ref,) = tiers.register(1)
    broken: list[Exception] = [
        BlobInterruptedError("the database did not answer.") for _ in range(3)
    ]
    tiers.store.failures[ref.weights_sha256] = broken[:2]
    assert tiers.load(1)[1].weights is not None
    assert tiers.cache.stats().failures == 0
    tiers.register(2)
    (again,) = tiers.register(3)
    tiers.store.failures[again.weights_sha256] = broken
    assert "did not answer" in str(tiers.load(3)[3].error)
    assert tiers.load(2)[2].weights is not None


def test_what_was_collected_stays_until_it_is_released(tiers: Tiers) -> None:
    """More adapters than the host tier holds, none released: each keeps its bytes; then they are freed."""
    memory = SharedMemory(SharedMemory.create(3 * PAGE), 3 * PAGE)
    cache = AdapterCache(tiers.disk, tiers.modules, torch.float32, memory=memory, threads=3)
    try:
        kept: dict[int, torch.Tensor] = {}
        copies: dict[int, torch.Tensor] = {}
        for seed in range(8):
            cache.register(seed, tiers.adapter(seed))
            cache.request(seed)
            while not (results := cache.collect()):
                cache.wait(PATIENCE_SECONDS)
            weights = results[0].weights
            assert weights is not None
            kept[seed], copies[seed] = weights.buffer, weights.buffer.clone()
        assert len({memory.start_of(buffer) for buffer in kept.values()}) == 8
        for seed in range(8):
            assert torch.equal(kept[seed], copies[seed])
            cache.release(seed)
        assert cache.stats().host_entries == 3
        assert cache.stats().host_bytes == 3 * PAGE
    finally:
        cache.close()


def test_forgotten_is_told_when_the_last_byte_has_gone(tiers: Tiers) -> None:
    (ref,) = tiers.register(1)
    tiers.cache.request(1)
    while not (results := tiers.cache.collect()):
        tiers.cache.wait(PATIENCE_SECONDS)
    weights = results[0].weights
    assert weights is not None
    tiers.wait_for_file(ref.identity)
    tiers.cache.forget(1)
    tiers.cache.watch(0.1)
    assert tiers.cache.forgotten() == [], "the engine still reads it"
    assert weights.buffer.any()
    tiers.cache.release(1)
    tiers.cache.watch(PATIENCE_SECONDS)
    assert tiers.cache.forgotten() == [Forgotten(ref.identity, 1, 1)]
    assert not weights.buffer.any(), "overwritten"
    tiers.wait_for_removal(ref.identity)


def test_forgotten_while_its_file_is_written(tiers: Tiers) -> None:
    """The purge begins between the result and the end of the writing: it waits for that, and nothing stays."""
    (ref,) = tiers.register(1)
    writing = threading.Event()
    adopt = tiers.disk.adopt

    def slow_adopt(entry: str, temporary: Path, size: int, seconds: float) -> None:
        writing.wait(PATIENCE_SECONDS)
        adopt(entry, temporary, size, seconds)

    tiers.disk.adopt = slow_adopt  # type: ignore[method-assign]  # stands for a slow disk
    assert tiers.load(1)[1].weights is not None
    tiers.cache.forget(1)
    assert tiers.cache.forgotten() == []
    writing.set()
    tiers.cache.watch(PATIENCE_SECONDS)
    assert [gone.identity for gone in tiers.cache.forgotten()] == [ref.identity]
    assert not list(tiers.disk.path("x").parent.iterdir())


def test_unknown_and_missing_adapters_are_errors(tiers: Tiers) -> None:
    (ref,) = tiers.register(1)
    del tiers.store.files[ref.weights_sha256]
    results = tiers.load(1, 99)
    assert "missing from storage" in str(results[1].error)
    assert "not known here" in str(results[99].error)


def test_a_changed_stored_file_is_an_error(tiers: Tiers) -> None:
    (ref,) = tiers.register(1)
    tiers.store.files[ref.weights_sha256] = bytes(ref.size)
    assert "stored weights are damaged" in str(tiers.load(1)[1].error)
    assert tiers.cache.stats().host_entries == tiers.cache.stats().disk_entries == 0


def test_a_corrupted_disk_file_is_fetched_again(tiers: Tiers) -> None:
    (ref,) = tiers.register(1)
    good = tiers.load(1)[1].weights
    assert good is not None
    path = tiers.wait_for_file(ref.identity)
    for spoil in (100, ref.size - 1):  # in the header, in the data
        data = bytearray(path.read_bytes())
        data[spoil] ^= 1
        path.write_bytes(data)
        fresh = Tiers(tiers.modules, path.parent)  # nothing on the host
        fresh.store.files = tiers.store.files
        fresh.cache.register(1, ref)
        weights = fresh.load(1)[1].weights
        fresh.cache.close()
        assert weights is not None
        assert torch.equal(weights.buffer, good.buffer)
        tiers.wait_for_file(ref.identity)
        assert fresh.store.reads[ref.weights_sha256] == 1


def test_the_disk_survives_a_restart(tiers: Tiers) -> None:
    (ref,) = tiers.register(1)
    tiers.load(1)
    again = Tiers(tiers.modules, tiers.wait_for_file(ref.identity).parent)
    again.cache.register(1, ref)
    assert again.load(1)[1].weights is not None
    again.cache.close()
    assert not again.store.reads


def test_forgotten_means_gone_from_every_tier(tiers: Tiers) -> None:
    (ref,) = tiers.register(1)
    tiers.load(1)
    tiers.cache.forget(1)
    tiers.cache.forget(1)
    assert tiers.cache.stats().host_entries == 0
    tiers.wait_for_removal(ref.identity)
    assert "not known here" in str(tiers.load(1)[1].error)


def test_forgetting_while_loading(tiers: Tiers) -> None:
    (ref,) = tiers.register(1)
    tiers.store.gate.clear()
    tiers.cache.request(1)
    assert tiers.store.started.wait(PATIENCE_SECONDS)
    tiers.cache.forget(1)
    (result,) = tiers.cache.collect()
    assert "removed" in str(result.error)
    tiers.store.gate.set()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while tiers.cache.stats().loading:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert tiers.cache.stats().host_entries == 0
    assert tiers.cache.collect() == []
    tiers.wait_for_removal(ref.identity)


def test_forgetting_before_the_result_is_collected(tiers: Tiers) -> None:
    tiers.register(1)
    tiers.cache.request(1)
    tiers.cache.wait(PATIENCE_SECONDS)
    tiers.cache.forget(1)
    (result,) = tiers.cache.collect()
    assert result.weights is None
    assert "removed" in str(result.error)


def test_a_handle_stands_for_one_adapter(tiers: Tiers) -> None:
    (ref,) = tiers.register(1)
    tiers.cache.register(1, ref)
    with pytest.raises(ValueError, match="handle 1"):
        tiers.cache.register(1, tiers.adapter(2))


def test_an_adapter_larger_than_the_host_tier_is_served(
    modules: tuple[Module, ...], tmp_path: Path
) -> None:
    tiers = Tiers(modules, tmp_path)
    tiers.cache = AdapterCache(tiers.disk, modules, torch.float32, host_bytes=PAGE - 1)
    tiers.register(1)
    assert tiers.load(1)[1].weights is not None
    assert tiers.cache.stats().host_entries == 0
    tiers.cache.close()


def test_wait_ends_by_itself(tiers: Tiers) -> None:
    tiers.register(1)
    tiers.load(1)
    tiers.cache.forget(1)
    tiers.cache.watch(
        PATIENCE_SECONDS
    )  # an adapter that was forgotten is nothing to wait for in a step
    started = time.monotonic()
    tiers.cache.wait(0.05)
    assert 0.04 < time.monotonic() - started < PATIENCE_SECONDS


def test_many_handles_through_a_small_host_tier(tiers: Tiers) -> None:
    seeds = range(12)
    tiers.register(*seeds)
    for start in range(4):
        order = [(start * 5 + step * 7) % 12 for step in range(12)]
        results = tiers.load(*order)
        assert all(result.error is None for result in results.values())
    stats = tiers.cache.stats()
    assert stats.host_entries == 3
    assert stats.loads + stats.hits + stats.joins == 48


def test_local_directories_need_no_store(
    base: Path, modules: tuple[Module, ...], tmp_path: Path
) -> None:
    files = FileBlobs()
    cache = AdapterCache(files, modules, torch.float32)
    paths = [peft_adapter(base, tmp_path / str(n), seed=n, rank=n + 1) for n in range(2)]
    for handle, path in enumerate(paths):
        ref, same = local_adapter(path, modules, files)
        assert same is files
        cache.register(handle, ref)
        cache.request(handle)
    results: list[LoadResult] = []
    while len(results) < 2:
        cache.wait(PATIENCE_SECONDS)
        results += cache.collect()
    assert sorted((r.handle, r.weights.max_rank) for r in results if r.weights) == [(0, 1), (1, 2)]
    # A file that changes after it was judged is not served.
    ref, _ = local_adapter(paths[0], modules, files)
    weights = paths[0] / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    cache.forget(0)
    cache.register(5, ref)
    cache.request(5)
    cache.wait(PATIENCE_SECONDS)
    (result,) = cache.collect()
    assert "changed after it was added" in str(result.error)
    assert b"".join(files.read(ref.weights_sha256)) == data
    assert files.size(ref.weights_sha256) == len(data)
    cache.close()


def test_a_slow_disk_holds_up_no_load(modules: tuple[Module, ...], tmp_path: Path) -> None:
    tiers = Tiers(modules, tmp_path)
    disk = StuckDisk(tiers.store, tmp_path)
    tiers.cache = AdapterCache(disk, modules, torch.float32, host_bytes=3 * PAGE, threads=3)
    tiers.register(*range(24))
    found = tiers.load(*range(24))
    assert all(result.error is None for result in found.values())
    assert disk.usage().entries == 0
    disk.free.set()
    tiers.cache.close()
    assert 0 < disk.usage().entries < 24  # what it could not take is in the store


def test_an_adapter_pushed_again_before_its_file_is_removed_stops_no_removal(
    modules: tuple[Module, ...], tmp_path: Path
) -> None:
    """The file is read while the housekeeper has yet to remove it: it must not wait for its own later work, which is
    to close that file."""
    tiers = Tiers(modules, tmp_path)
    disk = StuckDisk(tiers.store, tmp_path)
    disk.free.set()
    tiers.cache = AdapterCache(disk, modules, torch.float32, host_bytes=8 * PAGE, threads=3)
    try:
        ref, *_ = tiers.register(1, 2, 3)
        tiers.load(1)
        tiers.wait_for_file(ref.identity)
        disk.free.clear()
        tiers.load(2)
        assert disk.stuck.wait(PATIENCE_SECONDS), "what comes now waits behind this"
        tiers.cache.forget(1)
        tiers.cache.register(11, ref)
        assert tiers.load(11)[11].weights is not None
        disk.free.set()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (gone := tiers.cache.forgotten()) and time.monotonic() < deadline:
            tiers.cache.watch(0.05)
        assert [each.identity for each in gone] == [ref.identity]
        for handle in (3, 11):
            assert tiers.load(handle)[handle].weights is not None
    finally:
        disk.give_up_waiting()
        tiers.cache.close()
