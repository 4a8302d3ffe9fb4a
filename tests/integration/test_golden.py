"""What an earlier qmigrate has stored: this one opens it, resumes it, undoes it, and answers as that one did.

The files are made by ``python -m tests.golden.make``; what they need of the code is in ``tests/golden/adapter.py``.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.golden import adapter, common, make
from tests.golden.common import FILES, FURTHER, VERBS, contents, point, unpacked
from tests.golden.deployments import DELETION, DEPLOYMENTS, ERASURE, ORPHANS, SYNC
from tests.golden.plans import NAME, PLANS
from tests.golden.project import ADD, HEADER, POINTS
from tests.golden.server import SERVED

JOBS = {file.stem: file for file in sorted((FILES / "jobs").glob("*.json"))}
#: Ways of a step that its kind doesn't show.
WAYS = {
    *(f"build.{fill}" for fill in ("copy", "clone", "restore", "sample", "empty")),
    *(f"golive{way}" for way in ("", ".back", ".hold", ".apart", ".shadow", ".gap", ".new", ".gone")),
}
#: Numbers of the points that fixes are about.
EVEN = [number for number in range(24) if number % 2 == 0]


def said(folder: Path, *args: str, code: int = 0) -> Any:
    """What a verb answers with ``--json``."""
    answer = adapter.call(folder, *args, "--json")
    assert answer.code == code, answer
    found = json.loads(answer.out)
    return found["data"] if found["ok"] else found["error"]


def row(folder: Path) -> dict[str, Any]:
    """The collection in `status`."""
    (found,) = said(folder, "status")["collections"]
    return found


def payloads(folder: Path) -> dict[str, dict[str, Any]]:
    """Id -> payload of every point."""
    return {key: payload for key, (payload, _) in contents(folder).items()}


def usual(without: Collection[int] = (), **texts: str) -> dict[str, dict[str, Any]]:
    """The same of the 30 points, without some numbers, and with other texts by number: ``_3="other"``."""
    found = {}
    numbers = {*range(POINTS), *(int(key[1:]) for key in texts)}
    for number in sorted(numbers - {*without}):
        identifier, payload, _ = point(number)
        found[str(identifier)] = {**payload, "text": texts.get(f"_{number}", payload["text"])}
    return found


# -- what is stored ---------------------------------------------------------------------------------------------------


def test_no_kind_of_step_fix_or_phase_is_without_a_golden_one():
    """A new kind gets a golden job and golden facts; the name of one that was stored stays."""
    steps = [step for file in JOBS.values() for step in json.loads(file.read_text())["steps"]]
    assert {step["kind"] for step in steps} == adapter.phases().keys()
    assert {step["edit"]["kind"] for step in steps if step["kind"] == "edit"} == adapter.fixes()
    assert {common.signature(step) for step in steps} >= WAYS
    golden = json.loads((FILES / "phases.json").read_text())
    assert {kind: set(found) for kind, found in golden.items()} == {
        kind: set(names) for kind, names in adapter.phases().items()
    }


@pytest.mark.parametrize("name", JOBS)
def test_a_stored_job_is_understood_and_stored_as_it_was(name):
    """Decoded and encoded, byte for byte."""
    text = JOBS[name].read_text()
    assert adapter.again("qdrant_migration_runs", "job", text) == text


def test_every_encoded_column_of_the_ledger_has_a_golden_row_that_is_encoded_the_same():
    """JSON byte for byte, as text of the database; bytes are there."""
    rows = json.loads((FILES / "rows.json").read_text())
    missing = []
    for (table, column), kind in sorted(adapter.columns().items()):
        values = [found[column] for found in rows[table] if found[column] is not None]
        missing += [] if values else [f"{table}.{column}"]
        for value in values:
            if kind == "json":
                assert adapter.again(table, column, value) == value, (table, column)
            else:
                assert value["base64"], (table, column)
    assert missing == []


@pytest.mark.parametrize("name", [*DEPLOYMENTS, *PLANS, *SERVED])
def test_every_reader_of_the_ledger_understands_every_row(name, tmp_path):
    """Also those of runs that were killed."""
    file = unpacked(name, tmp_path) / "ledger.db"
    if not file.exists():
        # Nothing was changed there yet.
        assert name in ("plain", "plan-create", "plan-record")
        return
    found = adapter.rows_read(file)
    assert found["runs"], name
    stored = common.rows(file)
    assert (stored["qdrant_ledger_version"][0]["version_num"]) <= adapter.ledger_head()
    pairs = (("history", "qdrant_migration_history"), ("runs", "qdrant_migration_runs"), ("leases", "qdrant_migration_leases"))
    assert {key: len(found[key]) for key, _ in pairs} == {key: len(stored[table]) for key, table in pairs}


def test_settings_have_the_values_that_they_had(tmp_path):
    """Every section, and the default where nothing is given."""
    shutil.copy(FILES / "settings" / "qmigrate.yaml", tmp_path)
    found = common.normal(adapter.settings_of(tmp_path), tmp_path, floats=True)
    assert list(common.differences(json.loads((FILES / "settings" / "values.json").read_text()), found)) == []


# -- what is answered -------------------------------------------------------------------------------------------------


def test_no_verb_is_without_a_golden_answer():
    """As the command line has them; `serve` answers nothing by itself, and has no end."""
    assert set(VERBS) | {"serve"} == adapter.verbs()


@pytest.mark.parametrize("name", [*VERBS, *FURTHER])
def test_json_has_the_keys_types_and_words_that_it_had(name, tmp_path):
    """Nothing that a program may rely on is gone; what came on top is allowed."""
    deployment, words = {**VERBS, **FURTHER}[name]
    folder = unpacked(deployment, tmp_path)
    found = common.asked(adapter.call, folder, words)
    assert list(common.differences(json.loads((FILES / "json" / f"{name}.json").read_text()), found)) == []


# -- what goes on -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A deployment that was stopped.

    Attributes:
        state: as `status` has it.
        verb: what ends it.
        after: revision and state then.
        payloads: of all points then.
        code: exit code of `verb`.
        back: whether `rollback 0001` works afterwards, and going there again.
        has_b: whether every point has the vector that was added.
    """

    state: str
    verb: tuple[str, ...]
    after: tuple[str, str]
    payloads: Mapping[str, Any] = field(default_factory=usual)
    code: int = 0
    back: bool = False
    has_b: bool | None = None


