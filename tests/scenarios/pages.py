"""Runs a page of the documentation as a reader would: its files are written, its commands typed, in their order."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.scenarios.cli import SOURCE, call, environment

#: A block with its language, the file that it is, and its text.
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
#: What a reader types that belongs to the machine and not to the project.
ASIDE = ("pip", "uvx", "uv", "cd", "mkdir", "export", "docker")
_EXIT = re.compile(r"#.*\bexit (\d+)")
_TIMES = re.compile(r"\d[\d,.]*(?: ?(?:ms|s|min|h|d|kB|MB|GB)\b)?(?: \d+ s\b)?")


def shape(line: str) -> str:
    """A line without what differs from run to run: numbers, durations, sizes, widths of columns."""
    line = re.sub(r"\b(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d+", "DATE", line)
    return " ".join(_TIMES.sub("0", line).split())


def run(text: str, folder: Path) -> list[str]:
    """Follow a page in a folder: write the files that it shows, type its commands, and compare what it says they print.

    Lines below a command are all that it prints, but for empty ones; a line `…` stands for any.

    Args:
        text: of the page, or a part of it.

    Returns:
        The commands that were run.
    """
    typed: list[str] = []
    for language, name, body in BLOCK.findall(text):
        if name:
            file = folder / name
            # A revision is made by a command of the page, and filled in afterwards.
            assert "versions/" not in name or file.exists(), f"{name} is filled in before it was made"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(body, encoding="utf-8")
        elif language == "console":
            for block in re.split(r"^(?=\$ )", body, flags=re.MULTILINE):
                if block.startswith("$ "):
                    command, _, shown = block[2:].partition("\n")
                    if shlex.split(command, comments=True)[0] not in ASIDE:
                        _type(command, shown, folder)
                        typed.append(command)
    return typed


def _type(command: str, shown: str, folder: Path) -> None:
    """Run one command, check its exit code (0 unless its comment says another), and compare its lines."""
    code, said = _answer(shlex.split(command, comments=True), folder)
    wanted = _EXIT.search(command)
    assert code == (int(wanted[1]) if wanted else 0), f"{command}\n{said}"
    printed = [shape(line) for line in said.splitlines()]
    at, lines = 0, [line for line in shown.splitlines() if line.strip()]
    for line in lines:
        if line.strip() == "…":
            continue
        assert shape(line) in printed[at:], f"{command} doesn't print\n{line}\nafter the lines before it, but\n{said}"
        at = printed.index(shape(line), at) + 1
    if lines and all(line.strip() != "…" for line in lines):
        left = [line for line in filter(None, printed) if line not in map(shape, lines)]
        assert not left, f"{command} prints more than is shown, and no … stands for it: {left}"


def _answer(words: list[str], folder: Path) -> tuple[int, str]:
    """Exit code and standard output."""
    if words[0] == "qmigrate":
        answer = call(folder, *words[1:])
        return answer.code, answer.out + (answer.err if answer.code else "")
    assert words[0] == "python", words
    done = subprocess.run(
        [sys.executable, *words[1:]],
        cwd=folder, env=environment({"PYTHONPATH": str(SOURCE)}), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + (done.stderr if done.returncode else "")
