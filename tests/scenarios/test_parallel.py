"""Several collections at a time: the same results in the same order, each failing, stopping and resuming by itself."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager

import pytest
from tests.harness import Deployment, make_point, write
from tests.scenarios.cli import call

from qmigrate.commands import parallel, status, upgrade
from qmigrate.commands import rollback as back
from qmigrate.commands.adopt import adopt
from qmigrate.engine import rebuild
from qmigrate.engine.executor import Stop
from qmigrate.engine.work import OneAtATime
from qmigrate.errors import CollectionsFailedError, QmigrateError, StoppedError
from qmigrate.model.plan import GoLive, InPlace, Job
from qmigrate.model.schema import Change, CollectionSchema
from qmigrate.ports import Silent

LETTERS = "abcdef"
CREATE = f"""
def upgrade():
    return [
        op.CreateCollection("{{name}}_" + one, {{{{"a": VectorParams(size=8, distance=Distance.COSINE)}}}})
        for one in "{LETTERS}"
    ]
"""
ADD = """
def upgrade():
    return [op.AddVector("{name}_*", "b", VectorParams(size=16, distance=Distance.COSINE), values=Embed("words", text="text"))]
"""


@pytest.fixture
def six(deployment: Deployment) -> Deployment:
    """Six collections at 0001, with points; 0002 embeds them, and is pending."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings(), parallel=3)
    store = deployment.store()
    for letter in LETTERS:
        write(store, f"{deployment.name}_{letter}", [make_point(number) for number in range(6)])
    store.close()
    deployment.revise("0002", ADD)
    return deployment


def states(made: Deployment) -> dict:
    """Last letter of each collection -> (revision, state)."""
    rows = status.status(made.settings()).collections
    return {row.name[-1]: (row.revision, row.state) for row in rows if row.name.startswith(made.name)}


DONE = dict.fromkeys(LETTERS, ("0002", "ready"))


@pytest.fixture
def three_at_once(monkeypatch):
    """None waits for its index before two others do, too: with fewer at a time nothing would continue."""
    gate, original = threading.Barrier(3), rebuild.wait_until_ready

    def wait(work, physical):
        gate.wait(60)
        original(work, physical)

    monkeypatch.setattr(rebuild, "wait_until_ready", wait)


@pytest.mark.usefixtures("three_at_once")
def test_several_at_a_time_make_the_same(six):
    """Three are under way together; results are in the order of the plan, and every point is what it should be."""
    settings = six.settings()
    order = [item.job.collection for item in upgrade.plan(settings).collections]
    done = upgrade.upgrade(settings, parallel=3)
    assert [outcome.collection for outcome in done.outcomes] == order
    assert states(six) == DONE
    for letter in LETTERS:
        found = six.contents(f"{six.name}_{letter}")
        assert len(found) == 6
        assert all(set(vectors) == {"a", "b"} for _, vectors in found.values())
    gone = back.rollback(settings, "-1", parallel=3)
    assert [outcome.collection for outcome in gone.outcomes] == order
    assert states(six) == dict.fromkeys(LETTERS, ("0001", "pending"))


def test_adopt_several_at_a_time(deployment):
    """Every collection is sealed and recorded, at one baseline."""
    store = deployment.store()
    for letter in LETTERS:
        store.create_collection(f"{deployment.name}_{letter}", CollectionSchema(vectors={"a": {"size": 8, "distance": "Cosine"}}), seal=None)
    store.close()
    rows = adopt(deployment.settings(), f"{deployment.name}_*", parallel=4).rows
    assert [row.name[-1] for row in rows] == list(LETTERS)
    assert set(states(deployment).values()) == {(rows[0].revision, "ready")}


def failing(monkeypatch, letters: str) -> None:
    """Building the shadow of these collections fails."""
    original = rebuild.copy_ranges

    def copy(work, *args):
        if work.collection[-1] in letters:
            raise QmigrateError(f"no luck with {work.collection}")
        return original(work, *args)

    monkeypatch.setattr(rebuild, "copy_ranges", copy)


def test_a_failure_keeps_its_meaning(six, monkeypatch):
    """With keep_going all others are done and both failures are named; the next run finishes the two."""
    with monkeypatch.context() as patch:
        failing(patch, "be")
        with pytest.raises(CollectionsFailedError) as failed:
            upgrade.upgrade(six.settings(), parallel=3, keep_going=True)
    assert {name[-1] for name in failed.value.failed} == {"b", "e"}
    assert states(six) == DONE | dict.fromkeys("be", ("0001", "failed"))
    done = upgrade.upgrade(six.settings(), parallel=3)
    assert [one.collection[-1] for one in done.resumed] == ["b", "e"]
    assert states(six) == DONE


def test_without_keep_going_the_failure_is_raised(six, monkeypatch):
    """What was under way is finished or fails by itself, never half done."""
    with monkeypatch.context() as patch:
        failing(patch, "a")
        with pytest.raises(QmigrateError, match=f"no luck with {six.name}_a"):
            upgrade.upgrade(six.settings(), parallel=2)
    found = states(six)
    assert found["a"] == ("0001", "failed")
    assert {found[letter] for letter in LETTERS[1:]} <= {("0002", "ready"), ("0001", "pending")}


