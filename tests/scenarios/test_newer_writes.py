"""What another client writes after a fix has looked at a point stays: after a lost answer, a pause, in a long request."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from tests.harness import CREATE, Deployment, write

from qmigrate import op
from qmigrate.commands import fix, upgrade
from qmigrate.engine.fixes import delete, edit, payload, protocol, undo
from qmigrate.errors import UnavailableError
from qmigrate.model.transform import Point
from qmigrate.ports import PayloadEdit
from qmigrate.store.faults import TransientError
from qmigrate.store.server import points as grpc_points

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
    """What was set is taken back."""
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

    def started(self, called, request):
        future = start(self, called, request)
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
    """Asking took its time, so the points are looked at once more: one that is there by then is nothing of the undo's."""
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
    """It is stopped for a minute between looking and changing, and another client writes meanwhile."""
    act, now, paused = kind(made), [0.0], []
    monkeypatch.setattr(protocol, "_clocks", lambda: (now[0], 0.0))
    change = edit._Portion._write

    def stopped(self, agreed, look):
        if not paused:
            paused.append(1)
            now[0] += protocol.LONGEST + 1
            written(made, self._hand.store, 2)
        change(self, agreed, look)

    monkeypatch.setattr(edit._Portion, "_write", stopped)
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
    """Where every look is old at once the run stops, says so, and can be finished later."""
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
    """Each try does something and is then refused: it goes on for longer than one request is waited for."""
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
    monkeypatch.setattr(edit, "repeated", lambda call, timeout: _twice(call))
    (done,) = setting(made)().done
    assert (done.changed, passed) == (COUNT, list(range(1, COUNT + 1)))


def _twice(call):
    """What is waited for only so long: two tries."""
    try:
        return call()
    except TransientError:
        return call()


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
    """Between the look at the points and the request the conditions are asked again, which may take long."""
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
