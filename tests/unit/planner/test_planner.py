"""The planner: (World, revisions, target) to a plan, with no store in sight."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest

from qmigrate import CopyOf, Embed, Empty, op
from qmigrate.errors import DriftError, PlanError, RefusedError, RepairNeededError
from qmigrate.model.plan import Build, GoLive, InPlace, Job, OpRef, Retire
from qmigrate.model.schema import Change, CollectionSchema
from qmigrate.model.state import (
    Applied,
    Capabilities,
    CollectionState,
    Generation,
    LiveCollection,
    OpenRun,
    Record,
    World,
)
from qmigrate.observe import check_hidden_name
from qmigrate.operations.base import Strategy
from qmigrate.planner import check_checksums, plan_abort, plan_rollback, plan_upgrade
from qmigrate.planner.forward import pending
from qmigrate.planner.guard import check_not_given_up, check_open_run
from qmigrate.planner.plain_names import way_of
from qmigrate.planner.segment import not_beyond_schemas
from qmigrate.revisions.graph import Revision, Revisions

VECTOR = {"size": 8, "distance": "Cosine"}
SERVER = Capabilities(
    local=False,
    version=(1, 18, 3),
    label="Qdrant 1.18.3",
    snapshots=True,
    payload_indexes=True,
    vector_names=True,
    barrier=True,
)
SCHEMA = CollectionSchema(vectors={"a": VECTOR})
ADD = op.AddVector("docs", "b", {"size": 16, "distance": "Cosine"}, values=Embed("words", text="text"))
ADD_C = op.AddVector("docs", "c", {"size": 16, "distance": "Cosine"}, values=Embed("words", text="text"))
INDEX = op.CreatePayloadIndex("docs", "kind", "keyword")
CREATE = op.CreateCollection("docs", {"a": VECTOR})


class Files(Revisions):
    """Revisions without files: a chain of (id, operations)."""

    def __init__(self, *chain, downgrades=None):
        ids = [identifier for identifier, *_ in chain]
        found = [
            Revision(
                id=identifier,
                down=tuple(ids[place - 1 : place]),
                path=Path(f"{identifier}_rev.py"),
                doc="",
                checksum=f"sum-{identifier}",
                operations=tuple(operations),
                has_downgrade=False,
                irreversible=None,
                requires_sql=None,
            )
            for place, (identifier, *operations) in enumerate(chain)
        ]
        super().__init__((one, ModuleType(one.id)) for one in found)
        self.downgrades = downgrades or {}

    def downgrade_operations(self, identifier):
        """What downgrade() returns, or None."""
        return self.downgrades.get(identifier)

    @property
    def all(self):
        """Every id."""
        return frozenset(one.id for one in self.order())


def generation(number, state, revisions, parent=None):
    """A row of the ledger."""
    return Generation(number, f"docs__g{number:04d}", parent, revisions, SCHEMA, state)


def managed(*applied, schema=SCHEMA, generations=None, run=None, name="docs"):
    """A collection under management."""
    generations = generations or (generation(1, "live", tuple(one.revision for one in applied)),)
    live = next(row for row in generations if row.state == "live")
    return CollectionState(
        name=name,
        kind="alias",
        managed=True,
        applied=applied,
        declared=schema,
        live=LiveCollection(physical=live.physical, schema=schema, points=100),
        generations=generations,
        open_run=run,
        next_number=max(row.number for row in generations) + 1,
    )


def world(*states):
    """A World of these collections."""
    return World("ledger", SERVER, {state.name: state for state in states})


CREATED = Applied("1", "sum-1", "docs__g0001", "create", None)


#: (what is known of the nodes, setting, consent, how a plain name becomes an alias)
WAYS = (
    ({}, "auto", False, "shadow"),
    ({}, "gap", False, "refuse"),
    ({}, "gap", True, "gap"),
    ({"peers": 3}, "auto", False, "refuse"),
    ({"peers": 3}, "auto", True, "gap"),
    ({"peers": 0}, "auto", False, "refuse"),
    ({"nodes": 2}, "auto", False, "refuse"),
    ({"local": True, "peers": 3}, "auto", False, "gap"),
)


@pytest.mark.parametrize(("nodes", "setting", "allow_gap", "wanted"), WAYS)
def test_a_name_is_hidden_only_on_a_single_node(nodes, setting, allow_gap, wanted):
    """Several nodes resolve a passed name again, so that the hidden collection can't be distinguished from the new one."""
    seen = World("ledger", replace(SERVER, **nodes), {})
    assert way_of(seen, setting=setting, allow_gap=allow_gap) == wanted
    # What was found out by trying changes nothing where there are several nodes.
    assert way_of(replace(seen, hiding=True), setting=setting, allow_gap=allow_gap) == wanted


