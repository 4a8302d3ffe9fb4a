"""A plain collection's name becomes an alias: hidden without a gap, or with one; and the way back."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from tests.harness import ADD, INDEX, Deployment, by_hand, make_point, write
from tests.scenarios.plain_names import SCHEMA, plain
from tests.scenarios.test_gc import type_of
from tests.scenarios.traffic import Reader

from qmigrate.commands import rollback as back
from qmigrate.commands import upgrade
from qmigrate.engine import phases as steps
from qmigrate.engine.golive import freeze, golive
from qmigrate.errors import ConflictError, QmigrateError, RefusedError, RepairNeededError
from qmigrate.model.names import PROBE_PREFIX, is_own_alias, old_alias
from qmigrate.model.plan import Build
from qmigrate.store.faults import TransientError
from qmigrate.store.server.server import ServerStore


def names_of(deployment: Deployment) -> tuple[set[str], dict[str, str]]:
    """Collections and aliases of a deployment."""
    store = deployment.store()
    try:
        physical = {name for name in store.physical_names() if name.startswith((deployment.name, PROBE_PREFIX))}
        aliases = {key: value for key, value in store.aliases().items() if key.startswith(deployment.name)}
    finally:
        store.close()
    return physical, aliases


@pytest.fixture
def on_server(qdrant_server, tmp_path):
    """A plain collection under management on a real server."""
    from tests.conftest import clean

    made = Deployment(
        tmp_path / "project",
        {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "timeout": 2},
        f"sqlite:///{tmp_path}/ledger.db",
    )
    plain(made)
    yield made
    clean(made)


@pytest.mark.server
def test_an_alias_hides_the_plain_collection_and_goes_again(on_server):
    """Upgrade → the alias hides it; a further swap; back twice: the plain collection serves as before."""
    made = on_server
    before = made.contents()
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())
    physical, aliases = names_of(made)
    assert physical == {made.name, f"{made.name}__g0001"}
    assert aliases == {made.name: f"{made.name}__g0001", old_alias(made.name): made.name}
    assert all("b" in vectors for _, vectors in made.contents().values())
    assert made.contents(old_alias(made.name)) == before
    made.revise("0003", ADD.replace('"b"', '"c"'))
    upgrade.upgrade(made.settings())
    assert names_of(made)[1] == {made.name: f"{made.name}__g0002", old_alias(made.name): made.name}
    back.rollback(made.settings(), "0002")
    back.rollback(made.settings(), "0001")
    physical, aliases = names_of(made)
    assert aliases == {}
    assert made.contents() == before
    assert made.row().revision == "0001"
    upgrade.upgrade(made.settings())
    assert names_of(made)[1][made.name] == f"{made.name}__g0003"
    assert made.row().state == "ready"


@pytest.mark.server
def test_writes_since_are_carried_back_into_the_hidden_collection(on_server):
    """What was written through the alias stands in the plain collection after a rollback that carries."""
    made = on_server
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())
    store = made.store()
    write(store, made.name, [make_point(100), make_point(0, text="changed")])
    store.delete(made.name, [2])
    store.close()
    with pytest.raises(RefusedError, match="1 point added, 1 changed, 1 deleted"):
        back.rollback(made.settings(), "0001")
    back.rollback(made.settings(), "0001", writes="carry")
    found = made.contents()
    assert 101 in found
    assert 2 not in found
    assert found[1][0]["text"] == "changed"
    assert names_of(made)[1] == {}


@pytest.mark.server
def test_late_writes_to_the_hidden_collection_are_carried(on_server, monkeypatch):
    """A write that the plain collection took between proof and swap is there behind the alias."""
    made = on_server
    original = golive.swap

    def late(work, target, names):
        write(work.store, made.name, [make_point(200)])
        work.store.delete(made.name, [1])
        original(work, target, names)

    monkeypatch.setattr(golive, "swap", late)
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())
    found = made.contents()
    assert 201 in found
    assert 1 not in found
    assert "b" in found[201][1]


@pytest.mark.server
def test_where_hiding_is_refused_consent_to_a_gap_is_asked_for(on_server, monkeypatch):
    """Without --allow-gap: exit 10 before anything is written; with it the name is an ordinary alias afterwards."""
    made = on_server
    before = made.contents()
    made.revise("0002", ADD)
    monkeypatch.setattr(ServerStore, "hides_collections", lambda _: False)
    with pytest.raises(RefusedError, match="plain collection") as refused:
        upgrade.upgrade(made.settings())
    assert "--allow-gap" in str(refused.value.hint)
    assert names_of(made) == ({made.name}, {})
    upgrade.upgrade(made.settings(), allow_gap=True)
    physical, aliases = names_of(made)
    assert aliases == {made.name: f"{made.name}__g0002"}
    assert physical == {f"{made.name}__g0001", f"{made.name}__g0002"}
    back.rollback(made.settings(), "0001")
    assert made.contents() == before
    store = made.store()
    # The freeze is gone from whatever serves.
    write(store, made.name, [make_point(300 + number) for number in range(3)])
    write(store, made.name, [make_point(400)])
    store.close()


@pytest.mark.server
def test_a_gap_under_readers_is_measured_and_over_in_moments(on_server, capsys):
    """Reads fail only while the name is away; the report has for how long, and every point is there afterwards."""
    made = on_server
    made.extra["rebuild"] = {"plain_names": "gap"}
    made.__post_init__()
    query = {made.name: {"query": [0.5] * 8, "using": "a"}}
    readers = [Reader(made.qdrant["url"], [made.name], {made.name: 40}, query, seed) for seed in range(3)]
    for reader in readers:
        reader.start()
    made.revise("0002", ADD)
    try:
        result = upgrade.upgrade(made.settings(), allow_gap=True)
        reads = [reader.reads for reader in readers]
        while any(reader.reads <= before for reader, before in zip(readers, reads, strict=True)):
            assert all(reader.is_alive() for reader in readers)
    finally:
        for reader in readers:
            reader.stop()
    failures = [failure for reader in readers for failure in reader.failures]
    (gap,) = [facts["gap_milliseconds"] for facts in result.outcomes[0].report.values() if "gap_milliseconds" in facts]
    with capsys.disabled():
        print(f"\ngap of at most {gap} ms: {len(failures)} of {sum(reader.reads for reader in readers):,} reads failed")
    assert all("404" in said for _, said in failures), "nothing else than a name that is away"
    assert [entry for reader in readers for entry in reader.wrong] == []
    assert len(made.contents()) == 40


def test_local_mode_makes_room_by_an_identical_generation(tmp_path):
    """No other client is there: no consent is needed, and the way back is a generation like any other."""
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
    plain(made)
    before = made.contents()
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())
    assert names_of(made)[1] == {made.name: f"{made.name}__g0002"}
    back.rollback(made.settings(), "0001")
    assert made.contents() == before
    assert names_of(made)[1] == {made.name: f"{made.name}__g0001"}


def test_light_changes_leave_a_plain_collection_where_it_is(qdrant_config, tmp_path):
    """An index is made in place: no alias, no second collection."""
    from tests.conftest import clean

    made = Deployment(tmp_path / "project", qdrant_config, f"sqlite:///{tmp_path}/ledger.db")
    plain(made)
    made.revise("0002", INDEX)
    upgrade.upgrade(made.settings())
    assert names_of(made) == ({made.name}, {})
    assert made.row().revision == "0002"
    back.rollback(made.settings(), "0001")
    assert made.row().revision == "0001"
    if "url" in qdrant_config:
        clean(made)


@pytest.mark.server
def test_a_collection_made_again_in_the_middle_is_left_alone(on_server, monkeypatch):
    """The application deletes and re-creates the collection during the build: nothing of it is touched.

    What was built holds the only copy of its points, so an abort leaves that too, until it was deleted by hand.
    """
    made = on_server
    original = golive.preflight

    def meddling(step, work):
        work.store.drop_collection(by_hand(made.name))
        work.store.create_collection(made.name, SCHEMA, seal=None)
        write(work.store, made.name, [make_point(7)])
        return original(step, work)

    phases = tuple(replace(one, run=meddling) if one.name == "preflight" else one for one in golive.PHASES)
    made.revise("0002", ADD)
    with monkeypatch.context() as patch:
        patch.setitem(steps._CHECKLISTS, "golive", phases)
        with pytest.raises(RepairNeededError, match="deleted and recreated"):
            upgrade.upgrade(made.settings())
    assert list(made.contents()) == [8]
    with pytest.raises(RefusedError, match="deleted and recreated it: .* holds the only copy"):
        back.abort(made.settings())
    store = made.store()
    assert store.count(f"{made.name}__g0001") == 40
    store.drop_collection(by_hand(f"{made.name}__g0001"))
    store.close()
    back.abort(made.settings())
    assert names_of(made) == ({made.name}, {})
    assert list(made.contents()) == [8]


@pytest.mark.server
def test_an_application_that_deletes_by_name_afterwards_hits_the_hidden_one(on_server):
    """The new generation keeps serving; a rollback reports that the old collection is not there any more."""
    made = on_server
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())
    store = made.store()
    store.drop_collection(by_hand(made.name))
    assert store.aliases()[made.name] == f"{made.name}__g0001"
    with pytest.raises(QmigrateError, match="exists"):
        store.create_collection(made.name, SCHEMA, seal=None)
    store.close()
    assert len(made.contents()) == 40
    with pytest.raises(RepairNeededError, match="not in Qdrant any more"):
        back.rollback(made.settings(), "0001")
    assert len(made.contents()) == 40


@pytest.mark.server
def test_old_collection_lost_during_the_sweep_is_said_and_nothing_is_taken(on_server, monkeypatch):
    """Deleted right after the swap: the run ends, and every point of the proof is there."""
    made = on_server
    original = golive.swap

    def swap(work, target, names):
        original(work, target, names)
        work.store.drop_collection(by_hand(made.name))

    monkeypatch.setattr(golive, "swap", swap)
    made.revise("0002", ADD)
    result = upgrade.upgrade(made.settings())
    assert any(facts.get("sweep", {}).get("lost") for facts in result.outcomes[0].report.values() if "sweep" in facts)
    assert len(made.contents()) == 40
    assert made.row().state == "ready"


@pytest.mark.server
def test_dropping_a_plain_name_needs_room_first(on_server):
    """DropCollection of a plain collection: the name goes only with consent, and the points come back by rollback."""
    made = on_server
    before = made.contents()
    made.revise("0002", 'def upgrade():\n    return [op.DropCollection("{name}")]\n')
    made.extra["rebuild"] = {"plain_names": "gap"}
    made.__post_init__()
    with pytest.raises(RefusedError, match="plain collection"):
        upgrade.upgrade(made.settings())
    upgrade.upgrade(made.settings(), allow_gap=True)
    assert names_of(made)[1] == {}
    back.rollback(made.settings(), "0001")
    assert made.contents() == before


@pytest.mark.server
def test_the_probe_leaves_nothing_behind(server_store):
    """Tried on throwaway names: it works on this server, and no name of it is left."""
    assert server_store.hides_collections()
    assert not [name for name in server_store.physical_names() if name.startswith(PROBE_PREFIX)]
    assert not [name for name in server_store.aliases() if name.startswith(PROBE_PREFIX)]




@pytest.mark.timeout(120)
@pytest.mark.parametrize("plain_names", ["auto", "gap"])
def test_a_collection_that_is_made_again_in_the_gap_is_never_hidden_silently(deployment, monkeypatch, plain_names):
    """An application that makes what it misses: the run stops, reports it, and continues once that is gone."""
    made = deployment
    made.extra["rebuild"] = {"plain_names": plain_names}
    made.__post_init__()
    plain(made)
    before = made.contents()
    made.revise("0002", ADD)
    with monkeypatch.context() as patch:
        kind = type_of(made)
        real = kind.drop_collection

        def deleted_and_made(self, permit):
            real(self, permit)
            if permit.physical == made.name:
                with suppress(ConflictError):
                    self.create_collection(made.name, SCHEMA, seal=None)
                    write(self, made.name, [make_point(7777)])

        patch.setattr(kind, "drop_collection", deleted_and_made)
        patch.setattr(kind, "hides_collections", lambda _: False)
        refused: RepairNeededError | None = None
        try:
            upgrade.upgrade(made.settings(), allow_gap=True)
        except RepairNeededError as error:
            refused = error
        if refused is not None:
            assert "made a collection" in refused.message
            if "hides it now" not in refused.message:
                with pytest.raises(RepairNeededError, match="made a collection"):
                    upgrade.upgrade(made.settings())
                assert len(made.contents()) == 1, "it was left unchanged"
            store = made.store()
            real(store, by_hand(made.name))
            store.close()
        else:
            # The server had the name as an alias before a client could recreate it.
            assert (plain_names, made.name in names_of(made)[0]) == ("auto", False)
    upgrade.upgrade(made.settings(), allow_gap=True)
    assert names_of(made)[0] == {f"{made.name}__g0001", f"{made.name}__g0002"}
    # In the moment after the swap what it writes goes through the name, as it should.
    assert made.contents().keys() >= before.keys()


@pytest.mark.timeout(120)
def test_a_deletion_whose_answer_was_lost_is_not_sent_to_what_was_made_again_since(deployment, monkeypatch):
    """The server has deleted the plain collection and an application made it again: only the first one goes."""
    made = deployment
    made.extra["rebuild"] = {"plain_names": "gap"}
    made.__post_init__()
    plain(made)
    before = made.contents()
    made.revise("0002", ADD)
    with monkeypatch.context() as patch:
        kind = type_of(made)
        real, sent = kind.drop_collection, []

        def lost(self, permit):
            real(self, permit)
            if permit.physical != made.name:
                return
            sent.append(permit)
            if len(sent) == 1:
                self.create_collection(made.name, SCHEMA, seal=None)
                write(self, made.name, [make_point(7777)])
                raise TransientError("no answer", unknown=True)

        patch.setattr(kind, "drop_collection", lost)
        patch.setattr(kind, "hides_collections", lambda _: False)
        with pytest.raises(RepairNeededError, match="made a collection"):
            upgrade.upgrade(made.settings(), allow_gap=True)
        with pytest.raises(RepairNeededError, match="made a collection"):
            upgrade.upgrade(made.settings(), allow_gap=True)
        assert len(sent) == 1
        assert len(made.contents()) == 1, "what the application wrote is there"
    store = made.store()
    real(store, by_hand(made.name))
    store.close()
    upgrade.upgrade(made.settings(), allow_gap=True)
    assert made.contents().keys() == before.keys()


@pytest.mark.server
@pytest.mark.timeout(120)
@pytest.mark.parametrize("qdrant_config", ["server"], indirect=True)
@pytest.mark.parametrize("plain_names", ["auto", "gap"])
def test_what_passes_the_fence_before_a_deletion_is_sent_again_is_not_deleted(deployment, monkeypatch, plain_names):
    """The first request is lost; a minute later the fence lets one write pass: it is in what takes the name."""
    made = deployment
    made.extra["rebuild"] = {"plain_names": plain_names}
    made.__post_init__()
    plain(made)
    made.revise("0002", ADD)
    kind = type_of(made)
    real, sent = kind.drop_collection, []

    def lost(self, permit):
        if permit.physical == made.name:
            sent.append(permit)
            if len(sent) == 1:
                passes(self, made.name)
                raise TransientError("no answer", unknown=True)
        real(self, permit)

    monkeypatch.setattr(kind, "drop_collection", lost)
    monkeypatch.setattr(kind, "hides_collections", lambda _: False)
    # What is waited for is not waited for here.
    monkeypatch.setattr(freeze, "TOKEN_RETURNS", -1.0)
    if plain_names == "auto":
        # A server that refuses such an alias, as some do.
        refuses_to_hide(kind, monkeypatch, made.name)
    upgrade.upgrade(made.settings(), allow_gap=True)
    assert len(sent) == 2
    assert 7778 in made.contents()
    assert "b" in made.contents()[7778][1]


def passes(store, name: str) -> None:
    """One write of a client, as after a minute behind the fence."""
    alias = next(one for one, physical in store.aliases().items() if is_own_alias(one, physical) and physical == name)
    store.lift_fence(alias, {})
    write(store, name, [make_point(7777)])
    store.fence(alias)


def refuses_to_hide(kind: type, monkeypatch, name: str) -> None:
    """No alias takes the name of a collection that is there."""
    real = kind.rename_aliases

    def refused(self, pairs, drop=()):
        if name in self.physical_names() and name in [new for _, new in pairs]:
            raise ConflictError("there is a collection of that name")
        real(self, pairs, drop)

    monkeypatch.setattr(kind, "rename_aliases", refused)


@pytest.mark.parametrize("phase", ["fill", pytest.param("index", marks=pytest.mark.nightly), "converge", pytest.param("quality", marks=pytest.mark.nightly)])
@pytest.mark.parametrize("build", [0, 1], ids=["identical", "own"])
def test_what_was_written_while_it_was_interrupted_is_in_what_serves(deployment, monkeypatch, build, phase):
    """The identical copy gets it when it takes the name; what the revision makes of that one is proven again by then."""
    deployment.extra["rebuild"] = {"plain_names": "gap"}
    deployment.__post_init__()
    plain(deployment)
    deployment.revise("0002", ADD)
    checklist = steps._CHECKLISTS[Build.kind]

    def cut(one):
        def run(step, work):
            if work.job.steps[build] is step:
                raise KeyboardInterrupt
            return one.run(step, work)

        return replace(one, run=run)

    with monkeypatch.context() as patch:
        phases = tuple(cut(one) if one.name == phase else one for one in checklist)
        patch.setitem(steps._CHECKLISTS, Build.kind, phases)
        with pytest.raises(KeyboardInterrupt):
            upgrade.upgrade(deployment.settings(), allow_gap=True)
    store = deployment.store()
    write(store, deployment.name, [make_point(900), make_point(3, text="newer")])
    store.delete(deployment.name, [8])
    store.close()
    upgrade.upgrade(deployment.settings(), allow_gap=True)
    found = deployment.contents()
    assert (901 in found, 8 in found, found[4][0]["text"]) == (True, False, "newer")
