"""A deployment made on the spot: a folder with settings and revisions, points to migrate, and what is true of them."""

from __future__ import annotations

import math
import os
import shutil
import textwrap
import threading
import uuid
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import yaml
from qdrant_client import grpc
from qdrant_client.conversions.conversion import json_to_value

from qmigrate.commands import status, upgrade
from qmigrate.ledger import Ledger
from qmigrate.model.names import Permit
from qmigrate.model.transform import Point
from qmigrate.settings.load import Settings
from qmigrate.store import ConnectionSettings, connect, records

HEADER = '''"""{doc}"""
from qdrant_client.models import *
from qmigrate import *
from qmigrate import op

revision = "{id}"
down_revision = {down}

'''

CREATE = """
def upgrade():
    return [op.CreateCollection("{name}", {{"a": VectorParams(size=8, distance=Distance.COSINE)}})]
"""
INDEX = """
def upgrade():
    return [op.CreatePayloadIndex("{name}", "kind", PayloadSchemaType.KEYWORD)]
"""
ADD = """
def upgrade():
    return [op.AddVector("{name}", "b", VectorParams(size=16, distance=Distance.COSINE), values=Embed("words", text="text"))]
"""


def nightly_but(values: Iterable, kept: Collection) -> list:
    """Parameters of a test, all but those that are `kept` in the nightly group; of several arguments each is a tuple."""
    return [
        one if one in kept else pytest.param(*(one if isinstance(one, tuple) else (one,)), marks=pytest.mark.nightly)
        for one in values
    ]


@dataclass
class Deployment:
    """A folder with qmigrate.yaml and revisions, bound to one store and one ledger."""

    root: Path
    qdrant: dict
    ledger_url: str
    name: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:10]}")
    extra: dict = field(default_factory=dict)
    last: str | None = None
    _loaded: tuple = field(default=(None, None), init=False, repr=False)

    def __post_init__(self) -> None:
        (self.root / "qdrant_migrations" / "versions").mkdir(parents=True, exist_ok=True)
        config = {
            "qdrant": self.qdrant,
            "ledger": {"url": self.ledger_url},
            "scripts": "qdrant_migrations",
            "revision_ids": "sequence",
            "embedders": {"words": {"type": "hashing", "size": 16}},
            "limits": {"lease_ttl": "12s", "lock_timeout": "30s", "settle": "5s"},
        }
        for section, values in self.extra.items():
            config[section] = {**config.get(section, {}), **values} if isinstance(values, dict) else values
        # Renamed into place: other threads and processes read it.
        fresh = self.root / "qmigrate.yaml.new"
        fresh.write_text(yaml.safe_dump(config))
        fresh.replace(self.config)

    @property
    def config(self) -> Path:
        return self.root / "qmigrate.yaml"

    def settings(self) -> Settings:
        """As they are now: read again once the file, the environment or the current folder is another one."""
        known = (self.config.read_bytes(), dict(os.environ), os.getcwd())
        if self._loaded[0] != known or b"_file" in known[0]:
            self._loaded = (known, Settings.load(config=self.config))
        return self._loaded[1]

    def revise(self, identifier: str, body: str, *, down: str | tuple | None = "previous", doc: str | None = None) -> Path:
        """Write a revision file; by default it follows the one written before."""
        parent = self.last if down == "previous" else down
        path = self.root / "qdrant_migrations" / "versions" / f"{identifier}_rev.py"
        header = HEADER.format(doc=doc or f"revision {identifier}", id=identifier, down=repr(parent))
        path.write_text(header + textwrap.dedent(body).format(name=self.name))
        self.last = identifier
        return path

    def store(self):
        return connect(ConnectionSettings(**self.settings().connection()))

    def load(self, count: int, *, start: int = 0, uuids: bool = True) -> list[Point]:
        """Write points through the logical name, integer and UUID ids mixed."""
        points = [make_point(number, uuid_id=uuids and number % 3 == 2) for number in range(start, start + count)]
        store = self.store()
        try:
            write(store, self.name, points)
        finally:
            store.close()
        return points

    def row(self):
        """This collection in `status`."""
        return next(row for row in status.status(self.settings()).collections if row.name == self.name)

    def contents(self, name: str | None = None) -> dict:
        """Id -> (payload, vectors) of everything behind a name."""
        store = self.store()
        try:
            return contents(store, name or self.name)
        finally:
            store.close()


