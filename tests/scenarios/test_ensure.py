"""Collections that an application creates while it runs: made at head, once, by the first caller."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from qdrant_client import QdrantClient, models
from tests.conftest import clean
from tests.harness import Deployment

from qmigrate import ensure
from qmigrate.commands import rollback as back
from qmigrate.commands import status, upgrade
from qmigrate.commands.adopt import adopt
from qmigrate.errors import ConfigError, RefusedError, RepairNeededError, RevisionError, UsageError
from qmigrate.ledger import Lease

ROOT = Path(__file__).resolve().parents[2]
TENANTS = """
def upgrade():
    return [op.CreateCollection("{name}_tenant_*", vectors=VectorParams(size=4, distance=Distance.DOT))]
"""
OWNER = """
def upgrade():
    return [op.CreatePayloadIndex("{name}_tenant_*", "owner", PayloadSchemaType.KEYWORD),
            op.UpdateCollection("{name}_tenant_*", metadata={{"seen": 1}})]
"""


@pytest.fixture
def made(qdrant_config, ledger_url, tmp_path):
    """A deployment whose revisions know tenants by a glob."""
    found = Deployment(tmp_path / "project", qdrant_config, ledger_url)
    found.revise("0001", TENANTS)
    found.revise("0002", OWNER)
    yield found
    if "url" in qdrant_config:
        clean(found)


@pytest.fixture
def client(made):
    """The application's own client."""
    if "path" in made.qdrant:
        opened = QdrantClient(path=made.qdrant["path"], force_disable_check_same_thread=True)
    else:
        opened = QdrantClient(url=made.qdrant["url"], check_compatibility=False)
    yield opened
    opened.close()


def rows(deployment: Deployment) -> dict:
    """Status by name, of this test's collections; in local mode only while no client has the folder."""
    return {
        row.name: row for row in status.status(deployment.settings()).collections if row.name.startswith(deployment.name)
    }


def test_a_new_tenant_is_created_at_head_and_managed(made, client):
    """Generation, alias, seal and history are there; the second call finds it with one request."""
    name = f"{made.name}_tenant_a"
    first = ensure(client, name, config=made.config)
    assert (first.physical, first.revision, first.created) == (f"{name}__g0001", "0002", True)
    again = ensure(client, name, config=made.config)
    assert (again.physical, again.revision, again.created) == (first.physical, first.revision, False)
    client.upsert(name, [models.PointStruct(id=1, vector=[1.0, 2.0, 3.0, 4.0])], wait=True)
    assert client.count(name).count == 1
    assert client.get_collection(name).config.metadata["qmigrate"]["revision"] == "0002"
    client.close()
    assert (rows(made)[name].state, rows(made)[name].revision) == ("ready", "0002")
    made.revise("0003", 'def upgrade():\n    return [op.UpdateCollection("{name}_tenant_*", metadata={{"seen": 2}})]')
    assert [outcome.collection for outcome in upgrade.upgrade(made.settings()).outcomes] == [name]
    back.rollback(made.settings(), "base", writes="discard")
    assert rows(made)[name].generation is None
    upgrade.upgrade(made.settings())
    assert rows(made)[name].revision == "0003"


def test_a_glob_creates_nothing_by_itself(made):
    """In a fresh environment an upgrade reports that and does nothing."""
    done = upgrade.upgrade(made.settings())
    assert not done.outcomes
    assert any("qmigrate.ensure creates them" in note for note in done.plan.notes)
    assert not rows(made)


def test_an_unmanaged_collection_that_matches_is_left_alone(made, client):
    """Upgrade notes it, status names the command, ensure refuses, and adopt takes it in where it fits."""
    name = f"{made.name}_tenant_old"
    client.create_collection(name, models.VectorParams(size=4, distance=models.Distance.DOT))
    with pytest.raises(RefusedError, match="not under management") as refused:
        ensure(client, name, config=made.config)
    assert f"qmigrate adopt {name}" in refused.value.hint
    client.close()
    done = upgrade.upgrade(made.settings())
    assert not done.outcomes
    assert any(f"qmigrate adopt {name}" in note for note in done.plan.notes)
    row = rows(made)[name]
    assert (row.state, row.pending, row.next_command) == ("plain", (), f"qmigrate adopt {name}")
    if "url" in made.qdrant:
        assert adopt(made.settings(), name).rows[0].revision == "0001"
        upgrade.upgrade(made.settings())
        assert rows(made)[name].revision == "0002"


def test_threads_that_ensure_at_once_create_once(made, client):
    """One creates, the others wait and find it."""
    name = f"{made.name}_tenant_t"
    found, failed, gate = [], [], threading.Barrier(4)

    def one() -> None:
        gate.wait()
        try:
            found.append(ensure(client, name, config=made.config))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert sorted(one.created for one in found) == [False, False, False, True]
    assert {one.physical for one in found} == {f"{name}__g0001"}


