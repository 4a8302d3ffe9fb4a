"""Built and proven, then held: days may pass, then the cut-over converges and verifies again, or an abort removes it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.harness import CREATE, Deployment, by_hand, make_point, write
from tests.scenarios.cli import call
from tests.scenarios.plain_names import plain

from qmigrate.commands import cutover as command
from qmigrate.commands import rollback as back
from qmigrate.commands import status, upgrade
from qmigrate.engine import phases as phase_table
from qmigrate.engine.golive import golive
from qmigrate.engine.work import Phase
from qmigrate.errors import DriftError, QmigrateError, RefusedError, RepairNeededError, UsageError
from qmigrate.ledger import Ledger, tables
from qmigrate.model.schema import Change

REEMBED = """
def upgrade():
    return [op.AlterVector(
        "{name}", "a", VectorParams(size=16, distance=Distance.COSINE), values=Embed("words", text="text"), cutover="hold"
    )]
"""
RENAME = """
def upgrade():
    return [op.RenameVector("{name}", "a", "z", cutover="hold")]
"""
LATER = """
def upgrade():
    return [op.CreatePayloadIndex("{name}", "n", PayloadSchemaType.INTEGER)]
"""
DOWNGRADE = """

def downgrade():
    return [op.AlterVector("{name}", "a", VectorParams(size=8, distance=Distance.COSINE), values=Compute(short), cutover="hold")]


def short(point):
    return point.vectors["a"][:8]
"""
TWO = """
def upgrade():
    return [op.CreateCollection("{name}", {{
        "a": VectorParams(size=8, distance=Distance.COSINE), "b": VectorParams(size=2, distance=Distance.DOT)
    }})]
"""
DROP_B = """
def upgrade():
    return [op.DropVector("{name}", "b", cutover="hold")]
