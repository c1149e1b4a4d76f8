"""Owns how a process is named so that another one on the same host can tell for certain that it has ended."""

import os
import socket
from pathlib import Path
from typing import NamedTuple

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")


class ProcessIdentity(NamedTuple):
    """One process.

    Attributes:
        host: its name, and what tells apart two boots of it and two containers on it.
        pid: within that.
        birth: clock ticks from the boot to its start, which no later process with the same number has; 0 where the
            system does not tell.
    """

    host: str
    pid: int
    birth: int

    @classmethod
    def own(cls) -> "ProcessIdentity":
        """Of this process."""
        pid = os.getpid()
        return cls(_host(), pid, _birth(pid))

    def has_ended(self) -> bool:
        """Whether this is certain: False for processes of other hosts, and where the system does not tell."""
        own = ProcessIdentity.own()
        return bool(self.birth and own.birth) and (
            self.host == own.host and _birth(self.pid) != self.birth
        )


def _host() -> str:
    try:
        boot, namespace = _BOOT_ID.read_text().strip(), str(_PID_NAMESPACE.readlink())
    except OSError:
        boot = namespace = ""
    return f"{socket.gethostname()[:180]} {boot} {namespace}"


def _birth(pid: int) -> int:
    """0 if there is no such process, or it is a zombie: one that has ended, and whose parent was not told yet."""
    try:
        # The name of the program is in brackets and may hold anything.
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if state in "ZX" else int(fields[18])
