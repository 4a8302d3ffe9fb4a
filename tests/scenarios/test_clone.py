"""Clones on a real server: every way to one, every reason for a copy, writers, and unknown settings."""

from __future__ import annotations

import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import clean
from tests.harness import CREATE, Deployment, make_point, write

from qmigrate.commands import rollback as back
from qmigrate.commands import status, upgrade
from qmigrate.engine import rebuild
from qmigrate.errors import PlanError, RefusedError, RepairNeededError, StoreError
from qmigrate.operations import base
from qmigrate.parameters.catalogue import catalogue
from qmigrate.parameters.kinds import Fields
from qmigrate.ports import Recovery
from qmigrate.store import shapes
from qmigrate.store.server import capabilities
from qmigrate.store.server.server import ServerStore
from qmigrate.store.server.snapshots import Recoveries

POINTS = 60
HNSW = """
def upgrade():
    return [op.UpdateCollection("{name}", hnsw_config=HnswConfigDiff(m=24, payload_m=8))]
"""
NOWHERE = "/nowhere/to/be/found"

pytestmark = pytest.mark.server


class Lines:
    """A progress that keeps its messages."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def begin(self, collection, phase, total, done=0) -> None:
        """Ignore."""

    def advance(self, count, note="") -> None:
        """Ignore."""

    def end(self, summary="") -> None:
        """Ignore."""

    def say(self, line: str) -> None:
        """Keep it."""
        self.said.append(line)


def deploy(server, folder: Path, **settings) -> Deployment:
    """A loaded collection with a revision pending that becomes a clone."""
    qdrant = {"url": server.url, "grpc_port": server.grpc_port, "timeout": 3, **settings.pop("qdrant", {})}
    made = Deployment(folder / "project", qdrant, f"sqlite:///{folder}/ledger.db", extra=settings)
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(POINTS)
    made.revise("0002", HNSW)
    return made


@pytest.fixture
def made(qdrant_server, tmp_path):
    """A deployment on the shared server."""
    one = deploy(qdrant_server, tmp_path)
    yield one
    clean(one)


def run(deployment: Deployment, **options) -> tuple[upgrade.UpgradeResult, list[str]]:
    """Upgrade; what it did, and what it reported."""
    lines = Lines()
    return upgrade.upgrade(deployment.settings(), progress=lines, **options), lines.said


def strategy(deployment: Deployment) -> str | None:
    """How 0002 was applied, as the history has it."""
    return next(row.strategy for row in status.history(deployment.settings()).rows if row.revision == "0002")


def facts(result, phase: str) -> dict:
    """What a phase of the build has learned."""
    return result.outcomes[-1].report.get(f"0.{phase}", {})


def names(deployment: Deployment) -> list[str]:
    """Physical names, without the deployment's own."""
    store = deployment.store()
    try:
        return [name.removeprefix(deployment.name) for name in store.physical_names() if name.startswith(deployment.name)]
    finally:
        store.close()


def snapshots(deployment: Deployment, name: str) -> int:
    """How many snapshots a collection lists."""
    store = deployment.store()
    try:
        return len(store.list_snapshots(name))
    finally:
        store.close()


def check(deployment: Deployment, before: dict, generation: str = "__g0002") -> None:
    """Points as before, settings as declared, and one generation more."""
    assert deployment.contents() == before
    row = deployment.row()
    assert (row.revision, row.state, row.points) == ("0002", "ready", len(before))
    assert names(deployment) == ["__g0001", generation]
    store = deployment.store()
    live = store.describe(deployment.name)
    store.close()
    assert (live.schema.config["hnsw_config"]["m"], live.schema.config["hnsw_config"]["payload_m"]) == (24, 8)
    assert (live.seal["state"], live.seal["revision"]) == ("live", "0002")


# --- the ways -------------------------------------------------------------------------------------------------------


def test_a_clone_writes_no_point_and_goes_back_like_a_copy(made, monkeypatch):
    """The server does it: no point passes through this process but for the proof; rollback and upgrade again follow."""
    before, written = made.contents(), []
    original = ServerStore.upsert
    monkeypatch.setattr(ServerStore, "upsert", lambda store, name, points: written.append(name) or original(store, name, points))
    plan = upgrade.plan(made.settings()).collections[0]
    assert plan.reasons == ("0002  clone: rebuilds the HNSW graph of every segment: done next to the live collection",)
    result, _ = run(made)
    check(made, before)
    assert (strategy(made), facts(result, "shadow")["cloned"]) == ("clone", "from its own address")
    proof = facts(result, "converge")["report"]
    assert (proof["points"], proof["proven"], proof["repaired"]) == (POINTS, POINTS, 0)
    assert not written
    back.rollback(made.settings(), "0001")
    assert (made.contents(), made.row().revision) == (before, "0001")
    upgrade.upgrade(made.settings())
    check_after = made.contents()
    assert check_after == before
    store = made.store()
    write(store, made.name, [make_point(POINTS + 7), make_point(0, text="changed")])
    store.close()
    with pytest.raises(RefusedError, match="was written to"):
        back.rollback(made.settings(), "0001")
    now = made.contents()
    back.rollback(made.settings(), "0001", writes="carry")
    assert made.contents() == now


