"""Owns a process in which attacks are judged, each in a fork of its own with its time and its memory measured. Reads
names of attacks, one a line, and answers each with a line of JSON."""

import json
import os
import re
import resource
import sys
import time
from pathlib import Path

from loraplex.adapters.errors import AdapterRejected
from loraplex.adapters.upload import UploadInspector
from loraplex.engine.model_config import Module
from support.hostile import Attack, base_modules
from support.hostile_configs import config_attacks
from support.hostile_weights import weights_attacks

PIECE = 1024 * 1024
Json = dict[str, object]


def attacks() -> dict[str, Attack]:
    """All of them by name."""
    found = [*config_attacks(), *weights_attacks()]
    named = {attack.name: attack for attack in found}
    assert len(named) == len(found), "two attacks have one name"
    return named


def judge(attack: Attack, modules: tuple[Module, ...], pieces: list[bytes] | None) -> Json:
    """What comes of an attack, and what it cost beyond its own bytes."""
    _reset_peak()
    before, began = _kilobytes("VmRSS"), time.process_time()
    size = attack.size if pieces is None else sum(map(len, pieces))
    verdict: Json = {"field": None, "message": "accepted"}
    try:
        inspector = UploadInspector(attack.config, modules, base_model="tiny", expected_size=size)
        for piece in attack.weights() if pieces is None else pieces:
            for start in range(0, len(piece), PIECE):
                inspector.feed(piece[start : start + PIECE])
        inspector.finish()
    except AdapterRejected as error:
        verdict = {"field": error.field, "message": error.message}
    seconds = time.process_time() - began
    grown = max(0, _kilobytes("VmHWM") - before) * 1024
    return {**verdict, "seconds": seconds, "bytes": grown}


def main() -> None:
    """Answer until standard input ends."""
    modules, known = base_modules(), attacks()
    for line in sys.stdin:
        attack = known[line.rstrip("\n")]
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            # Made before it is measured, unless it is meant never to be there as a whole.
            pieces = None if attack.size is not None else _gather(attack)
            print(json.dumps(judge(attack, modules, pieces)), flush=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            print(json.dumps({"field": None, "message": f"died: {status}"}), flush=True)


def _gather(attack: Attack) -> list[bytes] | None:
    pieces, size = [], 0
    for piece in attack.weights():
        pieces.append(piece)
        size += len(piece)
        if size > 128 * PIECE:
            return None
    return pieces


def _reset_peak() -> None:
    # A machine that runs out is no proof either.
    resource.setrlimit(resource.RLIMIT_DATA, (1024**3, 1024**3))
    Path("/proc/self/clear_refs").write_text("5")


def _kilobytes(field: str) -> int:
    match = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return int(match[1])


if __name__ == "__main__":
    main()