@pytest.mark.parametrize(("nodes", "says"), [({"peers": 3}, "3 nodes"), ({"nodes": 2}, "2 nodes"), ({"peers": 0}, None), ({}, None)])
def test_work_on_a_hidden_name_stops_on_several_nodes(nodes, says):
    """Whatever version hid it, and also where that is not known: the way out is named."""
    state = CollectionState("docs", "alias", True, hides=True)
    seen = World("ledger", replace(SERVER, **nodes), {"docs": state})
    if says is None:
        check_hidden_name(seen, "docs")
        return
    with pytest.raises(RepairNeededError, match=says) as stopped:
        check_hidden_name(seen, "docs")
    assert "qmigrate gc docs --now" in str(stopped.value.hint)


def test_a_new_collection_is_built_empty_and_named_at_once():
    """CreateCollection makes generation 1 and its alias; nothing is copied."""
    plan = plan_upgrade(world(), Files(("1", CREATE)), frozenset({"1"}))
    build, golive = plan.collections[0].job.steps
    assert (build.fill, build.source, build.target) == ("empty", None, "docs__g0001")
    assert (golive.source, golive.target, golive.aliases) == (None, "docs__g0001", ("docs",))


@pytest.mark.parametrize(
    ("operation", "kinds"),
    [
        (INDEX, [InPlace]),
        (op.UpdateCollection("docs", metadata={"owner": "search"}), [InPlace]),
        (op.UpdateCollection("docs", hnsw_config={"m": 32}), [Build, GoLive]),
        (op.UpdateCollection("docs", metadata={"a": 1}, strategy="clone"), [Build, GoLive]),
        (op.UpdateCollection("docs", hnsw_config={"m": 32}, strategy="in_place"), [InPlace]),
        (ADD, [Build, GoLive]),
        (op.RenameVector("docs", "a", "z", cutover="immediate"), [Build, GoLive]),
        (op.Reshard("docs", shard_number=4), [Build, GoLive]),
        (op.DropCollection("docs"), [GoLive]),
        (op.SetAlias("also", "docs"), [InPlace]),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, list) else "",
)
def test_each_operation_gets_the_cheapest_safe_strategy(operation, kinds):
    """Light changes are made in place, everything that writes values or rebuilds segments next to the live one."""
    files = Files(("1", CREATE), ("2", operation))
    plan = plan_upgrade(world(managed(CREATED)), files, files.all)
    assert [type(step) for step in plan.collections[0].job.steps] == kinds
    assert plan.collections[0].reasons[0].startswith("2  ")


HNSW = op.UpdateCollection("docs", hnsw_config={"m": 32})
LOCAL = Capabilities(True, (0, 0, 0), "local Qdrant", False, False, True, False)
OLD = replace(SERVER, version=(1, 16, 0), label="Qdrant 1.16.0", vector_names=False)
TWO = SCHEMA.with_(vectors={"a": VECTOR, "b": VECTOR}, config={"sharding_method": "auto"})
CUSTOM = TWO.with_(config={"sharding_method": "custom"})
DROP = op.DropVector("docs", "b", cutover="immediate")
BIG_INDEX = "the index kind is built over 100,000 points while writes wait"
FILLS = [
    ([HNSW], {}, "clone", "rebuilds the HNSW graph"),
    ([DROP], {}, "clone", "removed from every segment"),
    ([HNSW, INDEX], {}, "clone", "rebuilds the HNSW graph"),
    ([HNSW, op.AddVector("docs", "c", VECTOR, values=Empty())], {}, "clone", "rebuilds the HNSW graph"),
    ([HNSW, ADD_C], {}, "copy", "values change for every point"),
    ([op.UpdateCollection("docs", hnsw_config={"m": 32}, strategy="copy")], {}, "copy", "asked for"),
    ([op.UpdateCollection("docs", hnsw_config={"m": 32}, strategy="in_place")], {}, None, "asked for"),
    ([op.UpdateCollection("docs", metadata={"a": 1}, strategy="clone")], {}, "clone", "asked for"),
    ([op.UpdateCollection("docs", metadata={"a": 1}, strategy="clone")], {"capabilities": LOCAL}, "copy", "no snapshots"),
    ([HNSW], {"capabilities": LOCAL}, "copy", "graph of every segment: done next to the live collection; not cloned"),
    ([HNSW], {"capabilities": replace(SERVER, peers=3)}, "copy", "has 3 nodes"),
    ([HNSW], {"capabilities": replace(SERVER, peers=0)}, "copy", "unknown number of nodes"),
    ([HNSW], {"schema": CUSTOM}, "copy", "custom sharding"),
    ([DROP], {"capabilities": OLD}, "copy", "Qdrant 1.16.0 can't drop a vector of a live collection"),
    ([HNSW], {"capabilities": OLD}, "clone", "rebuilds the HNSW graph"),
    ([INDEX], {}, None, "light changes"),
    ([INDEX], {"points": 99_999}, None, "light changes"),
    ([INDEX], {"points": 100_000}, "clone", BIG_INDEX),
    ([INDEX], {"points": 100_000, "capabilities": replace(SERVER, peers=3)}, None, f"though {BIG_INDEX}"),
    ([op.CreatePayloadIndex("docs", "kind", "keyword", strategy="in_place")], {"points": 10**8}, None, "asked for"),
    ([op.UpdateCollection("docs", optimizers_config={"max_segment_size": 9})], {"points": 10**5}, "clone", "segments"),
    ([op.UpdateCollection("docs", optimizers_config={"flush_interval_sec": 9})], {"points": 10**9}, None, "light"),
    ([op.UpdateCollection("docs", params={"on_disk_payload": True})], {"points": 10**5}, "clone", "on_disk_payload"),
    ([op.UpdateCollection("docs", metadata={"a": 1})], {"points": 10**9}, None, "light changes"),
]


