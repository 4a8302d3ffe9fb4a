"""The judge of pauses is fed wrong ends, one at a time: it refuses each. What is right passes, here and in the matrix."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing, nullcontext
from datetime import UTC, datetime

import pytest
from sqlalchemy import delete, insert, update
from tests.faults import judged
from tests.faults.judged import DELETED, WRITTEN, check_late_collections, difference, ends_of, judge
from tests.faults.pause import World, paused
from tests.faults.test_matrix import CASES, LOCAL, Prepared
from tests.harness import by_hand, make_point, write

from qmigrate.errors import QmigrateError
from qmigrate.ledger import Ledger, tables
from qmigrate.model.names import own_alias

#: A rollback that another holder continues meanwhile, and one that no process takes over; and before which request.
WENT_ON, LEFT_ALONE, NUMBER = "rollback; resume", "rollback; gc", 2
CREATED = datetime(2026, 1, 1, tzinfo=UTC)


def generation(world: World, state: str) -> str:
    """The one in this state."""
    return next(physical for physical, found in world.state()["rows"].items() if found == state)


def in_ledger(statement: Callable[[World], object]) -> Callable[[World], None]:
    """SQL in the ledger."""

    def changed(world: World) -> None:
        ledger = Ledger.open(world.made.ledger_url)
        with ledger.database.writing() as connection:
            connection.execute(statement(world))
        ledger.close()

    return changed


def leave_alias(world: World) -> None:
    """An alias of a lease holder that no process removes."""
    live = generation(world, "live")
    world.store.create_alias(own_alias(live, 1), live)


def move_name(world: World) -> None:
    """The name serves what was left."""
    retired = generation(world, "retired")
    world.store.create_alias(own_alias(retired, 1), retired)
    world.store.rename_aliases([(own_alias(retired, 1), world.made.name)])


def leave_name(world: World) -> None:
    """Another name of applications leads to a generation."""
    retired = generation(world, "retired")
    world.store.create_alias(own_alias(retired, 1), retired)
    world.store.rename_aliases([(own_alias(retired, 1), f"{world.made.name}_more")])


def leave_collection(world: World) -> None:
    """A collection that no row of the ledger explains."""
    schema = world.store.describe(generation(world, "live")).schema
    world.store.create_collection(f"{world.made.name}__g0099", schema, seal=None)


def mark_row(world: World) -> None:
    """In the application's SQL."""
    with closing(sqlite3.connect(world.made.root.parent / "app.db")) as connection, connection:
        connection.execute("UPDATE docs SET marked = 1 WHERE id = 1")


WRONG: dict[str, Callable[[World], object]] = {
    "an own alias stays": leave_alias,
    "the name leads to what was left": move_name,
    "there is a name more": leave_name,
    "what a client wrote is gone": lambda world: world.store.delete(world.made.name, [WRITTEN, 4]),
    "what a client deleted is back": lambda world: write(world.store, world.made.name, [make_point(DELETED - 1)]),
    "a point has another value": lambda world: write(world.store, world.made.name, [make_point(3, text="another")]),
    "what was left has lost a point": lambda world: world.store.delete(generation(world, "retired"), [1]),
    "what was left is gone": lambda world: world.store.drop_collection(by_hand(generation(world, "retired"))),
    "a collection is unused": leave_collection,
    "a seal is gone": lambda world: world.store.write_seal(generation(world, "live"), None),
    "a row of the application is marked": mark_row,
    "a generation has another state": in_ledger(
        lambda _: update(tables.generations).where(tables.generations.c.state == "retired").values(state="gone")
    ),
    "a generation was deleted soon": in_ledger(lambda _: update(tables.generations).values(held_until=None)),
    "a run has another end": in_ledger(lambda _: update(tables.runs).values(state="refused")),
    "the history has lost a row": in_ledger(
        lambda _: delete(tables.history).where(tables.history.c.direction != "upgrade")
    ),
    "a revision is recorded that is not applied": in_ledger(lambda _: update(tables.views).values(revision="0002")),
    "an id is to be erased": in_ledger(
        lambda world: insert(tables.erasures).values(
            collection=world.made.name, point_id="1", reason="asked for", actor="a", created_at=CREATED
        )
    ),
}


