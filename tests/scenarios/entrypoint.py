"""Runs docker-entrypoint.sh as a container would: its folder, its environment, signals to its process. No test is here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "docker-entrypoint.sh"
#: How long anything may take that a test waits for, in seconds.
LONGEST = 120.0


@dataclass
class Started:
    """A running entrypoint; what it prints goes to a file, so that nothing waits for a reader."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def ends(self) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(LONGEST)

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Until the condition holds; it is an error when the entrypoint ends before."""
        deadline = time.monotonic() + LONGEST
        while not condition():
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.said}"
            assert time.monotonic() < deadline, self.said
            time.sleep(0.02)

    def kill(self) -> None:
        """As a node dies: the script and all its children, at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(LONGEST)


@dataclass
class Container:
    """Where entrypoints are started: a folder, variables, and programs that come before those of the machine."""

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    programs: Path = Path(sys.executable).parent
    begun: list[Started] = field(default_factory=list)

    def start(self, *command: str, **variables: str) -> Started:
        """The entrypoint in a process group of its own, with a command and further variables."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("QMIGRATE_", "ALEMBIC_"))}
        environment = {
            **kept,
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
            "NO_COLOR": "1",
            **self.variables,
            **variables,
        }
        log = self.folder / f"log-{len(self.begun)}"
        with log.open("wb") as sink:
            made = subprocess.Popen(
                [SCRIPT, *command],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
        self.begun.append(Started(made, log))
        return self.begun[-1]

    def run(self, *command: str, **variables: str) -> tuple[int, str]:
        """Start, wait, and give exit code and output."""
        one = self.start(*command, **variables)
        return one.ends(), one.said

    def close(self) -> None:
        """Nothing outlives a test."""
        for one in self.begun:
            if one.process.poll() is None:
                one.kill()
