"""The loader process: adapters come through shared memory, its death costs nobody a wrong byte, and what was warm comes
back."""

import asyncio
import hashlib
import os
import random
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from loraplex.adapters.figures import Forgotten
from loraplex.adapters.packing import pack
from loraplex.adapters.reading import AdapterRef, disk_entry
from loraplex.adapters.recipes import Recipes
from loraplex.engine.lora import LoRAWeights
from loraplex.engine.model_config import ModelConfig
from loraplex.platform.db.database import open_database
from loraplex.platform.engines import loader_client
from loraplex.platform.settings import Settings
from support.adapter_files import config_json, lora_tensors, weights_bytes
from support.loaders import Loading, loading, store_adapter

COUNT = 6


class World:
    """A base model and adapters of it in a database, the last one pinned."""

    def __init__(self, base: Path, data_dir: Path) -> None:
        self.base = base
        self.model = ModelConfig.from_directory(base)
        self.settings = Settings(data_dir=data_dir)
        self.files = [
            weights_bytes(lora_tensors(self.model.modules(), rank=4, seed=n)) for n in range(COUNT)
        ]
        self.refs = asyncio.run(self._store())
        self.cache = data_dir / "cache" / self.model.fingerprint[:16]

    async def _store(self) -> list[AdapterRef]:
        database = open_database(self.settings)
        refs = [
            await store_adapter(
                database, self.model, config_json(), data, name=f"a{n}", pinned=n == COUNT - 1
            )
            for n, data in enumerate(self.files)
        ]
        await database.close()
        return refs

    def expected(self, number: int) -> LoRAWeights:
        """What `pack` makes of an adapter in this process."""
        ref = self.refs[number]
        recipes = Recipes(self.model.modules(), torch.float32)
        return pack(iter([self.files[number]]), ref.config, ref.weights_sha256, recipes)

    def check(self, number: int, weights: LoRAWeights | None) -> None:
        expected = self.expected(number)
        assert weights is not None
        assert torch.equal(weights.buffer, expected.buffer)
        for name in ("modules", "ranks", "a_rows", "b_rows"):
            assert (getattr(weights, name) == getattr(expected, name)).all()

    def register(self, life: Loading) -> None:
        """Adapter n under handle n."""
        for number, ref in enumerate(self.refs):
            life.client.register(number, ref)


@pytest.fixture
def world(base_dir: Path, migrated_files: Path, tmp_path: Path) -> World:
    shutil.copytree(migrated_files, tmp_path / "data")
    return World(base_dir, tmp_path / "data")


def test_a_life_of_loads_purges_and_a_restart(world: World) -> None:
    with loading(world.settings, world.base) as life:
        world.register(life)
        for number, result in life.load(*range(COUNT)).items():
            world.check(number, result.weights)
            assert result.seconds > 0
        client = life.client
        for number in range(COUNT):
            client.release(number)
        again = life.load(1)[1]
        world.check(1, again.weights)
        assert again.seconds == 0, "it was on the host"
        client.release(1)
        assert "not known here" in str(life.load(77)[77].error)
        life.until(lambda: client.stats().hits == 1 and client.stats().disk_entries == COUNT)
        assert client.stats().loads == COUNT
        figures = {figure.identity: figure for figure in client.figures()}
        assert {figure.tier for figure in figures.values()} == {"host"}
        assert figures[world.refs[1].identity].hits == 1
        assert figures[world.refs[1].identity].disk_bytes == world.refs[1].size

        # Purged while the engine reads it: confirmed only when that has ended.
        held = life.load(0)[0].weights
        assert held is not None
        client.forget(0, world.refs[0].identity)
        client.wait(0.3)
        assert client.forgotten() == []
        world.check(0, held)
        client.release(0)
        assert life.forgotten() == [Forgotten(world.refs[0].identity, 1, 1)]
        assert world.refs[0].identity not in {figure.identity for figure in client.figures()}
        assert not (world.cache / f"{disk_entry(world.refs[0].identity)}.safetensors").exists()
        assert not held.buffer.any()
        assert "not known here" in str(life.load(0)[0].error)
        client.tell_resident([world.refs[n].identity for n in (3, 2)])

    # The next one has them again before anybody asks: pinned, then what was on the device, then by worth.
    (world.cache / f"{'0' * 64}.safetensors").write_bytes(b"of a version deleted meanwhile")
    with loading(world.settings, world.base) as life:
        restored = life.restored(COUNT - 1)
        assert restored[:3] == [world.refs[n] for n in (COUNT - 1, 3, 2)]
        assert {ref.identity for ref in restored} == {r.identity for r in world.refs[1:]}
        world.register(life)
        again = life.load(3)[3]
        world.check(3, again.weights)
        assert again.seconds == 0, "it was on the host"
        assert not (world.cache / f"{'0' * 64}.safetensors").exists()
        life.client.forget(None, world.refs[2].identity)  # one no handle stands for
        assert life.forgotten() == [Forgotten(world.refs[2].identity, 1, 1)]


