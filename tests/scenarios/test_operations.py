"""Every operation on every store: up, back, up again. Each row checks schema, points, status and history."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import clean
from tests.harness import Deployment
from tests.scenarios.operations_points import dense, points, whole, words
from tests.scenarios.operations_table import ROWS, Row
from tests.scenarios.operations_trial import Trial, begin, check_forward, equal, missing, run_row

from qmigrate.commands import rollback as back
from qmigrate.commands import status, upgrade
from qmigrate.engine import rebuild
from qmigrate.engine.golive import golive
from qmigrate.errors import QmigrateError, StoreError
from qmigrate.model.transform import Point
from qmigrate.store.local.local import LocalStore
from qmigrate.store.server.server import ServerStore

CASES = [
    pytest.param(row, store, id=f"{row.name}-{store}", marks=[pytest.mark.server] if store == "server" else [])
    for row in ROWS
    for store in row.stores
]


def deploy(folder: Path, address: tuple[str, int] | None) -> Deployment:
    """A deployment on a server, or in local mode when there is none."""
    qdrant = {"path": str(folder / "qdrant")}
    if address is not None:
        qdrant = {"url": address[0], "grpc_port": address[1], "timeout": 10}
    return Deployment(folder / "project", qdrant, f"sqlite:///{folder}/ledger.db")


@pytest.fixture
def trial(deployment):
    """A deployment on each store."""
    return Trial(deployment)


@pytest.fixture
def on_server(qdrant_server, tmp_path):
    """A deployment on a real server."""
    made = deploy(tmp_path, (qdrant_server.url, qdrant_server.grpc_port))
    yield Trial(made)
    clean(made)


@pytest.mark.parametrize(("row", "store"), CASES)
def test_row(row, store, request, tmp_path):
    """An operation does what it declares, is undone exactly (or refuses to), and can be done again."""
    if store == "server":
        run_row(row, request.getfixturevalue("on_server"))
    else:
        run_row(row, Trial(deploy(tmp_path, None)))


# --- what needs more than a row -------------------------------------------------------------------------------------


def row_of(name: str) -> Row:
    """A row of the table."""
    return next(row for row in ROWS if row.name == name)


def failing_once(monkeypatch, trial, place, attribute, allowed=0):
    """Let the call after `allowed` ones fail, once, where it is about this deployment's collection."""
    original, calls = getattr(place, attribute), []

    def wrapper(*args, **kwargs):
        about = [str(getattr(one, "collection", one)) for one in args[:3]]
        if any(one.startswith(trial.made.name) for one in about):
            calls.append(attribute)
            if len(calls) == allowed + 1:
                raise StoreError("the connection broke")
        return original(*args, **kwargs)

    monkeypatch.setattr(place, attribute, wrapper)


@pytest.mark.parametrize(
    ("name", "place", "allowed"),
    [
        ("index_every_type", "apply", 1),
        ("alias_with_rebuild", "upsert", 0),
        ("alias_with_rebuild", "wait_until_ready", 0),
        ("alias_with_rebuild", "prove", 0),
    ],
)
def test_abort_leaves_nothing(trial, monkeypatch, name, place, allowed):
    """A run that fails in the middle is aborted: schema, points, names and state are as before; then it succeeds."""
    row = row_of(name)
    before = begin(row, trial)
    with monkeypatch.context() as patched:
        holder = {"wait_until_ready": rebuild, "prove": rebuild}.get(place, LocalStore if trial.local else ServerStore)
        failing_once(patched, trial, holder, place, allowed)
        with pytest.raises(StoreError, match="the connection broke"):
            trial.upgrade()
    assert (trial.made.row().state, trial.made.row().revision) == ("failed", "0001")
    begun = trial.look()
    assert begun.collections != before.collections or begun.schema != before.schema or (trial.local and place == "apply")
    back.abort(trial.settings)
    assert trial.look() == before
    assert trial.made.row().state == "pending"
    assert trial.history() == [("upgrade", "0001", "create")]
    assert not upgrade.upgrade(trial.settings).resumed
    check_forward(row, trial, before)


EVERYTHING = """op.CreateCollection(NAME,
    {"": VectorParams(size=8, distance="Cosine"),
     "h": VectorParams(size=4, distance="Manhattan", datatype="float16", on_disk=True, hnsw_config=HnswConfigDiff(m=12)),
     "m": VectorParams(size=4, distance="Dot", multivector_config=MultiVectorConfig(comparator="max_sim"))},
    {"s": SparseVectorParams(modifier=Modifier.IDF, index=SparseIndexParams(on_disk=True, full_scan_threshold=123))},
    {"kind": KeywordIndexParams(type="keyword", is_tenant=True), "n": "integer", "text": PayloadSchemaType.TEXT},
    hnsw_config=HnswConfigDiff(m=20, ef_construct=64), wal_config=WalConfigDiff(wal_capacity_mb=8),
    optimizers_config=OptimizersConfigDiff(default_segment_number=2, indexing_threshold=5000),
    shard_number=2, replication_factor=1, write_consistency_factor=1, on_disk_payload=False,
    quantization_config=ScalarQuantization(scalar=ScalarQuantizationConfig(type="int8", quantile=0.97)),
    strict_mode_config=StrictModeConfig(enabled=True, max_query_limit=500), metadata={"team": {"name": "ü", "list": [1, None]}})"""