"""
POINTS = 60


@pytest.fixture
def held(deployment) -> Deployment:
    """A collection at 0001 whose revision 0002 is built, proven and held."""
    start(deployment)
    result = upgrade.upgrade(deployment.settings())
    assert result.exit_code == 11
    return deployment


def start(made: Deployment, body: str = REEMBED) -> None:
    """At 0001 with points, 0002 pending."""
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(POINTS)
    made.revise("0002", body)


def seen(made: Deployment) -> dict:
    """Everything that Qdrant shows of a deployment: collections with schema, seal, points and snapshots, and aliases."""
    store = made.store()
    try:
        found: dict = {"aliases": {one: to for one, to in store.aliases().items() if made.name in one}}
        for name in store.physical_names():
            if made.name in name:
                live = store.describe(name)
                shots = [one.name for one in store.list_snapshots(name)] if store.capabilities.snapshots else []
                points = {point.SerializeToString(deterministic=True) for page in store.scan(name) for point in page}
                found[name] = (live.schema.to_json(), live.seal, points, shots)
        return found
    finally:
        store.close()


def put(made: Deployment, *points, delete=()) -> None:
    """Write through the name."""
    store = made.store()
    write(store, made.name, points)
    if delete:
        store.delete(made.name, list(delete))
    store.close()


def with_store(made: Deployment, work) -> None:
    """Do something by hand."""
    store = made.store()
    try:
        work(store)
    finally:
        store.close()


def test_a_held_run_is_no_failure_and_nothing_has_moved(held):
    """status, plan and upgrade say what waits and for which command; readers see the old generation."""
    row = held.row()
    assert (row.state, row.revision, row.pending) == ("held", "0001", ("0002",))
    assert row.next_command == f"qmigrate cutover {held.name}"
    assert "0002 built and proven as g0002" in row.detail
    assert all(set(vectors) == {"a"} and len(vectors["a"]) == 8 for _, vectors in held.contents().values())
    planned = upgrade.plan(held.settings())
    assert planned.held == (held.name,)
    assert not planned.collections
    again = upgrade.upgrade(held.settings())
    assert (again.outcomes, again.resumed, again.exit_code) == ((), (), 11)
    assert [(one.collection, one.physical, one.revisions) for one in again.held] == [
        (held.name, f"{held.name}__g0002", ("0002",))
    ]
    store = held.store()
    assert not [alias for alias in store.aliases() if alias.startswith(f"{held.name}__")]
    store.close()
    assert [row.revision for row in status.history(held.settings()).rows] == ["0001"]


def test_the_cut_over_brings_everything_along_that_was_written_meanwhile(held):
    """Added, changed and deleted points are converged and proven again before the name moves."""
    changed = [make_point(number, text=f"changed {number}", uuid_id=number % 3 == 2) for number in range(30)]
    put(held, *changed, make_point(900), make_point(902, uuid_id=True), delete=[POINTS - 2])
    before = {key: payload for key, (payload, _) in held.contents().items()}
    result = command.cutover(held.settings(), [held.name])
    assert (result.chosen, result.exit_code, result.held) == ((held.name,), 0, ())
    after = held.contents()
    assert {key: payload for key, (payload, _) in after.items()} == before
    assert all(len(vectors["a"]) == 16 for _, vectors in after.values())
    (outcome,) = result.outcomes
    proof = outcome.report["1.converge"]["report"]
    assert (proof["points"], proof["proven"]) == (len(before), len(before))
    row = held.row()
    assert (row.state, row.revision, row.generation) == ("ready", "0002", "g0002")
    assert upgrade.upgrade(held.settings()).exit_code == 0
    repeated = command.cutover(held.settings(), [held.name])
    assert (repeated.chosen, repeated.exit_code) == ((), 0)
    assert "is not held" in repeated.notes[0]
    back.rollback(held.settings(), "0001")
    assert {key: payload for key, (payload, _) in held.contents().items()} == before


def test_the_history_counts_the_work_and_not_the_wait(held):
    """The run began days before: its phases are what it took, and its line says that it was held."""
    ledger = Ledger.open(held.ledger_url)
    (run, *_) = ledger.runs(held.name)
    earlier = tables.runs.update().where(tables.runs.c.id == run.id).values(started_at=run.started_at - timedelta(days=2))
    with ledger.database.writing() as connection:
        connection.execute(earlier)
    ledger.close()
    command.cutover(held.settings(), [held.name])
    newest, first = status.history(held.settings(), held.name).rows
    assert (newest.held, first.held) == (True, False)
    assert 0 < newest.seconds < 3600
    assert ", held" in call(held.root, "history").text


def test_abort_removes_what_is_held_without_trace(deployment):
    """Collections, schemas, seals, points, snapshots and aliases are byte for byte what they were."""
    start(deployment)
    before = seen(deployment)
    assert upgrade.upgrade(deployment.settings()).exit_code == 11
    assert seen(deployment) != before
    back.abort(deployment.settings(), deployment.name)
    assert seen(deployment) == before
    assert deployment.row().state == "pending"
    ledger = Ledger.open(deployment.ledger_url)
    assert not ledger.open_runs()
    assert not ledger.has_base(f"{deployment.name}__g0002")
    ledger.close()
    assert upgrade.upgrade(deployment.settings()).exit_code == 11
    assert command.cutover(deployment.settings(), every=True).exit_code == 0
    assert deployment.row().revision == "0002"


def test_later_revisions_wait_behind_the_held_one(held):
    """They are named, not planned, and follow after the cut-over."""
    held.revise("0003", LATER)
    planned = upgrade.plan(held.settings())
    assert not planned.collections
    assert any("0003 can only come after it" in note for note in planned.notes)
    assert upgrade.upgrade(held.settings()).exit_code == 11
    command.cutover(held.settings(), [f"{held.name[:6]}*"])
    assert held.row().pending == ("0003",)
    assert upgrade.upgrade(held.settings()).exit_code == 0
    assert held.row().revision == "0003"


def test_one_held_collection_stops_no_other(deployment):
    """A glob goes through every collection; those that hold are held, the others are done."""
    other = f"{deployment.name}_b"
    deployment.revise("0001", CREATE + f'    # and\n\n\ncreate = upgrade\n\n\ndef upgrade():\n    return [*create(), op.CreateCollection("{other}", {{{{"z": VectorParams(size=8, distance=Distance.COSINE)}}}})]\n')
    upgrade.upgrade(deployment.settings())
    deployment.load(10)
    deployment.revise("0002", REEMBED)
    deployment.revise("0003", f'def upgrade():\n    return [op.CreatePayloadIndex("{deployment.name}_*", "n", PayloadSchemaType.INTEGER)]\n')
    result = upgrade.upgrade(deployment.settings())
    assert result.exit_code == 11
    # Other tests may have left something on a server that they share.
    rows = [row for row in status.status(deployment.settings()).collections if row.name.startswith(deployment.name)]
    states = {row.name: (row.state, row.revision) for row in rows}
    assert states == {deployment.name: ("held", "0001"), other: ("ready", "0003")}
    assert upgrade.upgrade(deployment.settings(), only=[other]).exit_code == 0


def test_a_rollback_under_a_held_generation_is_refused(held):
    """First it is cut over or aborted; nothing was changed."""
    before = seen(held)
    with pytest.raises(RefusedError, match="is built and held") as refused:
        back.rollback(held.settings(), "base", writes="discard")
    assert "qmigrate abort" in refused.value.hint
    assert seen(held) == before
    assert held.row().state == "held"


def flat_embedder(made: Deployment) -> None:
    """Another model under the same name."""
    made.extra["embedders"] = {"words": {"type": "callable", "function": "tests.harness:flat", "size": 16}}
    made.__post_init__()


def new_vector(made: Deployment) -> None:
    """A payload index where they are kept, a further collection setting elsewhere."""
    if "path" in made.qdrant:
        pytest.skip("local mode keeps no index and no setting")
    with_store(made, lambda store: store.apply(made.name, Change("index.add", "kind", after={"type": "keyword"})))


def other_settings(made: Deployment) -> None:
    """A setting of the source is changed by hand."""
    with_store(
        made, lambda store: store.apply(f"{made.name}__g0001", Change("config.set", "metadata", after={"owner": "me"}))
    )


def drop_source(made: Deployment) -> None:
    """The serving generation is deleted by hand, and its alias with it."""
    with_store(made, lambda store: store.drop_collection(by_hand(f"{made.name}__g0001")))


def drop_target(made: Deployment) -> None:
    """What was built is deleted by hand."""
    with_store(made, lambda store: store.drop_collection(by_hand(f"{made.name}__g0002")))


def move_name(made: Deployment) -> None:
    """Another client points the name to what was built."""
    with_store(made, lambda store: store.create_alias(made.name, f"{made.name}__g0002"))


def change_file(made: Deployment) -> None:
    """The revision is edited while it waits."""
    file = made.root / "qdrant_migrations" / "versions" / "0002_rev.py"
    file.write_text(file.read_text() + "\n# edited\n")


@pytest.mark.parametrize(
    ("happens", "error", "words"),
    [
        (flat_embedder, DriftError, "two models"),
        (new_vector, DriftError, "add payload index kind"),
        (other_settings, DriftError, "metadata"),
        (drop_source, RepairNeededError, "was deleted"),
        (drop_target, RepairNeededError, "was deleted"),
        (move_name, RepairNeededError, "another client moved the name"),
        (change_file, DriftError, "0002_rev.py was changed"),
    ],
)
def test_a_cut_over_of_what_was_not_proven_is_refused_and_stays_held(held, happens, error, words):
    """Days later something else is there: nothing moves, the reason is shown, and it is still held."""
    happens(held)
    before = seen(held)
    with pytest.raises(error, match=words) as refused:
        command.cutover(held.settings(), [held.name])
    assert refused.value.exit_code in (4, 7)
    assert seen(held) == before
    row = held.row()
    assert row.state == "held"
    if happens is not change_file:
        assert words in row.detail
    assert upgrade.upgrade(held.settings()).exit_code == 11


def test_the_only_copy_left_is_never_aborted(held):
    """When the source was deleted by hand, what was built holds all the points there are."""
    drop_source(held)
    before = seen(held)
    with pytest.raises(RefusedError, match="only copy"):
        back.abort(held.settings(), held.name)
    assert seen(held) == before


@pytest.mark.parametrize("verb", ["cutover", "upgrade"])
def test_a_cut_over_that_was_begun_is_finished_by_either_verb(held, monkeypatch, verb):
    """Interrupted behind the hold it is a run like any other; before it, it stays held."""

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(golive, "swap", stop)
    with pytest.raises(KeyboardInterrupt):
        command.cutover(held.settings(), [held.name])
    monkeypatch.undo()
    assert held.row().state == "interrupted"
    put(held, make_point(901))
    if verb == "cutover":
        assert command.cutover(held.settings(), [held.name]).exit_code == 0
    else:
        assert upgrade.upgrade(held.settings()).exit_code == 0
    assert (held.row().state, held.row().revision) == ("ready", "0002")
    assert len(held.contents()[902][1]["a"]) == 16


def test_an_interruption_before_the_cut_over_began_leaves_it_held(held, monkeypatch):
    """The consent was for that moment only: upgrade doesn't resume it, cutover does."""

    def stop(*args):
        raise KeyboardInterrupt

    phases = tuple(Phase(one.facts, stop, waits=True) if one.waits else one for one in golive.PHASES)
    monkeypatch.setitem(phase_table._CHECKLISTS, "golive", phases)
    with pytest.raises(KeyboardInterrupt):
        command.cutover(held.settings(), [held.name])
    monkeypatch.undo()
    assert held.row().state == "interrupted"
    assert upgrade.upgrade(held.settings()).exit_code == 11
    assert held.row().state == "held"
    assert command.cutover(held.settings(), [held.name]).exit_code == 0
    assert held.row().revision == "0002"


