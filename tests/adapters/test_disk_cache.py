"""The disk tier keeps whole, verified files within its size, whatever dies when."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from loraplex.adapters.disk_cache import DiskCache
from loraplex.adapters.errors import BlobUnavailableError, DigestMismatchError
from support.patience import PATIENCE_SECONDS
from support.stores import MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def blob(number: int, size: int = 1000) -> bytes:
    return bytes([number]) * size


def read(cache: DiskCache, digest: str, size: int = 1000, *, fresh: bool = False) -> bytes:
    """As a reader does who finds the bytes right."""
    with closing(cache.open(digest, digest, size, fresh=fresh)) as file:
        data = b"".join(file.pieces())
        file.keep()
        return data


def files(path: Path) -> set[str]:
    return {file.name for file in path.iterdir()}


def test_a_file_is_fetched_once_and_kept_by_digest(store: MemoryStore, tmp_path: Path) -> None:
    cache = DiskCache(store, tmp_path / "cache", 10_000)
    digest = store.add(blob(1))
    assert read(cache, digest) == read(cache, digest) == blob(1)
    assert store.reads[digest] == 1
    assert files(tmp_path / "cache") == {f"{digest}.safetensors"}
    assert cache.usage() == (1, 1000)


class Clock:
    """Every fetch takes a second, or as many as a test says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.seconds = 1.0

    def __call__(self) -> float:
        self.now += self.seconds
        return self.now


def test_what_is_slow_to_fetch_stays_longer(store: MemoryStore, tmp_path: Path) -> None:
    clock = Clock()
    cache = DiskCache(store, tmp_path, 3000, clock=clock)
    digests = [store.add(blob(n)) for n in range(6)]
    for n, seconds in enumerate((30.0, 1.0, 1.0, 1.0, 1.0)):
        clock.seconds = seconds
        read(cache, digests[n])
    assert f"{digests[0]}.safetensors" in files(tmp_path)
    assert f"{digests[4]}.safetensors" in files(tmp_path)
    clock.seconds = 1.0
    for n in range(1, 100):  # but not for ever, if nobody reads it
        read(cache, digests[1 + n % 5])
    assert f"{digests[0]}.safetensors" not in files(tmp_path)


def test_the_least_recently_used_go_first(store: MemoryStore, tmp_path: Path) -> None:
    cache = DiskCache(store, tmp_path, 3000, clock=Clock())
    digests = [store.add(blob(n)) for n in range(4)]
    for digest in (*digests[:3], digests[0], digests[3]):
        read(cache, digest)
    assert files(tmp_path) == {f"{digests[n]}.safetensors" for n in (0, 2, 3)}
    assert cache.usage() == (3, 3000)


def test_the_order_of_use_survives_a_restart(store: MemoryStore, tmp_path: Path) -> None:
    digests = [store.add(blob(n)) for n in range(3)]
    cache = DiskCache(store, tmp_path, 3000)
    for digest in (*digests, digests[0]):
        read(cache, digest)
        time.sleep(0.02)  # file times are coarse
    again = DiskCache(store, tmp_path, 2000)
    assert files(tmp_path) == {f"{digests[n]}.safetensors" for n in (0, 2)}
    assert again.usage() == (2, 2000)
    assert read(again, digests[0]) == blob(0)
    assert store.reads[digests[0]] == 1


def test_an_evicted_file_stays_readable_for_who_has_it(store: MemoryStore, tmp_path: Path) -> None:
    cache = DiskCache(store, tmp_path, 1000)
    first, second = store.add(blob(1)), store.add(blob(2))
    read(cache, first)
    with closing(cache.open(first, first, 1000)) as file:
        pieces = file.pieces()
        cache.path(first).unlink()
        read(cache, second)
        assert files(tmp_path) == {f"{second}.safetensors"}
        assert b"".join(pieces) == blob(1)


def test_a_file_larger_than_the_cache_is_not_kept(store: MemoryStore, tmp_path: Path) -> None:
    cache = DiskCache(store, tmp_path, 1500)
    small, large = store.add(blob(1)), store.add(blob(2, 2000))
    read(cache, small)
    assert read(cache, large, 2000) == blob(2, 2000)
    assert files(tmp_path) == {f"{small}.safetensors"}


@pytest.mark.parametrize("damage", ["cut", "longer", "other"])
def test_a_damaged_file_is_fetched_again(damage: str, store: MemoryStore, tmp_path: Path) -> None:
    cache = DiskCache(store, tmp_path, 10_000)
    digest = store.add(blob(1))
    read(cache, digest)
    path = cache.path(digest)
    path.write_bytes({"cut": blob(1)[:-1], "longer": blob(1, 1001), "other": blob(3)}[damage])
    # A wrong size shows at once; other bytes show to the reader, who asks again.
    assert read(cache, digest, fresh=damage == "other") == blob(1)
    assert path.read_bytes() == blob(1)
    assert store.reads[digest] == 2


def test_wrong_bytes_from_the_store_are_never_kept(store: MemoryStore, tmp_path: Path) -> None:
    cache = DiskCache(store, tmp_path, 10_000)
    digest = store.add(blob(1))
    for wrong in (blob(2), blob(1, 999), blob(1, 5000), b""):
        store.files[digest] = wrong
        with closing(cache.open(digest, digest, 1000)) as file:
            if len(wrong) == 1000:  # then its reader finds out, and does not keep it
                assert b"".join(file.pieces()) == wrong
            else:
                with pytest.raises(DigestMismatchError, match="push the adapter again"):
                    list(file.pieces())
        assert files(tmp_path) == set()
    store.files[digest] = blob(1)
    assert read(cache, digest) == blob(1)