@pytest.fixture(scope="module")
def rollbacks(tmp_path_factory):
    """What all deployments are copied of, and the ends without the holder."""
    prepared = Prepared(tmp_path_factory.mktemp("verb"), LOCAL, CASES[WENT_ON])
    # What is copied stays for as long as the folder of the first copy.
    prepared("one")
    return prepared, {}


@pytest.fixture
def judge_it(rollbacks, tmp_path, monkeypatch):
    """Judges a rollback before one request."""
    prepared, seen = rollbacks

    def judged_(name: str, wrong: Callable[[World], object], when: str) -> None:
        case = CASES[name]
        # Copies of the same: the ends are the same for each of what is wrong.
        ends = ends_of(prepared.within(tmp_path), monkeypatch, case, seen.setdefault(name, {}))
        if name == LEFT_ALONE:
            for again in (False, True):
                ends.without(NUMBER, again=again)
        with paused(prepared.within(tmp_path)("judged"), monkeypatch, case.work, NUMBER) as holder:
            original = judged.finished
            if when == "at once":
                wake = holder.wake
                monkeypatch.setattr(holder, "wake", lambda: (wake(), wrong(holder)))
            else:
                monkeypatch.setattr(judged, "finished", lambda *given: (original(*given), wrong(holder), holder.state())[-1])
            assert judge(holder, ends, NUMBER, "here")

    return judged_


@pytest.mark.parametrize(("name", "when"), [(WENT_ON, "at once"), (LEFT_ALONE, "at the end")])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_end_is_refused(judge_it, name, when, wrong):
    """Where another holder has continued nothing may change at once; where none has, the end is that of a known one."""
    with pytest.raises(AssertionError, match="here"):
        judge_it(name, WRONG[wrong], when)


@pytest.mark.parametrize("name", [WENT_ON, LEFT_ALONE])
def test_a_right_end_is_accepted(judge_it, name):
    """So what refuses the others is what is wrong in them."""
    judge_it(name, lambda _: None, "at the end")


@pytest.mark.parametrize(("error", "refused"), [(ValueError("broken"), True), (QmigrateError("refused"), False)])
def test_an_error_that_is_none_of_the_product_is_refused(judge_it, error, refused):
    """A holder that ends with one hasn't seen what has happened."""
    with pytest.raises(AssertionError, match="broken") if refused else nullcontext():
        judge_it(WENT_ON, lambda holder: setattr(holder, "error", error), "at once")


LATE_ONE = {"seal": {"generation": 3, "state": "building"}, "row": "gone", "points": {}}


@pytest.mark.parametrize(
    ("changed", "refused"),
    [
        ({}, False),
        # A recovered snapshot has the points and the seal of its source.
        ({"seal": {"generation": 2, "state": "sealed"}, "points": {1: ()}}, False),
        ({"points": {1: ()}}, True),
        ({"seal": {"generation": 3, "state": "sealed"}}, True),
        ({"seal": None}, True),
        ({"row": "live"}, True),
        ({"row": "building"}, True),
    ],
)
def test_a_collection_that_comes_late_is_known_to_be_nothing(changed, refused):
    """It is empty, or recovered, and its number was given up."""
    late, name = LATE_ONE | changed, "docs__g0003"
    parts = ("points", "seals", "schemas", "snapshots")
    before = {part: {} for part in parts} | {"rows": {name: late["row"]}}
    after = before | {part: {name: None} for part in parts} | {"seals": {name: late["seal"]}, "points": {name: late["points"]}}
    if refused:
        with pytest.raises(AssertionError):
            check_late_collections(before, after, "here")
    else:
        check_late_collections(before, after, "here")
        assert after["points"] == before["points"]


@pytest.mark.parametrize(
    ("expected", "found", "told"),
    [
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2}]}, []),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, ["/a/1/b: expected 2, got 3"]),
        ({"a": 1}, {}, ["/a: expected 1, got None"]),
        ([1, 2], [1, 2, 3], [": expected [], got [3]"]),
        ([1], [1, 1], [": expected [1], got [1, 1]"]),
    ],
)
def test_a_difference_is_told(expected, found, told):
    """With its place; none where both are equal."""
    assert difference(expected, found) == told