@pytest.mark.parametrize(("operations", "given", "fill", "words"), FILLS)
def test_the_server_clones_what_no_value_changes_in(operations, given, fill, words):
    """A clone where it is heavy and possible, a copy where it isn't, in place where that is light; with the reason."""
    files = Files(("1", CREATE), ("2", *operations))
    state = managed(CREATED, schema=given.get("schema", TWO))
    state = replace(state, live=replace(state.live, points=given.get("points", 100)))
    plan = plan_upgrade(World("ledger", given.get("capabilities", SERVER), {"docs": state}), files, files.all)
    item = plan.collections[0]
    step = item.job.steps[0]
    assert getattr(step, "fill", None) == fill
    assert words in item.reasons[0]
    assert step.reason in item.reasons[0]
    if fill is not None:
        assert item.points == state.live.points
        assert item.way_back.startswith("to 1 in milliseconds")


def test_a_vector_that_goes_and_comes_back_is_no_clone():
    """The difference of two schemas doesn't show it, and a clone would keep its old values."""
    transform = DROP.transform(TWO).then(
        op.AddVector("docs", "b", VECTOR, values=Empty()).transform(DROP.apply(TWO))
    )
    wish = Strategy("clone", "because")
    assert not_beyond_schemas(wish, TWO, transform).rank == "copy"
    assert not_beyond_schemas(wish, TWO, DROP.transform(TWO)) is wish


def test_fused_revisions_are_one_clone_unless_their_sum_is_none():
    """What every one of them could have alone they have together; a vector emptied by two of them is copied."""
    again = op.AddVector("docs", "b", VECTOR, values=Empty())
    for last, fill in ((INDEX, "clone"), (again, "copy")):
        files = Files(("1", CREATE), ("2", HNSW), ("3", DROP), ("4", last))
        steps = plan_upgrade(world(managed(CREATED, schema=TWO)), files, files.all).collections[0].job.steps
        assert [(type(step), getattr(step, "fill", None)) for step in steps] == [(Build, fill), (GoLive, None)]


@pytest.mark.parametrize(("operation", "refused"), [(HNSW, False), (ADD_C, True), (INDEX, False)])
def test_unknown_settings_refuse_a_copy_in_the_plan(operation, refused):
    """A copy would lose them, so it is refused with their names; a clone carries them and says so; in place is as ever."""
    state = managed(CREATED)
    state = replace(state, live=replace(state.live, unknown=("params.tiering",)))
    files = Files(("1", CREATE), ("2", operation))
    if refused:
        with pytest.raises(PlanError, match=r"a copy would lose them: params\.tiering \(a copy, because: values change") as found:
            plan_upgrade(world(state), files, files.all)
        assert "2_rev.py" in found.value.message
        assert found.value.hint.startswith("update qmigrate")
        return
    reasons = plan_upgrade(world(state), files, files.all).collections[0].reasons
    assert any("params.tiering" in line for line in reasons) == (operation is HNSW)


def test_a_job_follows_a_build_to_another_name():
    """A build that takes the next number takes every later step of its generation along, and no other."""
    files = Files(("1", CREATE), ("2", HNSW), ("3", INDEX), ("4", ADD_C))
    job = plan_upgrade(world(managed(CREATED)), files, files.all, fuse=False).collections[0].job
    old = job.steps[0]
    moved = job.with_build(old, replace(old, target="docs__g0009", number=9))
    names = [(getattr(step, "source", None), step.target) for step in moved.steps]
    assert names == [
        ("docs__g0001", "docs__g0009"),
        ("docs__g0001", "docs__g0009"),
        (None, "docs__g0009"),
        ("docs__g0009", "docs__g0003"),
        ("docs__g0009", "docs__g0003"),
    ]
    assert moved.closes == job.closes
    assert Job.from_json(moved.to_json()) == moved