MADE = {
    "vectors": {
        "": {"size": 8, "distance": "Cosine"},
        "h": {"size": 4, "distance": "Manhattan", "datatype": "float16", "on_disk": True, "hnsw_config": {"m": 12}},
        "m": {"size": 4, "distance": "Dot", "multivector_config": {"comparator": "max_sim"}},
    },
    "sparse": {"s": {"modifier": "idf", "index": {"on_disk": True, "full_scan_threshold": 123}}},
    "indexes": {"kind": {"type": "keyword", "is_tenant": True}, "n": {"type": "integer"}, "text": {"type": "text"}},
    "config": {
        "hnsw_config": {"m": 20, "ef_construct": 64},
        "wal_config": {"wal_capacity_mb": 8},
        "optimizers_config": {"default_segment_number": 2, "indexing_threshold": 5000},
        "shard_number": 2,
        "replication_factor": 1,
        "write_consistency_factor": 1,
        "on_disk_payload": False,
        "quantization_config": {"scalar": {"type": "int8", "quantile": 0.97}},
        "strict_mode_config": {"enabled": True, "max_query_limit": 500},
        "metadata": {"team": {"name": "ü", "list": [1, None]}},
    },
}


def test_create_with_everything_at_once(trial):
    """A collection with every kind of parameter is made as declared, removed whole, and survives a copy whole."""
    trial.revise("0001", EVERYTHING)
    trial.upgrade()
    made = trial.look()
    families = ("vectors", "sparse") if trial.local else tuple(MADE)
    for family in families:
        for name, wanted in MADE[family].items():
            assert not missing(made.schema[family][name], wanted, local=trial.local), f"{family} {name}"
    assert set(made.schema["vectors"]) == {"", "h", "m"}
    assert made.schema["config"]["metadata"] == MADE["config"]["metadata"]
    back.rollback(trial.settings, "-1")
    assert trial.look().aliases == {}
    assert trial.history()[0] == ("rollback", "0001", "drop")
    trial.upgrade()
    again = trial.look()
    assert again.schema == made.schema
    vectors = {"": lambda n: dense(n, 8), "h": lambda n: whole(n, 4), "m": lambda n: [whole(n, 4)] * (n % 2 + 1)}
    trial.put(points(20, **vectors, s=lambda n: {"indices": [n, 99], "values": [1.0, 2.0]})())
    before = trial.look()
    row = row_of("add_embed")
    trial.revise("0002", row.change)
    trial.upgrade()
    check_forward(row, trial, before)


def test_a_dropped_collection_comes_back(trial):
    """DropCollection takes name and aliases away and keeps the points; rollback brings all of it back."""
    row = row_of("alias")
    before = begin(replace(row, start=f"{row.start}, {row.change}", change="op.DropCollection(NAME)"), trial)
    trial.upgrade()
    gone = trial.look()
    assert (gone.schema, gone.aliases, gone.collections) == (None, {}, before.collections)
    assert trial.history()[0] == ("upgrade", "0002", "drop")
    assert (trial.made.row().state, trial.made.row().points) == ("ready", None)
    back.rollback(trial.settings, "-1")
    found = trial.look()
    assert (found.schema, found.points, found.aliases) == (before.schema, before.points, before.aliases)
    trial.check_row("0001", len(before.points), "0002")
    trial.upgrade()
    assert trial.look().aliases == {}


def test_further_aliases_move_in_the_same_request(trial, monkeypatch):
    """A rebuild re-points the logical name and every further alias in one request; rollback moves both back."""
    trial.revise("0001", f"{row_of('alias').start}, {row_of('alias').change}")
    trial.upgrade()
    trial.put(points(12)())
    trial.revise("0002", row_of("add_embed").change)
    name, requests = trial.made.name, []
    holder = LocalStore if trial.local else ServerStore
    original = holder.rename_aliases

    def watched(store, pairs, drop=()):
        requests.append(sorted(new for _, new in pairs if new.startswith(name)))
        original(store, pairs, drop)

    monkeypatch.setattr(holder, "rename_aliases", watched)
    for action, generation in (
        (trial.upgrade, "g0002"),
        (lambda: back.rollback(trial.settings, "-1"), "g0001"),
        (trial.upgrade, "g0003"),
    ):
        action()
        physical = f"{name}__{generation}"
        assert trial.look().aliases == {name: physical, f"{name}_read": physical}
    assert [one for one in requests if one] == [[name, f"{name}_read"]] * 3


