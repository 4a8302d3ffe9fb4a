"""Who holds a lease, and whether a holder on this machine is dead. It reads /proc and touches no SQL."""

from __future__ import annotations

import getpass
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import RowMapping


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that holds a lease.

    Attributes:
        label: for people: user, host and process id.
        boot_id: of the running kernel; None where the system doesn't report it.
        pid_namespace: within which `pid` means something; None as above.
        process_start: in clock ticks since boot, so that a reused process id is not taken for the holder.
    """

    label: str
    host: str
    boot_id: str | None
    pid_namespace: str | None
    pid: int
    process_start: int | None

    @classmethod
    def current(cls, actor: str | None = None) -> Owner:
        """This process.

        Args:
            actor: for whom it works, where that is not the user of the system.
        """
        pid = os.getpid()
        found = _process(pid)
        user = system_user()
        return cls(
            label=f"{actor} ({user}, process {pid})" if actor else f"{user} (process {pid})",
            host=socket.gethostname(),
            boot_id=_boot_id(),
            pid_namespace=_pid_namespace(),
            pid=pid,
            process_start=found.start if found else None,
        )

    def proves_dead(self, lease: RowMapping) -> bool:
        """Whether the holder that a lease row names ran here and is gone for certain; False in any doubt."""
        here = (self.boot_id, self.pid_namespace)
        if None in here or here != (lease["boot_id"], lease["pid_namespace"]):
            return False
        pid, start = lease["pid"], lease["process_start"]
        if not pid or start is None:
            return False
        try:
            # Not by /proc alone: it may hide the processes of other users.
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except (PermissionError, OverflowError):
            pass
        found = _process(pid)
        return found is not None and (found.start != start or found.is_dead)


def system_user() -> str:
    """User and host of this process, as ``user@host``: who does something, where no other actor is named."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


@dataclass(frozen=True, slots=True)
class _Process:
    state: str
    threads: int
    start: int

    @property
    def is_dead(self) -> bool:
        """Killed, and only waiting for its parent; with more threads some may still be on their way out."""
        return self.state in "ZX" and self.threads <= 1


def _process(pid: int) -> _Process | None:
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field is the program's name in brackets and may itself hold blanks and brackets.
    fields = line.rpartition(")")[2].split()
    return _Process(state=fields[0], threads=int(fields[17]), start=int(fields[19]))


def _boot_id() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None


def _pid_namespace() -> str | None:
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return None
