"""gc on both stores: what goes, what stays and why, what was written late, snapshots, plain names, gc: auto."""

from __future__ import annotations

import hashlib
import json
import stat
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.harness import ADD, CREATE, INDEX, Deployment, by_hand, make_point, write
from tests.scenarios.cli import call, left
from tests.scenarios.test_rollback import DROP, RENAME, put, target_of

from qmigrate.commands import gc as command
from qmigrate.commands import repair, status, upgrade
from qmigrate.commands import rollback as back
from qmigrate.commands.run_job import PlannedHere
from qmigrate.engine.fixes import purge
from qmigrate.engine.golive import golive
from qmigrate.errors import DeniedError, NotFoundError, RefusedError, StoreError
from qmigrate.ledger import Lease, Ledger, View
from qmigrate.model.names import is_own_alias, old_alias
from qmigrate.model.plan import Closing, Job
from qmigrate.model.state import Generation
from qmigrate.store.faults import SlowError, TransientError, not_qdrant

POINTS = 30


def configure(made: Deployment, **rebuild) -> None:
    """Other settings under rebuild: from now on."""
    made.extra["rebuild"] = {**made.extra.get("rebuild", {}), **rebuild}
    made.__post_init__()


def rebuilt(made: Deployment, **rebuild) -> Deployment:
    """A loaded collection that a rebuild has moved from g0001 to g0002, without holdover."""
    configure(made, **{"holdover": 0, "gc": "off", **rebuild})
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(POINTS)
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())
    return made


def physical(made: Deployment) -> list[str]:
    """Physical collections of the deployment."""
    store = made.store()
    try:
        return [name.removeprefix(made.name) for name in store.physical_names() if name.startswith(made.name)]
    finally:
        store.close()


def write_behind(made: Deployment, name: str, *points, delete=()) -> None:
    """Write to an old generation directly, as a user who lifts its fence by hand."""
    store = made.store()
    try:
        store.lift_fence(name, {})
        write(store, name, points)
        store.delete(name, list(delete))
    finally:
        store.close()


def test_what_is_past_its_holdover_goes_and_nothing_else(deployment):
    """The old generation, its base and own aliases are gone; the live one serves on, and the ledger has it as gone."""
    made = rebuilt(deployment)
    before = made.contents()
    result = command.gc(made.settings(), made.name)
    assert [(entry.generation, entry.points) for entry in result.collected] == [(f"{made.name}__g0001", POINTS)]
    assert (result.spared, result.exit_code) == ((), 0)
    assert physical(made) == ["__g0002"]
    assert made.contents() == before
    ledger = Ledger.open(made.ledger_url)
    assert [(row.number, row.state) for row in ledger.generations(made.name)] == [(1, "gone"), (2, "live")]
    assert not ledger.has_base(f"{made.name}__g0002")
    ledger.close()
    assert not left(made).open_runs
    assert command.gc(made.settings(), made.name).collected == ()


def test_what_is_held_stays_until_now_is_asked_for(deployment):
    """The preview names generation, points, times and the way back; --now takes it all the same."""
    made = rebuilt(deployment, holdover="7d")
    found = command.review(made.settings(), made.name)
    [held] = found.staying
    assert found.going == ()
    assert (held.generation, held.points, held.state) == (f"{made.name}__g0001", POINTS, "retired")
    assert held.reason == "the way back to 0001"
    assert held.held_until is not None
    assert held.since is not None
    assert (held.held_until - held.since).days == 6 or (held.held_until - held.since).days == 7
    assert command.gc(made.settings(), made.name).collected == ()
    assert physical(made) == ["__g0001", "__g0002"]
    [going] = command.review(made.settings(), made.name, now=True).going
    assert going.reason == "its holdover is ignored"
    assert command.gc(made.settings(), made.name, now=True).collected
    assert physical(made) == ["__g0002"]


def test_the_holdover_is_that_of_the_moment_it_was_left_and_of_its_collection(deployment):
    """collections: overrides rebuild:, and a setting that changes later doesn't shorten what was promised."""
    deployment.extra["collections"] = {deployment.name: {"rebuild": {"holdover": "3d"}}}
    made = rebuilt(deployment)
    del made.extra["collections"]
    configure(made, holdover=0)
    [held] = command.review(made.settings(), made.name).staying
    assert 2 <= (held.held_until - held.since).days <= 3


def test_status_and_rollback_say_that_the_way_back_is_gone(deployment):
    """No promise that can't be kept: status reports that, and a rollback is refused with the next way."""
    made = rebuilt(deployment)
    assert "can return to 0001" in made.row().detail
    command.gc(made.settings(), made.name)
    assert made.row().state == "ready"
    assert made.row().detail == "no way back: what came before was collected"
    with pytest.raises(RefusedError, match="not kept any more") as refused:
        back.rollback(made.settings(), "0001")
    assert "snapshot" in str(refused.value.hint)
    assert target_of(made) == f"{made.name}__g0002"


def test_what_an_alias_points_to_is_never_deleted(deployment):
    """An application that was pointed to the old generation by hand keeps it, even with --now."""
    made = rebuilt(deployment)
    store = made.store()
    store.create_alias(f"{made.name}_mine", f"{made.name}__g0001")
    store.close()
    result = command.gc(made.settings(), made.name, now=True)
    assert result.collected == ()
    assert [(one.generation, one.reason) for one in result.staying] == [
        (f"{made.name}__g0001", f"{made.name}_mine points to it")
    ]
    assert physical(made) == ["__g0001", "__g0002"]


