"""What another client writes after a fix has checked a point stays: after a lost answer, a pause, in a long request."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import tenacity
from tests.harness import CREATE, Deployment, write

from qmigrate import op
from qmigrate.commands import edits, fix, retrain, snapshot, upgrade
from qmigrate.engine import barriers
from qmigrate.engine.fixes import delete, edit, payload, protocol, undo
from qmigrate.errors import UnavailableError, VerificationError
from qmigrate.model.transform import Point
from qmigrate.ports import PayloadEdit
from qmigrate.store.faults import TransientError
from qmigrate.store.local.local import LocalStore
from qmigrate.store.server import points as grpc_points
from qmigrate.store.server.server import ServerStore

COUNT = 20
LARGE = 2**63 + 5
NEW = {"text": "newer"}


@pytest.fixture
def made(deployment: Deployment) -> Deployment:
    """Twenty points; one has an integer that gRPC can't carry."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(COUNT, uuids=False)
    store = deployment.store()
    store.overwrite_payload(deployment.name, 3, {"text": "the text number 2", "large": LARGE})
    store.close()
    return deployment


def written(made: Deployment, store, *ids: int) -> None:
    """Another client writes points."""
    mine = made.store() if "url" in made.qdrant else store
    write(mine, made.name, [Point(one, NEW, {"a": [2.0] * 8}) for one in ids])
    if mine is not store:
        mine.close()


def deleting(made: Deployment) -> Callable:
    """A deletion of three points."""
    return lambda: fix.fix(made.settings(), op.DeletePoints(made.name, ids=[1, 2, 3], reason="r", max_share=1.0))



def undoing(made: Deployment) -> Callable:
    """Three deleted points come back."""
    (done,) = deleting(made)().done
    return lambda: fix.undo(made.settings(), done.log)


def setting(made: Deployment) -> Callable:
    """A payload key is set."""
    return lambda: fix.fix(made.settings(), op.SetPayload(made.name, {"text": "old"}, max_share=1.0))


def unsetting(made: Deployment) -> Callable:
    """What was set is undone."""
    (done,) = setting(made)().done
    return lambda: fix.undo(made.settings(), done.log)


@pytest.mark.server
@pytest.mark.parametrize(
    ("kind", "method"),
    [(deleting, "/Delete"), (undoing, "/Upsert"), (setting, "/UpdateBatch"), (unsetting, "/UpdateBatch")],
)
def test_after_a_lost_answer_it_looks_again(made, monkeypatch, kind, method):
    """The change was made, its answer is lost, another client writes: the request is not simply sent again."""
    if "url" not in made.qdrant:
        pytest.skip("nothing is sent in local mode")
    act, lost = kind(made), []
    start, answer = grpc_points.Points.start, grpc_points.Points.answer

    def started(self, called, request, **given):
        future = start(self, called, request, **given)
        if not lost and method in _named(called):
            lost.append(future)
        return future

    def answered(self, future):
        found = answer(self, future)
        if lost and future is lost[-1]:
            lost.append(None)
            written(made, None, 2)
            raise TransientError("the connection was reset")
        return found

    monkeypatch.setattr(grpc_points.Points, "start", started)
    monkeypatch.setattr(grpc_points.Points, "answer", answered)
    (done,) = act().done
    assert (made.contents()[2][0], done.changed_meanwhile, len(lost)) == (NEW, 1, 2)


def _named(called) -> str:
    name = called._method
    return name.decode() if isinstance(name, bytes) else name


def test_points_that_come_while_deleted_ones_come_back_are_newer(made, monkeypatch):
    """Between the last look and the request of an undo another client inserts two of the points."""
    act, original = undoing(made), undo.BringBack.write

    def late(self, hand, entries):
        written(made, hand.store, 2, 3)
        original(self, hand, entries)

    monkeypatch.setattr(undo.BringBack, "write", late)
    (done,) = act().done
    contents = made.contents()
    assert [contents[one][0]["text"] for one in (1, 2, 3)] == ["the text number 0", "newer", "newer"]
    assert (done.verified, len(contents)) == (1, COUNT)


