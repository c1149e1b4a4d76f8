"""What memory keeps out gets in when it can, and is refused only when it never could."""

import pytest
import torch

from loraplex.engine.arena import Arena, Copy
from support.late_arena import LateCopy
from support.stepless import Stepless

MISSING = 99  # no source knows it


class Copies:
    """The copies to the device of a world, which end when a test says so."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.begun: list[LateCopy] = []
        copy_now = Arena.copy

        def copy(arena: Arena, buffer: torch.Tensor, pages: list[int], adapter: int) -> Copy:
            copy_now(arena, buffer, pages, adapter)
            self.begun.append(LateCopy())
            return self.begun[-1]

        patch.setattr(Arena, "copy", copy)

    def end(self) -> None:
        for late in self.begun:
            late.ended = True


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> Copies:
    return Copies(monkeypatch)


def unload_while_copied(world: Stepless, copies: Copies) -> None:
    """Adapter 1 is deleted while it is being copied; its pages are not free before that has ended."""
    sequence = world.add(4, 4, 1)
    while not copies.begun:
        world.step()
    world.abort(sequence)
    world.pool.unload(1)


def test_an_adapter_deleted_while_copied_refuses_no_request_for_another(copies: Copies) -> None:
    world = Stepless(pages=10, sizes={1: 8, 2: 8})
    unload_while_copied(world, copies)
    world.add(4, 4, 2)  # fits as soon as the pages are free
    for _ in range(5):
        world.step()
    assert not world.failed
    copies.end()
    while world.sequences:
        assert world.now < 50
        world.step()
        copies.end()
    assert not world.failed
    world.check()


def test_an_adapter_deleted_while_copied_refuses_no_long_prompt(copies: Copies) -> None:
    world = Stepless(pages=10, sizes={1: 8})
    unload_while_copied(world, copies)
    sequence = world.add(16 * 4, 1)
    world.step()
    assert not world.failed
    assert not sequence.running, "the pages are still being written"
    copies.end()
    world.drain(10)
    assert not world.failed
    world.check()


def test_an_adapter_deleted_while_copied_ends_no_running_request(copies: Copies) -> None:
    world = Stepless(pages=10, sizes={1: 8})
    world.add(30, 16)  # grows by a page that only the copied adapter has
    world.step()
    unload_while_copied(world, copies)
    for _ in range(10):
        world.step()
    assert not world.failed
    copies.end()
    world.drain(30)
    assert not world.failed
    world.check()


def test_a_sequence_whose_adapter_another_has_let_go_is_not_refused(copies: Copies) -> None:
    """Two wait for blocks beside adapters that do not fit together: the one that holds its adapter gives way when
    nothing runs, and the other one takes over in the same step, when its room has not yet been looked at."""
    world = Stepless(pages=15, sizes={1: 5, 2: 5})
    base = world.add(16 * 4 - 12, 12)
    user = world.add(2, 12, 1)
    world.step()
    copies.end()
    short = world.add(16 * 3 - 4, 4)
    world.step()
    assert all(each.running for each in (base, user, short))
    for sequence in (world.add(16 * 7 - 2, 1, 2), world.add(16 * 6 - 4, 1, 1)):
        sequence.passed_over = 10  # what they wait for is kept for them from now on
    while base.running or user.running:
        assert world.now < 50
        world.step()
    while world.sequences:
        assert world.now < 100
        copies.end()
        world.step()
    assert not world.failed
    world.check()


@pytest.mark.parametrize("unload", [False, True])
def test_room_left_by_a_pinned_adapter_is_seen_at_once(unload: bool) -> None:
    """No sequence has begun or ended and no adapter has come, which is when those that wait try again."""
    world = Stepless(pages=20, sizes={1: 9})
    world.pool.pin(1, True)
    for _ in range(3):
        world.step()
    long = world.add(16 * 4, 16 * 4)
    world.step()
    sequence = world.add(16 * 8, 4)
    for _ in range(4):
        world.step()
    assert sequence.held, "9 of 20 pages are pinned, and 5 in use"
    if unload:
        world.pool.unload(1)
    else:
        world.pool.pin(1, False)
    world.step()
    assert long.running
    assert sequence.running
    world.drain()
    world.check()


def test_a_load_that_fails_evicts_nothing_that_is_waited_for() -> None:
    world = Stepless(pages=40, sizes={1: 10, 2: 10, 3: 10, 4: 16}, places=3)
    world.add(8, 60, 1)
    world.step()
    world.step()
    for _ in range(2):
        world.add(8, 60)
    world.step()
    assert len(world.scheduler.running) == 3, "no place is left: what comes now waits"
    for adapter in (2, 3, 4):
        world.add(8, 4, adapter)
        for _ in range(3):
            world.step()
    assert not world.pool.is_ready(4), "there is room at the cost of a wanted one only"
    broken = world.add(8, 4, MISSING)
    for _ in range(3):
        world.step()
    assert MISSING in world.source.asked
    assert world.pool.has_failed(MISSING)
    assert world.pool.evictions == 0
    assert all(world.pool.is_ready(adapter) for adapter in (2, 3))
    world.drain()
    assert list(world.failed) == [broken.request.request_id]
    world.check()