def test_an_alias_that_appears_between_plan_and_deletion_spares_it(deployment, monkeypatch):
    """Names are read again right before: the rest of the job continues, and the exit code is 10."""
    made = rebuilt(deployment)
    original = command.run_job

    def late(session, name, choose, options):
        def planned(world):
            plan = choose.make_plan(world)
            session.store.create_alias(f"{made.name}_mine", f"{made.name}__g0001")
            return plan

        return original(session, name, PlannedHere(planned), options)

    monkeypatch.setattr(command, "run_job", late)
    result = command.gc(made.settings(), made.name)
    assert result.exit_code == 10
    assert "is in use" in result.spared[0].reason
    assert physical(made) == ["__g0001", "__g0002"]
    assert not left(made).open_runs


@pytest.mark.parametrize(
    ("seal", "reason"),
    [(None, "it has no seal"), ({"ledger": "another"}, "another ledger has sealed it")],
)
def test_what_is_not_sealed_by_this_ledger_stays(deployment, seal, reason):
    """A collection that another client made under the name of a generation is not ours to delete."""
    made = rebuilt(deployment)
    store = made.store()
    store.write_seal(f"{made.name}__g0001", seal)
    store.close()
    result = command.gc(made.settings(), made.name)
    assert (result.collected, [one.reason for one in result.staying]) == ((), [reason])


def test_what_the_ledger_does_not_know_stays(deployment):
    """A physical collection with the name of a generation, but no record, is shown and left."""
    made = rebuilt(deployment)
    store = made.store()
    schema = store.describe(f"{made.name}__g0002").schema.with_(aliases=())
    store.create_collection(f"{made.name}__g0007", schema, seal=None)
    store.close()
    result = command.gc(made.settings(), made.name, now=True)
    assert [one.generation for one in result.collected] == [f"{made.name}__g0001"]
    assert [(one.generation, one.reason) for one in result.staying] == [
        (f"{made.name}__g0007", "it is not in the ledger")
    ]


def test_the_generations_of_an_unfinished_run_stay(deployment, monkeypatch):
    """Neither its shadow nor its source goes before it is finished or aborted."""
    made = rebuilt(deployment)
    made.revise("0003", RENAME)
    from qmigrate.engine.golive import golive

    monkeypatch.setattr(golive, "swap", _stop)
    with pytest.raises(KeyboardInterrupt):
        upgrade.upgrade(made.settings())
    monkeypatch.undo()
    result = command.gc(made.settings(), made.name, now=True)
    assert result.collected == ()
    assert all("is not finished" in one.reason for one in result.staying)
    assert physical(made) == ["__g0001", "__g0002", "__g0003"]


def _stop(*args, **kwargs):
    raise KeyboardInterrupt


def test_writes_to_the_old_generation_after_it_was_left_are_never_lost_silently(deployment):
    """New, changed and deleted points are named, and only --discard-writes deletes them; nothing is left open."""
    made = rebuilt(deployment)
    old = f"{made.name}__g0001"
    write_behind(made, old, make_point(900), make_point(0, text="another client"), delete=[2])
    result = command.gc(made.settings(), made.name)
    [spared] = result.spared
    assert (result.collected, result.exit_code) == ((), 10)
    assert spared.writes["count"] == 3
    assert {(identifier, how) for identifier, how in spared.writes["named"]} == {
        (901, "new"),
        (1, "changed"),
        (2, "deleted"),
    } or {how for _, how in spared.writes["named"]} == {"new", "changed", "deleted"}
    assert "--discard-writes" in spared.hint
    assert physical(made) == ["__g0001", "__g0002"]
    assert not left(made).open_runs
    assert command.gc(made.settings(), made.name, discard_writes=True).collected
    assert physical(made) == ["__g0002"]


def test_at_most_twenty_ids_are_named(deployment):
    """The count is complete."""
    made = rebuilt(deployment)
    write_behind(made, f"{made.name}__g0001", *[make_point(900 + number) for number in range(33)])
    [spared] = command.gc(made.settings(), made.name).spared
    assert (spared.writes["count"], len(spared.writes["named"])) == (33, 20)
    assert "33 in all" in spared.reason


def test_one_that_is_spared_does_not_keep_the_others(deployment):
    """Two old generations of a collection: the one that was written to stays, the other goes."""
    made = rebuilt(deployment)
    made.revise("0003", RENAME)
    upgrade.upgrade(made.settings())
    write_behind(made, f"{made.name}__g0001", make_point(900))
    result = command.gc(made.settings(), made.name)
    assert [one.generation for one in result.spared] == [f"{made.name}__g0001"]
    assert [one.generation for one in result.collected] == [f"{made.name}__g0002"]
    assert physical(made) == ["__g0001", "__g0003"]


def test_a_late_write_that_was_carried_is_not_taken_for_lost(deployment, monkeypatch):
    """What the sweep carried from the old generation stands in its record, so it may go."""
    configure(deployment, holdover=0, gc="off")
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(POINTS)
    deployment.revise("0002", ADD)
    from qmigrate.engine.golive import golive

    original = golive.swap

    def late(work, target, names):
        write(work.store, f"{deployment.name}__g0001", [make_point(500), make_point(0, text="late")])
        work.store.delete(f"{deployment.name}__g0001", [2])
        original(work, target, names)

    monkeypatch.setattr(golive, "swap", late)
    upgrade.upgrade(deployment.settings())
    monkeypatch.undo()
    lose_operation_ids(deployment)
    result = command.gc(deployment.settings(), deployment.name)
    assert ([one.reason for one in result.spared], len(result.collected)) == ([], 1) or "path" in deployment.qdrant