def test_pending_revisions_are_closed_one_by_one_in_order():
    """Each revision is recorded by the last of its own steps, with the schema before and after it."""
    files = Files(("1", CREATE), ("2", INDEX), ("3", ADD))
    plan = plan_upgrade(world(managed(CREATED)), files, files.all, fuse=False)
    job = plan.collections[0].job
    assert [(closing.revision, closing.step) for closing in job.closes] == [("2", 0), ("3", 2)]
    assert job.closes[0].prior == SCHEMA
    assert set(job.closes[1].declared.vectors) == {"a", "b"}
    assert job.steps[1].source == "docs__g0001"
    assert Job.from_json(job.to_json()) == job


def test_generations_are_numbered_above_everything_known():
    """A second rebuild in one plan goes from the first one's generation to the next number."""
    files = Files(("1", CREATE), ("2", ADD), ("3", op.Reshard("docs", shard_number=2)))
    steps = plan_upgrade(world(managed(CREATED)), files, files.all, fuse=False).collections[0].job.steps
    assert [(step.source, step.target) for step in steps if isinstance(step, Build)] == [
        ("docs__g0001", "docs__g0002"),
        ("docs__g0002", "docs__g0003"),
    ]


def test_a_glob_changes_managed_collections_and_leaves_others_alone():
    """A glob's set is fixed by the plan; what isn't under management is named and left."""
    other = CollectionState("docs_plain", "plain", managed=False)
    files = Files(("1", CREATE), ("2", op.CreatePayloadIndex("docs*", "kind", "keyword")))
    plan = plan_upgrade(world(managed(CREATED), other), files, files.all)
    assert [item.job.collection for item in plan.collections] == ["docs"]
    assert any("docs_plain" in note for note in plan.notes)


def test_an_empty_glob_is_a_warning():
    """Fresh environments have no match yet."""
    files = Files(("1", op.CreatePayloadIndex("memory_*", "kind", "keyword")))
    plan = plan_upgrade(world(), files, files.all)
    assert not plan.collections
    assert any("memory_*" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("state", "operation", "error", "words"),
    [
        (CollectionState("docs", "plain", managed=False), CREATE, PlanError, "adopt"),
        (CollectionState("docs", "plain", managed=False), INDEX, RefusedError, "adopt"),
        (CollectionState("docs", "absent", managed=False), INDEX, PlanError, "no earlier revision creates"),
    ],
)
def test_what_is_not_under_management_is_refused_with_the_next_command(state, operation, error, words):
    """A plain collection is never changed and never created over."""
    files = Files(("1", operation))
    with pytest.raises(error) as refused:
        plan_upgrade(world(state), files, files.all)
    assert words in f"{refused.value.message} {refused.value.hint}"
    assert "1_rev.py" in refused.value.message


@pytest.mark.parametrize(
    ("operations", "words"),
    [
        ([op.AddVector("docs", "a", VECTOR, values=Embed("w", text="t"))], "a"),
        ([op.DropVector("docs", "nope", cutover="immediate")], "nope"),
        ([op.AddVector("docs", "b", {"size": -3, "distance": "Cosine"}, values=Embed("w", text="t"))], "size"),
        ([op.RenameVector("docs", "a", "z")], "cutover"),
        ([INDEX, op.DropPayloadIndex("docs", "kind")], "contradict"),
    ],
    ids=["exists", "unknown", "size", "cutover", "contradiction"],
)
def test_misuse_is_an_error_that_names_revision_and_operation(operations, words):
    """What can't be done is found while planning, before anything is written."""
    files = Files(("1", CREATE), ("2", *operations))
    with pytest.raises(PlanError) as refused:
        plan_upgrade(world(managed(CREATED)), files, files.all)
    assert "2_rev.py" in refused.value.message
    assert words in f"{refused.value.message} {refused.value.hint}"
    assert refused.value.exit_code == 2


def test_pending_names_only_what_the_collection_has_not_got():
    """Applied revisions and those of other collections are not pending."""
    files = Files(("1", CREATE), ("2", INDEX), ("3", op.CreatePayloadIndex("other", "kind", "keyword")))
    assert pending(world(managed(CREATED)), files, files.all, "docs") == ("2",)