@pytest.mark.parametrize("location", ["file", "upload"])
def test_each_further_way_is_taken_when_those_before_it_fail(qdrant_with, tmp_path, monkeypatch, location):
    """A server that fetches nothing reads its own folder; one that reads no such file either gets it sent."""
    server = qdrant_with({"QDRANT__SERVICE__ENABLE_SNAPSHOT_URL_RECOVERY": "false"})
    deployment = deploy(server, tmp_path)
    if location == "upload":
        monkeypatch.setattr(Recoveries, "_folder", lambda recoveries, target: NOWHERE)
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    before = deployment.contents()
    result, _ = run(deployment)
    check(deployment, before)
    shadow = facts(result, "shadow")
    assert shadow["cloned"] == {"file": "from its own folder", "upload": "from an upload"}[location]
    assert "disabled" in shadow["tried"]["url"]
    assert ("file" in shadow["tried"]) == (location == "upload")
    assert (snapshots(deployment, deployment.name), list(folder.iterdir())) == (0, [])
    assert snapshots(deployment, f"{deployment.name}__g0001") == 1


def test_the_server_gets_its_own_key(qdrant_with, tmp_path, monkeypatch):
    """A protected server fetches from its own address with the key, which is nowhere written down."""
    monkeypatch.setenv("QDRANT_TEST_KEY", "a-very-secret-key")
    server = qdrant_with({"QDRANT__SERVICE__API_KEY": "a-very-secret-key"})
    deployment = deploy(server, tmp_path, qdrant={"api_key_env": "QDRANT_TEST_KEY"})
    result, said = run(deployment)
    assert facts(result, "shadow")["cloned"] == "from its own address"
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"a-very-secret-key" not in written
    assert "a-very-secret-key" not in f"{result}{said}"


def test_a_snapshot_is_made_also_when_none_is_wanted(made):
    """A clone is made of a snapshot, so --no-snapshot gives way, and that is reported."""
    result, said = run(made, no_snapshot=True)
    assert strategy(made) == "clone"
    assert any("a snapshot" in line and "made anyway" in line for line in said)
    assert snapshots(made, f"{made.name}__g0001") == 1


def test_a_big_collection_gets_its_index_beside_it(made, monkeypatch):
    """An index that a small collection takes at once is built in a clone of a big one; in place when that is asked for."""
    monkeypatch.setattr(base, "BIG", POINTS)
    before = made.contents()
    made.revise("0002", 'def upgrade():\n    return [op.CreatePayloadIndex("{name}", "kind", "keyword")]\n', down="0001")
    run(made)
    assert strategy(made) == "clone"
    made.revise("0003", 'def upgrade():\n    return [op.CreatePayloadIndex("{name}", "n", "integer", strategy="in_place")]\n')
    run(made)
    assert (names(made), made.contents()) == (["__g0001", "__g0002"], before)
    store = made.store()
    assert {field: params["type"] for field, params in store.describe(made.name).schema.indexes.items()} == {
        "kind": "keyword", "n": "integer",
    }
    store.close()


# --- fall back ------------------------------------------------------------------------------------------------------


def refusing(monkeypatch, reason: str) -> None:
    """No recovery succeeds."""
    monkeypatch.setattr(ServerStore, "recover_snapshot", lambda *_: Recovery("refused", reason))


def no_right(monkeypatch) -> None:
    """No snapshot may be made."""

    def denied(store, name):
        raise StoreError("the key may not make snapshots")

    monkeypatch.setattr(ServerStore, "create_snapshot", denied)


#: Reason -> (what makes it, options of upgrade).
REASONS = {
    "the server says no": (lambda patch: refusing(patch, "the server says no"), {}),
    "the key may not make snapshots": (no_right, {"no_snapshot": True}),
    "the server's disk has 1,000 in total": (
        lambda patch: patch.setattr(ServerStore, "disk_size", lambda store: 1000),
        {},
    ),
    "Snapshot checksum mismatch": (
        lambda patch: patch.setattr(Recoveries, "recover", damaged(Recoveries.recover)),
        {},
    ),
}


