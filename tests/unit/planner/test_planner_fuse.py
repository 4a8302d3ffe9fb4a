"""Which pending revisions share a rebuild, what the job has about it, and how a group goes back."""

from __future__ import annotations

import pytest
from tests.unit.planner.test_planner import (
    ADD,
    CREATE,
    CREATED,
    INDEX,
    SCHEMA,
    VECTOR,
    Files,
    generation,
    managed,
    world,
)

from qmigrate import Compute, CopyOf, Embed, op
from qmigrate.errors import RefusedError
from qmigrate.model.plan import Build, GoLive, InPlace, Job, OpRef
from qmigrate.model.state import Applied
from qmigrate.planner import plan_rollback, plan_upgrade


def text(point):
    """Rewrite the payload."""
    return {**point.payload, "text": "new"}


def number(point):
    """Fill a vector."""
    return [1.0] * 8


RESHARD = op.Reshard("docs", shard_number=2)
PAYLOAD = op.TransformPoints("docs", text)
RENAME = op.RenameVector("docs", "a", "z", cutover="immediate")
SECOND = op.CreatePayloadIndex("docs", "n", "integer")
EMBED_C = op.AddVector("docs", "c", {"size": 16, "distance": "Cosine"}, values=Embed("words", text="text"))
COMPUTE_C = op.AddVector("docs", "c", VECTOR, values=Compute(number))
COPY_OF_B = op.AddVector("docs", "c", {"size": 16, "distance": "Cosine"}, values=CopyOf("b"))
HALF_OF_B = op.AddVector("docs", "c", {"size": 16, "distance": "Cosine", "datatype": "float16"}, values=CopyOf("b"))
HALF_A = op.AlterVector("docs", "a", {**VECTOR, "datatype": "float16"})
DOT_A = op.AlterVector("docs", "a", {"size": 8, "distance": "Dot"}, values=CopyOf("a", allow_normalised=True), cutover="immediate")
RENAME_B = op.RenameVector("docs", "b", "y", cutover="immediate")
DROP_B = op.DropVector("docs", "b", cutover="immediate")
DROP = op.DropCollection("docs")


def planned(*operations, **options):
    """The collection's plan for one revision per operation, numbered from 2; revision 1 is applied."""
    chain = [(str(place), *(one if isinstance(one, tuple) else (one,))) for place, one in enumerate(operations, start=2)]
    files = Files(("1", CREATE), *chain)
    (item,) = plan_upgrade(world(managed(CREATED)), files, files.all, **options).collections
    return item


def groups(item) -> list[str]:
    """The revisions that each step records, joined."""
    found: dict[int, list[str]] = {}
    for closing in item.job.closes:
        found.setdefault(closing.step, []).append(closing.revision)
    return ["".join(found[step]) for step in sorted(found)]


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        ((ADD, RESHARD, RENAME), ["234"]),
        ((INDEX, ADD, SECOND), ["234"]),
        ((INDEX, SECOND), ["2", "3"]),
        ((PAYLOAD, ADD), ["23"]),
        ((ADD, PAYLOAD), ["2", "3"]),
        ((ADD, INDEX, PAYLOAD, SECOND), ["23", "45"]),
        ((INDEX, SECOND, DROP), ["2", "3", "4"]),
        ((ADD, DROP, CREATE, EMBED_C), ["2", "3", "45"]),
        ((RENAME, COMPUTE_C), ["2", "3"]),
        ((RENAME, PAYLOAD), ["2", "3"]),
        ((PAYLOAD, COMPUTE_C), ["23"]),
        ((ADD, COPY_OF_B), ["23"]),
        ((ADD, HALF_OF_B), ["2", "3"]),
        ((ADD, RENAME_B, EMBED_C), ["234"]),
        ((ADD, DROP_B, PAYLOAD), ["23", "4"]),
        ((HALF_A, RENAME), ["23"]),
        ((HALF_A, DOT_A), ["2", "3"]),
    ],
)
def test_barriers_end_a_segment_and_nothing_else_does(operations, expected):
    """One copy for all that can share it, light changes ride along, and what would see other points waits."""
    item = planned(*operations)
    assert groups(item) == expected
    assert Job.from_json(item.job.to_json()) == item.job


@pytest.mark.parametrize("options", [{"fuse": False}, {"fuse_by_name": {"docs": False}}])
def test_fusing_can_be_turned_off_for_all_or_for_one(options):
    """Each revision has its own rebuild then, and the next one builds on it."""
    item = planned(ADD, RESHARD, RENAME, **options)
    assert groups(item) == ["2", "3", "4"]
    assert [step.source for step in item.job.steps if isinstance(step, Build)] == [f"docs__g000{n}" for n in (1, 2, 3)]
    assert groups(planned(ADD, RESHARD, fuse=False, fuse_by_name={"docs": True})) == ["23"]