def rebuilt(strategy="copy"):
    """Docs at 2, rebuilt from generation 1, which is kept."""
    return managed(
        CREATED,
        Applied("2", "sum-2", "docs__g0002", strategy, SCHEMA),
        generations=(generation(1, "retired", ("1",)), generation(2, "live", ("1", "2"), parent=1)),
    )


@pytest.mark.parametrize("strategy", ["copy", "clone"])
def test_a_rebuild_goes_back_to_its_parent(strategy):
    """One alias request; the history has which revision was undone."""
    plan = plan_rollback(world(rebuilt(strategy)), Files(("1", CREATE), ("2", ADD)), frozenset({"1"}))
    (step,) = plan.collections[0].job.steps
    assert (step.source, step.target, step.back, step.writes) == ("docs__g0002", "docs__g0001", True, "refuse")
    assert step.ops == (OpRef("2", 0),)
    (closing,) = plan.collections[0].job.closes
    assert (closing.revision, closing.direction, closing.declared) == ("2", "rollback", SCHEMA)


def test_in_place_work_is_reversed_newest_first():
    """The derived inverse undoes the recorded changes in the opposite order."""
    changes = (Change("index.add", "x", after={"type": "keyword"}), Change("index.add", "y", after={"type": "integer"}))
    state = managed(
        CREATED, Applied("2", "sum-2", "docs__g0001", "in_place", SCHEMA, tuple(one.to_json() for one in changes))
    )
    plan = plan_rollback(world(state), Files(("1", CREATE), ("2", INDEX)), frozenset({"1"}))
    (step,) = plan.collections[0].job.steps
    assert [(change.kind, change.name) for change in step.changes] == [("index.drop", "y"), ("index.drop", "x")]


def test_in_place_work_of_a_generation_that_is_left_is_not_undone():
    """Flipping to the parent takes later in-place changes back with it."""
    change = Change("index.add", "kind", after={"type": "keyword"}).to_json()
    state = rebuilt()
    entries = (*state.applied, Applied("3", "sum-3", "docs__g0002", "in_place", SCHEMA, (change,)))
    state = managed(*entries, generations=state.generations)
    files = Files(("1", CREATE), ("2", ADD), ("3", INDEX))
    plan = plan_rollback(world(state), files, frozenset({"1"}))
    assert [type(step) for step in plan.collections[0].job.steps] == [GoLive]
    assert [closing.revision for closing in plan.collections[0].job.closes] == ["3", "2"]


def test_a_written_downgrade_wins_over_the_derived_inverse():
    """downgrade() sets what should be there instead."""
    change = Change("config.set", "optimizers_config", after={"indexing_threshold": 1}).to_json()
    state = managed(CREATED, Applied("2", "sum-2", "docs__g0001", "in_place", SCHEMA, (change,)))
    files = Files(
        ("1", CREATE),
        ("2", op.UpdateCollection("docs", optimizers_config={"indexing_threshold": 1})),
        downgrades={"2": (op.UpdateCollection("docs", optimizers_config={"indexing_threshold": 10000}),)},
    )
    (step,) = plan_rollback(world(state), files, frozenset({"1"})).collections[0].job.steps
    assert step.changes[0].after == {"indexing_threshold": 10000}


@pytest.mark.parametrize(
    ("applied", "generations"),
    [
        (Applied("2", "sum-2", "docs__g0001", "in_place", SCHEMA, (Change("vector.drop", "b", before=VECTOR).to_json(),)), None),
        (
            Applied("2", "sum-2", "docs__g0002", "copy", SCHEMA),
            (generation(1, "gone", ("1",)), generation(2, "live", ("1", "2"), parent=1)),
        ),
        (
            Applied("2", "sum-2", "docs__g0002", "clone", SCHEMA),
            (generation(1, "gone", ("1",)), generation(2, "live", ("1", "2"), parent=1)),
        ),
        (
            Applied("2", "sum-2", "docs__g0002", "copy", SCHEMA),
            (generation(1, "deleting", ("1",)), generation(2, "live", ("1", "2"), parent=1)),
        ),
    ],
    ids=["dropped in place", "parent gone", "parent of a clone gone", "deletion of the parent begun"],
)
def test_what_cannot_be_taken_back_is_refused_before_it_starts(applied, generations):
    """Without a kept parent, an inverse or a downgrade() the reason is named."""
    state = managed(CREATED, applied, generations=generations)
    with pytest.raises(RefusedError, match="revision 2 can't be undone"):
        plan_rollback(world(state), Files(("1", CREATE), ("2", ADD)), frozenset({"1"}))


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        (op.TransformPoints("docs", dict), "2  see another payload once it goes live"),
        (op.SetPayload("docs", {"state": "new"}), "2  see each point as it is changed"),
        (ADD, None),
    ],
    ids=["function", "fix", "vector"],
)
def test_a_plan_says_what_readers_see(operation, words):
    """No consent is asked for; but it says that nothing changes only where that is so."""
    files = Files(("1", CREATE), ("2", operation))
    (item,) = plan_upgrade(world(managed(CREATED)), files, files.all).collections
    assert item.incompatible == ()
    assert [line.startswith(words) for line in item.shows] == ([] if words is None else [True])


