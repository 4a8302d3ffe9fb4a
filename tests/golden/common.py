"""What the generator of the golden files and their tests share: folders, points, the commands, and what is compared.

It imports nothing of qmigrate.
"""

from __future__ import annotations

import base64
import io
import json
import math
import re
import sqlite3
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

from qdrant_client.local.qdrant_local import QdrantLocal

FILES = Path(__file__).parent / "files"
#: Stands in the files for the folder that a deployment was made in.
ROOT = "@ROOT@"
#: Who acted, and where.
USER, HOST, PROCESS = "user", "host", 4242

#: Every verb: the deployment that it is run in, and what is typed behind ``qmigrate``. ``/`` stands for its folder.
VERBS: dict[str, tuple[str, tuple[str, ...]]] = {
    "init": ("empty", ("init",)),
    "revision": ("ready", ("revision", "-m", "what changes")),
    "adopt": ("plain", ("adopt", "docs", "-m", "baseline")),
    "stamp": ("pending", ("stamp", "0001")),
    "plan": ("pending", ("plan", "--no-trial")),
    "upgrade": ("pending", ("upgrade",)),
    "rollback": ("ready", ("rollback", "0001")),
    "abort": ("rebuild", ("abort",)),
    "cutover": ("held", ("cutover", "--all")),
    "status": ("ready", ("status",)),
    "history": ("ready", ("history",)),
    "heads": ("ready", ("heads",)),
    "branches": ("ready", ("branches",)),
    "show": ("ready", ("show", "0002")),
    "squash": ("ready", ("squash", "0001:0002")),
    "edit": ("ready", ("edit", "0002")),
    "verify": ("ready", ("verify", "docs__g0001", "docs__g0002")),
    "evaluate": ("ready", ("evaluate", "docs__g0001/a", "docs__g0002/a", "--same-value", "kind", "--measure", "overlap")),
    "try-models": ("ready", ("try-models", "docs", "--embedder", "words", "--text", "text", "--known-item", "text", "--sample", "20")),
    "check": ("ready", ("check",)),
    "schema": ("ready", ("schema",)),
    "doctor": ("ready", ("doctor",)),
    "wait": ("ready", ("wait", "--timeout", "5s")),
    "snapshot.create": ("ready", ("snapshot", "create", "docs")),
    "snapshot.list": ("archived", ("snapshot", "list")),
    "snapshot.restore": ("archived", ("snapshot", "restore", "docs", "--latest", "--yes")),
    "snapshot.delete": ("archived", ("snapshot", "delete", "*", "--yes")),
    "gc": ("ready", ("gc", "--now", "--yes")),
    "metrics": ("ready", ("metrics",)),
    "fix.stats": ("fixed", ("fix", "stats", "docs", "--by", "kind")),
    "fix.sync": ("fixed", ("fix", "sync", "docs", "--sql", "SELECT id, kind FROM assets", "--field", "kind", "--max-share", "1", "--yes", "--expect", "4")),
    "fix.delete": ("fixed", ("fix", "delete", "docs", "--id", "4", "--reason", "why", "--yes", "--expect", "1")),
    "fix.orphans": ("fixed", ("fix", "orphans", "docs", "--sql", "SELECT id FROM assets", "--check")),
    "fix.quarantine": ("quarantined", ("fix", "quarantine", "docs", "--retry")),
    "fix.reset": ("ready", ("fix", "reset", "docs", "--reason", "why", "--yes", "--expect", "30", "--confirm", "DELETE ALL VECTORS")),
    "fix.retrain": ("fixed", ("fix", "retrain", "--preset", "retrain", "--value", "odd", "--yes", "--expect", "7")),
    "fix.undo": ("fixed", ("fix", "undo", "1", "--yes")),
    "export.show": ("fixed", ("export", "show", "1")),
    "repair": ("moved", ("repair", "--name", "docs", "--yes")),
    "completion": ("empty", ("completion", "fish")),
    "jobs": ("ready", ("jobs",)),
    "worker": ("ready", ("worker", "--once")),
    "requests.list": ("ready", ("requests",)),
    "requests.show": ("ready", ("requests", "show", "1")),
    "requests.run": ("ready", ("requests", "run", "1", "--yes")),
    "approve": ("ready", ("approve", "1", "--yes")),
    "reject": ("ready", ("reject", "1", "--reason", "why")),
}  # fmt: skip
#: Further calls whose answer is kept, by a name of their own.
FURTHER: dict[str, tuple[str, tuple[str, ...]]] = {
    "plan.held": ("held", ("plan",)),
    "history.deletions": ("fixed", ("history", "--deletions")),
    "history.carried": ("served-hidden", ("history", "--carried", "0002")),
    "check.offline": ("ready", ("check", "--offline")),
    "gc.dry-run": ("ready", ("gc", "--dry-run")),
    "gc.purge": ("marked", ("gc", "--yes")),
    "upgrade.rehearse": ("pending", ("upgrade", "--rehearse", "10")),
    "upgrade.resumed": ("rebuild", ("upgrade",)),
    "upgrade.called": ("called", ("upgrade",)),
    "upgrade.told": ("told", ("upgrade",)),
    "upgrade.held": ("pending-hold", ("upgrade",)),
    "rollback.refused": ("carried", ("rollback", "0001")),
    "fix.quarantine.list": ("quarantined", ("fix", "quarantine", "docs")),
    "fix.delete.dry-run": ("fixed", ("fix", "delete", "docs", "--id", "4", "--reason", "why", "--dry-run")),
    "fix.delete.soft": ("fixed", ("fix", "delete", "docs", "--id", "4", "--reason", "why", "--soft", "--yes", "--expect", "1")),
    "fix.delete.erase": ("fixed", ("fix", "delete", "docs", "--id", "4", "--reason", "why", "--erase", "--yes", "--expect", "1")),
    "fix.orphans.deleted": ("fixed", ("fix", "orphans", "docs", "--sql", "SELECT id FROM assets", "--max-share", "1", "--grace", "0s", "--reason", "why", "--yes", "--expect", "5")),
    "fix.undo.retrain": ("fixed", ("fix", "undo", "5", "--yes")),
    "snapshot.undo": ("restored", ("snapshot", "restore", "docs", "--undo")),
    "repair.schema": ("ready", ("repair", "--schema", "docs", "--yes")),
    "repair.vanished": ("vanished", ("repair", "--vanished", "docs__g0001")),
    "fix.undo.sync": ("fixed", ("fix", "undo", "2", "--yes")),
    "fix.undo.soft": ("fixed", ("fix", "undo", "3", "--yes")),
    "upgrade.planned": ("plan-in-place", ("upgrade", "--plan", "reviewed.json")),
    "upgrade.dropped": ("plan-drop", ("upgrade", "--plan", "reviewed.json")),
    "error.usage": ("ready", ("upgrade", "nowhere")),
}  # fmt: skip