def test_what_cannot_be_cut_over_is_said(held):
    """No choice, an unknown name, one that is not built: each with the way on."""
    for names, every in (((), False), ((held.name,), True)):
        with pytest.raises(UsageError, match="name the collections") as refused:
            command.cutover(held.settings(), names, every=every)
        assert held.name in refused.value.hint
    with pytest.raises(UsageError, match="no collection 'nope'"):
        command.cutover(held.settings(), ["nope"])
    with pytest.raises(UsageError, match=r"no collection matches 'nope\*'"):
        command.cutover(held.settings(), ["nope*"])
    dry = command.cutover(held.settings(), every=True, dry_run=True)
    assert (dry.chosen, dry.exit_code, len(dry.held), dry.outcomes) == ((held.name,), 0, 1, ())
    assert held.row().state == "held"


def test_what_is_not_built_yet_is_not_cut_over(deployment, monkeypatch):
    """A run that stopped before its proof is resumed by upgrade, and held then."""
    start(deployment, RENAME)

    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("qmigrate.engine.rebuild.copy_ranges", fail)
    with pytest.raises(KeyboardInterrupt):
        upgrade.upgrade(deployment.settings())
    monkeypatch.undo()
    with pytest.raises(RefusedError, match="not built and proven yet"):
        command.cutover(deployment.settings(), [deployment.name])
    assert upgrade.upgrade(deployment.settings()).exit_code == 11
    assert command.cutover(deployment.settings(), [deployment.name]).exit_code == 0
    assert set(next(iter(deployment.contents().values()))[1]) == {"z"}


