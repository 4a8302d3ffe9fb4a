"""Taking over what is there already: a baseline, a history that fits, another ledger's collections, and refusals."""

from __future__ import annotations

import re
import shlex

import pytest
from tests.conftest import clean
from tests.harness import ADD, CREATE, INDEX, Deployment, by_hand, make_point, write
from tests.scenarios.cli import call

from qmigrate.commands import check, doctor, status, upgrade
from qmigrate.commands import rollback as back
from qmigrate.commands.adopt import adopt, stamp
from qmigrate.engine import adopt as steps
from qmigrate.errors import (
    DriftError,
    ForeignLedgerError,
    LeaseHeldError,
    LedgerError,
    NotFoundError,
    RefusedError,
    RepairNeededError,
    RevisionError,
    UsageError,
)
from qmigrate.ledger import Lease, Ledger
from qmigrate.model.schema import CollectionSchema

A = {"a": {"size": 8, "distance": "Cosine"}}
SCHEMAS = {
    "memory": CollectionSchema(A, indexes={"kind": {"type": "keyword", "is_tenant": True}}),
    "image": CollectionSchema({"": {"size": 4, "distance": "Dot", "on_disk": True}}, {"words": {"modifier": "idf"}}),
    "page": CollectionSchema(
        {"a": {"size": 8, "distance": "Cosine"}, "late": {"size": 4, "distance": "Dot", "multivector_config": {"comparator": "max_sim"}}},
        indexes={"text": {"type": "text", "tokenizer": "word", "lowercase": True}, "n": {"type": "integer"}},
        config={
            "hnsw_config": {"m": 24},
            "quantization_config": {"scalar": {"type": "int8", "always_ram": True}},
            "optimizers_config": {"indexing_threshold": 30000},
            "strict_mode_config": {"enabled": True, "max_query_limit": 500},
            "metadata": {"team": "search"},
        },
    ),
}


@pytest.fixture
def made(qdrant_config, ledger_url, tmp_path):
    """A fresh deployment on each store and each database; an empty folder of revisions."""
    found = Deployment(tmp_path / "project", qdrant_config, ledger_url)
    yield found
    if "url" in qdrant_config:
        clean(found)


def create(deployment: Deployment, name: str, schema: CollectionSchema, *, alias: str | None = None, points: int = 0) -> None:
    """A collection as an application makes it."""
    store = deployment.store()
    try:
        store.create_collection(name, schema, seal=None)
        store.complete_collection(name, schema, defer_index=False)
        if alias:
            store.create_alias(alias, name)
        if points:
            write(store, name, [make_point(number) for number in range(points)])
    finally:
        store.close()


def described(deployment: Deployment, name: str):
    """The collection as Qdrant reports it."""
    store = deployment.store()
    try:
        return store.describe(name)
    finally:
        store.close()


def rows(deployment: Deployment) -> dict:
    """Status by name, of this test's collections."""
    return {
        row.name: row for row in status.status(deployment.settings()).collections if row.name.startswith(deployment.name)
    }


def other(deployment: Deployment, tmp_path, name: str = "other") -> Deployment:
    """The same Qdrant and the same files with another ledger."""
    found = Deployment(tmp_path / name, deployment.qdrant, f"sqlite:///{tmp_path}/{name}.db", name=deployment.name)
    for file in (deployment.root / "qdrant_migrations" / "versions").glob("*.py"):
        (found.root / "qdrant_migrations" / "versions" / file.name).write_bytes(file.read_bytes())
    found.last = deployment.last
    return found


