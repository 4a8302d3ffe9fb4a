"""Makes the golden files again: ``python -m tests.golden.make``, a minute on an idle machine.

They hold what a version of qmigrate has stored and said, so that a later one can be held against it. Unchanged code makes
the same bytes again: ids, keys, times and names are fixed, and what was measured is taken out.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import zstandard
from tests.golden import adapter, common
from tests.golden.deployments import DEPLOYMENTS
from tests.golden.plans import PLANS
from tests.golden.project import SETTINGS, Project
from tests.golden.server import SERVED

#: When everything was made. A verb on what was made is run a day later.
AT = datetime(2025, 1, 1, 12, tzinfo=UTC)
#: What makes sets, and the keys of a payload, come in the same order each time.
SAME = {"PYTHONHASHSEED": "0", "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}
#: Keys of what was measured, in facts and reports.
_MEASURED = frozenset({"milliseconds", "gap_milliseconds", "seconds", "taken_at", "fill", "prove", "index", "read", "build", "model", "write"})
_PROCESS = re.compile(r"process \d+")
#: A server has a clock and ports of its own, and calls a snapshot by both.
_TIME = re.compile(r"(?!2025|2124)\d{4}-\d\d-\d\d([ T])\d\d:\d\d:\d\d(\.\d+)?")
_SERVER = re.compile(r"127\.0\.0\.1:\d+")
_SNAPSHOT = re.compile(r"-\d+-\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d\.snapshot")
#: Columns of a lease that say which process had it.
_HOLDER = {"pid": common.PROCESS, "boot_id": None, "pid_namespace": None, "process_start": None}


class Fixed:
    """The clock, and ids and keys that are drawn by lot: the same ones each time."""

    def __init__(self) -> None:
        self.now = AT
        self._drawn = 0
        self._seed = ""

    def begin(self, seed: str) -> None:
        """What is drawn from now on is a function of `seed`."""
        self._seed, self._drawn, self.now = seed, 0, AT

    def token(self, size: int = 32) -> bytes:
        """Instead of ``secrets.token_bytes``."""
        self._drawn += 1
        drawn = hashlib.shake_256(f"golden {self._seed} {self._drawn}".encode())
        return drawn.digest(size)

    def _uuid(self) -> uuid.UUID:
        return uuid.UUID(bytes=self.token(16), version=4)

    @contextlib.contextmanager
    def everywhere(self) -> Iterator[None]:
        """While the block runs nothing is drawn by lot, and no time passes."""
        with (
            adapter.clock(lambda: self.now),
            mock.patch.object(uuid, "uuid4", self._uuid),
            mock.patch.object(secrets, "token_bytes", self.token),
            mock.patch.object(secrets, "token_hex", lambda size=32: self.token(size).hex()),
            mock.patch.object(socket, "gethostname", return_value=common.HOST),
            mock.patch("getpass.getuser", return_value=common.USER),
        ):
            yield


def main() -> int:
    """Make all of them, or say which path or name of this machine is in them."""
    if any(os.environ.get(name) != value for name, value in SAME.items()):
        return subprocess.call([sys.executable, "-m", "tests.golden.make"], env={**os.environ, **SAME})
    began = time.monotonic()
    shutil.rmtree(common.FILES, ignore_errors=True)
    adapter.load_all()
    fixed = Fixed()
    with tempfile.TemporaryDirectory(prefix="golden-") as folder:
        found = Harvest()
        with fixed.everywhere():
            _deployments(Path(folder) / "made", fixed, found)
            _answers(Path(folder) / "asked", fixed, found)
        found.write()
        _settings(Path(folder) / "settings")
    foreign = [f"{file.relative_to(common.FILES)}: {word}" for file, word in machine_names()]
    print(*foreign, sep="\n", end="\n" if foreign else "", file=sys.stderr)
    size = sum(file.stat().st_size for file in common.FILES.rglob("*") if file.is_file())
    print(f"{common.FILES}: {size / 1000:,.0f} kB in {time.monotonic() - began:.0f} s", file=sys.stderr)
    return 1 if foreign else 0


def _deployments(folder: Path, fixed: Fixed, found: Harvest) -> None:
    builders: dict[str, Callable[[Path], Project]] = {**DEPLOYMENTS, **PLANS, **SERVED}
    for name, build in builders.items():
        fixed.begin(name)
        build(folder / name)
        keep(folder / name, found)
        put(f"deployments/{name}.tar.xz", common.packed(folder / name))


def _answers(folder: Path, fixed: Fixed, found: Harvest) -> None:
    for name, (deployment, words) in {**common.VERBS, **common.FURTHER}.items():
        fixed.begin(f"json {name}")
        here = common.unpacked(deployment, folder / name)
        fixed.now = AT + timedelta(days=1)
        put(f"json/{name}.json", common.canonical(common.asked(adapter.call, here, words)).encode())
        if (here / "ledger.db").exists():
            keep(here, found)


def _settings(folder: Path) -> None:
    made = Project(folder)
    (folder / "qmigrate.yaml").write_text(SETTINGS)
    said = common.normal(adapter.settings_of(folder), folder, floats=True)
    put("settings/qmigrate.yaml", SETTINGS.encode())
    put("settings/values.json", common.canonical(said).encode())
    assert made.folder == folder


class Harvest:
    """What the ledgers of all deployments hold, one of each kind."""

    def __init__(self) -> None:
        self.jobs: dict[str, str] = {}
        self.phases: dict[str, dict[str, str]] = {}
        self.rows: dict[str, list[dict[str, Any]]] = {}

    def take(self, file: Path) -> None:
        """Look through one ledger."""
        rows = common.rows(file)
        jobs = {row["id"]: row["job"] for row in rows["qdrant_migration_runs"]}
        for text in jobs.values():
            for step in json.loads(text)["steps"]:
                self.jobs.setdefault(common.signature(step), text)
        for row in rows["qdrant_migration_phases"]:
            if row["step"] < 0:
                # Figures, where the run took seconds: of no step.
                continue
            steps = json.loads(jobs[row["run"]])["steps"]
            if row["step"] >= len(steps):
                # The audit of archives that were deleted: there is no step for that.
                continue
            known = self.phases.setdefault(steps[row["step"]]["kind"], {})
            # The one that says most.
            known[row["phase"]] = max(known.get(row["phase"], ""), row["facts"], key=lambda text: (len(text), text))
        for (table, column) in adapter.columns():
            kept = self.rows.setdefault(table, [])
            for row in rows.get(table, []):
                if row[column] not in (None, "{}", "[]") and all(one[column] in (None, "{}", "[]") for one in kept):
                    kept.append(row)

    def write(self) -> None:
        """Into files."""
        for name, text in self.jobs.items():
            put(f"jobs/{name}.json", text.encode())
        put("phases.json", common.canonical(self.phases).encode())
        put("rows.json", common.canonical(self.rows).encode())


def keep(folder: Path, found: Harvest) -> None:
    """Make the files of a deployment the same each time, and look through its ledger."""
    for file in sorted(folder.rglob("*")):
        if file.name.endswith((".lock", "-wal", "-shm")) or file.name == "__pycache__":
            continue
        if file.suffix == ".db":
            _settle(file, folder)
        if file.suffix in (".db", ".sqlite"):
            _vacuum(file)
        if file.suffix in (".json", ".ini") and file.parent == folder:
            file.write_text(common.moved(file.read_text(), str(folder), common.ROOT))
    for file in [*folder.rglob("*.lock"), *folder.rglob(".lock"), *folder.rglob("*-wal"), *folder.rglob("*-shm")]:
        file.unlink(missing_ok=True)
    for cache in list(folder.rglob("__pycache__")):
        shutil.rmtree(cache)
    if (folder / "ledger.db").exists():
        found.take(folder / "ledger.db")


def _settle(file: Path, folder: Path) -> None:
    """Take what was measured, the process and the folder out of a SQLite file."""
    common.in_database(file, str(folder), common.ROOT)
    with closing(sqlite3.connect(file)) as made:
        for table in common.tables(made):
            columns = [column for (_, column, *_) in made.execute(f"PRAGMA table_info({table})")]
            for row in made.execute(f"SELECT rowid, * FROM {table}").fetchall():  # noqa: S608  names of our own
                values = dict(zip(columns, row[1:], strict=True))
                settled = {key: _settled(key, value) for key, value in values.items()}
                new = {key: value for key, value in settled.items() if value != values[key]}
                for key, value in new.items():
                    made.execute(f"UPDATE {table} SET {key} = ? WHERE rowid = ?", (value, row[0]))  # noqa: S608
        made.commit()


def _settled(column: str, value: Any) -> Any:
    if column in _HOLDER:
        return _HOLDER[column]
    if not isinstance(value, str):
        return value
    if value.startswith(("{", "[")) and column != "operations":
        with contextlib.suppress(ValueError):
            value = json.dumps(_unmeasured(json.loads(value)))
    value = _TIME.sub(r"2025-01-01\g<1>12:00:00", value)
    value = _SERVER.sub("127.0.0.1:6333", _PROCESS.sub(f"process {common.PROCESS}", value))
    return _SNAPSHOT.sub("-1-2025-01-01-12-00-00.snapshot", value)


def _unmeasured(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        said = {name: _unmeasured(part, name) for name, part in value.items()}
        snapshot = str(said.get("name")).endswith(".snapshot")
        # Of the machine's disk, and of what a server has packed.
        fixed = {"whole": 10**12, **({"checksum": "0" * 64, "digest": "0" * 64} if snapshot else {})}
        return {**said, **{name: one for name, one in fixed.items() if said.get(name)}}
    if isinstance(value, list):
        return [_unmeasured(part, key) for part in value]
    measured = key in _MEASURED and isinstance(value, float)
    return 1.0 if measured else value


def _vacuum(file: Path) -> None:
    """The same rows as one file, in the order of its pages, and nothing of what was there before."""
    fresh = file.with_suffix(".fresh")
    with closing(sqlite3.connect(file, isolation_level=None)) as made:
        made.execute("VACUUM INTO ?", (str(fresh),))
    fresh.replace(file)


def put(name: str, body: bytes) -> None:
    """One golden file."""
    path = common.FILES / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)


def machine_names() -> Iterator[tuple[Path, str]]:
    """Paths and names of this machine in the golden files, also within what is packed."""
    folders = b"|".join((b"/work", b"/dev/shm", b"/tmp", b"/root", b"/home/"))
    # A short name of a host is found by chance in bytes that are no text.
    host = rb"(?<![^\s\"'@>:])" + re.escape(socket.gethostname().encode()) + rb"(?![^\s\"'<:,)])"
    pattern = re.compile(folders + b"|" + host)
    for file in sorted(common.FILES.rglob("*")):
        if not file.is_file():
            continue
        bodies = {"": file.read_bytes()}
        if file.suffix == ".xz":
            with tarfile.open(file) as packed:
                bodies = {one.name: packed.extractfile(one).read() for one in packed if one.isfile()}  # type: ignore[union-attr]
        for name, body in bodies.items():
            for text in _texts(body, packed=name.endswith(".zst")):
                yield from ((file, f"{name} {word.decode()}") for word in pattern.findall(text))


def _texts(body: bytes, *, packed: bool) -> Iterator[bytes]:
    """What is stored, and what zstd frames in it hold."""
    if not packed:
        yield body
    start = body.find(b"\x28\xb5\x2f\xfd")
    while start >= 0:
        with contextlib.suppress(zstandard.ZstdError):
            yield zstandard.ZstdDecompressor().decompressobj().decompress(body[start:])
        start = body.find(b"\x28\xb5\x2f\xfd", start + 4)


if __name__ == "__main__":
    sys.exit(main())