def test_a_point_that_comes_while_an_undo_asks_what_still_holds_is_not_written_over(made, monkeypatch):
    """Asking took its time, so the points are checked once more: one that is there by then is nothing of the undo's."""
    act, original, now = undoing(made), undo.BringBack.still, [0.0]
    monkeypatch.setattr(protocol, "_clocks", lambda: (now[0], 0.0))

    def slow(self, entries):
        found = original(self, entries)
        now[0] += protocol.QUICK
        written(made, self._place.store, 2)
        return found

    monkeypatch.setattr(undo.BringBack, "still", slow)
    (done,) = act().done
    contents = made.contents()
    assert [contents[one][0]["text"] for one in (1, 2, 3)] == ["the text number 0", "newer", "the text number 2"]
    assert (done.changed, done.changed_meanwhile) == (2, 1)


@pytest.mark.parametrize("kind", [deleting, undoing, setting, unsetting])
def test_a_look_in_which_the_process_stood_still_is_done_again(made, monkeypatch, kind):
    """It is stopped for a minute between check and change, and another client writes in between."""
    act, now, paused = kind(made), [0.0], []
    monkeypatch.setattr(protocol, "_clocks", lambda: (now[0], 0.0))
    writing = edit._Portion.writing

    def stopped(self):
        if not paused:
            paused.append(1)
            now[0] += protocol.LONGEST + 1
            written(made, self._hand.store, 2)
        return writing(self)

    monkeypatch.setattr(edit._Portion, "writing", stopped)
    (done,) = act().done
    assert (made.contents()[2][0], done.changed_meanwhile, paused) == (NEW, 1, [1])


@pytest.mark.parametrize("kind", [setting, unsetting])
def test_a_change_that_takes_long_is_looked_at_in_between(made, monkeypatch, kind):
    """Each request takes longer than a look is worth: what another client writes before the next one stays."""
    act, now, sent = kind(made), [0.0], []
    monkeypatch.setattr(protocol, "_clocks", lambda: (now[0], 0.0))
    monkeypatch.setattr(payload, "_grouped", lambda entries: ([PayloadEdit([one.id], one.after, [])] for one in entries))
    edit_payloads = payload.PayloadFix.write

    def slow(self, hand, entries):
        def tick(count=0, note=""):
            now[0] += protocol.WORTH + 1
            sent.append(1)
            if len(sent) == 1:
                written(made, hand.store, COUNT)
            hand.tick(count, note)

        edit_payloads(self, dataclasses.replace(hand, tick=tick), entries)

    monkeypatch.setattr(payload.PayloadFix, "write", slow)
    (done,) = act().done
    assert (made.contents()[COUNT][0], done.changed_meanwhile, done.changed, len(sent)) == (NEW, 1, COUNT - 1, COUNT - 1)


def test_what_never_comes_in_time_is_refused(made, monkeypatch):
    """Where every check is old at once the run stops, reports it, and can be finished later."""
    act = setting(made)
    with monkeypatch.context() as slow:
        slow.setattr(protocol, "WORTH", -1.0)
        slow.setattr(edit, "WORTH", -1.0)
        slow.setattr(payload.PayloadFix, "write", lambda self, hand, entries: hand.tick())
        with pytest.raises(UnavailableError, match="can't be changed within"):
            act()
    assert {value["text"] for value, _ in made.contents().values()} != {"old"}
    act()
    assert {value["text"] for value, _ in made.contents().values()} == {"old"}