def test_the_way_back_that_has_to_be_written_names_the_command_after_it():
    """A file that was applied and has changed stops every upgrade; and inverse= stands for no downgrade()."""
    rebuilt = Applied("2", "sum-2", "docs__g0002", "copy", SCHEMA)
    state = managed(CREATED, rebuilt, generations=(generation(1, "gone", ("1",)), generation(2, "live", ("1", "2"), parent=1)))
    accept = "write a downgrade() in 2, and accept the changed file: qmigrate repair --accept 2 --reason WHY --changed-meaning"
    for inverse in (None, dict):
        with pytest.raises(RefusedError, match="not kept any more, and it has no downgrade") as refused:
            plan_rollback(world(state), Files(("1", CREATE), ("2", op.TransformPoints("docs", dict, inverse=inverse))), frozenset({"1"}))
        assert accept in refused.value.hint.splitlines()
        assert ("inverse= alone does not lead back" in refused.value.message) == (inverse is not None)


def open_run(job, *records):
    """An interrupted run."""
    return OpenRun(7, "upgrade", "running", job, {"2": "sum-2"}, "me", "here", datetime.now(UTC), None, records)


def test_abort_removes_the_shadow_and_supersedes_the_run():
    """What a build has begun goes; what is live stays."""
    job = Job(
        "docs",
        "basis",
        (
            Build((), "docs__g0001", "docs__g0002", 2, SCHEMA, "copy", ""),
            GoLive((), "docs__g0001", "docs__g0002", ("docs",)),
        ),
    )
    run = open_run(job, Record(0, "fill", "running"))
    (item,) = plan_abort(world(managed(CREATED, run=run))).collections
    assert item.job.steps == (Retire("docs__g0002", "abort of run 7"),)
    assert item.job.supersedes == 7


def test_abort_takes_what_a_clone_gave_up_and_no_old_generation():
    """What the run would have retired at the end is removed when it was only begun; what was live once stays."""
    job = Job(
        "docs",
        "basis",
        (
            Build((), "docs__g0001", "docs__g0003", 3, SCHEMA, "clone", ""),
            GoLive((), "docs__g0001", "docs__g0003", ("docs",)),
            Retire("docs__g0002", "given up"),
            Retire("docs__g0000", "past its holdover"),
        ),
    )
    rows = (
        generation(0, "retired", ("1",)),
        generation(1, "live", ("1",)),
        generation(2, "building", ()),
        generation(3, "building", ()),
    )
    run = open_run(job, Record(0, "shadow", "running"))
    (item,) = plan_abort(world(managed(CREATED, run=run, generations=rows))).collections
    assert [step.target for step in item.job.steps] == ["docs__g0003", "docs__g0002"]


def test_abort_refuses_when_the_name_has_moved():
    """After the swap a run can only be finished; then rollback goes back."""
    job = Job("docs", "basis", (GoLive((), "docs__g0000", "docs__g0001", ("docs",)),))
    with pytest.raises(RefusedError, match="only be finished"):
        plan_abort(world(managed(CREATED, run=open_run(job, Record(0, "swap", "running")))))


def test_abort_refuses_when_a_deletion_has_begun():
    """The request may be on its way: what was live once can only be deleted for good. Before that nothing was begun."""
    run = open_run(Job("docs", "basis", (Retire("docs__g0001", "its holdover has ended"),)), Record(0, "check", "done"))
    rows = (generation(1, "deleting", ("1",)), generation(2, "live", ("1", "2"), parent=1))
    with pytest.raises(RefusedError, match="has begun to delete docs__g0001"):
        plan_abort(world(managed(CREATED, run=run, generations=rows)))
    rows = (generation(1, "retired", ("1",)), rows[1])
    (item,) = plan_abort(world(managed(CREATED, run=run, generations=rows))).collections
    assert (item.job.steps, item.lines) == ((), ("nothing was started",))


def test_abort_finishes_the_deletion_of_what_an_abort_was_removing():
    """A shadow never served: its begun deletion continues, and the run is superseded by it."""
    build = Build((), "docs__g0001", "docs__g0002", 2, SCHEMA, "copy", "")
    run = open_run(Job("docs", "basis", (build,)), Record(0, "fill", "running"))
    shadow = replace(generation(2, "deleting", ()), deletion={"state": "building", "epoch": 3})
    state = managed(CREATED, run=run, generations=(generation(1, "live", ("1",)), shadow))
    (item,) = plan_abort(world(state)).collections
    assert item.job.steps == (Retire("docs__g0002", "abort of run 7"),)
    with pytest.raises(RepairNeededError, match="which an abort has begun to delete"):
        check_not_given_up(state, run)