WRITTEN = usual([7], _2="changed", _30="changed")
ADDED = usual([4], _3="written since")
ALL = usual()
#: Three of them have lost their text.
ALL_BUT_TEXT = {
    key: {name: value for name, value in payload.items() if name != "text" or payload["n"] not in (4, 5, 6)}
    for key, payload in ALL.items()
}


def with_keys(numbers: Collection[int], **more: Any) -> dict[str, dict[str, Any]]:
    """The 30 points, some of them with further payload."""
    ids = {str(point(number)[0]) for number in numbers}
    return {key: {**payload, **more} if key in ids else payload for key, payload in ALL.items()}


RESUMED = {
    "rebuild": Case("interrupted", ("upgrade",), ("0002", "ready"), back=True, has_b=True),
    "proven": Case("interrupted", ("upgrade",), ("0002", "ready"), ADDED, back=True, has_b=True),
    "swapped": Case("interrupted", ("upgrade",), ("0002", "ready"), back=True, has_b=True),
    "rollback": Case("interrupted", ("rollback", "0001", "--carry-writes"), ("0001", "pending"), WRITTEN, has_b=False),
    "held": Case("held", ("cutover", "--all"), ("0002", "ready"), WRITTEN, back=True, has_b=False),
    "cutover": Case("interrupted", ("cutover", "--all"), ("0002", "ready"), WRITTEN, back=True, has_b=False),
    "fix-begun": Case("interrupted", DELETION, ("0001", "ready"), usual(EVEN)),
    "sync-begun": Case("interrupted", SYNC, ("0001", "ready"), with_keys(EVEN, kind="third")),
    "undo-begun": Case("interrupted", ("fix", "undo", "1", "--yes"), ("0001", "ready")),
    "erase-begun": Case("interrupted", ERASURE, ("0002", "ready"), usual([3, 4]), back=True, has_b=True),
    "restore-begun": Case("interrupted", ("upgrade",), ("0002", "ready"), has_b=True),
    "gc-begun": Case("interrupted", ("gc", "--now", "--yes"), ("0002", "ready"), has_b=True),
    "told": Case("interrupted", ("upgrade",), ("0002", "ready"), back=True, has_b=True),
    "called": Case("interrupted", ("upgrade",), ("0002", "ready"), with_keys([0, 1], called="once")),
    "moved": Case("failed", ("repair", "--name", "docs", "--yes"), ("0002", "ready"), back=True, has_b=True),
    "orphans-seen": Case("ready", ORPHANS, ("0001", "ready"), usual([9, 19, 26, 27, 29])),
    "pending": Case("pending", ("upgrade",), ("0003", "ready"), back=True, has_b=True),
    "pending-hold": Case("pending", ("upgrade",), ("0001", "held"), code=11, has_b=False),
    "carried": Case("ready", ("rollback", "0001", "--carry-writes"), ("0001", "pending"), WRITTEN, has_b=False),
    "restored": Case("ready", ("snapshot", "restore", "docs", "--undo"), ("0002", "ready"), usual([7]), has_b=True),
    "reset": Case("ready", ("fix", "undo", "1", "--yes"), ("0002", "ready"), back=True, has_b=True),
    "dropped": Case("ready", ("rollback", "0001"), ("0001", "pending"), ALL_BUT_TEXT, has_b=False),
    "vanished": Case("drift", ("repair", "--vanished", "docs__g0001"), ("0002", "ready"), has_b=True),
    "rekeyed": Case("ready", ("rollback", "0001"), ("0001", "pending")),
    "inline": Case("ready", ("rollback", "0001"), ("0001", "pending")),
}


