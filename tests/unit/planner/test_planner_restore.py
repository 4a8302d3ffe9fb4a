"""Restores as plans: what is built, what is recorded, what is refused, and the way back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tests.unit.planner.test_planner import CREATE, INDEX, SCHEMA, SERVER, Files, generation

from qmigrate.errors import DriftError, RefusedError
from qmigrate.model.origin import ARCHIVE, SNAPSHOT, Known, Origin
from qmigrate.model.plan import Build, GoLive, Job
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.state import Applied, CollectionState, LiveCollection, Moment, World
from qmigrate.planner import plan_restore, plan_undo
from qmigrate.revisions.graph import Revisions

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
THEN = CollectionSchema(vectors=SCHEMA.vectors, config={"metadata": {"then": 1}})
FILES = Files(("0001", CREATE), ("0002", INDEX), ("0003", INDEX))


def origin(*revisions: str, **changed) -> Origin:
    """An archive at these revisions."""
    values = {
        "kind": ARCHIVE,
        "name": "a.jsonl.zst",
        "place": "/x/a.jsonl.zst",
        "logical": "docs",
        "physical": "docs__g0001",
        "digest": "d",
        "size": 10,
        "created_at": AT,
        "points": 7,
        "schema": THEN,
        "declared": THEN,
        "revisions": tuple(Known(one, f"sum-{one}") for one in revisions),
    }
    return Origin(**{**values, **changed})


def state(*applied: str, physical: str = "docs__g0002", generations=(), **changed) -> CollectionState:
    """A collection at these revisions."""
    values = {
        "name": "docs",
        "kind": "plain" if physical == "docs" else "alias",
        "managed": True,
        "applied": tuple(Applied(one, f"sum-{one}", physical, "copy", SCHEMA) for one in applied),
        "declared": SCHEMA,
        "live": LiveCollection(physical, SCHEMA.with_(aliases=("also",)), points=9),
        "generations": generations,
        "next_number": 3,
    }
    return CollectionState(**{**values, **changed})


def planned(found: CollectionState, source: Origin, *, files=FILES, capabilities=SERVER, plain="shadow"):
    """The plan and its job."""
    world = World("l", capabilities, {found.name: found})
    plan = plan_restore(world, files, found, source, plain=plain)
    assert Job.from_json(plan.collections[0].job.to_json()) == plan.collections[0].job
    return plan, plan.collections[0].job


def test_a_restore_is_the_next_generation_and_a_swap_that_carries_nothing():
    """Next to what serves, under the next number, with every name; the schema is that of then."""
    plan, job = planned(state("0001", "0002"), origin("0001", "0002"))
    build, golive = job.steps
    assert isinstance(build, Build)
    assert (build.source, build.target, build.number, build.fill, build.schema) == (
        "docs__g0002",
        "docs__g0003",
        3,
        "restore",
        THEN,
    )
    assert build.origin is not None
    assert build.origin["place"] == "/x/a.jsonl.zst"
    assert golive == GoLive((), "docs__g0002", "docs__g0003", ("docs", "also"), apart=True)
    (item,) = plan.collections
    assert "7 points" in item.lines[0]
    assert "9 serve now" in item.lines[0]
    assert item.way_back.startswith("qmigrate snapshot restore docs --undo")


@pytest.mark.parametrize(
    ("applied", "then", "rows"),
    [
        (("0001",), ("0001",), [("0001", "restore")]),
        (("0001", "0002", "0003"), ("0001",), [("0003", "rollback"), ("0002", "rollback"), ("0001", "restore")]),
        (("0001",), ("0001", "0002"), [("0002", "upgrade"), ("0002", "restore")]),
        (
            ("0001", "0003"),
            ("0001", "0002"),
            [("0003", "rollback"), ("0002", "upgrade"), ("0002", "restore")],
        ),
    ],
)
def test_the_history_says_what_is_taken_back_and_applied_again(applied, then, rows):
    """Then a row that records where the points came from; the recorded schema is that of then."""
    _, job = planned(state(*applied), origin(*then))
    assert [(one.revision, one.direction) for one in job.closes] == rows
    assert {one.step for one in job.closes} == {1}
    assert job.closes[-1].declared == THEN
    assert job.closes[0].prior == SCHEMA


def test_a_name_that_is_not_there_is_created():
    """Nothing is swapped out; every revision is recorded as applied."""
    absent = CollectionState(name="docs", kind="absent", managed=False)
    _, job = planned(absent, origin("0001", "0002"))
    build, golive = job.steps
    assert (build.source, build.target) == (None, "docs__g0001")
    assert (golive.source, golive.apart, golive.aliases) == (None, True, ("docs",))
    assert [(one.revision, one.direction) for one in job.closes] == [
        ("0001", "upgrade"),
        ("0002", "upgrade"),
        ("0002", "restore"),
    ]


def test_another_name_is_recorded_at_the_revisions_that_name_it():
    """Those of the archive that don't are left out, and a note reports it."""
    other = CollectionState(name="other", kind="absent", managed=False)
    plan, job = planned(other, origin("0001", "0002"))
    assert [(one.revision, one.direction) for one in job.closes] == [("base", "restore")]
    assert "not every revision of docs names other" in plan.notes[0]