@pytest.mark.parametrize(
    ("gap", "source", "refused"),
    [
        ({"generation": 0}, "live", True),
        ({"generation": 0, "recorded": True}, "deleting", True),
        ({"generation": 0, "recorded": True}, "gone", True),
        ({"generation": 0, "recorded": True}, "live", False),
    ],
    ids=["by an older version", "begun", "done", "refused by the server"],
)
def test_abort_in_the_gap(gap, source, refused):
    """Once the plain collection may be deleted, the run can only be finished; an answer that it is not undoes that."""
    job = Job("docs", "basis", (GoLive((), "docs__g0001", "docs__g0002", ("docs",), place="gap"),))
    run = open_run(job, Record(0, "swap", "running", {"gap": gap}))
    rows = (generation(1, source, ("1",)), generation(2, "building", ()), generation(9, "live", ()))
    state = managed(CREATED, run=run, generations=rows)
    if refused:
        with pytest.raises(RefusedError, match="can only be finished"):
            plan_abort(world(state))
    else:
        assert plan_abort(world(state)).collections[0].job.steps == ()


def test_a_changed_applied_file_stops_everything():
    """Exit 4, with the way to accept it."""
    check_checksums({"1": ("x", "1_rev.py")}, {"1": "x"})
    with pytest.raises(DriftError) as stopped:
        check_checksums({"1": ("y", "1_rev.py")}, {"1": "x"})
    assert stopped.value.exit_code == 4
    assert "repair --accept 1" in stopped.value.hint
    with pytest.raises(DriftError):
        check_checksums({}, {"1": "x"})


def test_a_run_is_never_resumed_with_other_code():
    """A file that changed under an interrupted run stops the resume."""
    job = Job("docs", "b", (Build((OpRef("2", 0),), None, "docs__g0001", 1, SCHEMA, "empty", ""),))
    with pytest.raises(DriftError, match="2_rev.py"):
        check_open_run({"2": ("other", "2_rev.py")}, open_run(job))


GLOB = op.CreateCollection("doc*", {"a": VECTOR})


def test_a_glob_creates_only_what_is_asked_for():
    """By itself it is a note; for a name that is ensured, or that a rollback has removed, it creates."""
    files = Files(("1", GLOB), ("2", INDEX))
    plan = plan_upgrade(world(), files, files.all)
    assert not plan.collections
    assert "qmigrate.ensure creates them" in plan.notes[0]
    absent = CollectionState(name="docs", kind="absent", managed=False)
    assert not plan_upgrade(world(absent), files, files.all, only=["docs"]).collections
    made = plan_upgrade(world(absent), files, files.all, only=["docs"], create=frozenset({"docs"}))
    assert [closing.revision for closing in made.collections[0].job.closes] == ["1", "2"]
    again = CollectionState(name="docs", kind="absent", managed=True, generations=(generation(1, "retired", ()),))
    assert plan_upgrade(world(again), files, files.all).collections


def test_a_glob_leaves_what_exists_alone():
    """A collection that an exact revision created is not created again, and nothing of it is pending."""
    files = Files(("1", CREATE), ("2", GLOB))
    state = managed(CREATED)
    assert not plan_upgrade(world(state), files, files.all).collections
    assert pending(world(state), files, files.all, "docs") == ()
    foreign = CollectionState(name="docs", kind="plain", managed=False, live=LiveCollection("docs", SCHEMA))
    plan = plan_upgrade(world(foreign), Files(("1", GLOB)), frozenset({"1"}))
    assert not plan.collections
    assert "qmigrate adopt docs" in plan.notes[0]
    assert pending(world(foreign), Files(("1", GLOB)), frozenset({"1"}), "docs") == ()


def test_revisions_older_than_the_collection_are_not_about_it():
    """What a glob did before the collection was adopted is not pending for it."""
    files = Files(("1", op.CreatePayloadIndex("d*", "kind", "keyword")), ("2", CREATE), ("3", INDEX))
    adopted = Applied("2", "sum-2", "docs", "adopt", None)
    state = managed(adopted)
    assert pending(world(state), files, files.all, "docs") == ("3",)
    plan = plan_upgrade(world(state), files, files.all)
    assert [closing.revision for closing in plan.collections[0].job.closes] == ["3"]
    with pytest.raises(RefusedError, match="a rollback can't go below it"):
        plan_rollback(world(state), files, frozenset())