def soon_after(name: str) -> contextlib.AbstractContextManager[None]:
    """A first look for orphans is worth something for a week only."""
    return adapter.clock(lambda: make.AT + timedelta(hours=1)) if name == "orphans-seen" else contextlib.nullcontext()


@pytest.mark.parametrize("name", RESUMED)
def test_what_was_stored_goes_on_to_its_end(name, tmp_path):
    """The state is known, the command ends it, every point is what it should be, and the way back works."""
    case, folder = RESUMED[name], unpacked(name, tmp_path)
    assert row(folder)["state"] == case.state
    with soon_after(name):
        said(folder, *case.verb, code=case.code)
    found = row(folder)
    assert (found["revision"], found["state"]) == case.after
    assert payloads(folder) == case.payloads
    if case.has_b is not None:
        assert {"b" in vectors for _, vectors in contents(folder).values() if isinstance(vectors, dict)} == {case.has_b}
    assert [one for one in common.names(folder) if "__e" in one] == []
    if case.back:
        said(folder, "rollback", "0001")
        assert row(folder)["revision"] == "0001"
        assert payloads(folder) == case.payloads
        said(folder, "upgrade", code=11 if name in ("held", "cutover") else 0)


@pytest.mark.parametrize("name", ["rebuild", "proven", "swapped"])
def test_a_rebuild_that_goes_on_is_proven(name, tmp_path):
    """Every point, as the history has it."""
    folder = unpacked(name, tmp_path)
    said(folder, "upgrade")
    proof = said(folder, "history")["rows"][0]["report"]["verification"]
    count = len(payloads(folder))
    assert (proof["points"], proof["proven"], proof["holds"]) == (count, count, True)


ABORTED = {
    "rebuild": ("pending", ALL),
    "proven": ("pending", ADDED),
    "held": ("pending", WRITTEN),
    "fix-begun": ("ready", ALL),
    "sync-begun": ("ready", ALL),
    "restore-begun": ("ready", usual([7])),
}


@pytest.mark.parametrize("name", ABORTED)
def test_what_was_begun_is_taken_back(name, tmp_path):
    """As if it had never begun; the same again works afterwards."""
    (state, expected), folder = ABORTED[name], unpacked(name, tmp_path)
    said(folder, "abort", "docs")
    assert (row(folder)["state"], payloads(folder)) == (state, expected)
    said(folder, "upgrade", code=11 if name == "held" else 0)


