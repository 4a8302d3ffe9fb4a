"""Snapshots take no lease: what moves the collection, or erases points, while they are made leaves no trace in them."""

from __future__ import annotations

import pytest
from tests.conftest import clean
from tests.harness import CREATE, Deployment
from tests.scenarios.plain_names import plain

from qmigrate import archive, op
from qmigrate.commands import erase, snapshot, upgrade
from qmigrate.engine import export
from qmigrate.errors import UnavailableError
from qmigrate.store import records
from qmigrate.store.server.server import ServerStore

POINTS = 40
MARKED = """
def marked(point):
    return {{**point.payload, "marked": True}}

def upgrade():
    return [op.TransformPoints("{name}", marked)]
"""


@pytest.fixture
def server(qdrant_server, tmp_path, monkeypatch):
    """A project on a real server, whose archives are written in small pages."""
    made = Deployment(
        tmp_path / "project",
        {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "timeout": 2},
        f"sqlite:///{tmp_path}/ledger.db",
    )
    monkeypatch.setattr(records, "page_size", lambda *_, **__: 8)
    yield made
    clean(made)


def once(monkeypatch, owner, name, act) -> list[int]:
    """Before the first call of a method that is counted, `act` is done."""
    original, calls = getattr(owner, name), [0]

    def called(*args, **options):
        calls[0] += 1
        if calls[0] == 1:
            act()
        return original(*args, **options)

    monkeypatch.setattr(owner, name, called)
    return calls


def archived(made: Deployment):
    """An archive of it, and its points: id -> payload."""
    (row,) = snapshot.create(made.settings(), made.name, archived=True).rows
    (path,) = made.settings().archives.glob("*.zst")
    return row, {one.id: records.payload_of(one.stored) for one in archive.read(path)}


@pytest.mark.server
def test_a_plain_name_that_an_alias_takes_meanwhile(server, monkeypatch):
    """An archive is of one generation: what was read of the one before is not kept."""
    plain(server, POINTS)
    server.revise("0002", MARKED)
    once(monkeypatch, export.portable, "page_to_json", lambda: upgrade.upgrade(server.settings(), no_snapshot=True))
    row, points = archived(server)
    assert (row.revision, row.physical, row.points) == ("0002", f"{server.name}__g0001", POINTS)
    assert all(payload.get("marked") for payload in points.values())


@pytest.mark.server
def test_a_snapshot_of_the_server_is_called_what_it_is_of(server, monkeypatch):
    """The name moves between its reading and the request."""
    plain(server, POINTS)
    server.revise("0002", MARKED)
    once(monkeypatch, ServerStore, "create_snapshot", lambda: upgrade.upgrade(server.settings(), no_snapshot=True))
    (row,) = snapshot.create(server.settings(), server.name).rows
    assert (row.revision, row.physical) == ("0002", f"{server.name}__g0001")
    listed = {one.name: one.physical for one in snapshot.list_(server.settings(), server.name).rows}
    assert listed[row.name] == row.physical


@pytest.mark.server
def test_points_that_are_erased_meanwhile(server, monkeypatch):
    """An erasure doesn't find them in a file that has no name yet; they are not in it once it has one."""
    server.revise("0001", CREATE)
    upgrade.upgrade(server.settings())
    server.load(POINTS, uuids=False)
    wanted = op.DeletePoints(server.name, ids=[3], reason="asked")
    pages, done = export.portable.page_to_json, []

    def page(found):
        made = pages(found)
        if not done:
            # Behind the first page, which has it.
            done.append(erase.erase(server.settings(), wanted, expect=1))
        return made

    monkeypatch.setattr(export.portable, "page_to_json", page)
    row, points = archived(server)
    assert (row.points, 3 in points, 4 in points) == (POINTS - 1, False, True)


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (lambda number: {"moments": number}, "was moved each time while it was read"),
        (lambda _: {"erased": snapshot.Erasing(1, None, 1)}, "are being erased, and an archive would keep them"),
    ],
    ids=["moved", "erasing"],
)
def test_each_time_that_it_is_read(tmp_path, monkeypatch, seen, said):
    """After some tries it is an error, and no file is left."""
    made = Deployment(tmp_path, {"path": ".qmigrate/qdrant"}, f"sqlite:///{tmp_path}/ledger.db", name="docs")
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(3)
    looks = iter(range(100))
    found = {"moments": 1, "led": (None, None), "erased": snapshot.Erasing(0, None, 0)}
    monkeypatch.setattr(snapshot._Seen, "of", lambda *_: snapshot._Seen(**{**found, **seen(next(looks))}))
    with pytest.raises(UnavailableError, match=said):
        snapshot.create(made.settings(), "docs")
    assert list(made.settings().archives.glob("*")) == []
