"""SIGKILL at each request and each write of the journal of a copy that computes nothing, with writers in between.

Nothing is kept of what the fill has read (no base), so whatever other clients do between the kill and the next run has to
show in the proof alone.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from itertools import count
from pathlib import Path

import pytest
from tests.conftest import clean
from tests.conftest_postgres import fresh_database
from tests.faults import forked
from tests.faults.child_bytes import CHANGED, INSERTED
from tests.faults.stride import thinned
from tests.harness import Deployment, make_point, write

from qmigrate.commands import status, upgrade
from qmigrate.engine.points.base import BaseEntry, committed, digest_of, unpack
from qmigrate.ledger import Ledger
from qmigrate.model.names import is_own_alias
from qmigrate.store import records

pytestmark = [pytest.mark.server, pytest.mark.timeout(1800)]

POINTS = 60
RESHARD = """
from qmigrate import op
def upgrade():
    return [op.Reshard("{name}", shard_number=2)]
"""
#: Ids that are deleted after the kill: of the first page, of the middle and of the last one, copied by then or not.
DELETED = (3, 31, POINTS - 1)
#: Numbers that are written and deleted again after the kill, one between the ids that are there.
PASSING = (POINTS + 5, 901)


def prepare(server, folder: Path, url: str) -> Deployment:
    """A loaded collection with a pending copy, in three ranges that are copied at the same time."""
    qdrant = {"url": server.url, "grpc_port": server.grpc_port, "timeout": 1}
    made = Deployment(folder / "project", qdrant, url, extra={"rebuild": {"ranges": 3, "snapshot": False}})
    made.revise("0001", """
def upgrade():
    return [op.CreateCollection("{name}", {{"a": VectorParams(size=8, distance=Distance.COSINE)}})]
""")
    upgrade.upgrade(made.settings())
    made.load(POINTS, uuids=False)
    made.revise("0002", RESHARD)
    return made


def child(made: Deployment, how: str, *, kill_at=None, log=None):
    """The upgrade in a process of its own."""
    arguments = (str(made.config), f"{made.name}__g0001", str(kill_at or "-"), str(log or "-"), how)
    return forked.run("tests.faults.child_bytes", *arguments)


def meddle(made: Deployment) -> None:
    """What other clients do through the name when the process is dead: back to A, there and gone, gone."""
    store = made.store()
    try:
        write(store, made.name, [make_point(number) for number in CHANGED])
        write(store, made.name, [make_point(number) for number in PASSING])
        store.delete(made.name, [number + 1 for number in (*PASSING, INSERTED)])
        store.delete(made.name, [number + 1 for number in DELETED])
        write(store, made.name, [make_point(POINTS + 2)])
    finally:
        store.close()


def check_end(made: Deployment) -> None:
    """What clients have left is there, by each id; the base is that of both sides; there are no leftovers."""
    wanted = {make_point(number).id for number in range(POINTS) if number not in DELETED} | {POINTS + 3}
    there = made.contents()
    assert there.keys() == wanted
    for number in (*CHANGED, POINTS + 2):
        assert there[number + 1][0]["text"] == make_point(number).payload["text"], number
    row = next(one for one in status.status(made.settings()).collections if one.name == made.name)
    assert (row.revision, row.state) == ("0002", "ready")
    store = made.store()
    try:
        assert not [one for one in store.aliases().items() if one[0].startswith(made.name) and is_own_alias(*one)]
        names = [name for name in store.physical_names() if name.startswith(made.name)]
        assert names == [f"{made.name}__g0001", f"{made.name}__g0002"]
        with closing(Ledger.open(made.ledger_url)) as ledger:
            base, digest = f"{made.name}__g0002", digest_of(ledger, f"{made.name}__g0002")
            based = dict(unpack(committed(ledger, base)))
        sides = [
            {records.order_key(records.point_id(one)): digest(one) for page in store.scan(name) for one in page}
            for name in names
        ]
    finally:
        store.close()
    if there.keys() == {records.id_of_key(key) for key in sides[0]}:
        assert based == {key: BaseEntry(seen, sides[1][key]) for key, seen in sides[0].items()}


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def ledgers(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], AbstractContextManager[str]]:
    """Makes an empty ledger; each deployment has files of its own, so each needs one."""
    if request.param == "sqlite":
        numbers = count()
        return lambda: nullcontext(f"sqlite:///{tmp_path}/ledger{next(numbers)}.db")
    server = request.getfixturevalue("postgres_url")
    return lambda: fresh_database(server)


@pytest.mark.nightly
@pytest.mark.parametrize("how", ["version", "content"])
def test_a_copy_that_computes_nothing_is_resumed_to_what_clients_have_left(qdrant_server, tmp_path, ledgers, how):
    """Wherever it was killed, and whatever was changed and changed back, inserted or deleted meanwhile."""
    log = tmp_path / "points"
    with ledgers() as url:
        probe = prepare(qdrant_server, tmp_path / "probe", url)
        done = child(probe, how, log=log)
        assert done.returncode == 0, done.stderr
        clean(probe)
    labels = log.read_text().splitlines()
    fill = labels.index("before journal fill running") + 1
    assert {"before upsert", "a page of scan_ready", "before checkpoint", "a page of scan_canonical"} <= set(labels)
    numbers = thinned(range(fill, len(labels) + 1))
    for number in numbers:
        with ledgers() as url:
            made = prepare(qdrant_server, tmp_path / f"kill{number}", url)
            killed = child(made, how, kill_at=number)
            where = f"{number}, {labels[number - 1]}"
            # What a client writes makes the proof longer, never shorter.
            assert killed.returncode == -signal.SIGKILL, f"{where}: {killed.stderr}"
            meddle(made)
            upgrade.upgrade(made.settings())
            try:
                check_end(made)
            except AssertionError as error:
                raise AssertionError(f"killed at {where}: {error}") from error
            clean(made)
    assert len(numbers) > 1