def test_a_stop_reaches_all_of_them_and_all_go_on(six, monkeypatch):
    """SIGTERM stops each at its next checkpoint; the same command resumes every one and ends the rest."""
    stop, gate, original = Stop(), threading.Barrier(3, action=lambda: stop(signal.SIGTERM, None)), rebuild.copy_ranges

    @contextmanager
    def given(_progress):
        yield stop

    def copy(work, *args):
        gate.wait(60)
        return original(work, *args)

    with monkeypatch.context() as patch:
        patch.setattr(upgrade, "stop_on_signals", given)
        patch.setattr(rebuild, "copy_ranges", copy)
        with pytest.raises(StoppedError) as stopped:
            upgrade.upgrade(six.settings(), parallel=3)
    assert stopped.value.exit_code == 143
    assert sorted(states(six).values()) == [("0001", "interrupted")] * 3 + [("0001", "pending")] * 3
    done = upgrade.upgrade(six.settings(), parallel=3)
    assert len(done.resumed) == 3
    assert states(six) == DONE


@pytest.mark.usefixtures("three_at_once")
def test_a_plan_file_is_done_several_at_a_time(six, tmp_path):
    """The jobs of a file run in parallel as well; the same file again finds all of them done."""
    for number in (1, 2):
        if number == 1:
            assert call(six.root, "plan", "--out", str(tmp_path / "plan")).code == 0
        done = call(six.root, "upgrade", "--plan", str(tmp_path / "plan"), "--parallel", "3", "--json")
        assert done.code == 0, done.text
        assert [one["collection"][-1] for one in done.json["data"]["outcomes"]] == (list(LETTERS) if number == 1 else [])
    assert states(six) == DONE


def test_on_the_command_line(six):
    """Lines of several collections stand between each other, and each names its own; JSON has the order of the plan."""
    done = call(six.root, "upgrade", "--parallel", "3", "--json")
    assert done.code == 0, done.text
    assert [one["collection"][-1] for one in done.json["data"]["outcomes"]] == list(LETTERS)
    lines = [line for line in done.err.splitlines() if " done in " in line]
    assert lines
    assert all(line.partition(" ")[2].startswith(f"{six.name}_") for line in lines)
    assert call(six.root, "rollback", "--parallel", "0").code == 2


# What may run in parallel, and what ends whom; without any store.


def test_who_shares_a_name_stays_in_order():
    """Jobs that move the same alias are done one after the other, in the order of the plan; others in parallel."""

    def job(name: str, *aliases: str, drops: str | None = None) -> Job:
        steps = [GoLive((), f"{name}__g0001", f"{name}__g0002", (name, *aliases))]
        if drops:
            steps.append(InPlace((), f"{name}__g0002", (Change("alias.drop", drops, drops, None),), ""))
        return Job(name, "", tuple(steps))

    jobs = [job("a", "read"), job("b"), job("c", drops="other"), job("d", "read", "other"), job("e")]
    found = parallel.chains(jobs, lambda one: one)
    assert [[one.collection for one in chain] for chain in found] == [["a", "c", "d"], ["b"], ["e"]]


def test_after_a_failure_nothing_further_is_begun():
    """Those that were begun end; of two failures the first in the order of the items is raised, the other is said."""
    begun, said, third = [], [], threading.Event()
    gate = threading.Barrier(3)

    def work(item: int) -> int:
        begun.append(item)
        gate.wait(60)
        if item == 1:
            third.wait(60)
            raise QmigrateError("one")
        if item == 2:
            try:
                raise QmigrateError("two")
            finally:
                third.set()
        return item

    class Said(Silent):
        def say(self, line: str) -> None:
            said.append(line)

    with pytest.raises(QmigrateError, match="one"):
        parallel.each([[0], [1], [2, 3]], work, 3, Said())
    assert (sorted(begun), said) == ([0, 1, 2], ["also failed: two"])


@pytest.mark.parametrize(("local", "cores", "wanted", "many"), [
    (True, None, None, 1), (True, None, 3, 3), (False, 2, None, 2), (False, 64, None, 4), (False, None, None, 4), (False, 2, 9, 9),
])
def test_how_many(local, cores, wanted, many):
    """As many as were asked for; else the server's cores, few of them, and one in local mode."""

    class Store:
        capabilities = type("Capabilities", (), {"local": local})
        cores = staticmethod(lambda: cores)

    assert parallel.at_once(Store(), wanted) == many


def test_code_works_for_one_collection_at_a_time():
    """A turn is shared by the threads of its owner, kept from others until it was released as often as taken."""
    turn, taken, ticks = OneAtATime(), threading.Event(), []
    turn.take("a")
    turn.take("a")
    other = threading.Thread(target=lambda: (turn.take("b", lambda: ticks.append(1)), taken.set()))
    other.start()
    turn.give()
    while not ticks:
        pass
    assert not taken.is_set()
    turn.give()
    other.join()
    assert taken.is_set()
