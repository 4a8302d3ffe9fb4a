"""Facts of phases: a misspelt one is an error of the type check, and what is stored is what earlier versions stored."""

from __future__ import annotations

import ast
import json
import typing
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from qmigrate import op
from qmigrate.engine.phases import _CHECKLISTS
from qmigrate.engine.work import Work
from qmigrate.ledger import DeletionRow
from qmigrate.model.facts.audit import Audited
from qmigrate.model.facts.edits import KINDS, edit_of
from qmigrate.model.facts.phases import F, Proof, Shadow, SourceSnapshot, StoppedInOrder, Swap, WriteBack
from qmigrate.model.facts.stored import changed, learned, loaded, plain
from qmigrate.model.plan import Job
from qmigrate.model.state import OpenRun, Record

AT = datetime(2026, 1, 1, tzinfo=UTC)
ROOT = Path(__file__).parents[3]
GOLDEN = json.loads((ROOT / "tests" / "golden" / "files" / "phases.json").read_text())
#: Code -> what the type check says of it; None where it is right.
SNIPPETS = {
    "run.facts(Swap, 0).moved": None,
    "run.facts(Swap, 0).movd": "has no attribute",
    "run.facts('swap', 0)": "arg-type",
    "run.facts(Shadow, 0).sent.target": "union-attr",
    "replace(run.facts(Shadow, 0), sent=None)": None,
    "replace(run.facts(Shadow, 0), sendt=None)": "Unexpected keyword argument",
    "replace(run.facts(Shadow, 0), sent='there')": "arg-type",
    "len(run.facts(Proof, 0).dropped)": "arg-type",
    "Shadow(barrier_delta='2')": "arg-type",
    "Audited(undos=1)": "Unexpected keyword argument",
    "loaded(Audited, {}).undos": "has no attribute",
    "loaded(RemovalEdit, {}).max_rate": None,
    "loaded(RemovalEdit, {}).maxrate": "has no attribute",
    "loaded(RemovalEdit, {}).grace": "has no attribute",
    "loaded(Reported, {}).closing.ids": "union-attr",
}
HEAD = """from dataclasses import replace
from qmigrate.model.facts.audit import Audited
from qmigrate.model.facts.edits import RemovalEdit
from qmigrate.model.facts.phases import Proof, Shadow, Swap
from qmigrate.model.facts.history import Reported
from qmigrate.model.state import OpenRun
from qmigrate.model.facts.stored import loaded
def look(run: OpenRun) -> None:
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What mypy says of each snippet."""
    api = pytest.importorskip("mypy.api")
    folder = tmp_path_factory.mktemp("facts")
    file = folder / "snippets.py"
    file.write_text(HEAD + "".join(f"    {code}\n" for code in SNIPPETS))
    (folder / "mypy.ini").write_text(f"[mypy]\nstrict = true\nmypy_path = {ROOT / 'src'}\nfollow_imports = silent\n")
    out, err, _ = api.run([f"--config-file={folder / 'mypy.ini'}", f"--cache-dir={folder / 'cache'}", str(file)])
    assert not err
    first = len(HEAD.splitlines()) + 1
    return {code: [line for line in out.splitlines() if f":{first + place}:" in line] for place, code in enumerate(SNIPPETS)}


@pytest.mark.nightly
@pytest.mark.parametrize("code", SNIPPETS)
def test_the_type_check_finds_a_fact_that_is_not_there(said, code):
    """Read or noted, of a type that can't be, or unknown as long as nothing was learned."""
    wanted = SNIPPETS[code]
    found = said[code]
    assert (found == []) if wanted is None else any(wanted in line for line in found), found


def test_a_phase_at_work_reads_them_in_the_same_way():
    """By their type, never by the name of a phase."""
    for reader in (Work.facts, OpenRun.facts):
        hints = typing.get_type_hints(reader, vars(__import__(reader.__module__, fromlist=["x"])))
        assert (hints["of"], hints["return"]) == (type[F], F)
    for file in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("facts", "note"):
                assert not any(isinstance(one, ast.Constant | ast.Dict | ast.JoinedStr) for one in node.args), file


@pytest.mark.parametrize(("kind", "phase"), [(kind, phase) for kind, found in GOLDEN.items() for phase in found])
def test_what_an_earlier_version_has_stored_is_stored_again(kind, phase):
    """Every key of it, with the same value."""
    (facts,) = (one.facts for one in _CHECKLISTS[kind] if one.name == phase)
    row = json.loads(GOLDEN[kind][phase])
    found = learned(loaded(facts, row))
    assert json.loads(json.dumps(found)) == row


def edits():
    """Every edit of the golden jobs."""
    jobs = (json.loads(file.read_text()) for file in sorted((ROOT / "tests" / "golden" / "files" / "jobs").glob("*.json")))
    return [step["edit"] for job in jobs for step in job["steps"] if "edit" in step]