SIXTEEN = {"size": 16, "distance": "Cosine"}


@pytest.mark.parametrize(
    ("operation", "live"),
    [
        (op.AddVector("docs", "b", SIXTEEN, values=Empty()), SCHEMA.with_(vectors={"a": VECTOR, "b": {**SIXTEEN, "on_disk": True}})),
        (op.DropVector("docs", "a", cutover="immediate"), SCHEMA.with_(vectors={})),
        (op.CreatePayloadIndex("docs", "kind", "keyword"), SCHEMA.with_(indexes={"kind": {"type": "keyword", "on_disk": True}})),
        (op.UpdateCollection("docs", hnsw_config={"m": 24}), SCHEMA.with_(config={"hnsw_config": {"m": 24, "ef_construct": 9}})),
        (op.AlterVector("docs", "a", {**VECTOR, "size": 9}, values=Empty(), cutover="immediate"), SCHEMA.with_(vectors={"a": {**VECTOR, "size": 9, "on_disk": True}})),
        (op.SetAlias("read", "docs"), SCHEMA.with_(aliases=("read",))),
        (op.Reshard("docs", shard_number=3), SCHEMA.with_(config={"shard_number": 3})),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_so_already_is_only_recorded(operation, live):
    """An operation that declares what a user has made by hand touches nothing, however heavy it would be."""
    plan = plan_upgrade(
        world(replace(managed(CREATED), live=LiveCollection("docs__g0001", live))), Files(("1", CREATE), ("2", operation)), frozenset({"1", "2"})
    )
    (item,) = plan.collections
    (step,) = item.job.steps
    assert (step.kind, step.changes) == ("inplace", ())
    assert item.job.closes[0].declared == operation.apply(SCHEMA)
    assert "already as declared" in item.reasons[0]


@pytest.mark.parametrize(
    ("operation", "live"),
    [
        (ADD, SCHEMA.with_(vectors={"a": VECTOR, "b": SIXTEEN})),
        (op.AddVector("docs", "b", VECTOR, values=CopyOf("a")), SCHEMA.with_(vectors={"a": VECTOR, "b": VECTOR})),
        (op.RenameVector("docs", "a", "z", cutover="immediate"), SCHEMA.with_(vectors={"z": VECTOR})),
        (op.AddVector("docs", "b", SIXTEEN, values=Empty()), SCHEMA.with_(vectors={"a": VECTOR, "b": VECTOR})),
    ],
    ids=["embedded", "copied", "renamed", "another size"],
)
def test_values_are_never_taken_for_made(operation, live):
    """A vector that is to be filled, copied or renamed is not an accepted drift: its values prove nothing."""
    with pytest.raises(PlanError, match="exists already|there is no vector"):
        plan_upgrade(
            world(replace(managed(CREATED), live=LiveCollection("docs__g0001", live))), Files(("1", CREATE), ("2", operation)), frozenset({"1", "2"})
        )


def test_a_copy_that_is_asked_for_is_made():
    """``strategy="copy"`` copies also what is so already."""
    live = SCHEMA.with_(indexes={"kind": {"type": "keyword"}})
    plan = plan_upgrade(
        world(replace(managed(CREATED), live=LiveCollection("docs__g0001", live))),
        Files(("1", CREATE), ("2", op.CreatePayloadIndex("docs", "kind", "keyword", strategy="copy"))),
        frozenset({"1", "2"}),
    )
    assert [step.kind for step in plan.collections[0].job.steps] == ["build", "golive"]


def test_abort_behind_a_gap_removes_what_was_built_before_it():
    """The plain collection became an alias, then the run failed: only what was to go live next is removed."""
    identical = Build((), "docs", "docs__g0001", 1, SCHEMA, "copy", "room")
    build = Build((), "docs__g0001", "docs__g0002", 2, SCHEMA, "copy", "values change")
    steps = (
        identical,
        build,
        GoLive((), "docs", "docs__g0001", ("docs",), place="gap"),
        GoLive((), "docs__g0001", "docs__g0002", ("docs",)),
    )
    begun = [Record(number, "preflight", "done") for number in range(2)]
    (item,) = plan_abort(world(managed(CREATED, run=open_run(Job("docs", "", steps), *begun)))).collections
    assert [step.target for step in item.job.steps] == ["docs__g0002", "docs__g0001"], "the copy of a copy goes first"
    closed = [*begun, Record(2, "swap", "done"), Record(2, "close", "done"), Record(3, "preflight", "done")]
    (item,) = plan_abort(world(managed(CREATED, run=open_run(Job("docs", "", steps), *closed)))).collections
    assert [step.target for step in item.job.steps] == ["docs__g0002"], "what serves now stays"
