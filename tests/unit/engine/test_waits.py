"""Waits for a server's optimizers end by its headway, not by a clock: here on a clock of the test's own."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest

from qmigrate.engine.build import index, preflight
from qmigrate.errors import RefusedError, StoreError
from qmigrate.ports import Readiness

LIMIT = 60.0
BUSY = Readiness(settled=False, detail="yellow, 1 optimizations running", waiting=frozenset("ab"))
DONE = Readiness(settled=True, detail="green", waiting=frozenset())


@pytest.fixture
def waited(monkeypatch):
    """Waits for a server that shows these readings, half a minute apart; and how many of them it took."""
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now

    def sleep(_seconds):
        clock.now += LIMIT / 2

    clock.sleep = sleep
    for module in (index, preflight):
        monkeypatch.setattr(module, "time", clock)

    def run(wait, readings) -> tuple[int, list[str]]:
        shown, said = iter(readings), []
        now = SimpleNamespace(reading=None, count=0)

        def read(_name):
            now.reading, now.count = next(shown), now.count + 1
            return now.reading

        # The source is described before it is asked how far it is.
        described = SimpleNamespace(status="yellow")
        store = SimpleNamespace(
            readiness=read, describe=lambda _name: described, capabilities=SimpleNamespace(local=False)
        )
        progress = SimpleNamespace(begin=lambda *_args: None, end=lambda _line: None, say=said.append)
        limits = SimpleNamespace(ready_timeout=LIMIT, settle=LIMIT)
        wait(SimpleNamespace(
            store=store, progress=progress, collection="c", tick=lambda *_args: None,
            settings=SimpleNamespace(limits=limits),
        ), "c__g0001")
        return now.count, said

    return run


def moving(readings: int) -> list[Readiness]:
    """As many that get on a little each."""
    return [replace(BUSY, moved=str(number)) for number in range(readings)]


def test_indexing_is_waited_for_as_long_as_it_gets_on(waited):
    """After hours of small steps it is still waited for."""
    assert waited(index.wait_until_ready, [*moving(500), *[DONE] * 3])[0] == 503


def test_indexing_that_stands_still_is_an_error(waited):
    """From the last step on."""
    with pytest.raises(StoreError, match="has not got on for 60 s: yellow"):
        waited(index.wait_until_ready, [*moving(10), *[replace(BUSY, moved="9")] * 3])


def test_what_is_changed_under_writers_is_waited_for_and_nothing_else(waited):
    """A live collection that is written to steadily is never settled: what it had to do at first is waited for."""
    live = partial(index.wait_until_ready, live=True)
    later = [replace(one, waiting=frozenset("cd")) for one in moving(3)]
    assert waited(live, [*moving(300), *later])[0] == 303


def test_where_a_server_does_not_tell_what_it_has_to_do_a_change_has_a_fixed_time(waited):
    """What others write moves all the time there."""
    silent = [replace(one, waiting=None) for one in moving(300)]
    with pytest.raises(StoreError, match="is not ready"):
        waited(partial(index.wait_until_ready, live=True), silent)


def test_what_a_source_has_to_do_is_waited_for(waited):
    """One that is written to steadily stays yellow: it is waited for what was there at first, and nothing else."""
    later = [replace(one, waiting=frozenset("bc")) for one in moving(300)]
    count, said = waited(preflight._wait_until_green, [*moving(300), *later, replace(BUSY, waiting=frozenset("cd"))])
    assert count == 601
    assert any("goes on with what is written meanwhile" in line for line in said)


@pytest.mark.parametrize("waiting", [None, frozenset(), frozenset("ab")])
def test_a_source_that_stands_still_is_refused(waited, waiting):
    """Also where a server doesn't tell what it has to do, or has nothing, and stays yellow."""
    still = replace(BUSY, waiting=waiting)
    with pytest.raises(RefusedError, match="still optimizing, and has not got on for 60 s"):
        waited(preflight._wait_until_green, [*[replace(one, waiting=waiting) for one in moving(10)], *[still] * 3])