def test_a_fused_job_has_one_build_and_a_record_per_revision():
    """The build has every operation and the final schema; each revision keeps its own schema before and after."""
    item = planned(ADD, INDEX, RENAME)
    build, golive = item.job.steps
    refs = (OpRef("2", 0), OpRef("3", 0), OpRef("4", 0))
    assert (build.ops, golive.ops) == (refs, refs)
    assert (build.source, build.target, build.fill) == ("docs__g0001", "docs__g0002", "copy")
    assert set(build.schema.vectors) == {"z", "b"}
    assert set(build.schema.indexes) == {"kind"}
    apart = planned(ADD, INDEX, RENAME, fuse=False)
    strip = [(one.revision, one.direction, one.checksum, one.declared, one.prior) for one in item.job.closes]
    assert strip == [(one.revision, one.direction, one.checksum, one.declared, one.prior) for one in apart.job.closes]
    assert item.reasons == ("2, 3, 4  in one copy: values change for every point",)
    assert [line[:1] for line in item.lines] == ["2", "3", "4"]
    assert item.way_back == "to 1 in milliseconds, while docs__g0001 is kept; not to 2, 3 alone"


def test_the_way_back_names_every_target():
    """Two copies in one job: two targets in milliseconds, the nearest first."""
    item = planned(ADD, INDEX, PAYLOAD)
    assert item.way_back == "to 3 or 1 in milliseconds, while docs__g0002, docs__g0001 are kept; not to 2 alone"
    assert planned(INDEX).way_back == "to 1 by the reverse changes"


def test_a_new_collection_is_made_in_its_final_shape():
    """One empty build for creation and everything later, whatever the later revisions would do to points."""
    files = Files(("1", CREATE), ("2", ADD), ("3", PAYLOAD), ("4", RENAME), ("5", INDEX))
    (item,) = plan_upgrade(world(), files, files.all).collections
    build, golive = item.job.steps
    assert (build.fill, build.source, set(build.schema.vectors), set(build.schema.indexes)) == ("empty", None, {"z", "b"}, {"kind"})
    assert groups(item) == ["12345"]
    assert item.reasons == ("1, 2, 3, 4, 5  created in its final shape: the collection is new",)
    assert not item.holds


def test_a_hold_holds_everything_that_shares_its_copy():
    """And what comes before a barrier goes live at once."""
    held = op.DropVector("docs", "a", cutover="hold")
    assert [step.hold for step in planned(INDEX, ADD, held).job.steps if isinstance(step, GoLive)] == [True]
    item = planned(ADD, (PAYLOAD, held), SECOND)
    assert [step.hold for step in item.job.steps if isinstance(step, GoLive)] == [False, True]
    assert groups(item) == ["2", "34"]


FUSED = tuple(Applied(name, f"sum-{name}", "docs__g0002", "copy", SCHEMA, run=5) for name in "234")
KEPT = (generation(1, "retired", ("1",)), generation(2, "live", ("1", "2", "3", "4"), parent=1))
FILES = (("1", CREATE), ("2", ADD), ("3", INDEX), ("4", SECOND))


def test_a_group_goes_back_in_one_flip_newest_first():
    """One alias request; every revision is recorded as undone; the inverse is that of all operations."""
    state = managed(CREATED, *FUSED, generations=KEPT)
    (item,) = plan_rollback(world(state), Files(*FILES), frozenset({"1"})).collections
    (step,) = item.job.steps
    assert (step.source, step.target, step.back) == ("docs__g0002", "docs__g0001", True)
    assert step.ops == (OpRef("2", 0), OpRef("3", 0), OpRef("4", 0))
    assert [closing.revision for closing in item.job.closes] == ["4", "3", "2"]
    assert item.lines == ("4, 3, 2  back to docs__g0001",)


@pytest.mark.parametrize("keep", ["1 2 3", "1 2"])
def test_a_target_inside_a_group_is_refused_with_the_ways(keep):
    """Exit 10: which revisions went live together, which targets take milliseconds, and downgrade()."""
    state = managed(CREATED, *FUSED, generations=KEPT)
    with pytest.raises(RefusedError, match="2, 3, 4 of docs went live together") as refused:
        plan_rollback(world(state), Files(*FILES), frozenset(keep.split()))
    assert "qmigrate rollback 1 --only docs takes milliseconds" in refused.value.hint
    assert "and accept the changed file: qmigrate repair --accept 4 --reason WHY --changed-meaning" in refused.value.hint
    assert refused.value.facts["targets"] == ["1"]