def test_revisions_without_files_leave_a_new_name_at_none_and_an_old_one_alone():
    """What can't be recorded doesn't take the place of what is."""
    with pytest.raises(RefusedError, match="no file of 0009"):
        planned(state("0001"), origin("0001", "0009"))
    plan, job = planned(CollectionState(name="docs", kind="absent", managed=False), origin("0009"))
    assert [one.revision for one in job.closes] == ["base"]
    assert "0009 has no file" in plan.notes[0]


def test_a_revision_that_would_count_again_must_have_the_same_file():
    """One that is applied anyway must be the one that was applied; its file may have been accepted since."""
    changed = origin(revisions=(Known("0001", "old"),))
    with pytest.raises(DriftError, match="another 0001_rev.py"):
        planned(state("0001"), changed)
    accepted = state("0001", applied=(Applied("0001", "old", "docs__g0002", "copy", SCHEMA),))
    assert planned(accepted, changed)[1].closes[-1].checksum == "sum-0001"
    again = origin(revisions=(Known("0001", "sum-0001"), Known("0002", "old")))
    with pytest.raises(DriftError, match="another 0002_rev.py"):
        planned(state("0001"), again)


@pytest.mark.parametrize(
    ("found", "source", "capabilities", "match"),
    [
        (state(managed=False), origin(), SERVER, "not under management"),
        (state("0001"), origin(), SERVER, "made when docs was at no revision"),
        (state(), origin(kind=SNAPSHOT, custom_sharding=True), SERVER, "without any shard, restores nothing"),
        (state(), origin(kind=SNAPSHOT), replace(SERVER, peers=3), "the points of the other 2 out"),
        (state(), origin(kind=SNAPSHOT), replace(SERVER, peers=0), "others out, if there are any"),
    ],
)
def test_what_would_lose_points_is_refused(found, source, capabilities, match):
    """With the reason, and what to do instead."""
    with pytest.raises(RefusedError, match=match) as refused:
        planned(found, source, capabilities=capabilities)
    assert refused.value.hint


def test_an_archive_is_restored_on_a_cluster():
    """It holds the points of every node."""
    assert planned(state("0001"), origin("0001"), capabilities=replace(SERVER, peers=3))[1].steps


def test_a_plain_collection_is_hidden_or_makes_room_first():
    """It is never written over: the alias hides it, or it becomes a generation of its own before."""
    plain = state("0001", physical="docs")
    _, job = planned(plain, origin("0001"))
    assert [step.kind for step in job.steps] == ["build", "golive"]
    assert job.steps[-1].place == "shadow"
    _, job = planned(plain, origin("0001"), plain="gap")
    assert [(step.kind, step.target) for step in job.steps] == [
        ("build", "docs__g0003"),
        ("build", "docs__g0004"),
        ("golive", "docs__g0003"),
        ("golive", "docs__g0004"),
    ]
    assert (job.steps[1].source, job.steps[3].place) == ("docs__g0003", "alias")
    assert {one.step for one in job.closes} == {3}
    with pytest.raises(RefusedError, match="gap"):
        planned(plain, origin("0001"), plain="refuse")


def moment(physical: str, *applied: str, direction="upgrade", strategy="copy") -> Moment:
    """One entry of a history."""
    return Moment(AT, physical, tuple((one, f"sum-{one}", SCHEMA) for one in applied), SCHEMA, direction, strategy)


KEPT = (generation(2, "retired", ("0001", "0002"), 1), generation(3, "live", ("0001",), 2))
RESTORED = (
    moment("docs__g0002", "0001", "0002"),
    moment("docs__g0003", "0001", direction="rollback", strategy="restore"),
    moment("docs__g0003", "0001", direction="restore", strategy="restore"),
)


def test_the_way_back_from_a_restore_is_one_step():
    """To the generation before, at its revisions; nothing is carried, what was written since is counted."""
    plan = plan_undo(state("0001", physical="docs__g0003", generations=KEPT), RESTORED, Revisions.none())
    job = plan.collections[0].job
    (step,) = job.steps
    wanted = GoLive((), "docs__g0003", "docs__g0002", ("docs", "also"), back=True, writes="refuse", apart=True)
    assert step == wanted
    assert [(one.revision, one.direction) for one in job.closes] == [("0002", "upgrade"), ("0002", "restore")]


@pytest.mark.parametrize(
    ("moments", "kept", "match"),
    [
        (RESTORED[:1], KEPT, "was not restored"),
        ((*RESTORED[:1], moment("docs__g0003", "0001", direction="restore", strategy="undo")), KEPT, "was not restored"),
        (RESTORED, (generation(2, "gone", ("0001",), 1), KEPT[1]), "not kept any more"),
    ],
)
def test_there_must_be_a_restore_to_take_back(moments, kept, match):
    """And the generation before it."""
    with pytest.raises(RefusedError, match=match):
        plan_undo(state("0001", physical="docs__g0003", generations=kept), moments, Revisions.none())
