"""A terminal of 80 columns, as a person has it: the bar, and Ctrl-C in the middle of a copy."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios

import pytest
import yaml
from tests.harness import ADD, CREATE, Deployment
from tests.scenarios import gated_embedder
from tests.scenarios.cli import SOURCE, environment

from qmigrate.commands import upgrade

WIDTH = 80
#: What steers a terminal.
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Screen:
    """What a process writes to its terminal."""

    def __init__(self, reading: int) -> None:
        self._reading = reading
        self.text = ""

    def until(self, words: str) -> None:
        """Read on until the words came."""
        while words not in CONTROL.sub("", self.text):
            try:
                got = os.read(self._reading, 65536)
            except OSError:
                got = b""
            if not got:
                raise AssertionError(f"{words!r} did not come: {self.text}")
            self.text += got.decode("utf-8", "replace")


@pytest.mark.nightly
def test_a_copy_in_a_terminal(tmp_path):
    """Something moves at once, the line of the bar fits, and Ctrl-C is answered before the checkpoint is reached."""
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db", "docs")
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(3 * gated_embedder.FREE)
    config = yaml.safe_load(made.config.read_text())
    gated = {"type": "callable", "function": "tests.scenarios.gated_embedder:embed", "size": gated_embedder.SIZE}
    made.config.write_text(yaml.safe_dump({**config, "embedders": {"words": gated | {"max_batch": 20}}}))
    made.revise("0002", ADD.replace("size=16", f"size={gated_embedder.SIZE}"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, WIDTH, 0, 0))
    paths = os.pathsep.join([str(SOURCE), str(SOURCE.parent)])
    variables = environment({"PYTHONPATH": paths, "GATE": str(tmp_path), "TERM": "xterm"}) | {"COLUMNS": str(WIDTH)}
    process = subprocess.Popen(
        [sys.executable, "-m", "qmigrate", "upgrade"], cwd=made.root, env=variables, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    screen = Screen(ours)
    try:
        screen.until("fill")
        process.send_signal(signal.SIGINT)
        screen.until("Stopping at the next checkpoint")
        (tmp_path / "open").touch()
        screen.until("run the same command again")
        assert process.wait(60) == 130
    finally:
        (tmp_path / "open").touch()
        process.kill()
        process.wait()
        os.close(ours)
    lines = [line for line in re.split(r"[\r\n]+", CONTROL.sub("", screen.text)) if line.strip()]
    assert any("━" in line for line in lines)
    assert max(map(len, lines)) <= WIDTH, lines