def test_a_revision_of_a_group_goes_back_by_its_downgrade():
    """From where the collection stands; the rest of the group stays, and goes back in one flip afterwards."""
    files = Files(*FILES, downgrades={"4": (op.DropPayloadIndex("docs", "n"),)})
    indexed = SCHEMA.with_(indexes={"n": {"type": "integer"}, "kind": {"type": "keyword"}})
    state = managed(CREATED, *FUSED, schema=indexed, generations=KEPT)
    (item,) = plan_rollback(world(state), files, frozenset({"1", "2", "3"})).collections
    assert [type(step) for step in item.job.steps] == [InPlace]
    assert [closing.revision for closing in item.job.closes] == ["4"]
    rest = (generation(1, "retired", ("1",)), generation(2, "live", ("1", "2", "3"), parent=1))
    state = managed(CREATED, *FUSED[:2], generations=rest)
    (item,) = plan_rollback(world(state), files, frozenset({"1"})).collections
    assert [type(step) for step in item.job.steps] == [GoLive]
    assert [closing.revision for closing in item.job.closes] == ["3", "2"]


def test_work_in_place_after_a_group_goes_back_with_it():
    """The generation that is left keeps it; nothing is undone there."""
    later = Applied("5", "sum-5", "docs__g0002", "in_place", SCHEMA, run=6)
    rows = (KEPT[0], generation(2, "live", ("1", "2", "3", "4", "5"), parent=1))
    files = Files(*FILES, ("5", op.CreatePayloadIndex("docs", "x", "keyword")))
    (item,) = plan_rollback(world(managed(CREATED, *FUSED, later, generations=rows)), files, frozenset({"1"})).collections
    assert [type(step) for step in item.job.steps] == [GoLive]
    assert [closing.revision for closing in item.job.closes] == ["5", "4", "3", "2"]


def test_a_collection_made_in_one_go_has_no_target_inside():
    """Only base is left, which takes the name away; a revision applied by itself later goes back by itself."""
    made = tuple(Applied(name, f"sum-{name}", "docs__g0001", "create", None, run=3) for name in "123")
    with pytest.raises(RefusedError, match="1, 2, 3 of docs went live together") as refused:
        plan_rollback(world(managed(*made)), Files(*FILES), frozenset({"1", "2"}))
    assert "qmigrate rollback base" in refused.value.hint
    (item,) = plan_rollback(world(managed(*made)), Files(*FILES), frozenset(), writes="discard").collections
    assert [closing.revision for closing in item.job.closes] == ["3", "2", "1"]


def test_two_rebuilds_of_one_run_are_two_groups():
    """The same run, another generation: each goes back by itself."""
    first = Applied("2", "sum-2", "docs__g0002", "copy", SCHEMA, run=5)
    second = Applied("3", "sum-3", "docs__g0003", "copy", SCHEMA, run=5)
    rows = (
        generation(1, "retired", ("1",)),
        generation(2, "retired", ("1", "2"), parent=1),
        generation(3, "live", ("1", "2", "3"), parent=2),
    )
    files = Files(("1", CREATE), ("2", ADD), ("3", RESHARD))
    (item,) = plan_rollback(world(managed(CREATED, first, second, generations=rows)), files, frozenset({"1", "2"})).collections
    assert [closing.revision for closing in item.job.closes] == ["3"]


def test_work_in_place_is_undone_before_a_downgrade_rebuilds():
    """When the generation before is gone: newest first, so that the recorded schema ends right."""
    change = {"kind": "index.add", "name": "x", "after": {"type": "keyword"}, "before": None}
    indexed = SCHEMA.with_(indexes={"x": {"type": "keyword"}})
    copied = Applied("2", "sum-2", "docs__g0002", "copy", SCHEMA, run=5)
    later = Applied("3", "sum-3", "docs__g0002", "in_place", SCHEMA, (change,), run=6)
    rows = (generation(1, "gone", ("1",)), generation(2, "live", ("1", "2", "3"), parent=1))
    files = Files(("1", CREATE), ("2", RESHARD), ("3", SECOND), downgrades={"2": (op.Reshard("docs", shard_number=1),)})
    state = managed(CREATED, copied, later, schema=indexed, generations=rows)
    (item,) = plan_rollback(world(state), files, frozenset({"1"})).collections
    assert [type(step) for step in item.job.steps] == [InPlace, Build, GoLive]
    assert [closing.revision for closing in item.job.closes] == ["3", "2"]
    assert item.job.closes[-1].declared == SCHEMA
