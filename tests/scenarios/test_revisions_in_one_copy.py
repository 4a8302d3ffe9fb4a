"""Several pending revisions in one copy: the same end as one after the other, and the way back over the group."""

from __future__ import annotations

import json

import pytest
from tests.conftest import clean
from tests.harness import ADD, CREATE, INDEX, Deployment, make_point, nightly_but, write
from tests.scenarios.cli import call

from qmigrate.commands import rollback as back
from qmigrate.commands import status, upgrade
from qmigrate.errors import RefusedError
from qmigrate.ledger import Lease, Ledger
from qmigrate.model.plan import Build

FUNCTIONS = '''
def louder(point):
    return {{**point.payload, "text": point.payload["text"] + " and more", "tags": ("x", "y")}}


def calmer(point):
    return {{key: value for key, value in point.payload.items() if key != "tags"}} | {{
        "text": point.payload["text"].removesuffix(" and more")
    }}


def counted(point):
    return {{**point.payload, "names": sorted(point.vectors), "kind_of_tags": type(point.payload.get("tags")).__name__}}


def summed(point):
    return [float(sum(point.vectors["a"])), float(len(point.payload["text"]))]


'''
LOUDER = FUNCTIONS + 'def upgrade():\n    return [op.TransformPoints("{name}", louder, inverse=calmer)]\n'
COUNTED = FUNCTIONS + 'def upgrade():\n    return [op.TransformPoints("{name}", counted)]\n'


def one(text: str) -> str:
    """A revision of one operation."""
    return f"{FUNCTIONS}def upgrade():\n    return [{text}]\n"


RENAME = one('op.RenameVector("{name}", "a", "z", cutover="immediate")')
RENAME_B = one('op.RenameVector("{name}", "b", "c", cutover="immediate")')
COPY_B = one('op.AddVector("{name}", "d", VectorParams(size=16, distance=Distance.COSINE), values=CopyOf("b"))')
DOT_B = one('op.AddVector("{name}", "d", VectorParams(size=16, distance=Distance.DOT), values=CopyOf("b", allow_normalised=True))')
DROP_A = one('op.DropVector("{name}", "a", cutover="immediate")')
COMPUTED = one('op.AddVector("{name}", "e", VectorParams(size=2, distance=Distance.EUCLID), values=Compute(summed))')
HALF = one('op.AlterVector("{name}", "a", VectorParams(size=8, distance=Distance.COSINE, datatype=Datatype.FLOAT16))')
NUMBERS = one('op.CreatePayloadIndex("{name}", "n", PayloadSchemaType.INTEGER)')
ALIAS = one('op.SetAlias("{name}_also", "{name}")')
HNSW = one('op.UpdateCollection("{name}", hnsw_config=HnswConfigDiff(m=24))')
DROP = one('op.DropCollection("{name}")')
#: Rows that run with all other tests.
GATE = {"embedding, then the payload", "two functions and a filling", "functions see what is there"}
#: Revisions after the first one, and which of them share a rebuild.
ROWS = {
    "index, vector, rename": ([INDEX, ADD, RENAME, NUMBERS], ["2345"]),
    "payload, then its embedding": ([LOUDER, ADD, HNSW], ["234"]),
    "embedding, then the payload": ([ADD, LOUDER, NUMBERS], ["2", "34"]),
    "filled, copied, renamed, dropped": ([ADD, COPY_B, RENAME_B, DROP_A], ["2345"]),
    "filled and stored otherwise": ([ADD, DOT_B], ["2", "3"]),
    "two functions and a filling": ([LOUDER, COUNTED, COMPUTED, ALIAS], ["2345"]),
    "functions see what is there": ([ADD, COMPUTED, COUNTED], ["2", "3", "4"]),
    "half, renamed": ([HALF, RENAME, INDEX], ["234"]),
    "dropped and recreated": ([ADD, DROP, CREATE, ADD, INDEX], ["2", "3", "456"]),
}


def prepare(made: Deployment, bodies: list[str], points: int = 25) -> Deployment:
    """Revision 0001 applied and filled, the others pending."""
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    if points:
        made.load(points)
    for number, body in enumerate(bodies, start=2):
        made.revise(f"000{number}", body)
    return made