def test_a_limiter_that_lets_a_few_pass_is_no_end(made, monkeypatch):
    """Each try does something and is then refused: it continues for longer than one request is waited for."""
    monkeypatch.setattr(payload, "_OPERATIONS", 1)
    store = made.store()
    store.edit_payloads(made.name, [PayloadEdit([one], {"n": one}) for one in range(1, COUNT + 1)])
    store.close()
    original, passed = payload.PayloadFix.write, []

    def limited(self, hand, entries):
        original(self, hand, entries[:1])
        passed.append(entries[0].id)
        if len(entries) > 1:
            raise TransientError("too many requests")

    monkeypatch.setattr(payload.PayloadFix, "write", limited)
    monkeypatch.setattr(edit, "tries", _twice)
    (done,) = setting(made)().done
    assert (done.changed, passed) == (COUNT, list(range(1, COUNT + 1)))


def _twice(_timeout):
    """What is waited for only so long: two tries."""
    again = tenacity.retry_if_exception_type(TransientError)
    return tenacity.Retrying(retry=again, stop=tenacity.stop_after_attempt(2), reraise=True)


def test_portions_follow_the_speed_of_the_server():
    """Quick ones grow, slow ones shrink, and never beyond what a fix takes."""
    pace = protocol.Pace()
    assert pace.portion(100) == 100
    pace.took(100, 0.01)
    assert pace.portion(10**6) == protocol.FIRST
    for _ in range(3):
        pace.took(pace.portion(10**6), 0.01)
    assert pace.portion(10**6) == 8 * protocol.FIRST
    pace.took(pace.portion(10**6), 60.0)
    assert pace.portion(10**6) == 4 * protocol.FIRST
    pace.took(1, 60.0)
    assert pace.portion(10**6) == 1


@pytest.mark.parametrize("kind", [deleting, setting])
def test_what_is_written_while_sql_is_asked_stays(made, monkeypatch, kind):
    """Between the check of the points and the request the conditions are asked again, which may take long."""
    act, now = kind(made), [0.0]
    monkeypatch.setattr(protocol, "_clocks", lambda: (now[0], 0.0))
    still = delete.Removal.still

    def slow(self, entries):
        found = still(self, entries)
        if not now[0]:
            now[0] += 5
            written(made, self._place.store, 2)
        return found

    monkeypatch.setattr(delete.Removal, "still", slow)
    (done,) = act().done
    assert (made.contents()[2][0], done.changed_meanwhile) == (NEW, 1)


@pytest.mark.parametrize("kind", [deleting, undoing, setting, unsetting])
def test_what_another_client_puts_back_as_it_was_is_newer_and_stays(made, monkeypatch, kind):
    """Between change and reading back: it would look like a server that takes no change, and never be finished."""
    original = edit._read_back
    before = made.contents() if kind is not undoing else {}
    act = kind(made)
    before = before if kind in (deleting, setting) else made.contents()

    def late(work, fix):
        store = made.store() if "url" in made.qdrant else work.store
        if kind is undoing:
            store.delete(made.name, [2])
        elif kind is deleting:
            write(store, made.name, [Point(2, before[2][0], {"a": list(before[2][1]["a"])})])
        else:
            store.edit_payloads(made.name, [PayloadEdit([2], {"text": before[2][0]["text"]})])
        if store is not work.store:
            store.close()
        yield from original(work, fix)

    monkeypatch.setattr(edit, "_read_back", late)
    (done,) = act().done
    assert (done.verified, done.changed) == (done.changed - 1, done.changed)
    assert made.contents().get(2) == before.get(2)