def lose_operation_ids(made: Deployment) -> None:
    """A barrier moves the ids of the old generation, so that gc has to read it."""
    store = made.store()
    store.barrier(f"{made.name}__g0001")
    store.close()


def test_a_generation_left_by_a_rollback_goes_after_its_holdover(deployment):
    """It is compared with what the rollback saw, with the sides exchanged; writes behind its back are found."""
    made = rebuilt(deployment)
    put(made, make_point(700))
    back.rollback(made.settings(), "0001", writes="carry")
    assert target_of(made) == f"{made.name}__g0001"
    before = made.contents()
    write_behind(made, f"{made.name}__g0002", make_point(901))
    [spared] = command.gc(made.settings(), made.name).spared
    assert spared.writes["count"] == 1
    write_behind(made, f"{made.name}__g0002", delete=[make_point(901).id])
    assert [one.generation for one in command.gc(made.settings(), made.name).collected] == [f"{made.name}__g0002"]
    assert made.contents() == before


def test_writes_that_a_rollback_discarded_need_no_second_consent(deployment):
    """--discard-writes was given when it was left; what came after that is another matter on a server."""
    made = rebuilt(deployment)
    put(made, make_point(700))
    back.rollback(made.settings(), "0001", writes="discard")
    result = command.gc(made.settings(), made.name)
    assert [one.generation for one in result.collected] == [f"{made.name}__g0002"]


def test_a_dropped_collection_goes_after_its_holdover(deployment):
    """Its name is removed already; the points go with the generation, and a rollback reports it."""
    made = rebuilt(deployment)
    made.revise("0003", DROP)
    upgrade.upgrade(made.settings())
    assert target_of(made) is None
    result = command.gc(made.settings(), made.name)
    assert [one.generation for one in result.collected] == [f"{made.name}__g0001", f"{made.name}__g0002"]
    assert physical(made) == []
    with pytest.raises(RefusedError, match="kept any more"):
        back.rollback(made.settings(), "0002")


def test_a_creation_that_was_taken_back_goes_after_its_holdover(deployment):
    """Back to base took the name away; its generation is a leftover like any other."""
    configure(deployment, holdover=0, gc="off")
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(5)
    back.rollback(deployment.settings(), "base", writes="discard")
    assert [one.points for one in command.gc(deployment.settings(), deployment.name).collected] == [5]
    assert physical(deployment) == []


def test_a_generation_that_is_gone_from_qdrant_already_closes_its_record(deployment):
    """A user deleted it by hand: gc reports it, and the ledger agrees with Qdrant again."""
    made = rebuilt(deployment)
    store = made.store()
    store.drop_collection(by_hand(f"{made.name}__g0001"))
    store.close()
    [going] = command.review(made.settings(), made.name).going
    assert (going.points, "not in Qdrant any more" in going.reason) == (None, True)
    assert [one.points for one in command.gc(made.settings(), made.name).collected] == [None]
    assert command.review(made.settings(), made.name).going == ()


def test_only_what_was_shown_goes(deployment):
    """What ends its holdover between the preview and the consent waits for the next time."""
    made = rebuilt(deployment)
    assert command.gc(made.settings(), made.name, shown=[]).collected == ()
    assert physical(made) == ["__g0001", "__g0002"]


def test_one_generation_goes_and_every_other_way_back_stays(deployment):
    """What is named goes, held or not; a name that is kept of nothing is an error, and nothing is deleted."""
    made = rebuilt(deployment, holdover="7d")
    made.revise("0003", ADD.replace('"b"', '"c"'))
    upgrade.upgrade(made.settings())
    assert physical(made) == ["__g0001", "__g0002", "__g0003"]
    with pytest.raises(NotFoundError, match="no generation 'nothing' among those that are kept"):
        command.gc(made.settings(), made.name, now=True, generations=["nothing"])
    typed = ("gc", made.name, "--now", "--generation", f"{made.name}__g0001")
    shown = call(made.root, *typed, "--dry-run", "--json")
    assert [one["generation"] for one in shown.json["data"]["going"]] == [f"{made.name}__g0001"]
    refused, again = call(made.root, *typed), " ".join(("qmigrate", *typed))
    assert refused.code == 10
    assert f"{again} --dry-run shows them; {again} --yes deletes them" in " ".join(refused.err.split()), "about no more"
    done = call(made.root, "gc", made.name, "--now", "--generation", f"{made.name}__g0001", "--yes")
    assert done.code == 0, done.text
    assert physical(made) == ["__g0002", "__g0003"]
    assert back.rollback(made.settings(), "0002").outcomes[0].physical == f"{made.name}__g0002"


def test_a_name_without_generations_is_an_error(deployment):
    """A typing mistake is not "nothing to collect"."""
    rebuilt(deployment)
    with pytest.raises(NotFoundError, match="there is no collection"):
        command.review(deployment.settings(), "nothing_of_this_name")