@pytest.mark.nightly
def test_a_dozen_collections_come_under_management_and_go_on(made):
    """Plain names and aliases of three schemas: adopted as they are, clean, and changed in place by the next revision."""
    for number in range(4):
        create(made, f"{made.name}_memory_{number}", SCHEMAS["memory"], points=5)
        create(made, f"{made.name}_image_{number}_v1", SCHEMAS["image"], alias=f"{made.name}_image_{number}")
        create(made, f"{made.name}_page_{number}", SCHEMAS["page"])
    before = {name: described(made, name).schema for name in rows(made)}
    memory = adopt(made.settings(), f"{made.name}_memory_*")
    assert [row.how for row in memory.rows] == ["baseline"] * 4
    assert f'op.CreateCollection(\n            "{made.name}_memory_*"' in memory.text
    rest = adopt(made.settings(), f"{made.name}*", message="everything else")
    assert {row.how for row in rest.rows} == {"baseline", "known"}
    assert {row.name for row in rest.rows} == {
        f"{made.name}_{kind}_{number}" for kind in SCHEMAS for number in range(4)
    }
    assert rest.text.count("op.CreateCollection(") == 8
    found = rows(made)
    assert {row.state for row in found.values()} == {"ready"}
    assert len(found) == 12
    assert {row.revision for name, row in found.items() if "_memory_" in name} == {"0001"}
    assert {name: described(made, name).schema.with_(aliases=()) for name in found} == {
        name: schema.with_(aliases=()) for name, schema in before.items() if name in found
    }
    seal = described(made, f"{made.name}_image_1").seal
    assert (seal["generation"], seal["revision"], seal["state"]) == (0, "0002", "live")
    made.last = "0002"
    made.revise(
        "0003",
        """
        def upgrade():
            return [op.CreatePayloadIndex("{name}_*", "owner", PayloadSchemaType.KEYWORD),
                    op.UpdateCollection("{name}_*", metadata={{"seen": 1}})]
        """,
    )
    done = upgrade.upgrade(made.settings())
    assert len(done.outcomes) == 12
    assert {row.revision for row in rows(made).values()} == {"0003"}
    assert described(made, f"{made.name}_image_2").schema.config["metadata"] == {"seen": 1}
    assert described(made, f"{made.name}_image_2").physical == f"{made.name}_image_2_v1"
    back.rollback(made.settings(), "0002")
    assert {row.revision for row in rows(made).values()} == {"0001", "0002"}
    assert described(made, f"{made.name}_image_2").schema.config.get("metadata") in (None, {})
    assert {row.direction for row in status.history(made.settings()).rows} == {"upgrade", "rollback", "stamp"}


def test_what_the_server_reports_is_in_the_baseline(made):
    """The recorded schema is the live one: nothing differs afterwards, and what was chosen stands in the file."""
    if "path" in made.qdrant:
        pytest.skip("local mode keeps no settings")
    create(made, made.name, SCHEMAS["page"])
    result = adopt(made.settings(), made.name)
    for words in (
        "HnswConfigDiff(m=24)",
        "indexing_threshold=30000",
        "max_query_limit=500",
        'metadata={"team": "search"}',
        "ScalarQuantizationConfig(type=ScalarType.INT8, always_ram=True)",
        "MultiVectorConfig(comparator=MultiVectorComparator.MAX_SIM)",
    ):
        assert words in result.text
    for default in ("wal_config", "shard_number", "replication_factor", "ef_construct", "flush_interval_sec"):
        assert default not in result.text
    assert result.missing == ()
    create(made, f"{made.name}_b", SCHEMAS["memory"])
    assert stamp(made.settings(), "0001", only=[made.name]).rows[0].how == "known"


def test_a_second_adopt_does_nothing(made):
    """Adopting again finds everything known, writes no file and no history."""
    create(made, made.name, SCHEMAS["memory"])
    adopt(made.settings(), made.name)
    before = len(status.history(made.settings()).rows)
    again = adopt(made.settings(), made.name)
    assert (again.rows[0].how, again.rows[0].revision, again.file) == ("known", "0001", None)
    assert len(status.history(made.settings()).rows) == before


def test_a_preview_writes_nothing_anywhere(made):
    """A dry run shows the file and leaves Qdrant, SQL and the folder as they were."""
    create(made, made.name, SCHEMAS["memory"])
    shown = adopt(made.settings(), made.name, dry_run=True)
    assert shown.dry_run
    assert "op.CreateCollection(" in shown.text
    assert not shown.file.exists()
    assert described(made, made.name).seal is None
    assert rows(made)[made.name].state == "plain"