def test_a_failing_store_leaves_nothing(store: MemoryStore, tmp_path: Path) -> None:
    cache = DiskCache(store, tmp_path, 10_000)
    digest = store.add(blob(1))
    store.failures[digest] = [BlobUnavailableError("down"), OSError("broken")]
    with pytest.raises(BlobUnavailableError, match="down"):
        read(cache, digest)
    with pytest.raises(OSError, match="broken"):
        read(cache, digest)
    assert files(tmp_path) == set()
    assert read(cache, digest) == blob(1)


def test_many_threads_fetch_once(store: MemoryStore, tmp_path: Path) -> None:
    cache = DiskCache(store, tmp_path, 10_000)
    digest, other = store.add(blob(1)), store.add(blob(2))
    read(cache, other)
    store.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        readings = [pool.submit(read, cache, digest) for _ in range(8)]
        assert store.started.wait(PATIENCE_SECONDS)
        assert read(cache, other) == blob(2), "another file does not wait"
        store.gate.set()
        assert {reading.result(10) for reading in readings} == {blob(1)}
    assert store.reads[digest] == 1


def test_waiting_threads_try_themselves_when_the_first_fails(
    store: MemoryStore, tmp_path: Path
) -> None:
    cache = DiskCache(store, tmp_path, 10_000)
    digest = store.add(blob(1))
    store.failures[digest] = [BlobUnavailableError("down")]
    with ThreadPoolExecutor(4) as pool:
        readings = [pool.submit(read, cache, digest) for _ in range(4)]
        errors = [reading.exception(10) for reading in readings]
    assert sum(error is None for error in errors) == 3
    assert store.reads[digest] == 2


def test_discard_and_keep_only(store: MemoryStore, tmp_path: Path) -> None:
    cache = DiskCache(store, tmp_path, 10_000)
    digests = [store.add(blob(n)) for n in range(4)]
    for digest in digests:
        read(cache, digest)
    cache.discard(digests[0])
    cache.discard(digests[0])
    cache.keep_only({digests[2]})
    assert files(tmp_path) == {f"{digests[2]}.safetensors"}
    assert cache.usage() == (1, 1000)


def test_concurrent_use_within_a_small_cache(store: MemoryStore, tmp_path: Path) -> None:
    """Readers, evictions and discards at once: every reading is right, and the size holds at the end."""
    cache = DiskCache(store, tmp_path, 3000)
    digests = [store.add(blob(n)) for n in range(8)]
    failures: list[object] = []

    def work(seed: int) -> None:
        for step in range(60):
            number = (seed * 7 + step * (seed + 3)) % 8
            if step % 10 == seed:
                cache.discard(digests[number])
            elif read(cache, digests[number]) != blob(number):
                failures.append(number)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert not failures
    read(cache, digests[0])
    on_disk = files(tmp_path)
    assert len(on_disk) <= 3
    assert cache.usage().entries == len(on_disk)


WRITER = """
import sys, time
from pathlib import Path
from loraplex.adapters.disk_cache import DiskCache
class Slow:
    def read(self, digest):
        yield b"x" * 1000
        print("writing", flush=True)
        time.sleep(60)
    def size(self, digest): return 2000
list(DiskCache(Slow(), Path(sys.argv[1]), 10**6).open("0" * 64, "0" * 64, 2000).pieces())
"""


def test_leftovers_of_a_killed_process_are_removed(store: MemoryStore, tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    with writer:
        assert writer.stdout.readline() == "writing\n"
        (temporary,) = files(tmp_path)
        DiskCache(store, tmp_path, 10_000)
        assert files(tmp_path) == {temporary}, "a living writer keeps its file"
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait(PATIENCE_SECONDS)
    assert files(tmp_path) == {temporary}
    DiskCache(store, tmp_path, 10_000)
    assert files(tmp_path) == set()


def test_a_full_disk_hinders_no_reader(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = store.add(blob(1))
    cache = DiskCache(store, tmp_path, 10_000)

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("mkstemp", "fsync"):  # at the beginning, at the end
        with monkeypatch.context() as patch:
            patch.setattr(tempfile if name == "mkstemp" else os, name, full)
            assert read(cache, digest) == blob(1)
        assert files(tmp_path) == set()
    assert cache.usage() == (0, 0)
    assert read(cache, digest) == blob(1)
    assert cache.usage() == (1, 1000)


def test_what_is_being_written_counts(store: MemoryStore, tmp_path: Path) -> None:
    cache = DiskCache(store, tmp_path, 2500)
    old, new, other = (store.add(blob(n)) for n in range(3))
    read(cache, old)
    with (
        closing(cache.open(new, new, 1000)) as first,
        closing(cache.open(other, other, 1000)) as second,
    ):
        assert b"".join(first.pieces()) == blob(1)
        assert b"".join(second.pieces()) == blob(2)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2500
        first.keep()
        second.keep()
    assert cache.usage() == (2, 2000)


def test_foreign_files_are_left_alone(store: MemoryStore, tmp_path: Path) -> None:
    (tmp_path / "notes.safetensors").write_bytes(b"mine")
    cache = DiskCache(store, tmp_path, 1)
    assert cache.usage() == (0, 0)
    assert files(tmp_path) == {"notes.safetensors"}