def loaded_on(server, folder: Path, points: int, *, uuids: bool = False, timeout: int = 5, **extra) -> Deployment:
    """A collection with points on a real server, its ledger in SQLite; `extra` are further sections of the settings."""
    qdrant = {"url": server.url, "grpc_port": server.grpc_port, "timeout": timeout}
    made = Deployment(folder / "project", qdrant, f"sqlite:///{folder}/ledger.db", extra=extra)
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(points, uuids=uuids)
    return made


def by_hand(name: str) -> Permit:
    """Leave to delete a collection as a person at the server would: without a lease, and recorded nowhere."""
    return Permit(name, lambda: math.inf)


def in_threads(work: Callable[[], object], count: int = 4) -> None:
    """The same work this many times at once; returns when all have ended."""
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@dataclass
class Repeated:
    """The same deployment as often as a test needs it: in local mode with SQLite, a copy of the files of the first.

    Attributes:
        make: makes it, in a folder of its own that holds all of it.
        local: whether that is local mode; on a server each is made from scratch.
    """

    make: Callable[[Path], Deployment]
    local: bool
    _first: Deployment | None = None

    def __call__(self, folder: Path) -> Deployment:
        if not self.local:
            return self.make(folder)
        first = self._first = self._first or self.make(folder.with_name("first"))
        shutil.copytree(first.root.parent, folder)
        return replace(
            first, root=folder / "project", qdrant={"path": str(folder / "qdrant")}, ledger_url=f"sqlite:///{folder}/ledger.db"
        )


def make_point(number: int, *, text: str | None = None, uuid_id: bool = False) -> Point:
    """A point whose values are a function of its number."""
    vector = [float((number * 7 + place * 3) % 11 - 5) + 0.5 for place in range(8)]
    identifier = str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))) if uuid_id else number + 1
    payload = {"text": text or f"the text number {number}", "kind": "even" if number % 2 == 0 else "odd", "n": number}
    return Point(identifier, payload, {"a": vector})


def write(store, name: str, points: Iterable[Point]) -> None:
    """Upsert points and wait."""
    ready = []
    for point in points:
        identifier = grpc.PointId(num=point.id) if isinstance(point.id, int) else grpc.PointId(uuid=point.id)
        made = grpc.PointStruct(id=identifier)
        for key, value in point.payload.items():
            made.payload[key].CopyFrom(json_to_value(value))
        for vector, value in point.vectors.items():
            made.vectors.vectors.vectors[vector].MergeFromString(records.vector_wire(value))
        ready.append(made.SerializeToString())
    for batch in records.batches(ready):
        store.upsert(name, batch).wait()


def audit(made: Deployment) -> list:
    """What the audit holds, newest first."""
    ledger = Ledger.open(made.settings().ledger.url)
    try:
        return ledger.deletions()
    finally:
        ledger.close()


def contents(store, name: str) -> dict:
    """Id -> (payload, vectors rounded to five digits) of a collection."""
    found = {}
    for page in store.scan(name):
        for stored in page:
            vectors = {key: _rounded(value) for key, value in records.vectors_of(stored).items()}
            found[records.point_id(stored)] = (records.payload_of(stored), vectors)
    return found


def counts(writes_since) -> tuple[int, int, int]:
    """What was added, changed and deleted, of a report on writes since."""
    return writes_since["added"], writes_since["changed"], writes_since["deleted"]


def _rounded(value):
    """Dense, multi and sparse vectors to five digits."""
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return [_rounded(part) if isinstance(part, list) else round(part, 5) for part in value]


def flat(items):
    """An embedder that is a function: every text gets the same direction."""
    return [[1.0] * 16 for _ in items]