def point(number: int) -> tuple[int | str, dict[str, Any], list[float]]:
    """Id, payload and vector of a point: a function of its number."""
    vector = [float((number * 7 + place * 3) % 11 - 5) + 0.5 for place in range(4)]
    identifier = f"00000000-0000-4000-8000-{number:012d}" if number % 10 == 9 else number + 1
    return identifier, {"text": f"the text number {number}", "kind": "odd" if number % 2 else "even", "n": number}, vector


def unpacked(name: str, folder: Path) -> Path:
    """A deployment of the golden files, with `folder` as the one that it was made in."""
    folder.mkdir(parents=True, exist_ok=True)
    if name == "empty":
        return folder
    with tarfile.open(FILES / "deployments" / f"{name}.tar.xz") as packed:
        packed.extractall(folder, filter="data")
    for file in folder.rglob("*"):
        if file.suffix == ".db":
            in_database(file, ROOT, str(folder))
            with closing(sqlite3.connect(file)) as made:
                made.execute("PRAGMA journal_mode = WAL")
        elif file.suffix in (".yaml", ".json", ".ini", ".py"):
            file.write_text(moved(file.read_text(), ROOT, str(folder)))
    return folder


def moved(text: str, old: str, new: str) -> str:
    """A text file of another folder; a plan file vouches for what it says."""
    text = text.replace(old, new)
    if '"format": "qmigrate.plan"' not in text:
        return text
    content = {key: value for key, value in json.loads(text).items() if key != "digest"}
    said = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return json.dumps({**content, "digest": sha256(said.encode()).hexdigest()}, indent=2, ensure_ascii=False) + "\n"


def in_database(file: Path, old: str, new: str) -> None:
    """Put one text in the place of another in every text of a SQLite file."""
    with closing(sqlite3.connect(file)) as made:
        for table in tables(made):
            for (_, column, kind, *_) in made.execute(f"PRAGMA table_info({table})").fetchall():
                if kind.upper() not in ("INTEGER", "BLOB", "BOOLEAN", "DATETIME"):
                    made.execute(
                        f"UPDATE {table} SET {column} = replace({column}, ?, ?) "  # noqa: S608  names of our own
                        f"WHERE typeof({column}) = 'text' AND instr({column}, ?)",
                        (old, new, old),
                    )
        made.commit()


def tables(made: sqlite3.Connection) -> list[str]:
    """Names of the tables of a SQLite file."""
    found = made.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name")
    return [name for (name,) in found]


def rows(file: Path) -> dict[str, list[dict[str, Any]]]:
    """Every row of a SQLite file as it lies there, by table; bytes as base64."""
    with closing(sqlite3.connect(file)) as made:
        made.row_factory = sqlite3.Row
        return {
            table: [{key: _text(row[key]) for key in row.keys()} for row in made.execute(f"SELECT * FROM {table}")]  # noqa: S608, SIM118
            for table in tables(made)
        }


