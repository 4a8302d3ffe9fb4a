"""What the planner makes of a hold: which go-live waits, what waits behind it, and what it tells readers."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from tests.unit.planner.test_planner import ADD, CREATE, CREATED, INDEX, SCHEMA, Files, managed, world

from qmigrate import Embed, op
from qmigrate.errors import PlanError, RefusedError
from qmigrate.model.plan import Build, Closing, GoLive, InPlace, Job, OpRef, Retire
from qmigrate.model.state import OpenRun, Record
from qmigrate.planner import plan_abort, plan_rollback, plan_upgrade

WORDS = Embed("words", text="text")
SIXTEEN = {"size": 16, "distance": "Cosine"}
#: Every operation that makes existing readers fail, without its cutover.
INCOMPATIBLE = {
    "size": (lambda **more: op.AlterVector("docs", "a", SIXTEEN, values=WORDS, **more), "size of vector a goes from 8 to 16"),
    "distance": (
        lambda **more: op.AlterVector("docs", "a", {"size": 8, "distance": "Dot"}, values=WORDS, **more),
        "distance of vector a goes from Cosine to Dot",
    ),
    "model": (lambda **more: op.Reembed("docs", "a", values=WORDS, **more), "vector a gets values of another model"),
    "renamed": (lambda **more: op.RenameVector("docs", "a", "z", **more), "vector a is renamed to z"),
    "dropped": (lambda **more: op.DropVector("docs", "a", **more), "vector a is dropped"),
}


def held_run(*records, state="held"):
    """Revision 2 is built as g0002 and held."""
    steps = (
        Build((OpRef("2", 0),), "docs__g0001", "docs__g0002", 2, SCHEMA, "copy", ""),
        GoLive((OpRef("2", 0),), "docs__g0001", "docs__g0002", ("docs",), hold=True),
    )
    job = Job("docs", "basis", steps, (Closing(1, "2", "upgrade", "sum-2", SCHEMA, SCHEMA),))
    records = records or (Record(0, "fill", "done"), Record(1, "preflight", "done"), Record(1, "hold", "running"))
    return OpenRun(7, "upgrade", state, job, {"2": "sum-2"}, "me", "here", datetime.now(UTC), None, records)


@pytest.mark.parametrize("kind", INCOMPATIBLE)
@pytest.mark.parametrize("cutover", ["immediate", "hold"])
def test_every_incompatible_change_is_named_and_waits_where_it_says_so(kind, cutover):
    """The plan names what existing readers can't handle, and whether the go-live is held."""
    make, words = INCOMPATIBLE[kind]
    files = Files(("1", CREATE), ("2", make(cutover=cutover)))
    (item,) = plan_upgrade(world(managed(CREATED)), files, files.all).collections
    build, golive = item.job.steps
    assert (type(build), golive.hold, item.holds) == (Build, cutover == "hold", cutover == "hold")
    assert item.incompatible == (f"2  {words}",)
    assert Job.from_json(item.job.to_json()) == item.job


@pytest.mark.parametrize("kind", INCOMPATIBLE)
def test_an_incompatible_change_without_a_decision_is_refused(kind):
    """Both ways to say when it goes live are named."""
    make, words = INCOMPATIBLE[kind]
    files = Files(("1", CREATE), ("2", make()))
    with pytest.raises(PlanError) as refused:
        plan_upgrade(world(managed(CREATED)), files, files.all)
    assert words in refused.value.message
    assert 'cutover="immediate"' in refused.value.hint
    assert 'cutover="hold"' in refused.value.hint


def test_nothing_is_held_that_has_no_old_readers():
    """A collection that is made and changed in one go needn't wait; what changes nothing is only recorded."""
    files = Files(("1", CREATE, op.RenameVector("docs", "a", "z", cutover="hold")))
    with pytest.raises(PlanError, match="contradict"):
        plan_upgrade(world(), files, files.all)
    same = Files(("1", CREATE), ("2", op.AlterVector("docs", "a", SCHEMA.vectors["a"], cutover="hold")))
    (item,) = plan_upgrade(world(managed(CREATED)), same, same.all).collections
    assert [type(step) for step in item.job.steps] == [InPlace]
    assert not item.holds


def test_a_held_collection_is_not_planned_for():
    """The note names the command, and the revisions behind it; other collections are planned."""
    other = managed(CREATED, name="docs_b")
    files = Files(("1", CREATE), ("2", op.DropVector("docs", "a", cutover="hold")), ("3", INDEX), ("4", op.CreatePayloadIndex("docs*", "x", "keyword")))
    plan = plan_upgrade(world(managed(CREATED, run=held_run()), other), files, files.all)
    assert [item.job.collection for item in plan.collections] == ["docs_b"]
    assert plan.held == ("docs",)
    note, meant = plan.notes
    assert meant == "revision 4: 'docs*' means 1 collection: docs_b"
    assert "docs__g0002" in note
    assert "qmigrate cutover docs" in note
    assert "3, 4 can only come after it" in note
    assert plan_upgrade(world(managed(CREATED, run=held_run()), other), files, files.all, only=["docs_b"]).held == ()


def test_nothing_is_taken_back_under_a_held_generation():
    """First the cut-over or the abort; a rollback that undoes nothing under it continues."""
    state = managed(CREATED, run=held_run())
    files = Files(("1", CREATE), ("2", ADD))
    with pytest.raises(RefusedError, match="is built and held"):
        plan_rollback(world(state), files, frozenset(), writes="discard")
    assert plan_rollback(world(state), files, frozenset({"1"})).collections == ()


def test_the_abort_of_a_held_run_removes_what_was_built():
    """The shadow goes; nothing else was touched."""
    (item,) = plan_abort(world(managed(CREATED, run=held_run()))).collections
    assert item.job.steps == (Retire("docs__g0002", "abort of run 7"),)
    assert item.job.supersedes == 7


@pytest.mark.parametrize(
    ("records", "waiting", "let_on"),
    [
        ((Record(0, "fill", "running"),), None, False),
        ((Record(1, "preflight", "done"),), None, False),
        ((Record(1, "hold", "running"),), 1, False),
        ((Record(1, "hold", "done"),), None, True),
        ((Record(1, "hold", "done"), Record(1, "close", "running")), None, True),
        ((Record(1, "hold", "done"), Record(1, "close", "done")), None, False),
    ],
)
def test_the_journal_says_where_a_run_stands_with_its_hold(records, waiting, let_on):
    """Before it, at it, behind it, and closed."""
    run = held_run(*records, state="running")
    assert (run.waiting(), run.let_on()) == (waiting, let_on)