def test_quarantined_points_are_known_and_filled(tmp_path):
    """Two of three have got a text since; the third one stays open."""
    folder = unpacked("quarantined", tmp_path)
    rows = said(folder, "fix", "quarantine", "docs")["rows"]
    assert sorted(found["point_id"] for found in rows) == [5, 6, 7]
    said(folder, "fix", "quarantine", "docs", "--retry")
    (left,) = said(folder, "fix", "quarantine", "docs")["rows"]
    assert left["point_id"] == 7
    lacking = {key for key, (_, vectors) in contents(folder).items() if "b" not in vectors}
    assert lacking == {"7"}


def test_dropped_points_come_back(tmp_path):
    """From the file of them."""
    folder = unpacked("dropped", tmp_path)
    assert payloads(folder).keys() == usual([4, 5, 6]).keys()
    (logged,) = said(folder, "history", "--deletions")["rows"]
    assert logged["count"] == 3
    assert said(folder, "export", "show", str(logged["id"]))["points"] == 3


#: Number in the audit -> the points of which it undoes something, and the keys that differ afterwards.
UNDONE = {1: {"1", "2"}, 2: {"11", "12"}, 3: {"3"}}


@pytest.mark.parametrize("number", UNDONE)
def test_a_fix_is_undone(number, tmp_path):
    """Of each kind, and nothing else is touched."""
    folder = unpacked("fixed", tmp_path)
    before = payloads(folder)
    said(folder, "fix", "undo", str(number), "--yes")
    after = payloads(folder)
    assert {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)} == UNDONE[number]


#: Deployment -> exit code of its plan, and the collection's revision and state afterwards.
PLANNED = {
    "plan-create": (0, [("0001", "ready")]),
    "plan-copy": (0, [("0002", "ready")]),
    "plan-in-place": (0, [("0002", "ready")]),
    "plan-edit": (0, [("0002", "ready")]),
    "plan-call": (0, [("0002", "ready")]),
    "plan-drop": (0, [("0002", "ready")]),
    "plan-hold": (11, [("0001", "held")]),
    "plan-record": (0, [("0002", "ready")]),
}


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_file_is_done_as_it_was_reviewed(name, tmp_path):
    """Its jobs are what they were, and so is what they do."""
    code, expected = PLANNED[name]
    folder = unpacked(name, tmp_path)
    written = json.loads((folder / NAME).read_text())
    assert adapter.plan_of(folder / NAME) == [item["job"] for item in written["plan"]["collections"]]
    said(folder, "upgrade", "--plan", NAME, code=code)
    found = said(folder, "status")["collections"]
    assert [(one["revision"], one["state"]) for one in found] == expected


def test_an_archive_is_read_and_becomes_a_collection(tmp_path):
    """By its own deployment, and by one that has never seen it."""
    folder = unpacked("archived", tmp_path / "from")
    (file,) = sorted((folder / ".qmigrate" / "snapshots").glob("docs__g0002-*.zst"))
    head, ids = adapter.archive_of(file)
    assert (len(ids), head["points"]) == (POINTS, POINTS)
    other = unpacked("ready", tmp_path / "to")
    said(other, "snapshot", "restore", "docs", "--archive", str(file), "--into", "more", "--yes")
    assert contents(other, "more") == contents(other)


def test_what_was_adopted_is_rebuilt(tmp_path):
    """Under its alias, from the revision that was written for it."""
    folder = unpacked("adopted", tmp_path)
    assert (row(folder)["name"], row(folder)["state"]) == ("texts", "ready")
    (folder / "qdrant_migrations" / "versions" / "0002_more.py").write_text(
        HEADER.format(id="0002", down="'0001'")
        + ADD.replace('"docs"', '"texts"').lstrip()
    )
    said(folder, "upgrade")
    assert (row(folder)["revision"], len(contents(folder, "texts"))) == ("0002", POINTS)


# -- the files themselves ---------------------------------------------------------------------------------------------


def test_no_name_of_a_class_is_stored():
    """But for operations and values of revisions, which are public: a rename breaks nothing that lies in a database."""
    stored = "".join(file.read_text() for file in [*JOBS.values(), FILES / "rows.json", FILES / "phases.json"])
    assert set(re.findall(r"[A-Za-z_]+", stored)) & adapter.names_of_code() == set()


def test_no_path_or_name_of_a_machine_is_in_the_files():
    """They were made somewhere, and mean it nowhere."""
    assert list(make.machine_names()) == []