def test_an_existing_history_is_found_to_fit_in_the_middle(made):
    """A collection that stands at an earlier revision is stamped there, and the rest is applied by upgrade."""
    made.revise("0001", CREATE)
    made.revise("0002", ADD)
    made.revise("0003", INDEX)
    create(made, made.name, CollectionSchema(A), points=9)
    found = adopt(made.settings(), made.name)
    assert (found.rows[0].how, found.rows[0].revision, found.file) == ("history", "0001", None)
    assert rows(made)[made.name].pending == ("0002", "0003")
    back_again = made.contents()
    with pytest.raises(RefusedError, match="a rollback can't go below it"):
        back.rollback(made.settings(), "base")
    assert back_again == made.contents()


def test_a_history_that_does_not_fit_is_refused_with_the_differences(made):
    """The nearest revision and each difference are named; nothing is written."""
    made.revise("0001", CREATE)
    made.revise("0002", ADD)
    create(made, made.name, CollectionSchema({**A, "b": {"size": 12, "distance": "Cosine"}, "c": {"size": 2, "distance": "Dot"}}))
    with pytest.raises(DriftError) as refused:
        adopt(made.settings(), made.name)
    assert refused.value.exit_code == 4
    assert "from 0002, the nearest" in refused.value.message
    assert "vector b: size 12, recorded 16" in refused.value.message
    assert "vector c: there (size 2, distance Dot), but not recorded" in refused.value.message
    with pytest.raises(DriftError, match="doesn't fit revision 0001"):
        stamp(made.settings(), "0001", only=[made.name])
    assert described(made, made.name).seal is None
    assert not status.history(made.settings()).rows


def test_several_fitting_revisions_are_decided_by_stamp(made):
    """What only the points could show is not guessed."""
    made.revise("0001", CREATE)
    made.revise("0002", 'def upgrade():\n    return [op.TransformPoints("{name}", dict, inverse=dict)]')
    create(made, made.name, CollectionSchema(A))
    with pytest.raises(RefusedError, match=r"several revisions \(0001, 0002\)") as refused:
        adopt(made.settings(), made.name)
    assert "qmigrate stamp" in refused.value.hint
    assert stamp(made.settings(), "0001", only=[made.name]).rows[0].how == "history"
    assert rows(made)[made.name].revision == "0001"
    assert stamp(made.settings(), "0002").rows[0].revision == "0002"
    assert rows(made)[made.name].revision == "0002"
    stamp(made.settings(), "0001")
    assert (rows(made)[made.name].revision, rows(made)[made.name].pending) == ("0001", ("0002",))
    directions = [row.direction for row in status.history(made.settings()).rows]
    assert directions == ["unstamp", "stamp", "stamp"]
    assert described(made, made.name).seal["revision"] == "0001"


def test_another_ledgers_collection_is_refused_and_taken_over(made, tmp_path):
    """Not without the option; with it its revision is believed, the take-over is recorded, and work continues here."""
    made.revise("0001", CREATE)
    made.revise("0002", INDEX)
    upgrade.upgrade(made.settings())
    made.load(10)
    mine = other(made, tmp_path)
    with pytest.raises(ForeignLedgerError, match="--take-over|sealed by ledger") as refused:
        adopt(mine.settings(), mine.name)
    assert refused.value.exit_code == 7
    shown = adopt(mine.settings(), mine.name, take_over=True, dry_run=True)
    assert shown.rows[0].taken_over["revision"] == "0002"
    assert described(mine, mine.name).seal["ledger"] == shown.rows[0].taken_over["ledger"]
    taken = adopt(mine.settings(), mine.name, take_over=True)
    assert (taken.rows[0].how, taken.rows[0].revision, taken.rows[0].generation) == ("seal", "0002", 1)
    assert rows(mine)[mine.name].state == "ready"
    report = status.history(mine.settings()).rows[0].report
    assert report["take_over"]["ledger"] == shown.rows[0].taken_over["ledger"]
    mine.revise("0003", ADD)
    upgrade.upgrade(mine.settings())
    assert described(mine, mine.name).physical == f"{mine.name}__g0002"
    row = rows(made)[made.name]
    assert row.state == "failed"
    assert "sealed by another ledger" in row.detail