def test_every_key_of_an_edit_is_one_of_its_kind():
    """What an operation or a plan writes, other code reads: a misspelt key would be read by none."""
    # No operation of the package writes this one: CONTRIBUTING.md shows how one does, and its test runs it.
    assert {edit["kind"] for edit in edits()} == KINDS.keys() - {"payload"}
    for edit in edits():
        kind = KINDS[edit["kind"]]
        assert set(edit) <= {one.name for one in fields(kind)}, kind
        found = json.loads(json.dumps(plain(loaded(kind, edit))))
        assert {name: found[name] for name in edit if not isinstance(edit[name], dict | list)} == {
            name: value for name, value in edit.items() if not isinstance(value, dict | list)
        }


@pytest.mark.parametrize(
    "operation",
    [
        op.DeletePoints("c", ids=[1], reason="r"),
        op.DeletePoints("c", filter={"must": [{"key": "n", "match": {"value": 1}}]}, soft=True, older_than={"field": "at", "age": "1d"}, reason="r"),
        op.DeleteOrphans("c", sql="SELECT id FROM t", database="d", reason="r", id_field="n"),
        op.SyncPayload("c", sql="SELECT id, a FROM t", database="d", fields=["a"], json=["a"]),
        op.SetPayload("c", {"a": 1}),
        op.DeletePayload("c", ["a"]),
        op.Call("c", print),
    ],
    ids=lambda one: type(one).__name__,
)
def test_an_operation_writes_no_key_that_its_kind_does_not_have(operation):
    """With every argument that adds one."""
    edit = operation.edit()
    assert set(edit) <= {one.name for one in fields(edit_of(edit))}


def test_an_audit_row_is_stored_with_its_nulls_and_with_what_nobody_reads():
    """As rows of earlier versions, key by key."""
    rows = json.loads((ROOT / "tests" / "golden" / "files" / "rows.json").read_text())["vector_deletion_logs"]
    for row in (json.loads(one["metadata"]) for one in rows if one["metadata"]):
        assert json.loads(json.dumps(learned(loaded(Audited, row)))) == row
    assert learned(Audited(1, 0, undo=None)) == {"run": 1, "step": 0, "undo": None}


def test_a_row_of_the_application_tells_nothing():
    """It may have any keys, and other kinds of values under ours."""
    facts = {"run": "night", "held_until": "tomorrow", "not_changed": 3}
    assert DeletionRow(1, "ASSET", "1", 1, None, facts, AT, None, None).told == Audited()


@pytest.mark.parametrize("kind", _CHECKLISTS)
def test_each_phase_of_a_checklist_has_a_dataclass_of_its_own(kind):
    """So that none reads what another has learned."""
    names = [one.name for one in _CHECKLISTS[kind]]
    assert len({one.facts for one in _CHECKLISTS[kind]}) == len(set(names)) == len(names)


def test_a_key_of_a_later_version_says_nothing_and_a_missing_one_gives_the_default():
    """Both ways: versions share a ledger."""
    assert loaded(Swap, {"moved": True, "later": 1}) == Swap(moved=True)
    assert loaded(Swap, {}) == Swap()


def test_what_is_noted_is_what_is_new():
    """A reset is noted as null; what is known already isn't noted again."""
    row = {"sent": {"target": "a", "location": "url"}, "copied_because": "no room"}
    before = loaded(Shadow, row)
    assert changed(before, row) == {}
    assert changed(replace(before, sent=None, tried={"url": "no"}), row) == {"sent": None, "tried": {"url": "no"}}
    assert learned(Shadow(barrier_delta=0)) == {"barrier_delta": 0}


def test_none_and_nothing_are_told_apart_where_both_are_facts():
    """A proof that has left nothing out takes the place of one that had."""
    assert learned(Proof(dropped=None)) == {"dropped": None}
    assert learned(Proof()) == {}
    with_file = loaded(Proof, {"dropped": {"file": "a", "points": 3}, "epoch": 1})
    assert with_file.renewed(Proof(epoch=2)).dropped == with_file.dropped
    assert with_file.renewed(Proof(dropped=None)).dropped is None


def test_what_is_always_kept_is_kept_also_when_it_is_the_default():
    """The cursor of a write-back that is through, the source of a create; and no snapshot, once that is settled."""
    assert learned(WriteBack(1)) == {"statement": 1, "cursor": None}
    assert changed(Swap(after="a__g0001"), {}) == {"before": None, "after": "a__g0001"}
    assert changed(Swap(after="a__g0001", moved=True), {"before": None, "after": "a__g0001"}) == {"moved": True}
    assert changed(SourceSnapshot(before=()), {}) == {"before": []}
    assert learned(SourceSnapshot(before=())) == {"before": [], "snapshot": None}


def test_a_stop_is_noted_in_any_phase():
    """Next to what that one has learned."""
    record = Record(0, "fill", "running", {"again": True, "stopped_in_order": 3}, 3)
    assert loaded(StoppedInOrder, record.facts).stopped_in_order == 3
    run = OpenRun(1, "upgrade", "failed", Job("a", "b", ()), {}, "", "", None, None, (record,))
    assert run.facts(Swap, 0) == Swap()
