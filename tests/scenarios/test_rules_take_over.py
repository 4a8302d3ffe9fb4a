"""The rules that hold against a holder which died or stood still: what it still sends does nothing, or is undone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import pytest
from tests.harness import ADD, CREATE, Deployment, make_point, write
from tests.scenarios.test_stop_and_continue import STOP, interrupted, own_aliases

from qmigrate import fix, op
from qmigrate.commands import rollback as back
from qmigrate.commands import upgrade
from qmigrate.engine import epoch_aliases, rebuild
from qmigrate.engine.golive import golive
from qmigrate.errors import NotFoundError, QmigrateError, RepairNeededError
from qmigrate.model.names import is_own_alias

POINTS = 12


@pytest.fixture
def made(deployment) -> Deployment:
    """A loaded collection with a rebuild pending."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(POINTS, uuids=False)
    deployment.revise("0002", ADD)
    return deployment


on_server = pytest.mark.parametrize("qdrant_config", ["server"], indirect=True)


def before(monkeypatch, module, name: str, action: Callable) -> None:
    """Do something right before every call of a step's function, which has the work first."""
    original = getattr(module, name)

    def wrapped(work, *args, **kwargs):
        action(work)
        return original(work, *args, **kwargs)

    monkeypatch.setattr(module, name, wrapped)


class Clock:
    """The clock of what waits: sleeping takes no time, and something happens at a moment of it."""

    def __init__(self, moment: float, action: Callable[[], None]) -> None:
        self.now, self.moment, self.action = 0.0, moment, action

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now >= self.moment:
            self.action()


def test_a_request_of_a_dead_holder_is_refused_from_the_take_over_on(made, monkeypatch):
    """Before the next holder makes a name of its own or relies on anything, that which the last one writes by is gone."""
    interrupted(made, monkeypatch, KeyboardInterrupt())
    (alias,) = [one for one in own_aliases(made) if one.startswith(f"{made.name}__g0002")]

    def late(work) -> None:
        with pytest.raises(NotFoundError):
            write(work.store, alias, [make_point(3, text="of the dead holder")])

    before(monkeypatch, epoch_aliases, "make", late)
    before(monkeypatch, rebuild, "prove", late)
    upgrade.upgrade(made.settings())
    assert made.contents()[4][0]["text"] == "the text number 3"


@pytest.mark.server
@on_server
@pytest.mark.parametrize("stopped", [False, True], ids=["died", "died behind a stop in good order"])
def test_what_a_dead_holder_had_under_way_is_waited_for(made, monkeypatch, stopped):
    """The server has resolved its name already, and does it 1.5 s later: before the proof, which repairs it.

    That the holder before it has left nothing says nothing of this one, whose alias another client has removed.
    """
    if stopped:
        interrupted(made, monkeypatch, STOP)
    interrupted(made, monkeypatch, KeyboardInterrupt())
    if stopped:
        remove_own(made)
    store, landed = made.store(), []

    def lands(*_) -> None:
        if not landed:
            landed.append(True)
            write(store, f"{made.name}__g0002", [make_point(3, text="of the dead holder")])

    monkeypatch.setattr(epoch_aliases, "time", Clock(1.5, lands))
    before(monkeypatch, golive, "swap", lands)
    upgrade.upgrade(made.settings())
    store.close()
    assert landed
    assert made.contents()[4][0]["text"] == "the text number 3"


def test_a_holder_that_was_overtaken_writes_nothing(made, monkeypatch):
    """It stood still before its first write; another one has taken over and removed its aliases."""
    store = made.store()
    kind, upsert = type(store), type(store).upsert
    store.close()
    taken: list[str] = []

    def late(self, alias, *args, **kwargs):
        if not taken:
            taken.append(alias)
            take_over(made, self)
        return upsert(self, alias, *args, **kwargs)

    monkeypatch.setattr(kind, "upsert", late)
    with pytest.raises(QmigrateError):
        upgrade.upgrade(made.settings())
    assert taken
    assert made.contents(f"{made.name}__g0002") == {}


