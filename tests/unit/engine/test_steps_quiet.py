"""What the tokens of a fenced collection say about writes of others, on a clock of the test's own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmigrate.engine import barriers
from qmigrate.engine.barriers import TokenGuard, Undisturbed, lone_barrier, nothing_written, only_ours
from qmigrate.errors import DeniedError


class Limiter:
    """One shard's write limiter: one token, back a minute after it was taken. Its clock is the guard's."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.taken = 1000.0
        self.foreign: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Time goes by; a foreign write passes at each of its moments, if there is a token then."""
        end = self.now + seconds
        for moment in [one for one in self.foreign if self.now < one <= end]:
            if moment - self.taken >= 60:
                self.taken = moment
        self.now = end

    def take_tokens(self, _alias: str) -> int:
        if self.now - self.taken < 60:
            return 0
        self.taken = self.now
        return 1


class Work:
    """As much of a Work as the guard asks for."""

    def __init__(self, limiter: Limiter) -> None:
        self.store = limiter

    def tick(self, count: int = 0, note: str = "") -> None:
        """Nothing watches."""


def watched(seconds: float, foreign: list[float]) -> tuple[bool, bool]:
    """Whether a foreign write got through while a collection was read for so long, and whether the guard is clean."""
    limiter = Limiter()
    limiter.foreign = sorted(1000.0 + moment for moment in foreign)
    before_time, barriers.time = barriers.time, limiter
    try:
        guard = TokenGuard(Work(limiter), "foo__e1")
        wrote = False
        for _ in range(round(seconds / 0.25)):
            before = limiter.taken
            limiter.advance(0.25)
            wrote = wrote or limiter.taken != before
            guard()
        return wrote, guard.clean()
    finally:
        barriers.time = before_time


@settings(max_examples=150, deadline=None)
@given(
    st.floats(1, 400),
    st.lists(st.one_of(st.floats(0, 400), st.integers(1, 6).map(lambda turn: turn * 60.0)), max_size=6),
)
def test_the_guard_is_clean_exactly_when_no_foreign_write_got_through(seconds, foreign):
    """A client that writes while the collection is read takes a token that the guard then waits for."""
    wrote, clean = watched(seconds, foreign)
    assert clean is not wrote


def test_a_foreign_write_right_after_a_token_came_back_is_noticed():
    """The case that matters, with a fixed moment: the guard tries every four seconds, and another client was faster."""
    wrote, clean = watched(90, [60.0])
    assert wrote
    assert not clean


class Shards:
    """As much of a store as operation ids need."""

    def __init__(self, ids: dict[str, int], *, denied: bool = False, **more) -> None:
        self.ids, self.denied = ids, denied
        self.capabilities = SimpleNamespace(**{"local": False, "barrier": True, "nodes": 1} | more)

    def operation_ids(self, _name: str) -> dict[str, int]:
        return self.ids

    def barrier(self, _name: str) -> dict[str, int]:
        if self.denied:
            raise DeniedError("this key may not")
        return self.ids


@pytest.mark.parametrize(
    ("since", "told", "holds"),
    [
        ({"n/0": 7}, [], True),
        ({"n/0": 7}, [8, 9, 10], True),
        ({"n/0": 7}, [8, 10], False),
        ({"n/0": 7}, [8, 10, 11], False),
        ({"n/0": 7}, [9], False),
        ({"n/0": 7}, [8, None, 9], False),
        ({"n/0": 7}, [3], False),
        ({"n/0": 7}, [8, {"n/0": 9}], False),
        ({"n/0": 7}, [8, {"n/0": 9}, {"n/0": 8}], False),
        ({"n/0": 7}, [{"n/1": 7}], False),
        ({"n/0": 7}, [{"n/0": 7, "n/1": 0}], False),
        ({"n/0": 7, "n/1": 7}, [], False),
        ({}, [], False),
    ],
)
def test_a_write_of_somebody_else_shows_before_or_in_the_answer_to_ours(since, told, holds):
    """Our writes have one id after the other, and that of the last is what the server has; nothing makes up for more."""
    store = Shards(dict(since))
    undisturbed = Undisturbed(store, "c", since)
    for one in told:
        if isinstance(one, dict):
            store.ids = one
            undisturbed.holds()
        else:
            undisturbed.wrote(one)
            store.ids = {"n/0": one}
    assert undisturbed.holds() is holds


@pytest.mark.parametrize(
    ("store", "wanted"),
    [
        (Shards({"n/0": 7}), {"n/0": 7}),
        (Shards({"n/0": 7, "n/1": 9}), {}),
        (Shards({}), {}),
        (Shards({"n/0": 7}, nodes=3), {}),
        (Shards({"n/0": 7}, local=True), {}),
        (Shards({"n/0": 7}, barrier=False), {}),
        (Shards({"n/0": 7}, denied=True), {}),
    ],
)
def test_ids_are_only_counted_where_one_shard_on_one_node_tells_them(store, wanted):
    """Several shards or nodes, local mode, an old server, a key that may not: nothing is known, and nothing is refused."""
    assert lone_barrier(store, "c") == wanted


@pytest.mark.parametrize(
    ("since", "answer", "holds", "flushed"),
    [({"n/0": 7}, 8, True, 0), ({"n/0": 7}, 9, False, 0), ({"n/0": 7}, None, False, 0), ({}, 8, False, 1)],
)
def test_what_waits_to_be_done_shows_in_the_answer_to_a_write_behind_it(since, answer, holds, flushed):
    """Ids that can be asked for are of what is done; the one of our write tells of what was accepted before it, too."""
    store, flushes = Shards(dict(since)), []
    store.flush = flushes.append
    store.delete = lambda _alias, ids: store.ids.update({"n/0": answer} if len(ids) == 1 else {}) or answer
    undisturbed = Undisturbed(store, "c", since)
    undisturbed.settle("c__e1")
    assert (undisturbed.holds(), len(flushes)) == (holds, flushed)


@pytest.mark.parametrize(
    ("before", "now", "more", "quiet"),
    [
        ({"n/0": 7, "n/1": 3}, {"n/0": 8, "n/1": 4}, {}, True),
        ({"n/0": 7, "n/1": 3}, {"n/0": 9, "n/1": 5}, {"own_writes": 1}, True),
        ({"n/0": 7, "n/1": 3}, {"n/0": 8, "n/1": 5}, {}, False),
        ({"n/0": 7}, {"n/0": 7}, {}, False),
        ({"n/0": 7}, {"n/0": 2}, {}, False),
        ({"n/0": 7, "n/1": 3}, {"n/0": 8}, {}, False),
        ({"n/0": 7}, {"n/0": 8, "n/1": 1}, {}, False),
        ({"n/0": 7}, {"m/0": 8}, {}, False),
        ({}, {}, {}, False),
        (None, {"n/0": 8}, {}, False),
        ({"n/0": 7}, {"n/0": 8}, {"nodes": 3}, False),
        ({}, {}, {"alone": True}, True),
        ({}, {"n/0": 8}, {"alone": True}, False),
    ],
)
def test_any_doubt_about_operation_ids_counts_as_a_write(before, now, more, quiet):
    """One barrier and our own writes, on the same shards of one node: anything else may be another client's."""
    store = Shards({}, nodes=more.get("nodes", 1), alone=more.get("alone", False))
    work = SimpleNamespace(store=store)
    assert nothing_written(work, before, now, delta=1, own_writes=more.get("own_writes", 0)) is quiet