def test_a_lost_ledger_is_rebuilt_from_the_seals(made, tmp_path):
    """Generation, revisions and its other generations come back; there is no way back that can't be proven."""
    made.revise("0001", CREATE)
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings(), "0001")
    made.load(12)
    upgrade.upgrade(made.settings())
    before = made.contents()
    mine = other(made, tmp_path)
    result = adopt(mine.settings(), f"{mine.name}*", take_over=True)
    assert [(row.name, row.generation, row.revision) for row in result.rows] == [(mine.name, 2, "0002")]
    assert rows(mine)[mine.name].state == "ready"
    assert mine.contents() == before
    assert described(mine, f"{mine.name}__g0001").seal["ledger"] == described(mine, mine.name).seal["ledger"]
    with pytest.raises(RefusedError, match="a rollback can't go below it"):
        back.rollback(mine.settings(), "0001")
    mine.revise("0003", 'def upgrade():\n    return [op.DropVector("{name}", "b", cutover="immediate")]')
    upgrade.upgrade(mine.settings())
    assert described(mine, mine.name).physical == f"{mine.name}__g0003"
    back.rollback(mine.settings(), "0002")
    assert mine.contents() == before


def test_a_run_of_the_other_ledger_stops_a_take_over(made, tmp_path):
    """A shadow that is being built for it belongs to a process that may be alive."""
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    seal = described(made, made.name).seal
    store = made.store()
    store.create_collection(
        f"{made.name}__g0002", CollectionSchema(A), seal={**seal, "generation": 2, "state": "building"}
    )
    store.close()
    mine = other(made, tmp_path)
    with pytest.raises(RefusedError, match="seems to be under way"):
        adopt(mine.settings(), mine.name, take_over=True)
    assert described(mine, mine.name).seal == seal


def test_a_changed_file_is_not_believed_in_a_take_over(made, tmp_path):
    """The seal has which file was applied; another one needs the expert's word."""
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    mine = other(made, tmp_path)
    mine.last = None
    mine.revise("0001", CREATE, doc="changed")
    with pytest.raises(DriftError, match="was changed after it was applied"):
        adopt(mine.settings(), mine.name, take_over=True)
    with pytest.raises(ForeignLedgerError):
        stamp(mine.settings(), "0001", only=[mine.name])
    assert stamp(mine.settings(), "0001", only=[mine.name], take_over=True).rows[0].how == "seal"
    assert rows(mine)[mine.name].state == "ready"
    (mine.root / "qdrant_migrations" / "versions" / "0001_rev.py").unlink()
    third = other(mine, tmp_path, "third")
    with pytest.raises(RevisionError, match="no file has that id") as raised:
        adopt(third.settings(), third.name, take_over=True)
    # Where ledger and file are both lost, what it says is the way, typed as it stands.
    first, second = re.findall(r"qmigrate [^,;]+", raised.value.hint)
    assert call(third.root, *shlex.split(first)[1:]).code == 0, first
    with pytest.raises(DriftError, match="was changed after it was applied") as raised:
        adopt(third.settings(), third.name, take_over=True)
    assert raised.value.hint.endswith(second)
    assert call(third.root, *shlex.split(second)[1:]).code == 0, second
    assert rows(third)[third.name].revision == "0001"


