"""Runs ``qmigrate`` as people do, in this process or in one of its own, and checks what is left behind."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from qmigrate.cli.app import run
from qmigrate.commands.reset import PHRASE
from qmigrate.ledger import Ledger

SOURCE = Path(__file__).parents[2] / "src"
#: Variables that would lead a run elsewhere than its test intends.
CLEARED = ("CONFIG", "QDRANT_URL", "QDRANT_API_KEY", "LEDGER_URL", "SCRIPTS", "ACTOR", "REQUESTED_BY")

#: Every verb with arguments that it takes, as typed behind ``qmigrate``.
VERBS: dict[str, tuple[str, ...]] = {
    "init": ("init",),
    "revision": ("revision", "-m", "what changes"),
    "adopt": ("adopt", "docs*"),
    "stamp": ("stamp", "0001"),
    "plan": ("plan",),
    "upgrade": ("upgrade",),
    "rollback": ("rollback",),
    "abort": ("abort",),
    "cutover": ("cutover", "--all"),
    "status": ("status",),
    "history": ("history",),
    "heads": ("heads",),
    "branches": ("branches",),
    "show": ("show", "0001"),
    "squash": ("squash", "0001:0002"),
    "edit": ("edit", "0001"),
    "verify": ("verify", "a", "b"),
    "try-models": ("try-models", "a", "--embedder", "e", "--text", "t", "--known-item", "t"),
    "evaluate": ("evaluate", "a", "b", "--same-value", "v"),
    "check": ("check",),
    "schema": ("schema",),
    "doctor": ("doctor",),
    "wait": ("wait", "--timeout", "0s"),
    "snapshot.create": ("snapshot", "create", "*"),
    "snapshot.list": ("snapshot", "list"),
    "snapshot.restore": ("snapshot", "restore", "c", "--latest", "--yes"),
    "snapshot.delete": ("snapshot", "delete", "none", "--yes"),
    "gc": ("gc", "--dry-run"),
    "metrics": ("metrics",),
    "fix.stats": ("fix", "stats", "c"),
    "fix.sync": ("fix", "sync", "c", "--sql", "SELECT 1 AS id, 2 AS v", "--field", "v", "--yes"),
    "fix.delete": ("fix", "delete", "c", "--id", "1", "--reason", "why", "--yes", "--expect", "1"),
    "fix.orphans": ("fix", "orphans", "c", "--sql", "SELECT 1 AS id", "--check"),
    "fix.quarantine": ("fix", "quarantine", "--retry"),
    "fix.reset": ("fix", "reset", "c", "--reason", "why", "--yes", "--expect", "0", "--confirm", PHRASE),
    "fix.retrain": ("fix", "retrain", "--preset", "p", "--value", "1", "--yes", "--expect", "1"),
    "fix.undo": ("fix", "undo", "1", "--yes"),
    "export.show": ("export", "show", "export.jsonl.zst"),
    "repair": ("repair", "--accept", "0001", "--reason", "why"),
    "completion": ("completion", "bash"),
    "jobs": ("jobs",),
    "worker": ("worker", "--once"),
    "requests.list": ("requests", "list"),
    "requests.show": ("requests", "show", "1"),
    "requests.run": ("requests", "run", "1", "--yes"),
    "approve": ("approve", "1", "--yes"),
    "reject": ("reject", "1", "--reason", "why"),
}
#: Those of approvals, which open the ledger alone until something runs.
REQUESTS = ("requests.list", "requests.show", "requests.run", "approve", "reject")
#: Of these, the ones that open nothing, or report what is wrong with what they open.
FILES_FIRST = ("heads", "branches", "show", "edit", "squash")
ASIDE = ("init", "revision", "completion", "jobs", "worker", *REQUESTS, *FILES_FIRST, "wait", "repair", "doctor", "check", "schema", "metrics", "fix.retrain", "export.show")
#: Those that an emergency needs: they continue without revision files that are broken or have changed.
READABLE = (
    "rollback", "abort", "status", "history", "verify", "evaluate", "try-models", "snapshot.list", "gc", "fix.stats", "fix.orphans", "fix.undo",
)  # fmt: skip
#: The others open revisions, ledger and store, and stop at what is wrong with them.
OPENING = tuple(verb for verb in VERBS if verb not in ASIDE)


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object of stdout."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found

    @property
    def text(self) -> str:
        """Everything that was printed."""
        return self.out + self.err


def environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    """The environment of a run: ours without what would configure qmigrate, and what the test adds."""
    kept = {name: value for name, value in os.environ.items() if name.removeprefix("QMIGRATE_") not in CLEARED}
    for name in ("FORCE_COLOR", "COLUMNS"):
        kept.pop(name, None)
    return {**kept, "NO_COLOR": "1", **(extra or {})}


def call(folder: Path, *args: str, env: Mapping[str, str] | None = None) -> Answer:
    """Run a command in this process, with `folder` as its current one."""
    out, err = io.StringIO(), io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        with (
            contextlib.chdir(folder),
            mock.patch.dict(os.environ, environment(env), clear=True),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = run(list(args))
    finally:
        # -v puts a handler there that writes to the stream of this call.
        root.handlers[:] = handlers
        root.setLevel(level)
    return Answer(code, out.getvalue(), err.getvalue())


def spawn(folder: Path, *args: str, env: Mapping[str, str] | None = None) -> Answer:
    """Run a command in a process of its own: ``python -m qmigrate``."""
    variables = environment({"PYTHONPATH": str(SOURCE), **(env or {})})
    command = [sys.executable, "-m", "qmigrate", *args]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=variables, timeout=60, check=False)
    return Answer(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Left:
    """What a command may have left behind: rows of the ledger, names in Qdrant."""

    open_runs: tuple[int, ...]
    history: int
    generations: tuple[str, ...]
    names: tuple[str, ...]


def left(made: Any) -> Left:
    """What stands in the ledger and in Qdrant of a deployment; neither is made by looking."""
    ledger = Ledger.open(made.ledger_url)
    try:
        runs = tuple(run.id for run in ledger.open_runs())
        rows = len(ledger.history(None, 1000))
        kept = tuple(f"{row.physical} {row.state}" for row in ledger.generations(made.name))
    finally:
        ledger.close()
    if "path" in made.qdrant and not Path(made.qdrant["path"]).exists():
        return Left(runs, rows, kept, ())
    store = made.store()
    try:
        names = [*store.physical_names(), *store.aliases()]
        return Left(runs, rows, kept, tuple(sorted(name for name in names if name.startswith(made.name))))
    finally:
        store.close()


def refused(
    folder: Path, args: tuple[str, ...], code: int, *words: str, env: Mapping[str, str] | None = None
) -> Answer:
    """Check how a command fails: exit code, one readable message with a way on, no traceback, and the same as JSON.

    Args:
        words: that the message or its hint has.

    Returns:
        What it printed for people.
    """
    said = call(folder, *args, env=env)
    assert said.code == code, said.text
    assert said.out == ""
    check_message(said.err, *words)
    plain = call(folder, *args, "--json", env=env)
    assert plain.code == code
    check_error_json(plain, args, *words)
    return said


def check_message(err: str, *words: str) -> None:
    """One error, readable, without a traceback."""
    lines = [line for line in err.splitlines() if line]
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1, err
    assert "Traceback" not in err
    assert "unexpected" not in errors[0], err
    for word in words:
        assert word in err, err


def check_error_json(answer: Answer, args: tuple[str, ...], *words: str) -> None:
    """Exactly one JSON object on stdout, of the verb's schema, with message, hint and exit code."""
    found = answer.json
    assert found["schema"] == f"qmigrate.{verb_of(args)}/1"
    assert found["ok"] is False
    error = found["error"]
    assert set(error) - {"code"} == {"type", "message", "hint", "exit_code", "facts"}
    assert error["exit_code"] == answer.code
    assert "Traceback" not in answer.text
    for word in words:
        assert word in f"{error['message']} {error['hint']}"


def verb_of(args: tuple[str, ...]) -> str:
    """As it stands in a schema's name."""
    return ".".join(args[:2]) if args[0] in ("snapshot", "fix", "export", "requests") else args[0]
