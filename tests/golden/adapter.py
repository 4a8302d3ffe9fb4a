"""Every internal name of qmigrate that the golden files need: a redesign changes this module, and no file in ``files/``.

Whatever else is needed goes through the command line or the client library of Qdrant.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import pkgutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import click
from sqlalchemy import JSON, LargeBinary, Text, literal
from sqlalchemy.types import TypeEngine
from tests.faults.child import Points, watch
from tests.golden.common import ROOT

import qmigrate
from qmigrate import archive
from qmigrate.cli.app import root, run
from qmigrate.commands.plan_file import load
from qmigrate.engine.build import copy
from qmigrate.engine.fixes.kinds import _KINDS as _FIXES
from qmigrate.engine.golive import golive
from qmigrate.engine.phases import _CHECKLISTS
from qmigrate.errors import QmigrateError
from qmigrate.ledger import Ledger, codec, schema, tables
from qmigrate.ledger.alembic_links import inline_rows
from qmigrate.ledger.database import Database
from qmigrate.model.plan import Job
from qmigrate.model.schema import Change, CollectionSchema
from qmigrate.operations.text import stored
from qmigrate.settings.load import Settings
from qmigrate.store.server import capabilities

#: Variables of the environment that would lead a run elsewhere.
_OWN = "QMIGRATE_"


class Answer(NamedTuple):
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


def call(folder: Path, *args: str) -> Answer:
    """Run ``qmigrate`` in this process with `folder` as its current one."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, {**kept, "NO_COLOR": "1"}, clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = run(list(args))
    return Answer(code, out.getvalue(), err.getvalue())


def verbs() -> frozenset[str]:
    """Every verb, as it stands in a schema's name: ``upgrade``, ``fix.sync``."""

    def below(group: click.Group, before: str) -> Iterator[str]:
        for name, command in group.commands.items():
            if isinstance(command, click.Group):
                yield from below(command, f"{before}{name}.")
            else:
                yield before + name

    return frozenset(below(root, ""))


# -- what is stored -----------------------------------------------------------------------------------------------


def phases() -> dict[str, tuple[str, ...]]:
    """Kind of step -> the phases of its checklist, as the journal calls them."""
    return {kind: tuple(phase.name for phase in checklist) for kind, checklist in _CHECKLISTS.items()}


def fixes() -> frozenset[str]:
    """Kinds of data fixes that a stored job may hold, those with a checklist of their own left out.

    And ``payload``: of operations that say what each point should be, and no operation of the package is one yet.
    """
    return frozenset(_FIXES) - {"payload"}


def columns() -> dict[tuple[str, str], str]:
    """Every column of the ledger that is encoded: (table, column) -> ``json`` or ``binary``."""
    kinds: Mapping[type[TypeEngine[Any]], str] = {
        JSON: "json",
        tables.AnyJson: "json",
        LargeBinary: "binary",
    }
    found = {}
    for table in tables.metadata.sorted_tables:
        for column in table.columns:
            for type_, kind in kinds.items():
                if isinstance(column.type, type_):
                    found[table.name, column.name] = kind
            if column.name == "operations" and isinstance(column.type, Text):
                found[table.name, column.name] = "json"
    return found


def _schema(data: Any) -> Any:
    return CollectionSchema.from_json(data).to_json()


def _changes(data: Any) -> Any:
    return [Change.from_json(one).to_json() for one in data]


#: Columns whose JSON becomes values of our own, with what decodes it and encodes it again.
_AGAIN: Mapping[tuple[str, str], Callable[[Any], Any]] = {
    ("qdrant_migration_runs", "job"): lambda data: Job.from_json(data).to_json(),
    ("qdrant_schema_versions", "declared"): _schema,
    ("qdrant_generations", "recorded"): _schema,
    ("qdrant_migration_history", "declared"): _schema,
    ("qdrant_migration_history", "prior"): _schema,
    ("qdrant_migration_history", "changes"): _changes,
}


def again(table: str, column: str, text: str) -> str:
    """The text of a JSON column, decoded and encoded once more by the code of today."""
    if (table, column) == ("qdrant_inline_revisions", "operations"):
        return stored.to_text(stored.from_text(text))
    decode = _AGAIN.get((table, column), lambda data: data)
    return codec.dumps(decode(json.loads(text)))


def ledger_head() -> str:
    """Version of the tables that this code works with."""
    return schema.HEAD