def test_the_command_line_says_what_waits(deployment):
    """Exit codes, texts and JSON of plan, upgrade, status and cutover."""
    start(deployment)
    root = deployment.root
    planned = call(root, "plan")
    assert "readers" in planned.out
    assert "size of vector a goes from 8 to 16" in planned.out
    assert f"built and proven, then it waits for: qmigrate cutover {deployment.name}" in planned.out
    (item,) = call(root, "plan", "--json").json["data"]["collections"]
    assert item["incompatible"] == ["0002  size of vector a goes from 8 to 16"]
    assert item["holds"] is True
    done = call(root, "upgrade")
    assert done.code == 11, done.text
    assert f"qmigrate cutover {deployment.name}" in done.out
    assert "error" not in done.text
    again = call(root, "upgrade", "--json")
    assert (again.code, again.json["ok"]) == (11, True)
    assert again.json["data"]["held"][0]["physical"] == f"{deployment.name}__g0002"
    shown = call(root, "status")
    assert (shown.code, "1 held" in shown.out) == (0, True)
    assert call(root, "cutover").code == 2
    dry = call(root, "cutover", deployment.name, "--dry-run")
    assert (dry.code, f"goes live as {deployment.name}__g0002" in dry.out) == (0, True)
    live = call(root, "cutover", "--all", "--json")
    assert (live.code, live.json["schema"]) == (0, "qmigrate.cutover/1")
    assert call(root, "cutover", "--all").out.strip() == "Nothing to cut over."


def test_every_error_of_a_held_collection_has_a_way_on(held):
    """No message without the next command."""
    drop_target(held)
    with pytest.raises(QmigrateError) as refused:
        command.cutover(held.settings(), [held.name])
    assert "qmigrate" in refused.value.hint


def test_a_second_hold_in_the_same_job_waits_for_its_own_cut_over(deployment):
    """The rest of a job continues after the cut-over, up to the next hold."""
    start(deployment, RENAME)
    deployment.extra["rebuild"] = {"fuse": False}
    deployment.__post_init__()
    deployment.revise("0003", 'def upgrade():\n    return [op.RenameVector("{name}", "z", "y", cutover="hold")]\n')
    deployment.revise("0004", LATER)
    assert upgrade.upgrade(deployment.settings()).exit_code == 11
    first = command.cutover(deployment.settings(), every=True)
    assert first.exit_code == 11
    assert [one.revisions for one in first.held] == [("0003", "0004")]
    assert deployment.row().revision == "0002"
    assert command.cutover(deployment.settings(), every=True).exit_code == 0
    assert (deployment.row().state, deployment.row().revision) == ("ready", "0004")
    assert set(next(iter(deployment.contents().values()))[1]) == {"y"}


