"""The user's models work for one collection at a time: no collection refuses writes while it waits for another one."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest
from tests.harness import ADD, CREATE

from qmigrate import Embed
from qmigrate.commands import upgrade
from qmigrate.engine.golive import freeze
from qmigrate.engine.points.embed_input import embed_input
from qmigrate.errors import StoppedError


def test_no_freeze_waits_for_the_models_of_another_collection(deployment, monkeypatch):
    """It is begun once the models are its own, until it is over: the other one may need them for hours."""
    deployment.extra["rebuild"] = {"writes": "freeze"}
    deployment.__post_init__()
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(20)
    deployment.revise("0002", ADD)
    taken, frozen, owners = threading.Event(), threading.Event(), []
    begin, proving = freeze.begin, freeze.prove_frozen

    def embeds(turn):
        with turn.of(object()):
            taken.set()
            frozen.wait(1.0)

    def prove_frozen(work, sides, **more):
        other = threading.Thread(target=embeds, args=(work.code.turn,))
        other.start()
        assert taken.wait(10)
        try:
            return proving(work, sides, **more)
        finally:
            other.join()

    def begun(work, *given):
        owners.append(work.code.turn._owner is work)
        frozen.set()
        return begin(work, *given)

    monkeypatch.setattr(freeze, "begin", begun)
    monkeypatch.setattr(freeze, "prove_frozen", prove_frozen)
    upgrade.upgrade(deployment.settings())
    assert owners == [True]
    assert len(deployment.contents()) == 20


def test_a_stop_while_the_models_are_waited_for_is_about_no_point():
    """What ends the wait is raised as it is: it doesn't count as a failure of the payload that was next."""

    @contextmanager
    def stopped():
        raise StoppedError("stopped at a checkpoint, as asked", signal_number=2)
        yield

    with pytest.raises(StoppedError):
        embed_input(Embed("words", text=str), {}, stopped)
