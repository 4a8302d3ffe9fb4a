"""What a person has agreed to is what was shown: what another client changes while the question stands is not done."""

from __future__ import annotations

import click
import pytest
from qdrant_client import QdrantClient, models
from tests.harness import CREATE, INDEX
from tests.scenarios.cli import call
from tests.scenarios.test_alias_moved_by_hand import collection, lead

from qmigrate.cli import shell
from qmigrate.commands import repair, snapshot, upgrade
from qmigrate.errors import RefusedError

MOVED = "is not what was shown any more"


@pytest.fixture
def made(deployment):
    """A loaded collection."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(5, uuids=False)
    return deployment


@pytest.fixture
def asked(monkeypatch):
    """A terminal at which a user says yes, after something else has happened."""
    meanwhile = []

    def answer(*_, **__) -> bool:
        for happens in meanwhile:
            happens()
        return True

    monkeypatch.setattr(shell.Shell, "may_ask", property(lambda _: True))
    monkeypatch.setattr(click, "confirm", answer)
    return meanwhile


def test_a_name_is_taken_from_what_was_shown(made, asked):
    """It was moved on by a user who knew why."""
    first, second = collection(made, f"{made.name}_x"), collection(made, f"{made.name}_y")
    lead(made, first)
    asked.append(lambda: lead(made, second))
    said = call(made.root, "repair", "--name", made.name)
    assert (said.code, MOVED in said.err) == (10, True), said.text
    store = made.store()
    assert store.aliases()[made.name] == second
    store.close()
    asked.clear()
    assert call(made.root, "repair", "--name", made.name).code == 0
    assert made.row().state == "ready"


@pytest.mark.server
@pytest.mark.parametrize("qdrant_config", ["server"], indirect=True)
def test_a_name_that_was_in_order_when_it_was_looked_at_is_moved_by_nobody(made):
    """Nothing was shown, so nothing was agreed to."""
    first = collection(made, f"{made.name}_x")
    look = repair.plan_put_back

    def later(world, name):
        plan = look(world, name)
        if not plan.collections:
            lead(made, first)
        return plan

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(repair, "plan_put_back", later)
        with pytest.raises(RefusedError, match=MOVED):
            repair.name(made.settings(), made.name, agreed=lambda _: None)


@pytest.mark.server
@pytest.mark.parametrize("qdrant_config", ["server"], indirect=True)
def test_only_the_drift_that_was_shown_is_taken_back(made, asked):
    """Another user adds another index while the question stands there."""
    made.revise("0002", INDEX)
    upgrade.upgrade(made.settings())

    client = QdrantClient(url=made.qdrant["url"], check_compatibility=False)
    client.create_payload_index(made.name, "one", models.PayloadSchemaType.KEYWORD, wait=True)
    asked.append(lambda: client.create_payload_index(made.name, "two", models.PayloadSchemaType.KEYWORD, wait=True))
    said = call(made.root, "repair", "--schema", made.name)
    assert (said.code, MOVED in said.err) == (10, True), said.text
    assert {"one", "two"} <= client.get_collection(made.name).payload_schema.keys()
    client.close()


def test_the_snapshot_that_was_shown_is_restored(made, asked):
    """A nightly job makes a newer one while the question stands there."""
    snapshot.create(made.settings(), made.name, archived=True)
    made.load(3, start=5, uuids=False)
    asked.append(lambda: snapshot.create(made.settings(), made.name, archived=True))
    said = call(made.root, "snapshot", "restore", made.name, "--latest")
    assert (said.code, MOVED in said.err) == (10, True), said.text
    assert len(made.contents()) == 8
    asked.clear()
    assert call(made.root, "snapshot", "restore", made.name, "--latest").code == 0