def beside(made: Deployment, folder, **rebuild) -> Deployment:
    """Another deployment on the same store, with a ledger of its own."""
    return Deployment(folder, made.qdrant, f"sqlite:///{folder}.db", extra={"rebuild": rebuild})


def recorded(made: Deployment) -> str:
    """What ledger and store say at the end, without the names that differ."""
    ledger = Ledger.open(made.ledger_url)
    view = ledger.collections()[made.name]
    applied = [(one.revision, one.checksum[:8], one.prior and one.prior.to_json()) for one in ledger.applied(made.name)]
    rows = [(row.revision, row.direction) for row in reversed(ledger.history(made.name))]
    ledger.close()
    store = made.store()
    live = store.describe(made.name).schema.to_json()
    aliases = sorted(alias for alias, to in store.aliases().items() if to.startswith(made.name))
    store.close()
    live["aliases"] = []
    applied = [(revision, prior) for revision, _, prior in applied]
    said = {"declared": view.declared.to_json(), "revision": view.revision, "applied": applied, "rows": rows, "live": live, "aliases": aliases}
    return json.dumps(said, sort_keys=True, indent=1).replace(made.name, "NAME")


@pytest.mark.parametrize("row", nightly_but(ROWS, GATE))
def test_fused_and_one_by_one_end_the_same(deployment, tmp_path, row):
    """Points, live schema, recorded schemas before and after each revision, and history are equal."""
    bodies, groups = ROWS[row]
    prepare(deployment, bodies)
    apart = prepare(beside(deployment, tmp_path / "apart", fuse=False), bodies)
    try:
        planned = upgrade.plan(deployment.settings()).collections[0].job
        closes: dict[int, str] = {}
        for closing in planned.closes:
            closes[closing.step] = closes.get(closing.step, "") + closing.revision[-1]
        assert [closes[step] for step in sorted(closes)] == groups
        upgrade.upgrade(deployment.settings())
        upgrade.upgrade(apart.settings())
        assert deployment.contents() == apart.contents()
        assert recorded(deployment) == recorded(apart)
        assert deployment.row().state == "ready"
    finally:
        if "url" in apart.qdrant:
            clean(apart)


def test_a_new_collection_is_made_in_its_final_shape(deployment, tmp_path):
    """From nothing to head in one empty build, and it holds what one by one would have made."""
    bodies = [CREATE, INDEX, ADD, LOUDER, RENAME]
    apart = beside(deployment, tmp_path / "apart", fuse=False)
    try:
        for made in (deployment, apart):
            for number, body in enumerate(bodies, start=1):
                made.revise(f"000{number}", body)
            upgrade.upgrade(made.settings())
        assert recorded(deployment) == recorded(apart)
        assert (deployment.row().generation, apart.row().generation) == ("g0001", "g0004")
        with pytest.raises(RefusedError, match="0001, 0002, 0003, 0004, 0005 of") as refused:
            back.rollback(deployment.settings())
        assert "qmigrate rollback base" in refused.value.hint
        back.rollback(deployment.settings(), "base")
        upgrade.upgrade(deployment.settings())
        assert deployment.row().generation == "g0002"
    finally:
        if "url" in apart.qdrant:
            clean(apart)


def test_a_group_goes_back_and_forth_with_what_was_written(deployment):
    """One flip takes all of it back; writes are carried through the inverse of all operations together."""
    prepare(deployment, [LOUDER, RENAME, INDEX])
    before = deployment.contents()
    upgrade.upgrade(deployment.settings())
    after = deployment.contents()
    assert all(set(vectors) == {"z"} and payload["text"].endswith("and more") for payload, vectors in after.values())
    store = deployment.store()
    late = make_point(700, text="a late text and more")
    write(store, deployment.name, [type(late)(late.id, late.payload, {"z": late.vectors["a"]})])
    store.delete(deployment.name, [1])
    store.close()
    with pytest.raises(RefusedError, match="written to since"):
        back.rollback(deployment.settings(), "0001")
    result = back.rollback(deployment.settings(), "0001", writes="carry")
    assert [one.revisions for one in result.outcomes] == [("0004", "0003", "0002")]
    found = deployment.contents()
    assert found.keys() == before.keys() - {1} | {701}
    assert found[701][0]["text"] == "a late text"
    assert {key: found[key] for key in found if key != 701} == {key: before[key] for key in found if key != 701}
    upgrade.upgrade(deployment.settings())
    assert deployment.contents()[4] == after[4]
    assert [row.revision for row in status.history(deployment.settings()).rows[:3]] == ["0004", "0003", "0002"]


