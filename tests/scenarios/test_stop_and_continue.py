"""A stop at a checkpoint leaves nothing to wait for: the next run starts at once, and never where that isn't sure."""

from __future__ import annotations

import pytest
from tests.harness import ADD, CREATE, Deployment

from qmigrate.commands import upgrade
from qmigrate.engine import rebuild
from qmigrate.engine.build import copy
from qmigrate.engine.points import pace, streams
from qmigrate.errors import StoppedError
from qmigrate.model.facts.phases import StoppedInOrder
from qmigrate.model.facts.stored import loaded
from qmigrate.model.names import OWN_ALIAS
from qmigrate.ports import Silent

POINTS = 30


class Told(Silent):
    """Keeps what is shown to a person."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    @property
    def waited(self) -> bool:
        return any("until no request of the interrupted run" in line for line in self.lines)


@pytest.fixture
def made(deployment) -> Deployment:
    """A loaded collection with a rebuild pending."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(POINTS)
    deployment.revise("0002", ADD)
    return deployment


def interrupted(made: Deployment, monkeypatch, error: BaseException) -> None:
    """An upgrade that ends in the middle of its copy, after all of it was written."""
    copy = rebuild.copy_ranges

    def copied(*args):
        copy(*args)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(rebuild, "copy_ranges", copied)
        with pytest.raises(type(error)):
            upgrade.upgrade(made.settings())


def own_aliases(made: Deployment) -> list[str]:
    """Aliases of lease epochs that are left."""
    store = made.store()
    try:
        return [alias for alias, target in store.aliases().items() if OWN_ALIAS.match(alias) and target.startswith(made.name)]
    finally:
        store.close()


def finished(made: Deployment) -> Told:
    """The next upgrade; everything is there afterwards."""
    told = Told()
    upgrade.upgrade(made.settings(), progress=told)
    assert made.row().revision == "0002"
    assert len(made.contents()) == POINTS
    assert own_aliases(made) == []
    return told


STOP = StoppedError("stopped at a checkpoint, as asked")


def test_after_a_stop_the_next_one_goes_on_at_once(made, monkeypatch):
    """No alias is left, which is recorded, and the successor waits for nothing."""
    interrupted(made, monkeypatch, STOP)
    assert own_aliases(made) == []
    assert not finished(made).waited


def test_a_write_without_an_answer_is_waited_for(made, monkeypatch):
    """Where the outcome of a request is unknown the stop is like a crash: the alias stays for the successor to remove."""
    store = made.store()
    monkeypatch.setattr(type(store), "all_answered", lambda _: False)
    store.close()
    interrupted(made, monkeypatch, STOP)
    assert own_aliases(made) != []
    assert finished(made).waited == ("url" in made.qdrant)


def test_what_was_recorded_holds_for_that_holder_only(made, monkeypatch):
    """A successor that dies in the same phase is waited for, although the one before it was stopped in good order."""
    interrupted(made, monkeypatch, STOP)
    interrupted(made, monkeypatch, KeyboardInterrupt())
    assert own_aliases(made) != []
    assert finished(made).waited == ("url" in made.qdrant)


@pytest.mark.server
@pytest.mark.nightly
def test_a_stop_while_requests_of_the_one_before_may_land_is_not_in_order(made, monkeypatch):
    """It has answers to all of its own, but has not waited for those of the one that was killed before it."""
    if "url" not in made.qdrant:
        pytest.skip("in local mode no request outlives its process")

    def patient(seconds: int) -> None:
        made.qdrant["timeout"] = seconds
        made.__post_init__()

    patient(120)
    interrupted(made, monkeypatch, KeyboardInterrupt())
    interrupted(made, monkeypatch, STOP)
    patient(2)
    assert finished(made).waited


def test_the_fact_stays_in_the_journal(made, monkeypatch):
    """The journal has the epoch, so that another process has it."""
    from qmigrate.ledger import Ledger

    interrupted(made, monkeypatch, STOP)
    ledger = Ledger.open(made.ledger_url)
    (run,) = ledger.open_runs()
    ledger.close()
    assert {loaded(StoppedInOrder, record.facts).stopped_in_order for record in run.records} >= {max(record.epoch for record in run.records)}


def test_what_is_embedded_is_written_before_more_is_read(made, monkeypatch):
    """Where few points come in a second, all that a crash loses is the page that is on its way."""
    asked, send, taken, sent = streams.Streams.ask, copy.send, [], []

    def ask(*args):
        answer = asked(*args)
        answer()
        return answer

    class Ended(BaseException):
        """The process is gone."""

    def sending(work, alias, page):
        sent.extend(page.ready)
        return send(work, alias, page)

    class Throttled(pace.Throttle):
        """Notes what has been sent before each page."""

        def take(self, points):
            taken.append((points, len(sent)))
            if len(taken) == 4:
                raise Ended

    monkeypatch.setattr(streams.Streams, "ask", ask)
    monkeypatch.setattr(copy, "PAGE", 5)
    monkeypatch.setattr(copy, "workers_of", lambda *_args: 1)
    monkeypatch.setattr(copy, "send", sending)
    monkeypatch.setattr(pace, "Throttle", Throttled)
    with pytest.raises(Ended):
        upgrade.upgrade(made.settings())
    assert taken == [(5, 0), (5, 5), (5, 10), (5, 15)]