def test_the_application_moves_to_an_alias_once(made):
    """`adopt foo --alias foo_live` makes the alias; from then on it is the name that revisions move."""
    live = f"{made.name}_live"
    create(made, made.name, CollectionSchema(A), points=9)
    before = made.contents()
    with pytest.raises(UsageError, match="itself"):
        adopt(made.settings(), made.name, alias=made.name)
    result = adopt(made.settings(), made.name, alias=live)
    assert (result.rows[0].name, result.rows[0].physical, result.rows[0].generation) == (live, made.name, 0)
    assert set(rows(made)) == {live}
    assert adopt(made.settings(), live).rows[0].how == "known"
    made.last = "0001"
    made.revise("0002", ADD.replace("{name}", "{name}_live"))
    upgrade.upgrade(made.settings())
    assert described(made, live).physical == f"{live}__g0001"
    assert made.contents() == before
    assert set(rows(made)) == {live}
    back.rollback(made.settings(), "0001")
    assert described(made, live).physical == made.name


def test_a_managed_plain_name_moves_to_an_alias(made):
    """A plain collection under management gets its new name by a revision that drops the old one."""
    live = f"{made.name}_live"
    create(made, made.name, CollectionSchema(A), points=3)
    adopt(made.settings(), made.name)
    result = adopt(made.settings(), made.name, alias=live)
    assert f'op.DropCollection("{made.name}")' in result.text
    assert rows(made)[live].state == "ready"
    assert (rows(made)[made.name].generation, rows(made)[made.name].pending) == (None, ())
    assert not upgrade.plan(made.settings()).collections
    assert adopt(made.settings(), live).rows[0].how == "known"


def test_the_other_deployment_does_not_lose_its_points_by_a_new_name(made):
    """The revision is made where it is recorded; where it is only pending, an upgrade would serve an empty collection."""
    live = f"{made.name}_live"
    create(made, made.name, CollectionSchema(A), points=3)
    adopt(made.settings(), made.name)
    path = made.revise(
        "0002", 'def upgrade():\n    return [op.DropCollection("{name}"), op.CreateCollection("{name}_live", '
        '{{"a": VectorParams(size=8, distance=Distance.COSINE)}})]\n', down="0001"
    )
    for names in (None, [made.name]):
        with pytest.raises(RefusedError, match="has 3 points, and creates .*_live with the same vectors") as refused:
            upgrade.upgrade(made.settings(), only=names, allow_gap=True)
        assert f"qmigrate adopt {made.name} --alias {live}" in (refused.value.hint or "")
    result = adopt(made.settings(), made.name, alias=live)
    assert (result.rows[0].revision, len(list(path.parent.glob("*.py")))) == ("0002", 2)
    assert not upgrade.plan(made.settings()).collections
    assert len(made.contents(live)) == 3


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("call", ["open_run", "journal", "close_step"])
def test_a_crash_between_file_seal_and_ledger_is_repeated_to_the_same_end(made, monkeypatch, call, moment):
    """Wherever it stops, the same command ends with one file, one row and a seal."""
    create(made, made.name, SCHEMAS["memory"], points=3)
    original = getattr(Lease, call)

    class Killed(BaseException):
        """What nothing catches."""

    def stop(self, *args, **kwargs):
        if moment == "after":
            original(self, *args, **kwargs)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Lease, call, stop)
        with pytest.raises(Killed):
            adopt(made.settings(), made.name)
    result = adopt(made.settings(), made.name)
    assert result.rows[0].revision == "0001"
    assert len(list((made.root / "qdrant_migrations" / "versions").glob("*.py"))) == 1
    assert [row.direction for row in status.history(made.settings()).rows] == ["stamp"]
    assert described(made, made.name).seal["revision"] == "0001"
    assert rows(made)[made.name].state == "ready"


def test_unclear_names_and_nothing_are_errors(made):
    """A pattern that matches nothing, and a collection with two aliases, are not guessed at."""
    with pytest.raises(NotFoundError, match="no collection matches"):
        adopt(made.settings(), f"{made.name}_nothing*")
    create(made, f"{made.name}_v1", CollectionSchema(A), alias=f"{made.name}_one")
    store = made.store()
    store.create_alias(f"{made.name}_two", f"{made.name}_v1")
    store.close()
    with pytest.raises(RefusedError, match="several names"):
        adopt(made.settings(), f"{made.name}*")
    result = adopt(made.settings(), f"{made.name}_one")
    assert f'op.SetAlias("{made.name}_two", "{made.name}_one")' in result.text
    assert set(rows(made)) == {f"{made.name}_one"}
    with pytest.raises(UsageError, match="is an alias already"):
        adopt(made.settings(), f"{made.name}_one", alias=f"{made.name}_three")
    with pytest.raises(RefusedError, match=f"is another name of {made.name}_one"):
        adopt(made.settings(), f"{made.name}_two")