SERVER = SimpleNamespace(store=SimpleNamespace(capabilities=SimpleNamespace(nodes=1, alone=False)))


@pytest.mark.parametrize(
    ("before", "now", "ours", "expected"),
    [
        ({"a": 10}, {"a": 12}, [], True),
        ({"a": 10}, {"a": 13}, [], False),
        ({"a": 10}, {"a": 12}, None, False),
        ({"a": 10}, {"a": 15}, [11, 12, 13], True),
        ({"a": 10}, {"a": 15}, [11, 13, 15], True),
        ({"a": 10}, {"a": 16}, [11, 12, 13], False),
        ({"a": 10}, {"a": 15}, [11, 12], False),
        ({"a": 10}, {"a": 15}, [11, 12, 12], False),
        ({"a": 10}, {"a": 15}, [9, 11, 12], False),
        ({"a": 10}, {"a": 15}, [11, 12, 16], False),
        ({"a": 10}, {"a": 15}, [11, 12, None], False),
        ({"a": 10, "b": 5}, {"a": 12, "b": 7}, [], True),
        ({"a": 10, "b": 5}, {"a": 13, "b": 8}, [11], False),
        ({"a": 10}, {"b": 12}, [], False),
        ({"a": 10}, {"b": 13}, [11], False),
        ({"a": 10}, {"a": 1}, [], False),
        ({}, {}, [], False),
    ],
)
def test_only_operations_of_ours_that_are_known_leave_a_side_untouched(before, now, ours, expected):
    """A barrier moves the ids by two; of several shards an operation's id tells too little."""
    assert only_ours(SERVER, before, now, delta=2, ours=ours) is expected
