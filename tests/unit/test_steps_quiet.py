"""What the tokens of a fenced collection say about writes of others, on a clock of the test's own."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from qmigrate.steps import quiet
from qmigrate.steps.quiet import TokenGuard


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
        """Nobody watches."""


def watched(seconds: float, foreign: list[float]) -> tuple[bool, bool]:
    """Whether a foreign write got through while a collection was read for so long, and whether the guard is clean."""
    limiter = Limiter()
    limiter.foreign = sorted(1000.0 + moment for moment in foreign)
    before_time, quiet.time = quiet.time, limiter
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
        quiet.time = before_time


@settings(max_examples=150, deadline=None)
@given(
    st.floats(1, 400),
    st.lists(st.one_of(st.floats(0, 400), st.integers(1, 6).map(lambda turn: turn * 60.0)), max_size=6),
)
def test_the_guard_is_clean_exactly_when_no_foreign_write_got_through(seconds, foreign):
    """Whoever writes while the collection is read takes a token that the guard then waits for."""
    wrote, clean = watched(seconds, foreign)
    assert clean is not wrote


def test_a_foreign_write_right_after_a_token_came_back_is_noticed():
    """The case that matters, with a fixed moment: the guard tries every four seconds, and somebody was faster."""
    wrote, clean = watched(90, [60.0])
    assert wrote
    assert not clean