def test_a_plain_collection_of_a_lost_ledger_is_taken_over(made, tmp_path):
    """Generation 0 stays 0, and the name stays plain."""
    create(made, made.name, CollectionSchema(A), points=4)
    adopt(made.settings(), made.name)
    mine = other(made, tmp_path)
    result = adopt(mine.settings(), made.name, take_over=True)
    assert (result.rows[0].how, result.rows[0].generation, result.rows[0].revision) == ("seal", 0, "0001")
    assert rows(mine)[made.name].generation == "plain"
    assert rows(mine)[made.name].state == "ready"


def test_a_hidden_collection_of_a_lost_ledger_is_kept(made, tmp_path):
    """An alias that hides its plain collection is taken over with it; gc may collect it, nothing rolls back to it."""
    if "path" in made.qdrant:
        pytest.skip("local mode hides no collection")
    create(made, made.name, CollectionSchema(A), points=4)
    adopt(made.settings(), made.name)
    made.last = "0001"
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())
    before = made.contents()
    mine = other(made, tmp_path)
    result = adopt(mine.settings(), made.name, take_over=True)
    assert (result.rows[0].physical, result.rows[0].generation) == (f"{made.name}__g0001", 1)
    assert described(mine, f"{made.name}__old").seal["ledger"] == described(mine, made.name).seal["ledger"]
    assert (rows(mine)[made.name].state, mine.contents()) == ("ready", before)
    mine.revise("0003", 'def upgrade():\n    return [op.DropVector("{name}", "b", cutover="immediate")]')
    upgrade.upgrade(mine.settings())
    assert described(mine, made.name).physical == f"{made.name}__g0002"


def test_a_collection_made_again_is_adopted_anew(made):
    """What an application has deleted and recreated has no seal: the record follows what is there."""
    made.revise("0001", CREATE)
    create(made, made.name, CollectionSchema(A))
    adopt(made.settings(), made.name)
    made.revise("0002", 'def upgrade():\n    return [op.UpdateCollection("{name}", metadata={{"seen": 1}})]')
    upgrade.upgrade(made.settings())
    store = made.store()
    store.drop_collection(by_hand(made.name))
    store.close()
    create(made, made.name, CollectionSchema(A), points=2)
    result = adopt(made.settings(), made.name)
    assert result.rows[0].how == "history"
    assert rows(made)[made.name].state in ("ready", "pending")
    assert described(made, made.name).seal["revision"] == result.rows[0].revision


def test_a_name_that_went_live_unfinished_is_not_taken_over(made, tmp_path):
    """The other ledger's run had moved the name and not swept: only the expert's stamp continues from there."""
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    store = made.store()
    store.write_seal(f"{made.name}__g0001", {**described_seal(store, made.name), "state": "building", "revision": None})
    store.close()
    mine = other(made, tmp_path)
    with pytest.raises(RepairNeededError, match="cut over by a run of"):
        adopt(mine.settings(), mine.name, take_over=True)
    assert stamp(mine.settings(), "0001", only=[mine.name], take_over=True).rows[0].how == "seal"


def described_seal(store, name: str) -> dict:
    """The seal of a collection."""
    return store.describe(name).seal