def test_a_loader_that_dies_costs_time_only(world: World) -> None:
    """Killed at random moments while it loads: every request is answered in the end, what the engine holds does not
    change, and the disk holds whole files only."""
    random.seed(0)
    with loading(world.settings, world.base, host_bytes=3 * 2**21) as life:
        world.register(life)
        held = life.load(0)[0].weights
        life.client.forget(5, world.refs[5].identity)
        killed: list[int | None] = [None]
        for _ in range(2):
            # One that had answered everything before it died is replaced when somebody looks.
            life.until(lambda: life.client.stats() is not None and life.client.pid not in killed)
            first = life.client.pid
            assert first is not None
            killed.append(first)
            for number in range(1, COUNT - 1):
                life.client.request(number)
            time.sleep(random.random() * 0.05)
            os.kill(first, signal.SIGKILL)
            found: dict[int, LoRAWeights | None] = {}

            def all_there(found: dict[int, LoRAWeights | None] = found) -> bool:
                for result in life.client.collect():
                    assert result.error is None
                    found[result.handle] = result.weights
                return len(found) == COUNT - 2

            life.until(all_there)
            for number, weights in found.items():
                world.check(number, weights)
                life.client.release(number)
            world.check(0, held)
        life.client.release(0)
        assert [gone.identity for gone in life.forgotten()] == [world.refs[5].identity]
        # The last one may have been asked for nothing, if the one before answered everything before it died.
        for number in range(COUNT - 1):
            world.check(number, life.load(number)[number].weights)
            life.client.release(number)
        life.until(lambda: life.client.stats().loads > 0 and life.client.stats().disk_entries == 5)
    kept = {path.stem: path.read_bytes() for path in world.cache.iterdir()}
    assert not [path for path in world.cache.iterdir() if path.suffix != ".safetensors"]
    digests = {disk_entry(ref.identity): ref.weights_sha256 for ref in world.refs}
    for name, data in kept.items():
        assert hashlib.sha256(data).hexdigest() == digests[name]


def test_what_kills_every_loader_fails_in_the_end(world: World) -> None:
    with loading(world.settings, world.base) as life:
        world.register(life)
        life.client.request(1)
        results: list[str | None] = []

        def failed() -> bool:
            pid = life.client.pid
            if pid is not None and not results:
                with suppress(ProcessLookupError):  # it may just have ended
                    os.kill(pid, signal.SIGKILL)
            results.extend(result.error for result in life.client.collect())
            return bool(results)

        life.until(failed)
        assert "stopped twice; try again" in str(results[0])
        assert life.load(2)[2].weights is not None, "the next one works"


def test_a_loader_that_hangs_is_replaced(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with loading(world.settings, world.base, host_bytes=3 * 2**21) as life:
        world.register(life)
        life.load(0)
        hanging = life.client.pid
        assert hanging is not None
        os.kill(hanging, signal.SIGSTOP)
        life.client.request(1)

        def replaced() -> bool:
            life.client.stats()  # takes what has arrived, and sees whether it lives
            return life.client.pid != hanging

        # No longer than that: its successor may be silent for a while on a loaded machine.
        with monkeypatch.context() as patch:
            patch.setattr(loader_client, "SILENT_SECONDS", 0.5)
            life.until(replaced)
        assert "hangs" in caplog.text
        world.check(1, life.load(1)[1].weights)
