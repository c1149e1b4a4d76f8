"""What an API worker that was killed leaves behind of the tokens it had handed over."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from uuid import UUID, uuid4

from loraplex.engine.sampling_params import SamplingParams
from loraplex.platform.engines.generation import Generation, Job
from loraplex.platform.engines.messages import Delta, Final
from loraplex.platform.engines.outcome import LOST
from loraplex.platform.metering.tally import Tallies, Tally

WORKER, ROW, OTHER = uuid4(), uuid4(), uuid4()


def final(row: UUID, choice: int, read: int, cached: int, written: int) -> Final:
    return Final(row.bytes, choice, 0, LOST, read, cached, written)


def test_the_newest_count_of_every_choice_is_there_until_its_row_is_settled(tmp_path: Path) -> None:
    tally, tallies = Tally(tmp_path, WORKER), Tallies(tmp_path)
    assert tallies.of(WORKER) == []
    tally.note(ROW, 0, 0, (5, 2, 1))
    tally.note(ROW, 1, 0, (5, 2, 3))
    tally.note(OTHER, 0, 0, (9, 0, 2**31))
    tally.note(ROW, 0, 0, (5, 2, 4))
    noted = sorted(tallies.of(WORKER), key=lambda each: (each.account != ROW.bytes, each.choice))
    assert noted == [
        final(ROW, 0, 5, 2, 4),
        final(ROW, 1, 5, 2, 3),
        final(OTHER, 0, 9, 0, 2**31),
    ]
    tally.forget(ROW)
    tally.forget(ROW)
    assert tallies.of(WORKER) == [final(OTHER, 0, 9, 0, 2**31)]
    tally.close()
    assert len(tallies.of(WORKER)) == 1  # it is not settled: somebody has to read it
    tallies.remove([WORKER, uuid4()])
    assert tallies.of(WORKER) == []
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_ends_in_order_leaves_no_file(tmp_path: Path) -> None:
    tally = Tally(tmp_path / "tallies", WORKER)
    tally.note(ROW, 0, 0, (5, 2, 1))
    tally.forget(ROW)
    tally.close()
    assert list((tmp_path / "tallies").iterdir()) == []


def test_what_there_is_no_room_for_is_not_noted_and_rooms_are_used_again(tmp_path: Path) -> None:
    tally, tallies = Tally(tmp_path, WORKER, notes=1), Tallies(tmp_path)
    tally.note(ROW, 0, 0, (1, 0, 1))
    tally.note(OTHER, 0, 0, (1, 0, 2))
    assert tallies.of(WORKER) == [final(ROW, 0, 1, 0, 1)]
    tally.forget(OTHER)
    tally.forget(ROW)
    tally.note(OTHER, 0, 0, (1, 0, 3))
    assert tallies.of(WORKER) == [final(OTHER, 0, 1, 0, 3)]
    tally.close()


def test_a_killed_process_has_left_what_it_noted(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from uuid import UUID;"
        "from loraplex.platform.metering.tally import Tally;"
        "Tally(Path(sys.argv[1]), UUID(sys.argv[2])).note(UUID(sys.argv[3]), 1, 0, (5, 2, 744));"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    command = [sys.executable, "-c", script, str(tmp_path), str(WORKER), str(ROW)]
    assert subprocess.run(command, check=False, env=os.environ).returncode == -signal.SIGKILL
    assert Tallies(tmp_path).of(WORKER) == [final(ROW, 1, 5, 2, 744)]


async def test_a_reader_gets_nothing_that_was_not_noted_before() -> None:
    noted: list[tuple[int, int]] = []
    generation = Generation(
        [Job((1,), SamplingParams()), Job((1,), SamplingParams())],
        lambda _: None,
        handing=lambda index, delta: noted.append((index, delta.output_tokens)),
    )
    first, second = generation.slots
    generation.push(first, Delta("a", (7,), "a", None, None, None, 1, 0, 1))
    generation.push(first, Delta("a", (8,), "b", None, None, None, 1, 0, 2))
    generation.push(second, Delta("b", (9,), "c", None, None, None, 1, 0, 1))
    assert noted == []
    assert [delta.output_tokens for _, delta in await generation.next()] == [2, 1]
    assert noted == [(0, 2), (1, 1)]