def test_an_unfinished_upgrade_is_not_finished_by_adopt(made, monkeypatch):
    """Adopting the rest of a glob neither resumes a failed run of its neighbour nor is stopped by it."""
    create(made, f"{made.name}_a", CollectionSchema(A), points=3)
    adopt(made.settings(), f"{made.name}_a")
    made.last = "0001"
    made.revise("0002", 'def upgrade():\n    return [op.UpdateCollection("{name}_a", metadata={{"seen": 1}})]')

    def fail(self, *args, **kwargs):
        raise LedgerError("gone for a moment")

    with monkeypatch.context() as patch:
        patch.setattr(Lease, "close_step", fail)
        with pytest.raises(LedgerError):
            upgrade.upgrade(made.settings())
    create(made, f"{made.name}_b", CollectionSchema(A))
    result = adopt(made.settings(), f"{made.name}*")
    assert {row.name: row.how for row in result.rows} == {f"{made.name}_a": "known", f"{made.name}_b": "baseline"}
    assert rows(made)[f"{made.name}_a"].state == "failed"
    with pytest.raises(RepairNeededError, match="is not finished"):
        stamp(made.settings(), "0002", only=[f"{made.name}_a"])
    upgrade.upgrade(made.settings())
    assert rows(made)[f"{made.name}_a"].state == "ready"


def adopted_by_name(made: Deployment) -> dict:
    """End of the name -> revision."""
    rows = status.status(made.settings()).collections
    return {row.name.removeprefix(made.name): row.revision for row in rows if row.name.startswith(made.name)}


def test_one_odd_schema_does_not_take_the_glob_away(made):
    """The glob stands for the schema that most have; the odd one is written by its name, and reported."""
    schema, odd = CollectionSchema(A), CollectionSchema({"a": {"size": 4, "distance": "Dot"}})
    for end, one in (("_1", schema), ("_2", schema), ("_3", schema), ("_odd", odd)):
        create(made, f"{made.name}{end}", one)
    found = adopt(made.settings(), f"{made.name}*")
    assert f'"{made.name}*"' in found.text
    assert f'"{made.name}_odd"' in found.text
    assert f'"{made.name}_1"' not in found.text
    assert any(f"{made.name}_odd" in note and "3 collections" in note for note in found.notes)
    assert adopted_by_name(made) == dict.fromkeys(("_1", "_2", "_3", "_odd"), "0001")
    assert described(made, f"{made.name}_odd").schema.vectors["a"]["size"] == 4
    assert call(made.root, "check").code == 0
    assert "Nothing to do" in call(made.root, "upgrade").text
    create(made, f"{made.name}_4", schema)
    assert adopt(made.settings(), f"{made.name}*").rows[-2].how == "history"


def test_two_names_of_one_collection_are_one(made):
    """An alias and its collection that both match are one collection: the glob stays."""
    for number in (1, 2):
        create(made, f"{made.name}_v{number}", CollectionSchema(A), alias=f"{made.name}_live{number}")
    found = adopt(made.settings(), f"{made.name}*")
    assert (f'"{made.name}*"' in found.text, [row.name for row in found.rows]) == (
        True,
        [f"{made.name}_live1", f"{made.name}_live2"],
    )
    assert call(made.root, "check").code == 0


def test_without_a_usual_schema_the_glob_is_named_as_unused(made):
    """Two schemas that are as frequent: each collection stands by its name, and that the glob doesn't is reported."""
    create(made, f"{made.name}_1", CollectionSchema(A))
    create(made, f"{made.name}_2", CollectionSchema({"a": {"size": 4, "distance": "Dot"}}))
    found = adopt(made.settings(), f"{made.name}*")
    assert f'"{made.name}*"' not in found.text
    assert any("is used for none" in note for note in found.notes)


def seal_of_another(deployment: Deployment, name: str) -> None:
    """The seal of another ledger."""
    store = deployment.store()
    try:
        store.write_seal(name, {"version": 1, "ledger": "another", "collection": name, "revision": "0009", "state": "live"})
    finally:
        store.close()


def differ(made: Deployment, name: str) -> None:
    """A revision creates it with another schema."""
    made.revise("0000", CREATE.replace("{name}", "{name}_odd").replace("size=8", "size=16"))


def two_names(deployment: Deployment, name: str) -> None:
    """Two aliases that match."""
    store = deployment.store()
    try:
        store.create_alias(f"{name}_a", name)
        store.create_alias(f"{name}_b", name)
    finally:
        store.close()