@pytest.mark.parametrize("target", ["0002", "0003", "-1"])
def test_a_target_inside_a_group_is_refused_and_named(deployment, target):
    """Exit 10, nothing changed; the message lists the targets that take milliseconds."""
    prepare(deployment, [ADD, RENAME, INDEX])
    shown = call(deployment.root, "plan")
    assert "0002, 0003, 0004  in one copy: values change for every point" in shown.out
    done = call(deployment.root, "upgrade")
    assert "to 0001 in milliseconds, while" in done.out
    assert "not to 0002, 0003 alone" in done.out
    before = deployment.contents()
    refused = call(deployment.root, "rollback", target, "--json")
    assert refused.code == 10
    error = refused.json["error"]
    assert error["facts"]["fused"] == ["0002", "0003", "0004"]
    assert error["facts"]["targets"] == ["0001"]
    assert f"qmigrate rollback 0001 --only {deployment.name} takes milliseconds" in error["hint"]
    assert (deployment.row().revision, deployment.contents()) == ("0004", before)
    assert call(deployment.root, "rollback", "-3").code == 0
    assert deployment.row().revision == "0001"


def test_a_downgrade_takes_one_revision_out_of_its_group(deployment):
    """The file's own way back works inside a group; the rest of it goes back in one flip."""
    prepare(deployment, [ADD, INDEX, NUMBERS + '\n\ndef downgrade():\n    return [op.DropPayloadIndex("{name}", "n")]\n'])
    before = {key: (payload, {"a": vectors["a"]}) for key, (payload, vectors) in deployment.contents().items()}
    upgrade.upgrade(deployment.settings())
    assert deployment.row().generation == "g0002"
    back.rollback(deployment.settings(), "0003")
    assert (deployment.row().revision, deployment.row().generation) == ("0003", "g0002")
    back.rollback(deployment.settings(), "0001")
    assert (deployment.row().revision, deployment.row().generation) == ("0001", "g0001")
    assert deployment.contents() == before
    upgrade.upgrade(deployment.settings())
    assert deployment.row().revision == "0004"


@pytest.mark.parametrize("overrides", [{"rebuild": {"fuse": False}}, {"collections": "own"}])
def test_fusing_is_turned_off_in_the_settings(deployment, overrides):
    """For everything, or for one collection."""
    if overrides.get("collections") == "own":
        overrides = {"collections": {deployment.name: {"rebuild": {"fuse": False}}}}
    deployment.extra.update(overrides)
    deployment.__post_init__()
    prepare(deployment, [ADD, RENAME], points=5)
    steps = upgrade.plan(deployment.settings()).collections[0].job.steps
    assert sum(isinstance(step, Build) for step in steps) == 2
    upgrade.upgrade(deployment.settings())
    back.rollback(deployment.settings(), "0002")
    assert deployment.row().revision == "0002"


def test_all_rows_of_a_group_are_written_together_or_not_at_all(tmp_path, ledger_url, monkeypatch):
    """An interruption inside the closing transaction leaves no row; the resume writes every one, once."""
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, ledger_url)
    prepare(made, [ADD, RENAME, INDEX], points=5)

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(Lease, "_save_view", stop)
    with pytest.raises(KeyboardInterrupt):
        upgrade.upgrade(made.settings())
    monkeypatch.undo()
    assert [row.revision for row in status.history(made.settings(), made.name).rows] == ["0001"]
    upgrade.upgrade(made.settings())
    rows = status.history(made.settings(), made.name).rows
    assert [row.revision for row in rows] == ["0004", "0003", "0002", "0001"]
    assert len({(row.run, row.physical) for row in rows[:3]}) == 1
