"""What is put aside in TMPDIR: where it has no room, that is reported, and only one module uses the folder."""

from __future__ import annotations

import ast
import errno
import sqlite3
import tempfile
from pathlib import Path
from typing import IO

import pytest

from qmigrate import scratch
from qmigrate.engine.fixes.first_look import spilling
from qmigrate.engine.prove.rekey import id_table
from qmigrate.errors import UnavailableError

SOURCE = Path(scratch.__file__).parent
#: A device that takes no byte, as a full disk does.
FULL = Path("/dev/full")


def open_full() -> IO[bytes]:
    """A file that no byte goes into."""
    return FULL.open("r+b")


def spill(count: int = 10_000) -> None:
    """Ids of orphans."""
    with spilling() as ids:
        for one in range(count):
            ids.add(one)
        assert len(list(ids)) == count


def table() -> None:
    """Ids that change."""
    with id_table() as ids:
        for one in range(300_000):
            ids.claim(one.to_bytes(16, "big"), one.to_bytes(16, "big"))


def missing() -> None:
    """Ids that are handed to a function."""
    with scratch.own_folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700


def upload() -> None:
    """A snapshot that passes through."""
    with scratch.file():
        scratch.folder()


@pytest.mark.parametrize("work", [spill, missing, upload])
def test_without_a_folder_it_says_so(monkeypatch, work):
    """The error names TMPDIR; it is not a traceback."""
    work()

    def none() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "gettempdir", none)
    monkeypatch.setattr(tempfile, "_get_default_tempdir", none)
    with pytest.raises(UnavailableError, match="No usable temporary directory") as caught:
        work()
    assert "TMPDIR" in str(caught.value.hint)


@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
def test_a_spill_that_finds_no_room_says_so(monkeypatch):
    """Whenever the disk turns out to be full: while ids are added, or when they are read."""
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: open_full())
    for count in (1, 100_000):
        with pytest.raises(UnavailableError, match="No space left on device"):
            spill(count)


@pytest.mark.parametrize("bound", [20, 200])
def test_a_table_that_finds_no_room_says_so(monkeypatch, bound):
    """SQLite has words of its own for a full disk."""
    table()
    connect = sqlite3.connect

    def small(*args: object, **more: object) -> sqlite3.Connection:
        made = connect(*args, **more)
        made.execute(f"PRAGMA max_page_count = {bound}")
        return made

    monkeypatch.setattr(sqlite3, "connect", small)
    with pytest.raises(UnavailableError, match="full") as caught:
        table()
    assert "TMPDIR" in str(caught.value.hint)


def test_another_error_of_sql_is_not_about_room():
    """A wrong statement is a fault of the code, and is reported as one."""
    with pytest.raises(sqlite3.OperationalError, match="no such table"), scratch.tables("CREATE TABLE a (b)") as made:
        made.execute("SELECT 1 FROM c")


def test_nothing_else_uses_the_folder():
    """So that no other file finds no room without saying so."""
    found = set()
    for file in SOURCE.rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            imported = isinstance(node, ast.Import) and any(one.name == "tempfile" for one in node.names)
            imported |= isinstance(node, ast.ImportFrom) and node.module == "tempfile"
            nameless = (
                isinstance(node, ast.Call)
                and ast.unparse(node.func).endswith("connect")
                and bool(node.args)
                and isinstance(node.args[0], ast.Constant)
                and node.args[0].value == ""
            )
            if imported or nameless:
                found.add(file.relative_to(SOURCE).as_posix())
    assert found == {"scratch.py"}