@pytest.mark.parametrize(
    ("make_odd", "code", "error"),
    [(seal_of_another, 0, ForeignLedgerError), (differ, 4, DriftError), (two_names, 10, RefusedError)],
)
def test_what_can_not_be_adopted_is_named_and_the_rest_is_adopted(made, make_odd, code, error):
    """One collection that can't be adopted stops a glob for no other; by its own name it is refused as ever."""
    for end in ("_1", "_2", "_odd"):
        create(made, f"{made.name}{end}", CollectionSchema(A))
    make_odd(made, f"{made.name}_odd")
    shown = call(made.root, "adopt", f"{made.name}*", "--dry-run")
    assert (shown.code, f"skipped: {made.name}_odd: " in shown.out) == (code, True), shown.text
    said = call(made.root, "adopt", f"{made.name}*", "--json")
    assert said.code == code, said.text
    assert [one["name"] for one in said.json["data"]["left"]] == [f"{made.name}_odd"]
    assert {end: revision is not None for end, revision in adopted_by_name(made).items() if end in ("_1", "_2")} == {
        "_1": True,
        "_2": True,
    }
    pattern = f"{made.name}_odd*" if error is RefusedError else f"{made.name}_odd"
    with pytest.raises(error):
        adopt(made.settings(), pattern)
def test_an_adoption_that_is_refused_leaves_no_revision(made):
    """Where another process works on the collection nothing is recorded, so no file declares that it was."""
    create(made, f"{made.name}_docs", CollectionSchema(vectors={"": {"size": 4, "distance": "Cosine"}}))
    versions = made.root / "qdrant_migrations" / "versions"
    before = sorted(versions.iterdir())
    ledger = Ledger.open(made.ledger_url)
    ledger.prepare()
    with ledger.hold(f"{made.name}_docs", ttl=60, timeout=0), pytest.raises(LeaseHeldError):
        adopt(made.settings(), f"{made.name}_docs", lock_timeout=0)
    assert sorted(versions.iterdir()) == before
    assert ledger.open_runs() == ()
    ledger.close()
    adopt(made.settings(), f"{made.name}_docs")
    assert len(list(versions.glob("*.py"))) == 1


def test_a_collection_with_an_alias_is_offered_once(made):
    """status, doctor and check offer to adopt the alias, and not also the collection that it leads to."""
    create(made, f"{made.name}_v1", CollectionSchema(vectors={"": {"size": 4, "distance": "Cosine"}}), alias=f"{made.name} live")
    found = {row.name: row.next_command for row in status.status(made.settings()).collections if row.name.startswith(made.name)}
    assert found == {f"{made.name} live": f"qmigrate adopt '{made.name} live'", f"{made.name}_v1": None}
    ways = {fix for row in check.check(made.settings()).collections for one in row.findings for fix in one.fixes}
    assert f"qmigrate adopt {made.name}_v1" not in ways
    checks = {one.name: one for one in doctor.doctor(made.settings()).checks}
    assert f"{made.name}_v1" not in checks["unmanaged"].facts["names"]


def test_a_name_that_is_taken_while_an_adoption_is_interrupted_is_not_recorded(made, monkeypatch):
    """Every verb would advise to point it to the adopted collection, away from the one of the other client."""
    live, theirs = f"{made.name}_live", f"{made.name}_other"
    create(made, made.name, CollectionSchema(A))
    create(made, theirs, CollectionSchema(A))
    with monkeypatch.context() as patch:
        patch.setattr(steps, "swap", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            adopt(made.settings(), made.name, alias=live)
    store = made.store()
    store.create_alias(live, theirs)
    store.close()
    with pytest.raises(RefusedError, match="another client moved it") as refused:
        adopt(made.settings(), made.name, alias=live)
    assert f"qmigrate abort {live}" in refused.value.hint
    back.abort(made.settings(), live)
    assert not any(row.name == live for row in status.status(made.settings()).collections if row.revision)
    store = made.store()
    assert store.aliases()[live] == theirs
    store.close()