def rows_read(file: Path) -> dict[str, list[Any]]:
    """What every reader of the ledger makes of a file: no row may be in the way of one of them."""
    ledger = Ledger.open(f"sqlite:///{file}")
    try:
        found = ledger.collections()
        return {
            "views": list(found.values()),
            "runs": ledger.runs(),
            "open": list(ledger.open_runs()),
            "history": ledger.history(),
            "deletions": ledger.deletions(),
            "leases": ledger.leases(),
            "generations": [row for rows in ledger.all_generations().values() for row in rows],
            "moments": [moment for name in found for moment in ledger.moments(name)],
            "applied": [row for rows in ledger.all_applied().values() for row in rows],
            "late": list(ledger.late_writes()),
            "inline": list(inline_rows(ledger)),
        }
    finally:
        ledger.close()


def archive_of(file: Path) -> tuple[dict[str, Any], list[Any]]:
    """What the head of an archive says, and the ids of its points."""
    return plain(archive.summary(file)), [one.id for one in archive.read(file)]


def plan_of(file: Path) -> list[dict[str, Any]]:
    """The jobs of a plan file as JSON, in order."""
    return [item.job.to_json() for item in load(file).plan.collections]


def settings_of(folder: Path) -> dict[str, Any]:
    """Every value of the settings in a folder, by section and key of the file; secrets are left out."""
    settings = Settings.load(config=folder / "qmigrate.yaml")
    found = {**plain(settings), "embedders": plain(settings.embedders)}
    return {key: value for key, value in found.items() if key not in ("client", "folder", "config")}


def plain(value: Any) -> Any:
    """Dataclasses as dicts of what is shown of them, paths and times as text."""
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value) if one.repr}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def names_of_code() -> frozenset[str]:
    """Modules, classes and functions that a rename could touch; errors and operations are public, and left out."""
    found = {name.removeprefix("qmigrate.").rpartition(".")[2] for name in sys.modules if name.startswith("qmigrate.")}
    public = {*qmigrate.__all__, *qmigrate.op.__all__}
    for name, module in list(sys.modules.items()):
        if name.startswith("qmigrate."):
            here = vars(module).values()
            found |= {one.__name__ for one in here if isinstance(one, type) and not issubclass(one, QmigrateError)}
    return frozenset(name for name in found if name not in public and name[:1].isupper())


# -- how they are made --------------------------------------------------------------------------------------------


class _Moment(type):
    """What ``isinstance(value, datetime)`` asks in a module that has the fixed clock."""

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, datetime)


def load_all() -> None:
    """Import every module of qmigrate that can be imported here."""
    for found in pkgutil.walk_packages(qmigrate.__path__, "qmigrate."):
        if not found.name.endswith(".__main__"):
            with contextlib.suppress(ImportError):
                importlib.import_module(found.name)


@contextlib.contextmanager
def clock(now: Callable[[], datetime]) -> Iterator[None]:
    """While the block runs, qmigrate and the ledger's database have this time and no other."""

    class Fixed(datetime, metaclass=_Moment):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return now().astimezone(tz)

    def of_database(_self: Database, plus: float = 0.0) -> Any:
        return literal(now() + timedelta(seconds=plus), tables.UtcDateTime)

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(Database, "now", of_database))
        # Archives name the folder, and a digest of theirs is in the ledger.
        here = replace(capabilities.LOCAL, label=f"local Qdrant in {ROOT}/qdrant")
        stack.enter_context(mock.patch.object(capabilities, "local", return_value=here))
        for name, module in list(sys.modules.items()):
            # Facts name the type of their fields, and what is read of them is remembered for the process.
            if name.startswith("qmigrate.model.facts"):
                continue
            if name.startswith("qmigrate.") and vars(module).get("datetime") is datetime:
                stack.enter_context(mock.patch.object(module, "datetime", Fixed))
        yield


@contextlib.contextmanager
def before_the_swap(action: Callable[[], None]) -> Iterator[None]:
    """While the block runs, something happens after the proof and right before a name moves."""
    original = golive.swap

    def late(work: Any, target: str, names: Any) -> None:
        action()
        original(work, target, names)

    with mock.patch.object(golive, "swap", late):
        yield


class _At(Points):
    """Kills the process when it comes by a point for the n-th time."""

    def __init__(self, label: str, turn: int) -> None:
        super().__init__(None, None)
        self._wanted, self._left = label, turn

    def reach(self, label: str) -> None:
        """One more point."""
        if label == self._wanted:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)


def killed(folder: Path, label: str, turn: int, *args: str) -> None:
    """Run ``qmigrate`` in a fork that is killed when it comes by a point of the journal; see ``tests.faults.child``."""
    pid = os.fork()
    if pid == 0:
        answer = Answer(1, "", "")
        try:
            watch(_At(label, turn))
            # Small pages, each noted at once: a few points have a middle.
            with mock.patch.multiple(copy, PAGE=8, CHECKPOINT_EVERY=0.0):
                answer = call(folder, *args)
        finally:
            print(f"{args} passed no {label} ({turn}): {answer}", file=sys.stderr, flush=True)
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
        raise RuntimeError(f"{args} was not killed at {label} ({turn})")