@pytest.mark.parametrize("kind", [deleting, undoing, setting, unsetting])
def test_a_server_that_takes_no_change_is_found_right_behind_the_first(made, monkeypatch, kind):
    """It answers well and does nothing: that is an error, and the same command goes on when it is over."""
    act = kind(made)
    monkeypatch.setattr(edit, "_PAUSES", (0.0,))
    with monkeypatch.context() as patched:
        for one in (delete.Removal, undo.BringBack, payload.PayloadFix):
            patched.setattr(one, "write", lambda self, hand, entries: None)
        with pytest.raises(VerificationError, match="the server did not take the change"):
            act()
    done = act().done[0]
    assert done.verified == done.changed > 0


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
@pytest.mark.parametrize("days", [400, -400])
def test_ages_are_counted_by_the_clock_of_the_ledger(made, monkeypatch, days):
    """A host whose own clock is wrong takes no point or snapshot for old, and no mark for one of long ago."""

    class Wrong(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=days)

    store, before = made.store(), datetime.now(UTC) - timedelta(days=10)
    store.edit_payloads(made.name, [PayloadEdit([1, 2], {"at": before.isoformat()})])
    store.close()
    name = snapshot.create(made.settings(), made.name, archived=True).rows[0].name
    for module in (edit, protocol, snapshot, edits, retrain):
        monkeypatch.setattr(module, "datetime", Wrong, raising=False)
    old = op.DeletePoints(made.name, older_than={"field": "at", "age": "30d"}, reason="r", max_share=1.0)
    assert (fix.review(made.settings(), old).changes, fix.fix(made.settings(), old).changed) == (0, 0)
    fix.fix(made.settings(), op.DeletePoints(made.name, ids=[3], reason="r", soft=True))
    marked = datetime.fromisoformat(made.contents()[3][0]["deleted"]["at"])
    assert abs(marked - datetime.now(UTC)) < timedelta(hours=1)
    snapshot.delete(made.settings(), collection=made.name, older_than=30 * 86400.0, consent=True)
    assert [one.name for one in snapshot.list_(made.settings(), made.name).rows] == [name]


def _behind(original: Callable, before: Callable) -> Callable:
    def wrapped(self, alias):
        before(getattr(self, "_store", self))
        return original(self, alias)

    return wrapped


def passing(monkeypatch, before: Callable) -> None:
    """Do something right before a write that changes nothing passes through the server's queue."""
    for kind, name in ((LocalStore, "flush"), (ServerStore, "flush"), (barriers.Undisturbed, "settle")):
        monkeypatch.setattr(kind, name, _behind(getattr(kind, name), before))


@pytest.mark.parametrize("kind", [deleting, undoing, setting, unsetting])
def test_what_was_accepted_before_is_done_before_the_look(made, monkeypatch, kind):
    """Another client doesn't wait for its write, which is done behind others: no look is worth anything until then."""
    act, waiting = kind(made), [2]
    passing(monkeypatch, lambda store: waiting and written(made, store, waiting.pop()))
    (done,) = act().done
    assert (made.contents()[2][0], done.changed_meanwhile, waiting) == (NEW, 1, [])


@pytest.mark.parametrize("slow", [1, 99])
def test_a_queue_that_takes_long_is_waited_for_again(made, monkeypatch, slow):
    """As much may wait behind it by then: it is let pass again, and where it never gets shorter nothing is changed."""
    act, now, left = setting(made), [0.0], [slow]
    monkeypatch.setattr(protocol, "_clocks", lambda: (now[0], 0.0))

    def late(_store):
        left[0] -= 1
        now[0] += protocol.WORTH + 1 if left[0] >= 0 else 0.0

    passing(monkeypatch, late)
    if slow == 1:
        assert act().done[0].changed == COUNT
        return
    with pytest.raises(UnavailableError, match="can't be changed within"):
        act()
    assert {value["text"] for value, _ in made.contents().values()}.isdisjoint({"old"})


def test_an_undo_that_was_interrupted_is_finished_and_not_done_again(made, monkeypatch):
    """What it has given back the application may have set to the value of the fix since: that is newer."""
    act = unsetting(made)
    with monkeypatch.context() as patch:
        patch.setattr(edit, "expire", lambda work: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            act()
    store = made.store()
    store.edit_payloads(made.name, [PayloadEdit([2], {"text": "old"}, [])])
    store.close()
    act()
    assert (made.contents()[2][0]["text"], made.contents()[1][0]["text"]) == ("old", "the text number 0")