def damaged(original):
    """A recovery of a snapshot whose checksum is another one."""

    def wrapper(recoveries, target, source, snapshot, location, tick):
        return original(recoveries, target, source, replace(snapshot, checksum="0" * 64), location, tick)

    return wrapper


@pytest.mark.parametrize("reason", REASONS)
def test_what_shows_at_run_time_makes_it_a_copy_with_the_reason(made, monkeypatch, reason):
    """The run continues as a copy; the reason is reported, recorded, and the history has what was really done."""
    before = made.contents()
    prepare, options = REASONS[reason]
    prepare(monkeypatch)
    result, said = run(made, **options)
    check(made, before)
    assert strategy(made) == "copy"
    because = [found["copied_because"] for found in result.outcomes[0].report.values() if "copied_because" in found]
    assert reason in because[0]
    assert any("copied, not cloned" in line and reason in line for line in said)
    assert snapshots(made, made.name) == 0


def test_no_snapshot_no_clone_and_no_copy_either_unless_that_is_wanted(made, monkeypatch):
    """Where a snapshot is required and can't be made, nothing continues without it; --no-snapshot then copies."""
    with monkeypatch.context() as patched:
        no_right(patched)
        with pytest.raises(StoreError, match="may not make snapshots") as failed:
            run(made)
        assert "--no-snapshot" in failed.value.hint
        run(made, no_snapshot=True)
    assert strategy(made) == "copy"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"peers": 3}, "has 3 nodes, and a snapshot holds the shards of one"),
        ({"peers": 0}, "an unknown number of nodes"),
        ({"snapshots": False}, "has no snapshots"),
    ],
)
def test_what_a_plan_can_tell_is_in_the_plan(made, monkeypatch, change, words):
    """A cluster, and a server without snapshots, are planned as a copy, with the reason why it is not a clone."""
    original = capabilities.read
    monkeypatch.setattr(capabilities, "read", lambda nodes: replace(original(nodes), **change))
    plan = upgrade.plan(made.settings()).collections[0]
    assert plan.job.steps[0].fill == "copy"
    assert words in plan.reasons[0]
    assert "rebuilds the HNSW graph" in plan.reasons[0]


# --- answers that never come ----------------------------------------------------------------------------------------


def test_a_recovery_that_outlasts_its_request_is_waited_for(made, monkeypatch):
    """The request times out, the server continues: the clone is taken when the server is done, under its own number."""
    original, threads = ServerStore.recover_snapshot, []

    def slow(store, *args):
        thread = threading.Thread(target=original, args=(store, *args))
        threads.append(thread)
        thread.start()
        while thread.is_alive() and not store.recovering(args[0]):
            pass
        return Recovery("unclear", "no answer within 3 s")

    monkeypatch.setattr(ServerStore, "recover_snapshot", slow)
    before = made.contents()
    run(made)
    for thread in threads:
        thread.join()
    assert len(threads) == 1
    assert strategy(made) == "clone"
    check(made, before)


def test_a_number_whose_recovery_may_still_land_is_given_up(made, monkeypatch):
    """No answer and no collection: the next number is taken, and what lands late under the old one is removed."""
    original, proof = ServerStore.recover_snapshot, rebuild.prove
    lost, landed = [], []

    def lose(store, *args):
        if not lost:
            lost.append(args)
            return Recovery("unclear", "the connection broke")
        return original(store, *args)

    def late(work, *args, **kwargs):
        if work.collection == made.name and not landed:
            landed.append(original(work.store, *lost[0]))
        return proof(work, *args, **kwargs)

    monkeypatch.setattr(ServerStore, "recover_snapshot", lose)
    monkeypatch.setattr(rebuild, "prove", late)
    before = made.contents()
    result, said = run(made)
    assert landed[0].state == "done"
    assert lost[0][0] == f"{made.name}__g0002"
    assert any("__g0002 is abandoned" in line for line in said)
    assert strategy(made) == "clone"
    assert result.outcomes[0].physical == f"{made.name}__g0003"
    check(made, before, "__g0003")
    made.revise("0003", HNSW.replace("24", "28"))
    run(made)
    assert names(made) == ["__g0001", "__g0003", "__g0004"]


def test_a_server_that_tells_nothing_of_recoveries_is_never_trusted_with_an_unclear_one(made, monkeypatch):
    """Where it is unknown whether it is over, the number is abandoned, however often; in the end it is a copy."""
    original = ServerStore.recover_snapshot

    def unheard(store, *args):
        original(store, *args)
        return Recovery("unclear", "the answer was lost")

    monkeypatch.setattr(ServerStore, "recover_snapshot", unheard)
    monkeypatch.setattr(ServerStore, "recovering", lambda store, target: None)
    before = made.contents()
    run(made)
    assert strategy(made) == "copy"
    check(made, before, "__g0005")