def _text(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def contents(folder: Path, name: str = "docs") -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Id as text -> payload and vectors to four digits of everything behind a name, as the client library reads it."""
    client = QdrantLocal(str(folder / "qdrant"))
    try:
        found, _ = client.scroll(name, limit=10_000, with_vectors=True, with_payload=True)
        return {str(one.id): (dict(one.payload or {}), _rounded(one.vector)) for one in found}
    finally:
        client.close()


def names(folder: Path) -> dict[str, str]:
    """Alias -> collection, and collection -> itself."""
    client = QdrantLocal(str(folder / "qdrant"))
    try:
        found = {one.name: one.name for one in client.get_collections().collections}
        return found | {one.alias_name: one.collection_name for one in client.get_aliases().aliases}
    finally:
        client.close()


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in sorted(value.items())}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return round(value, 4) + 0.0 if isinstance(value, float) and math.isfinite(value) else value


_VARYING = (
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)?"), "<time>"),
    (re.compile(r"\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d-[0-9a-f]+"), "<stamp>"),
    (re.compile(r"\b[0-9a-f]{32,64}\b"), "<digest>"),
    (re.compile(r"\b\d+(\.\d+)? (ms|s|kB|MB|GB|TB)\b"), "<measured>"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "<uuid>"),
)


def normal(value: Any, folder: Path, *, floats: bool = False) -> Any:
    """An answer without what differs from run to run: folders, times, digests, and what was measured unless `floats`."""
    if isinstance(value, dict):
        # Of a disk or of the memory.
        return {normal(key, folder): 0 if key == "free" else normal(part, folder, floats=floats) for key, part in value.items()}
    if isinstance(value, list):
        return [normal(part, folder, floats=floats) for part in value]
    if isinstance(value, float):
        return value if floats else 0.0
    if isinstance(value, str):
        value = value.replace(str(folder), ROOT)
        for pattern, word in _VARYING:
            value = pattern.sub(word, value)
    return value


def asked(call: Callable[..., Any], folder: Path, words: Sequence[str]) -> dict[str, Any]:
    """A verb with ``--json``: its exit code and what it answered, as :func:`normal` has it."""
    answer = call(folder, *words, "--json")
    try:
        said = json.loads(answer.out)
    except ValueError:
        # A format of others, such as the one of metrics.
        said = sorted({line.split(" ")[0].split("{")[0] for line in answer.out.splitlines() if not line.startswith("#")})
    return {"code": answer.code, "answer": normal(said, folder)}


def signature(step: dict[str, Any]) -> str:
    """What kind of step a stored one is, and which of its ways: each of them has a golden job."""
    kind = str(step["kind"])
    if kind == "build":
        return f"build.{step['fill']}"
    if kind == "edit":
        return f"edit.{step['edit']['kind']}"
    if kind == "golive":
        ways = [name for name in ("back", "hold", "apart") if step[name]]
        ways += [step["place"]] if step["place"] != "alias" else []
        ways += ["new"] if step["source"] is None else ["gone"] if step["target"] is None else []
        return ".".join(["golive", *ways])
    return kind


#: One word is a name that programs compare; a sentence may be said in other words.
_WORD = re.compile(r"[a-z][a-z0-9_.]*")


#: What limited a copy is measured, so it differs from run to run.
_MEASURED_WORDS = {"read", "write", "model"}


def differences(golden: Any, found: Any, at: str = "$") -> Iterator[str]:
    """Where an answer lacks a key, holds another type, or another word than the golden one; further keys are allowed."""
    if isinstance(golden, dict) and isinstance(found, dict):
        for key in golden:
            if key not in found:
                yield f"{at}.{key} is gone"
            elif key == "limited_by" and {golden[key], found[key]} <= _MEASURED_WORDS:
                continue
            else:
                yield from differences(golden[key], found[key], f"{at}.{key}")
    elif isinstance(golden, list) and isinstance(found, list):
        if len(golden) != len(found):
            yield f"{at} has {len(found)} items, not {len(golden)}"
        for number, (one, other) in enumerate(zip(golden, found, strict=False)):
            yield from differences(one, other, f"{at}[{number}]")
    elif _kind(golden) != _kind(found) or (isinstance(golden, str) and golden != found and _WORD.fullmatch(golden)):
        yield f"{at} is {found!r}, not {golden!r}"


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, int | float) else type(value).__name__


def canonical(value: Any) -> str:
    """JSON for a file that people read and compare."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def packed(folder: Path) -> bytes:
    """All files of a folder, always the same bytes for the same files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz", preset=6) as archive:
        for file in sorted(folder.rglob("*")):
            found = tarfile.TarInfo(str(file.relative_to(folder)))
            found.mode = 0o700 if file.is_dir() else 0o600
            if file.is_dir():
                found.type = tarfile.DIRTYPE
                archive.addfile(found)
            else:
                found.size = file.stat().st_size
                with file.open("rb") as body:
                    archive.addfile(found, body)
    return out.getvalue()