def test_everything_that_shares_the_copy_is_held_with_it(deployment):
    """An index of an earlier revision waits too, and both are recorded by the cut-over."""
    start(deployment, LATER)
    deployment.revise("0003", REEMBED)
    assert [one.revisions for one in upgrade.upgrade(deployment.settings()).held] == [("0002", "0003")]
    assert deployment.row().revision == "0001"
    assert command.cutover(deployment.settings(), every=True).exit_code == 0
    assert [row.revision for row in status.history(deployment.settings()).rows] == ["0003", "0002", "0001"]


def test_a_downgrade_may_be_held_as_well(deployment):
    """The readers of the older form have to be there first: the rollback ends held, and the cut-over finishes it."""
    start(deployment, REEMBED.replace("hold", "immediate") + DOWNGRADE)
    before = deployment.contents()
    upgrade.upgrade(deployment.settings())
    with_store(deployment, lambda store: store.drop_collection(by_hand(f"{deployment.name}__g0001")))
    ledger = Ledger.open(deployment.ledger_url)
    with ledger.hold(deployment.name, timeout=5) as lease:
        gone = next(row for row in ledger.generations(deployment.name) if row.number == 1)
        lease.save_generation(replace(gone, state="gone"))
    ledger.close()
    done = call(deployment.root, "rollback", "0001")
    assert done.code == 11, done.text
    assert (deployment.row().state, deployment.row().revision) == ("held", "0002")
    assert command.cutover(deployment.settings(), every=True).exit_code == 0
    assert (deployment.row().state, deployment.row().revision) == ("pending", "0001")
    assert {key: payload for key, (payload, _) in deployment.contents().items()} == {key: payload for key, (payload, _) in before.items()}


@pytest.mark.parametrize("end", ["cutover", "abort"])
def test_a_plain_name_is_held_like_any_other(deployment, end):
    """The alias takes the name at the cut-over only; an abort leaves what was settled before, and nothing more."""
    plain(deployment, POINTS)
    deployment.revise("0002", RENAME)
    before = seen(deployment)
    points = deployment.contents()
    assert upgrade.upgrade(deployment.settings()).exit_code == 11
    assert deployment.contents() == points
    if end == "cutover":
        put(deployment, make_point(901))
        assert command.cutover(deployment.settings(), [deployment.name]).exit_code == 0
        found = deployment.contents()
        assert found.keys() == points.keys() | {902}
        assert all(set(vectors) == {"z"} for _, vectors in found.values())
        assert (deployment.row().state, deployment.row().revision) == ("ready", "0002")
        return
    back.abort(deployment.settings(), deployment.name)
    if "url" in deployment.qdrant:
        assert seen(deployment) == before
    assert deployment.contents() == points
    assert deployment.row().state == "pending"
    assert upgrade.upgrade(deployment.settings()).exit_code == 11
    assert command.cutover(deployment.settings(), every=True).exit_code == 0
    assert deployment.row().revision == "0002"


def test_what_the_server_cloned_is_held_like_a_copy(deployment):
    """A vector is dropped by a clone where the server makes one; late writes are converged at the cut-over."""
    deployment.revise("0001", TWO)
    upgrade.upgrade(deployment.settings())
    points = [make_point(number) for number in range(POINTS)]
    put(deployment, *(replace(point, vectors={**point.vectors, "b": [1.0, 2.0]}) for point in points))
    deployment.revise("0002", DROP_B)
    before = seen(deployment)
    (planned,) = upgrade.plan(deployment.settings()).collections
    assert planned.job.steps[0].fill == ("clone" if "url" in deployment.qdrant else "copy")
    assert upgrade.upgrade(deployment.settings()).exit_code == 11
    back.abort(deployment.settings())
    assert seen(deployment) == before
    assert upgrade.upgrade(deployment.settings()).exit_code == 11
    late = [make_point(number, text="late") for number in (0, 900)]
    put(deployment, *(replace(point, vectors={**point.vectors, "b": [2.0, 1.0]}) for point in late), delete=[2])
    expected = {key: (payload, {"a": vectors["a"]}) for key, (payload, vectors) in deployment.contents().items()}
    assert command.cutover(deployment.settings(), every=True).exit_code == 0
    assert deployment.contents() == expected
    assert (deployment.row().state, deployment.row().revision) == ("ready", "0002")