@pytest.mark.nightly
@pytest.mark.server
def test_processes_that_ensure_at_once_create_once(qdrant_server, ledger_url, tmp_path):
    """The same from four programs."""
    made = Deployment(tmp_path / "project", {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port}, ledger_url)
    made.revise("0001", TENANTS)
    name = f"{made.name}_tenant_p"
    program = textwrap.dedent(f"""
        from qdrant_client import QdrantClient
        from qmigrate import ensure
        print(ensure(QdrantClient(url={qdrant_server.url!r}, check_compatibility=False), {name!r}, config={str(made.config)!r}).created)
    """)
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        for _ in range(4)
    ]
    answers = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0] * 4, answers
    assert sorted(out.strip() for out, _ in answers) == ["False", "False", "False", "True"]
    assert len(status.history(made.settings(), name).rows) == 1
    clean(made)


@pytest.mark.parametrize("call", ["open_run", "journal", "save_generation", "close_step"])
def test_a_crashed_ensure_is_finished_by_the_next(made, client, monkeypatch, call):
    """The next caller resumes the run and gets the same collection."""
    name = f"{made.name}_tenant_c"
    original = getattr(Lease, call)

    class Killed(BaseException):
        """What nothing catches."""

    def stop(self, *args, **kwargs):
        original(self, *args, **kwargs)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Lease, call, stop)
        with pytest.raises(Killed):
            ensure(client, name, config=made.config)
    assert ensure(client, name, config=made.config).physical == f"{name}__g0001"
    client.close()
    assert rows(made)[name].state == "ready"


def test_what_cannot_be_ensured_is_said(made, client, tmp_path):
    """Wrong clients, wrong places and names that nothing creates are errors, each with its own words."""
    with pytest.raises(RevisionError, match="no revision creates"):
        ensure(client, f"{made.name}_other", config=made.config)
    with pytest.raises(UsageError, match="got str"):
        ensure("http://localhost", f"{made.name}_tenant_a", config=made.config)
    with pytest.raises(UsageError, match="form of qmigrate's own names"):
        ensure(client, f"{made.name}_tenant_a__g0001", config=made.config)
    elsewhere = QdrantClient(path=str(tmp_path / "elsewhere"))
    with pytest.raises(ConfigError, match="in qmigrate.yaml"):
        ensure(elsewhere, f"{made.name}_tenant_a", config=made.config)
    elsewhere.close()
    ensure(client, f"{made.name}_tenant_a", config=made.config)
    client.delete_collection(f"{made.name}_tenant_a__g0001")
    with pytest.raises(RepairNeededError, match="Qdrant has no such name"):
        ensure(client, f"{made.name}_tenant_a", config=made.config)


def moved_away(client, name):
    """The alias leads to a collection that is unknown."""
    client.create_collection(f"{name}x", models.VectorParams(size=4, distance=models.Distance.DOT))
    point(client, name, f"{name}x")


def moved_back(client, name):
    """The alias leads to the earlier generation."""
    point(client, name, f"{name}__g0001")


def made_again(client, name):
    """What serves was deleted and recreated by another client."""
    client.delete_collection(f"{name}__g0002")
    client.create_collection(f"{name}__g0002", models.VectorParams(size=4, distance=models.Distance.DOT))
    point(client, name, f"{name}__g0002")


def point(client, name, physical):
    """As a person at the server would."""
    client.update_collection_aliases([models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=name))])
    made = models.CreateAlias(collection_name=physical, alias_name=name)
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=made)])


@pytest.mark.parametrize("change", [moved_away, moved_back, made_again], ids=lambda change: change.__name__)
def test_a_name_that_serves_something_else_is_not_ensured(made, client, change):
    """What the ledger has is compared with what the client sees: another collection under the name doesn't count."""
    name = f"{made.name}_tenant_a"
    ensure(client, name, config=made.config)
    client.close()
    grown = 'op.AddVector("NAME_tenant_*", "more", VectorParams(size=3, distance=Distance.DOT), values=Empty())'
    made.revise("0003", f"def upgrade():\n    return [{grown.replace('NAME', made.name)}]")
    upgrade.upgrade(made.settings())
    opened = QdrantClient(**({"path": made.qdrant["path"]} if "path" in made.qdrant else {"url": made.qdrant["url"], "check_compatibility": False}))
    try:
        assert ensure(opened, name, config=made.config).physical == f"{name}__g0002"
        change(opened, name)
        with pytest.raises(RepairNeededError):
            ensure(opened, name, config=made.config)
    finally:
        opened.close()


def test_a_client_of_another_qdrant_ensures_nothing(made, client, tmp_path):
    """It has a collection of that name as well: what the client sees decides, not the name."""
    name = f"{made.name}_tenant_a"
    ensure(client, name, config=made.config)
    client.close()
    other = QdrantClient(path=str(tmp_path / "other"), force_disable_check_same_thread=True)
    try:
        other.create_collection(name, models.VectorParams(size=4, distance=models.Distance.DOT))
        with pytest.raises(ConfigError):
            ensure(other, name, config=made.config)
    finally:
        other.close()