def test_a_new_collection_is_completed_by_its_holder_alone(made, monkeypatch):
    """It stood still right behind the request that makes it; by its name the next one would reach what may serve."""
    store = made.store()
    kind, complete = type(store), type(store).complete_collection
    store.close()
    answers: list[str] = []

    def late(self, name, *args, **kwargs):
        take_over(made, self)
        answers.append("refused")
        complete(self, name, *args, **kwargs)
        answers[-1] = "done"

    monkeypatch.setattr(kind, "complete_collection", late)
    with pytest.raises(QmigrateError):
        upgrade.upgrade(made.settings())
    assert answers == ["refused"]


def test_an_alias_that_comes_when_its_holder_is_gone_is_removed_by_the_next(made):
    """Also on a generation that this one has nothing to do with; an alias of an application that looks alike stays."""
    upgrade.upgrade(made.settings())
    physical, like = f"{made.name}__g0001", f"{made.name}_model__e1"
    store = made.store()
    for alias in (f"{physical}__e1", like):
        store.create_alias(alias, physical)
    store.close()
    fix.run(op.SetPayload(made.name, {"seen": True}, max_share=1.0), settings=made.settings())
    store = made.store()
    assert set(store.aliases()) >= {like, made.name}
    assert not [alias for alias, at in store.aliases().items() if at == physical and is_own_alias(alias, at)]
    store.close()


def remove_own(made: Deployment) -> None:
    """Another client removes the aliases of lease epochs."""
    store = made.store()
    for alias in own_aliases(made):
        store.drop_alias(alias)
    store.close()


def take_over(made: Deployment, store) -> None:
    """What another holder does first: the lease is of another epoch, and the aliases of the last one go."""
    connection = sqlite3.connect(made.ledger_url.removeprefix("sqlite:///"), timeout=10)
    connection.execute("UPDATE qdrant_migration_leases SET epoch = epoch + 1 WHERE name = ?", (made.name,))
    connection.commit()
    connection.close()
    for alias, physical in store.aliases().items():
        if is_own_alias(alias, physical) and physical.startswith(made.name):
            store.drop_alias(alias)


def test_a_proof_of_a_dead_holder_is_none(made, monkeypatch):
    """It was proven and about to swap; what it had sent before arrives then: proven again, and repaired, before the swap."""

    def ends(*_args, **_kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(golive, "swap", ends)
        with pytest.raises(KeyboardInterrupt):
            upgrade.upgrade(made.settings())
    store = made.store()
    write(store, f"{made.name}__g0002", [make_point(3, text="of the dead holder")])
    store.close()
    upgrade.upgrade(made.settings())
    assert made.contents()[4][0]["text"] == "the text number 3"


def test_where_the_name_has_moved_and_its_proof_is_lost_nothing_is_guessed(made, monkeypatch):
    """Behind the swap, without the base in the ledger: exit 7, and both generations stay as they are."""

    def ends(*_args, **_kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(golive, "sweep", ends)
        with pytest.raises(KeyboardInterrupt):
            upgrade.upgrade(made.settings())
    forget_bases(made)
    with pytest.raises(RepairNeededError, match="base of its proof is gone"):
        upgrade.upgrade(made.settings())
    assert len(made.contents()) == POINTS


def test_without_a_base_no_rollback_flips_first(made):
    """What was written since can't be distinguished from what was there: refused before the name moves."""
    upgrade.upgrade(made.settings())
    made.load(1, start=50, uuids=False)
    forget_bases(made)
    before = made.contents()
    with pytest.raises(RepairNeededError, match="has no base"):
        back.rollback(made.settings(), "0001", writes="now")
    assert (made.contents(), made.row().revision) == (before, "0002")


def forget_bases(made: Deployment) -> None:
    """A ledger that was restored from a copy, say."""
    connection = sqlite3.connect(made.ledger_url.removeprefix("sqlite:///"), timeout=10)
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE name LIKE '%base%' AND type = 'table'")]
    for table in tables:
        connection.execute(f"DELETE FROM {table}")  # noqa: S608  its own tables
    connection.commit()
    connection.close()