def test_abort_removes_what_was_given_up_too(made, monkeypatch):
    """A run that failed after it had abandoned a number is undone completely."""
    original = ServerStore.recover_snapshot

    def unheard(store, *args):
        original(store, *args)
        return Recovery("unclear", "the answer was lost")

    def broken(*args, **kwargs):
        raise StoreError("the connection broke")

    with monkeypatch.context() as patched:
        patched.setattr(ServerStore, "recover_snapshot", unheard)
        patched.setattr(ServerStore, "recovering", lambda store, target: None)
        patched.setattr(rebuild, "prove", broken)
        with pytest.raises(StoreError, match="the connection broke"):
            run(made)
    assert names(made) == ["__g0001", "__g0002", "__g0003", "__g0004", "__g0005"]
    plan = back.abort(made.settings()).plan
    assert [step.target.removeprefix(made.name) for step in plan.collections[0].job.steps] == [
        "__g0005", "__g0002", "__g0003", "__g0004",
    ]
    assert names(made) == ["__g0001"]
    assert made.row().state == "pending"


def test_a_collection_that_nobody_explains_is_left_alone(made):
    """Another client has made a collection of the next generation's name: it is neither recovered into nor removed."""
    store = made.store()
    foreign = f"{made.name}__g0002"
    plan = upgrade.plan(made.settings())
    store.create_collection(foreign, store.describe(made.name).schema.with_(aliases=()), seal=None)
    write(store, foreign, [make_point(1)])
    settings = made.settings()
    # The plan would choose another number by now: this is the moment between plan and run.
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(upgrade, "_plan", lambda *_args, **_kwargs: plan)
        patched.setattr("qmigrate.model.state.CollectionState.basis", lambda _state, **_: plan.collections[0].job.basis)
        with pytest.raises(RepairNeededError, match="is in no journal"):
            upgrade.upgrade(settings)
    assert store.count(foreign) == 1
    store.close()


# --- unknown settings ---------------------------------------------------------------------------------------------


@pytest.fixture
def forgotten(monkeypatch):
    """This version doesn't know `payload_m` of HNSW: what a newer server's field is to an older qmigrate."""
    now = catalogue()
    info = Fields({**now.info.known, "hnsw_config": now.info.known["hnsw_config"].without("payload_m")})
    older = replace(now, info=info)
    monkeypatch.setattr(shapes, "catalogue", lambda: older)


def tuned(deployment: Deployment) -> None:
    """Give the live collection the field."""
    store = deployment.store()
    store._nodes.main.call("PATCH", f"/collections/{deployment.name}", {"hnsw_config": {"payload_m": 5}})
    store.close()


@pytest.mark.usefixtures("forgotten")
def test_a_copy_refuses_what_it_would_lose_and_a_clone_carries_it(made):
    """The plan has both before anything is written: the copy names the field, the clone carries its value."""
    tuned(made)
    made.revise("0002", 'def upgrade():\n    return [op.UpdateCollection("{name}", hnsw_config=HnswConfigDiff(m=24), strategy="copy")]\n', down="0001")
    with pytest.raises(PlanError, match=r"a copy would lose them: hnsw_config\.payload_m") as refused:
        upgrade.plan(made.settings())
    assert (refused.value.exit_code, refused.value.hint.startswith("update qmigrate")) == (2, True)
    with pytest.raises(PlanError, match="payload_m"):
        upgrade.upgrade(made.settings())
    made.revise("0002", HNSW.replace(", payload_m=8", ""), down="0001")
    plan = upgrade.plan(made.settings()).collections[0]
    assert "left to the server's clone" in plan.reasons[1]
    assert "hnsw_config.payload_m" in plan.reasons[1]
    run(made)
    assert strategy(made) == "clone"
    store = made.store()
    assert store.describe(made.name).schema.config["hnsw_config"]["payload_m"] == 5
    store.close()
    made.revise("0003", 'def upgrade():\n    return [op.CreatePayloadIndex("{name}", "kind", "keyword")]\n')
    upgrade.upgrade(made.settings())
    assert made.row().revision == "0003"


@pytest.mark.usefixtures("forgotten")
def test_a_clone_that_can_not_be_had_is_no_copy_then(made, monkeypatch):
    """Where the clone fails at run time, the copy that would lose the field is refused, and abort leaves nothing."""
    tuned(made)
    made.revise("0002", HNSW.replace(", payload_m=8", ""), down="0001")
    refusing(monkeypatch, "the server says no")
    with pytest.raises(RefusedError, match=r"a copy would lose settings.*hnsw_config\.payload_m"):
        run(made)
    back.abort(made.settings())
    assert names(made) == ["__g0001"]