def test_the_command_line_asks_for_consent_and_shows_what_goes(deployment):
    """Without a terminal --yes is needed; --dry-run and --json show the same; nothing is deleted without asking."""
    made = rebuilt(deployment)
    refused = call(made.root, "gc", made.name)
    assert refused.code == 10
    assert "--yes" in refused.err
    shown = call(made.root, "gc", made.name, "--dry-run")
    assert shown.code == 0
    assert f"{made.name}__g0001" in shown.out
    assert "its holdover has ended" in shown.out
    assert "Nothing was deleted." in shown.out
    plain = call(made.root, "gc", made.name, "--dry-run", "--json").json
    assert plain["schema"] == "qmigrate.gc/1"
    assert plain["data"]["preview"] is True
    assert [entry["generation"] for entry in plain["data"]["going"]] == [f"{made.name}__g0001"]
    assert physical(made) == ["__g0001", "__g0002"]
    done = call(made.root, "gc", made.name, "--yes")
    assert (done.code, "Gone: 1 generation, 30 points." in done.out) == (0, True), done.text
    assert call(made.root, "gc", made.name, "--yes", "--json").json["data"]["collected"] == []


def test_a_preview_writes_nothing(deployment):
    """Neither Qdrant nor SQL is changed by looking."""
    made = rebuilt(deployment)
    before = left(made)
    ledger = Ledger.open(made.ledger_url)
    runs = len(ledger.runs())
    assert call(made.root, "gc", "--dry-run").code == 0
    assert left(made) == before
    assert len(ledger.runs()) == runs
    ledger.close()


def test_an_upgrade_collects_what_is_due_first(deployment):
    """gc: auto: the note names what is gone; what is still held stays."""
    made = rebuilt(deployment)
    configure(made, gc="auto", holdover="7d")
    made.revise("0003", RENAME)
    result = upgrade.upgrade(made.settings())
    assert result.plan.notes[0] == f"gc: {made.name}__g0001 is gone, its holdover had ended"
    assert physical(made) == ["__g0002", "__g0003"]
    upgrade.upgrade(made.settings())
    assert physical(made) == ["__g0002", "__g0003"]


def test_gc_off_leaves_everything_to_the_verb(deployment):
    """An upgrade touches nothing old then."""
    made = rebuilt(deployment)
    made.revise("0003", RENAME)
    upgrade.upgrade(made.settings())
    assert physical(made) == ["__g0001", "__g0002", "__g0003"]


def test_a_failure_of_gc_auto_is_a_note_and_stops_no_upgrade(deployment, monkeypatch):
    """Neither a refusal nor an error of the store: the upgrade is done, and nothing is left open by the gc."""
    made = rebuilt(deployment)
    configure(made, gc="auto")
    write_behind(made, f"{made.name}__g0001", make_point(900))
    made.revise("0003", RENAME)
    result = upgrade.upgrade(made.settings())
    assert any("another client wrote to" in note for note in result.plan.notes)
    assert made.row().revision == "0003"
    from qmigrate.engine.retire import retire

    def fail(*args):
        raise StoreError("the server is having a bad day")

    monkeypatch.setattr(retire, "check_left", fail)
    made.revise("0004", 'def upgrade():\n    return [op.CreatePayloadIndex("{name}", "kind", "keyword")]')
    result = upgrade.upgrade(made.settings())
    assert any("bad day" in note for note in result.plan.notes)
    assert (made.row().revision, made.row().state) == ("0004", "ready")
    assert not left(made).open_runs


def test_an_interrupted_gc_is_finished_by_the_next_upgrade(deployment, monkeypatch):
    """Stopped right after the collection was deleted: the record is closed, and the upgrade continues."""
    made = rebuilt(deployment)
    from qmigrate.engine.retire import retire

    monkeypatch.setattr(retire, "drop_late_writes", _stop)
    with pytest.raises(KeyboardInterrupt):
        command.gc(made.settings(), made.name)
    monkeypatch.undo()
    assert physical(made) == ["__g0002"]
    assert made.row().state == "interrupted"
    made.revise("0003", RENAME)
    result = upgrade.upgrade(made.settings())
    assert made.row().revision == "0003"
    assert result.resumed == ()
    ledger = Ledger.open(made.ledger_url)
    assert ledger.generations(made.name)[0].state == "gone"
    ledger.close()