def test_an_alias_that_went_to_another_collection_stays_there(trial):
    """A further name that a later revision gave away is not undone by a rollback of its first owner."""
    first, second, alias = (f"{trial.made.name}_{word}" for word in ("first", "second", "read"))
    create = row_of("add_embed").start
    trial.revise("0001", ", ".join(create.replace("NAME", f'"{name}"') for name in (first, second)) + f', op.SetAlias("{alias}", "{first}")')
    trial.revise("0002", f'op.SetAlias("{alias}", "{second}")')
    # Pending together, all would be made in their final shape at once.
    trial.upgrade()
    trial.revise("0003", row_of("add_empty").change.replace("NAME", f'"{first}"'))
    trial.upgrade()
    assert trial.look().aliases == {first: f"{first}__g0002", second: f"{second}__g0001", alias: f"{second}__g0001"}
    back.rollback(trial.settings, "-1")
    assert trial.look().aliases == {first: f"{first}__g0001", second: f"{second}__g0001", alias: f"{second}__g0001"}


@pytest.mark.server
@pytest.mark.parametrize("start", ["three shards", "strict mode"])
def test_writes_during_a_rebuild_reach_every_shard(on_server, monkeypatch, start):
    """Writes to the old generation after the copy and after the proof are carried, through 3 shards and strict mode."""
    trial = on_server
    name = trial.made.name
    if start == "three shards":
        before = begin(row_of("reshard"), trial)
        trial.upgrade()
        assert (trial.look().shards, before.shards) == (3, 1)
        trial.revise("0003", row_of("add_embed").change)
        limit = 60
    else:
        begin(replace(row_of("strict_mode_survives"), points=points(12)), trial)
        limit = 12
    physical = trial.look().aliases[name]
    original = {"prove": rebuild.prove, "sweep": golive.sweep}
    late = {
        "prove": [Point(5000 + n, {"text": f"early {n}"}, {"a": dense(n, 8)}) for n in range(limit - 4)],
        "sweep": [Point(key, {"text": f"late {key}"}, {"a": dense(3, 8)}) for key in (0, 1, 2, 3, 5, 5000, 5001)],
    }

    def writing(kind):
        def wrapper(work, *args, **kwargs):
            if work.collection == name and late[kind]:
                trial.put(late[kind], physical)
                written.extend(late[kind])
                late[kind] = []
            return original[kind](work, *args, **kwargs)

        return wrapper

    written: list[Point] = []
    monkeypatch.setattr(rebuild, "prove", writing("prove"))
    monkeypatch.setattr(golive, "sweep", writing("sweep"))
    trial.upgrade()
    seen = trial.look()
    texts = {point.id: point.payload["text"] for point in written}
    assert len(texts) == limit - 4 + 5
    for key, text in texts.items():
        payload, vectors = seen.points[key]
        assert payload == {"text": text}
        assert equal(vectors["b"], words({"text": text}), 1e-6)
    assert status.history(trial.settings).rows[0].report["sweep"]["carried"] == 7
    assert seen.shards == (3 if start == "three shards" else 1)
    newer = [Point(key, {"text": "newer"}, {"a": dense(1, 8), "b": dense(1, 16)}) for key in texts]
    trial.put(newer)
    back.rollback(trial.settings, "-1", writes="carry")
    carried = trial.look().points
    assert all(carried[key][0] == {"text": "newer"} and set(carried[key][1]) == {"a"} for key in texts)
    assert carried.keys() == seen.points.keys()


CREATE_THREE = ", ".join(row_of("add_embed").start.replace("NAME", f'NAME + "_x{number}"') for number in (1, 2, 3))


def test_a_glob_over_three_of_which_one_fails(trial):
    """Each collection has its own state: the done one stays, the failed one is resumed, the other isn't held up."""
    trial.revise("0001", CREATE_THREE)
    trial.upgrade()
    names = [f"{trial.made.name}_x{number}" for number in (1, 2, 3)]
    for name in names:
        trial.put(points(20, bare=False)(), name)
    # The last id: the first ones are tried before anything is written.
    trial.put([Point(2**64 - 1, {"n": "not a number"}, {"a": dense(1, 8)})], names[1])
    trial.revise("0002", row_of("add_dense").change.replace("NAME", 'NAME + "_x*"'))
    with pytest.raises(QmigrateError, match=f"{names[1]}|18446744073709551615"):
        trial.upgrade()
    assert states(trial, names)[:2] == [("0002", "ready"), ("0001", "failed")]
    upgrade.upgrade(trial.settings, only=[names[2]])
    assert states(trial, names) == [("0002", "ready"), ("0001", "failed"), ("0002", "ready")]
    trial.put([Point(2**64 - 1, {"n": 7}, {"a": dense(1, 8)})], names[1])
    done = upgrade.upgrade(trial.settings)
    assert [found.collection for found in done.resumed] == [names[1]]
    assert states(trial, names) == [("0002", "ready")] * 3
    for name in names:
        seen = trial.look(name).points
        assert len(seen) == 20
        assert all(equal(vectors["b"], [p["n"] + 0.5, p["n"] * 2.0, 1.0], 1e-6) for p, vectors in seen.values())
    back.rollback(trial.settings, "-1", only=[names[0]])
    assert states(trial, names) == [("0001", "pending"), ("0002", "ready"), ("0002", "ready")]


def states(trial: Trial, names: list[str]) -> list[tuple[str | None, str]]:
    """(revision, state) of each."""
    rows = {row.name: row for row in status.status(trial.settings).collections}
    return [(rows[name].revision, rows[name].state) for name in names]