def interrupted_early(made: Deployment, monkeypatch) -> None:
    """A `gc --now` that ends before it has begun to delete anything."""
    with monkeypatch.context() as patch:
        patch.setattr(Lease, "begin_deletion", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            command.gc(made.settings(), made.name, now=True)
    assert made.row().state == "interrupted"


def test_a_rollback_does_not_finish_a_gc_that_has_deleted_nothing(deployment, monkeypatch):
    """After a stopped gc the way back still works: the gc is over, and nothing of it is done."""
    made = rebuilt(deployment, holdover="7d")
    interrupted_early(made, monkeypatch)
    back.rollback(made.settings(), "0001")
    assert (made.row().generation, made.row().state) == ("g0001", "pending")
    assert not left(made).open_runs
    assert physical(made) == ["__g0001", "__g0002"]


@pytest.mark.parametrize("then", ["rollback", "gc of another"])
def test_only_the_deletion_that_has_begun_is_finished(deployment, monkeypatch, then):
    """Of several that a gc was to delete the one whose deletion has begun goes; the way back of who comes next stays."""
    from qmigrate.engine.retire import retire

    made = rebuilt(deployment, holdover="7d")
    made.revise("0003", ADD.replace('"b"', '"c"'))
    upgrade.upgrade(made.settings())
    with monkeypatch.context() as patch:
        patch.setattr(retire, "drop_late_writes", _stop)
        with pytest.raises(KeyboardInterrupt):
            command.gc(made.settings(), made.name, now=True)
    assert physical(made) == ["__g0002", "__g0003"]
    if then == "rollback":
        outcome = back.rollback(made.settings(), "0002").outcomes[0]
        assert outcome.physical == f"{made.name}__g0002"
    else:
        assert command.gc(made.settings()).collected == ()
    assert physical(made) == ["__g0002", "__g0003"]
    ledger = Ledger.open(made.ledger_url)
    assert ledger.generations(made.name)[0].state == "gone"
    assert ledger.open_runs() == ()
    ledger.close()


def test_an_upgrade_or_a_later_gc_deletes_nothing_that_another_gc_was_told_to(deployment, monkeypatch):
    """What `--now` agreed to was for that call: a plain gc, of this name or of any, keeps to the holdover."""
    made = rebuilt(deployment, holdover="7d")
    interrupted_early(made, monkeypatch)
    assert command.gc(made.settings()).collected == ()
    assert physical(made) == ["__g0001", "__g0002"]
    interrupted_early(made, monkeypatch)
    upgrade.upgrade(made.settings())
    assert physical(made) == ["__g0001", "__g0002"]
    assert not left(made).open_runs
    [gone] = command.gc(made.settings(), made.name, now=True).collected
    assert gone.generation == f"{made.name}__g0001"


def test_an_interrupted_gc_that_cannot_be_finished_stops_no_upgrade(deployment, monkeypatch):
    """It is closed and planned again another day."""
    made = rebuilt(deployment)
    from qmigrate.engine.retire import retire

    monkeypatch.setattr(retire, "check_left", _stop)
    with pytest.raises(KeyboardInterrupt):
        command.gc(made.settings(), made.name)

    def fail(*args):
        raise StoreError("the server is having a bad day")

    monkeypatch.setattr(retire, "check_left", fail)
    made.revise("0003", RENAME)
    upgrade.upgrade(made.settings())
    assert made.row().revision == "0003"
    monkeypatch.undo()
    assert not left(made).open_runs
    assert [one.generation for one in command.gc(made.settings(), made.name).collected] == [
        f"{made.name}__g0001",
        f"{made.name}__g0002",
    ]


@pytest.mark.parametrize("when", ["first check", "last check"])
def test_a_write_between_the_check_and_the_deletion_spares_it(deployment, monkeypatch, when):
    """Checked again right before: by operation ids where there are any, else by reading."""
    if "path" in deployment.qdrant:
        pytest.skip("in local mode no other process can write while gc runs")
    made = rebuilt(deployment)
    from qmigrate.engine.retire import late_writes as steps_left
    from qmigrate.engine.retire import retire

    def late(store):
        store.lift_fence(f"{made.name}__g0001", {})
        write(store, f"{made.name}__g0001", [make_point(900)])
        store.fence(f"{made.name}__g0001")

    if when == "first check":
        original = steps_left._written_since
        lose_operation_ids(made)

        def during(work, *args):
            found = original(work, *args)
            if not done:
                done.append(late(work.store))
            return found

        done: list = []
        monkeypatch.setattr(steps_left, "_written_since", during)
    else:
        listed = retire._snapshots

        def between(step, work):
            late(work.store)
            return listed(step, work)

        monkeypatch.setattr(retire, "_snapshots", between)
    [spared] = command.gc(made.settings(), made.name).spared
    assert spared.writes["count"] == 1
    assert physical(made) == ["__g0001", "__g0002"]


@pytest.mark.server
@pytest.mark.parametrize("written", [False, True])
def test_a_server_that_tells_no_operation_ids_is_read(qdrant_server, tmp_path, monkeypatch, written):
    """Before 1.17: every point is compared with the base, and tokens show that no client wrote in that time."""
    from dataclasses import replace

    from tests.conftest import clean

    from qmigrate.store.server import capabilities

    original = capabilities.read
    older = {"version": (1, 16, 3), "barrier": False, "vector_names": False}
    monkeypatch.setattr(capabilities, "read", lambda nodes: replace(original(nodes), **older))
    qdrant = {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "timeout": 2}
    made = rebuilt(Deployment(tmp_path / "project", qdrant, f"sqlite:///{tmp_path}/ledger.db"))
    if written:
        write_behind(made, f"{made.name}__g0001", make_point(900))
    result = command.gc(made.settings(), made.name)
    assert (len(result.collected), [one.writes["count"] for one in result.spared]) == ((0, [1]) if written else (1, []))
    clean(made)


@pytest.mark.server
class TestSnapshots:
    """Snapshots go before their generation, or are exported; a server hides them afterwards."""

    @pytest.fixture
    def made(self, qdrant_server, tmp_path):
        from tests.conftest import clean

        qdrant = {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "timeout": 5}
        deployment = Deployment(tmp_path / "project", qdrant, f"sqlite:///{tmp_path}/ledger.db")
        yield rebuilt(deployment)
        clean(deployment)

    def snapshots(self, made):
        store = made.store()
        try:
            return [one.name for one in store.list_snapshots(f"{made.name}__g0001")]
        finally:
            store.close()

    def test_they_are_deleted_with_it(self, made, qdrant_server):
        """The preview names them; the report has what became of each."""
        [name] = self.snapshots(made)
        [going] = command.review(made.settings(), made.name).going
        assert [(one.name, one.own) for one in going.snapshots] == [(name, True)]
        [gone] = command.gc(made.settings(), made.name).collected
        assert [(one["name"], one["kept"]) for one in gone.snapshots] == [(name, False)]
        assert not (made.root / ".qmigrate" / "exports").exists()

    def test_they_are_exported_when_they_are_to_be_kept(self, made):
        """The file is complete, readable by its owner only, and sha256sum can check it."""
        [name] = self.snapshots(made)
        store = made.store()
        [there] = store.list_snapshots(f"{made.name}__g0001")
        store.close()
        [gone] = command.gc(made.settings(), made.name, keep_snapshots=True).collected
        [entry] = gone.snapshots
        file = Path(entry["file"])
        assert entry["kept"] is True
        assert file.name == name
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert hashlib.sha256(file.read_bytes()).hexdigest() == entry["sha256"] == there.checksum
        listed = file.with_name(file.name + ".sha256").read_text()
        assert listed == f"{there.checksum}  {name}\n"
        assert not list(file.parent.glob("*.part"))

    def test_a_damaged_export_spares_the_generation(self, made, monkeypatch):
        """Nothing is deleted before the export is proven by the server's checksum."""
        from qmigrate.store.server.server import ServerStore

        original = ServerStore.read_snapshot

        def damaged(self, name, snapshot):
            for number, piece in enumerate(original(self, name, snapshot)):
                yield piece if number else bytes(len(piece))

        monkeypatch.setattr(ServerStore, "read_snapshot", damaged)
        configure(made, keep_snapshots=True)
        result = command.gc(made.settings(), made.name)
        assert "arrived damaged" in result.spared[0].reason
        assert len(self.snapshots(made)) == 1
        assert physical(made) == ["__g0001", "__g0002"]

    def test_a_folder_that_cannot_be_written_spares_it(self, made):
        """A file where the folder should be is a refusal, not a traceback."""
        (made.root / "exports").write_text("in the way")
        made.extra["fixes"] = {"exports": "exports"}
        configure(made, keep_snapshots=True)
        result = command.gc(made.settings(), made.name)
        assert "can't be exported" in result.spared[0].reason
        assert physical(made) == ["__g0001", "__g0002"]

    def test_gc_auto_leaves_a_generation_with_a_snapshot_of_somebody(self, made):
        """No user was asked; the verb shows it and may delete it."""
        store = made.store()
        own = self.snapshots(made)
        store.lift_fence(f"{made.name}__g0001", {})
        extra = store.create_snapshot(f"{made.name}__g0001")
        while extra.name in own:
            # The server names snapshots by the second: within one, the second replaces the first.
            extra = store.create_snapshot(f"{made.name}__g0001")
        store.close()
        configure(made, gc="auto")
        made.revise("0003", RENAME)
        result = upgrade.upgrade(made.settings())
        assert "__g0001" in physical(made)
        assert physical(made) == ["__g0001", "__g0002", "__g0003"]
        [first, *_] = command.review(made.settings(), made.name).going
        assert {one.name: one.own for one in first.snapshots} == {own[0]: True, extra.name: False}
        assert f"{made.name}__g0001" in {one.generation for one in command.gc(made.settings(), made.name).collected}
        assert not any("is gone" in note and "g0001" in note for note in result.plan.notes)


@pytest.mark.server
class TestPlainNames:
    """A collection of the logical name itself, hidden by its alias: deleting it must never take what serves."""

    @pytest.fixture
    def made(self, qdrant_server, tmp_path):
        from tests.conftest import clean

        qdrant = {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "timeout": 5}
        deployment = Deployment(tmp_path / "project", qdrant, f"sqlite:///{tmp_path}/ledger.db")
        configure(deployment, holdover=0, gc="off")
        take_over(deployment)
        deployment.revise("0002", ADD)
        upgrade.upgrade(deployment.settings())
        yield deployment
        store = deployment.store()
        store.drop_alias(deployment.name)
        store.close()
        clean(deployment)

    def test_the_hidden_collection_goes_and_the_name_is_an_ordinary_alias(self, made):
        """Nothing changes for those who use the name; the way to the old collection is gone with it."""
        before = made.contents()
        [going] = command.review(made.settings(), made.name).going
        assert (going.generation, going.points) == (made.name, POINTS)
        [gone] = command.gc(made.settings(), made.name).collected
        assert gone.generation == made.name
        store = made.store()
        assert store.aliases()[made.name] == f"{made.name}__g0001"
        assert made.name not in store.physical_names()
        assert old_alias(made.name) not in store.aliases()
        assert not [one for one in store.aliases().items() if one[0].startswith(made.name) and is_own_alias(*one)]
        store.close()
        assert made.contents() == before
        put(made, make_point(800))
        made.revise("0003", RENAME)
        upgrade.upgrade(made.settings())
        assert target_of(made) == f"{made.name}__g0002"

    def test_writes_to_the_hidden_collection_are_found(self, made):
        """They are read through the alias that leads to it, not through the name, which leads elsewhere."""
        write_behind(made, old_alias(made.name), make_point(900))
        [spared] = command.gc(made.settings(), made.name).spared
        assert spared.writes["count"] == 1
        store = made.store()
        assert made.name in store.physical_names()
        store.close()

    def test_without_its_alias_the_plain_collection_is_never_deleted(self, made):
        """A user removed the alias: the name is the old collection again, and an application uses it."""
        store = made.store()
        store.drop_alias(made.name)
        store.close()
        result = command.gc(made.settings(), made.name, now=True)
        assert result.collected == ()
        store = made.store()
        assert made.name in store.physical_names()
        store.close()

    def test_an_alias_that_goes_right_before_the_deletion_spares_it(self, made, monkeypatch):
        """Checked again on every node, after everything else was decided."""
        from qmigrate.engine.retire import retire

        original = retire.check_again

        def lost(work, physical, earlier):
            original(work, physical, earlier)
            work.store.drop_alias(made.name)

        monkeypatch.setattr(retire, "check_again", lost)
        [spared] = command.gc(made.settings(), made.name).spared
        assert "not every node has it as an alias" in spared.reason
        store = made.store()
        assert made.name in store.physical_names()
        store.close()


def take_over(made: Deployment) -> None:
    """A plain collection with points, under management as number 0 at revision 0001, as `adopt` leaves it."""
    path = made.revise("0001", CREATE)
    from qmigrate.revisions.graph import Revisions

    checksum = Revisions.load(path.parents[1]).get("0001").checksum
    ledger = Ledger.open(made.ledger_url)
    identity = ledger.prepare()
    store = made.store()
    from qmigrate.model.schema import CollectionSchema

    schema = CollectionSchema(vectors={"a": {"size": 8, "distance": "Cosine"}})
    seal = {"version": 1, "ledger": identity, "collection": made.name, "generation": 0, "revision": "0001"}
    store.create_collection(made.name, schema, seal={**seal, "state": "live"})
    store.close()
    made.load(POINTS)
    with ledger.hold(made.name, timeout=5) as lease:
        closing = Closing(0, "0001", "upgrade", checksum, schema, None)
        run = lease.open_run("adopt", Job(made.name, "", (), (closing,)), {"0001": checksum}, actor="t", tool="t", server="s")
        lease.close_step(
            run,
            0,
            closings=[closing],
            view=View(made.name, "0001", made.name, schema),
            generations=[Generation(0, made.name, None, ("0001",), schema, "live")],
            strategy="adopt",
            physical=made.name,
            changes=[],
            report={},
            phase="close",
            last=True,
        )
    ledger.close()


def test_history_and_runs_keep_what_happened(deployment):
    """The run of the gc is in the ledger with its job: who, when, what, why."""
    made = rebuilt(deployment)
    command.gc(made.settings(), made.name)
    ledger = Ledger.open(made.ledger_url)
    newest = ledger.runs(made.name)[0]
    assert (newest.verb, newest.state) == ("gc", "done")
    ledger.close()
    rows = status.history(made.settings(), made.name).rows
    assert json.dumps([row.revision for row in rows]) == '["0002", "0001"]'


def answers(made: Deployment, monkeypatch, *answers) -> list[str]:
    """What the server does with one deletion after the other: an error, and whether it is carried out nevertheless."""
    kind = type_of(made)
    real, left, sent = kind.drop_collection, list(answers), []

    def drop(self, permit):
        sent.append(permit.physical)
        error, done = left.pop(0) if left else (None, True)
        if done:
            real(self, permit)
        else:
            permit.use(0)
        if error is not None:
            raise error

    monkeypatch.setattr(kind, "drop_collection", drop)
    return sent


SILENT = SlowError("no answer")


@pytest.mark.parametrize(
    ("said", "sent"),
    [([(SILENT, True)], 1), ([(SILENT, False)], 2), ([(SILENT, False), (TransientError("503"), True)], 2)],
    ids=["carried out", "lost", "lost, then carried out"],
)
def test_a_deletion_without_an_answer_is_looked_at_before_it_is_sent_again(deployment, monkeypatch, said, sent):
    """It is sent again only where the collection is seen to be there; in the end it is gone, once."""
    made = rebuilt(deployment)
    requests = answers(made, monkeypatch, *said)
    [gone] = command.gc(made.settings(), made.name).collected
    assert requests == [gone.generation] * sent
    assert physical(made) == ["__g0002"]


def test_a_deletion_that_has_begun_is_only_finished(deployment, monkeypatch):
    """No answer in several tries: no abort, no rollback and no new run brings the generation back; gc resumes it."""
    made = rebuilt(deployment, holdover="7d")
    with monkeypatch.context() as patch:
        sent = answers(made, patch, *[(SILENT, False)] * 9)
        [spared] = command.gc(made.settings(), made.name, now=True).spared
        assert (len(sent), spared.exit_code) == (3, 9)
    ledger = Ledger.open(made.ledger_url)
    assert [row.state for row in ledger.generations(made.name)] == ["deleting", "live"]
    ledger.close()
    for work in (lambda: back.rollback(made.settings(), "0001"), lambda: back.revert(made.settings(), "0002")):
        with pytest.raises(RefusedError, match="not kept any more"):
            work()
    assert "deletion has begun" in command.review(made.settings(), made.name).going[0].reason
    upgrade.upgrade(made.settings())
    assert made.row().state == "ready"
    assert command.gc(made.settings(), made.name).collected[0].generation == f"{made.name}__g0001"
    assert physical(made) == ["__g0002"]


def test_an_abort_does_not_take_a_deletion_back(deployment, monkeypatch):
    """An interrupted gc whose deletion has begun: abort says that it can only be finished, and rollback finishes it."""
    made = rebuilt(deployment, holdover="7d")
    with monkeypatch.context() as patch:
        patch.setattr(type_of(made), "drop_collection", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            command.gc(made.settings(), made.name, now=True)
    with pytest.raises(RefusedError, match="has begun to delete"):
        back.abort(made.settings())
    with pytest.raises(RefusedError, match="not kept any more"):
        back.rollback(made.settings(), "0001")
    assert physical(made) == ["__g0002"]


def test_the_command_that_an_abort_names_finishes_a_deletion(deployment, monkeypatch):
    """`gc NAME` is offered, shows what is being deleted, and finishes it; it doesn't send people back to abort."""
    made = rebuilt(deployment, holdover="7d")
    with monkeypatch.context() as patch:
        patch.setattr(type_of(made), "drop_collection", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            command.gc(made.settings(), made.name, now=True)
    assert f"qmigrate gc {made.name} resumes it" in call(made.root, "abort", made.name).err
    assert "its deletion has begun" in call(made.root, "gc", made.name, "--dry-run").out
    assert call(made.root, "gc", made.name, "--yes").code == 0
    assert physical(made) == ["__g0002"]
    assert not left(made).open_runs


def test_an_abort_of_a_gc_that_has_deleted_nothing_says_what_serves(deployment, monkeypatch):
    """Before the deletion is recorded it is undone; the way back is there, and the report names what is live."""
    made = rebuilt(deployment, holdover="7d")
    with monkeypatch.context() as patch:
        patch.setattr(Lease, "begin_deletion", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            command.gc(made.settings(), made.name, now=True)
    shown = call(made.root, "abort").out
    assert ("live" in shown, f"{made.name}__g0002" in shown, "nothing: the name is gone" in shown) == (True, True, False)
    back.rollback(made.settings(), "0001")
    assert physical(made) == ["__g0001", "__g0002"]


def test_a_deletion_that_the_server_refuses_has_not_begun(deployment, monkeypatch):
    """It has answered, so nothing is on its way: the generation is kept, and can serve again."""
    made = rebuilt(deployment, holdover="7d")
    with monkeypatch.context() as patch:
        answers(made, patch, (DeniedError("the key may not delete"), False))
        [spared] = command.gc(made.settings(), made.name, now=True).spared
        assert "may not delete" in spared.reason
    back.rollback(made.settings(), "0001")
    assert made.row().generation == "g0001"


@pytest.mark.parametrize(
    "said",
    [
        [(SILENT, False), (DeniedError("the key may not delete any more"), False)],
        [(StoreError("answered 524"), False)] * 3,
        [(not_qdrant("proxy", "its answer is not Qdrant's JSON"), False)] * 3,
    ],
    ids=["no answer, then refused", "a proxy has given up", "not Qdrant's answer"],
)
def test_a_deletion_that_may_be_on_its_way_is_not_taken_back(deployment, monkeypatch, said):
    """What is answered later, or by a proxy, says nothing of the first request: the generation never serves again."""
    made = rebuilt(deployment, holdover="7d")
    with monkeypatch.context() as patch:
        sent = answers(made, patch, *said)
        [spared] = command.gc(made.settings(), made.name, now=True).spared
        assert (len(sent), spared.exit_code) == (len(said), said[-1][0].exit_code)
    with pytest.raises(RefusedError, match="not kept any more"):
        back.rollback(made.settings(), "0001")
    assert command.gc(made.settings(), made.name).collected[0].generation == f"{made.name}__g0001"


def type_of(made: Deployment) -> type:
    """The class of its store."""
    store = made.store()
    store.close()
    return type(store)


def _interrupted(*_args, **_kwargs):
    raise KeyboardInterrupt


@pytest.mark.parametrize("days", [-30, 30])
def test_a_clock_that_is_wrong_ends_no_holdover(deployment, monkeypatch, days):
    """Holdovers go by the clock of the ledger's database, as leases do, not by that of whichever host comes along."""
    made = deployment

    class Wrong(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=days)

    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(5)
    made.revise("0002", ADD)
    with monkeypatch.context() as patch:
        for module in (golive,) if days < 0 else ():
            patch.setattr(module, "datetime", Wrong, raising=False)
        upgrade.upgrade(made.settings())
    with monkeypatch.context() as patch:
        for module in (command, purge) if days > 0 else ():
            patch.setattr(module, "datetime", Wrong, raising=False)
        assert command.gc(made.settings(), made.name).collected == ()
        made.revise("0003", INDEX)
        upgrade.upgrade(made.settings())
    assert back.rollback(made.settings(), "0001").outcomes[-1].physical == f"{made.name}__g0001"


def test_what_was_dropped_is_not_gone_where_another_qdrant_is_looked_at(deployment, tmp_path):
    """Nothing of the name is left to tell the two apart, so a person says that it is gone; the way back stays else."""
    made = rebuilt(deployment)
    made.revise("0003", DROP)
    upgrade.upgrade(made.settings())
    right = made.qdrant
    made.qdrant = {"path": str(tmp_path / "another")}
    made.__post_init__()
    for now in (False, True):
        result = command.gc(made.settings(), made.name, now=now)
        assert result.collected == ()
        assert all("may be another Qdrant" in one.reason for one in result.staying)
    upgrade.upgrade(made.settings())
    repair.vanished(made.settings(), f"{made.name}__g0001")
    made.qdrant = right
    made.__post_init__()
    configure(made)
    back.rollback(made.settings(), "0002")
    assert (made.row().revision, made.row().generation) == ("0002", "g0002")
