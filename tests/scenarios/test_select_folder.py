"""A folder selects the same points wherever it is looked for: here, in local mode's filters, and by a server's index."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.conftest import clean
from tests.harness import Deployment, write

from qmigrate import op
from qmigrate.commands import fix, upgrade
from qmigrate.engine.fixes.delete import Removal
from qmigrate.model.payload_path import below, below_filter, values_at
from qmigrate.model.transform import Point
from qmigrate.store import records

CREATE = """
def upgrade():
    return [op.CreateCollection("{name}", {{"a": VectorParams(size=2, distance=Distance.DOT)}}),
            op.CreatePayloadIndex("{name}", "path", {index}),
            op.CreatePayloadIndex("{name}", "meta.path", {index})]
"""
#: é as one character, and as two.
NFC, NFD = "\u00e9", "e\u0301"
#: Values of a payload, and those of the folders below that hold them.
FOLDERS = ("/photos/2024", "/photos/2024/", f"/{NFC}", f"/{NFD}/", "/100%_x", "photos", "/a//", " /b")
VALUES = {
    "/photos/2024/a.jpg": {0, 1},
    "/photos/2024/": {0, 1},
    "/photos/2024": {0, 1},
    "/photos/2024//": {0, 1},
    "/photos/2024-old/a.jpg": set(),
    "/photos/20245": set(),
    "/Photos/2024/a.jpg": set(),
    "x/photos/2024/a.jpg": set(),
    f"/{NFC}/a": {2},
    f"/{NFD}/a": {3},
    "/100%_x/a": {4},
    "/100abx/a": set(),
    "photos/a": {5},
    "/a/b": {6},
    "/a": {6},
    " /b/c": {7},
    "": set(),
    "/": set(),
}
ODD = (None, 5, 2.5, True, {"path": "/photos/2024/a"}, [], [["/photos/2024/nested"]])


@pytest.fixture(params=["local", "server"])
def made(request, tmp_path):
    """A collection whose paths are indexed by prefix; local mode has no index, and filters all the same."""
    config = {"path": str(tmp_path / "qdrant")}
    if request.param == "server":
        server = request.getfixturevalue("prefix_server")
        config = {"url": server.url, "grpc_port": server.grpc_port, "timeout": 20}
    deployment = Deployment(tmp_path / "project", config, f"sqlite:///{tmp_path}/ledger.db")
    index = 'KeywordIndexParams(type="keyword", prefix=True)'
    deployment.revise("0001", CREATE.replace("{index}", index))
    upgrade.upgrade(deployment.settings())
    yield deployment
    if request.param == "server":
        clean(deployment)


def points(values, start: int = 1) -> list[Point]:
    """A point per value: at the field itself, and inside an object."""
    return [
        Point(number, {"path": value, "meta": {"path": value}} if value is not None else {}, {"a": [1.0, float(number)]})
        for number, value in enumerate(values, start)
    ]


def selected(store, name: str, field: str, folder: str) -> set:
    """What the store's own filter selects."""
    where = below_filter(field, folder)
    return {records.point_id(row) for page in store.scan(name, payload=False, vectors=False, where=where) for row in page}


def meant(found: list[Point], field: str, folder: str) -> set:
    """What reading each payload selects."""
    return {one.id for one in found if any(below(value, folder) for value in values_at(one.payload, field))}


def test_a_folder_is_the_same_here_and_there(made):
    """The table, and whatever texts and lists hypothesis makes of the same few characters."""
    store = made.store()
    table = points([*VALUES, *ODD, ["/elsewhere", "/photos/2024/in-a-list"]])
    write(store, made.name, table)
    for number, folder in enumerate(FOLDERS):
        wanted = {one.id for one in table if isinstance(one.payload.get("path"), str) and number in VALUES[one.payload["path"]]}
        wanted |= {table[-1].id} if number < 2 else set()
        for field in ("path", "meta.path"):
            assert meant(table, field, folder) == wanted, (field, folder)
            assert selected(store, made.name, field, folder) == wanted, (field, folder)
    text = st.text(alphabet=f"/ab-%_{NFC}{NFD} ", max_size=6)
    value = st.one_of(text, text, st.lists(text, max_size=3), st.integers(0, 3), st.none())

    @settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(value, min_size=20, max_size=20), st.lists(text.filter(lambda one: one.strip("/ ")), min_size=4, max_size=4))
    def agree(values, folders) -> None:
        found = points(values, 1000)
        write(store, made.name, found)
        for folder in folders:
            there = {one for one in selected(store, made.name, "path", folder) if one >= 1000}
            assert there == meant(found, "path", folder), folder

    agree()
    store.close()


def test_a_deletion_asks_the_server_only_where_its_index_can_tell(made):
    """The same points go with the index, without it, and with another condition."""
    store = made.store()
    write(store, made.name, [*points(VALUES), Point(str(uuid.uuid4()), {"other": 1}, {"a": [1.0, 2.0]})])
    store.close()
    asked: list = []
    original = Removal._filtered

    def watched(self, where, fields):
        asked.append(where)
        return original(self, where, fields)

    seen = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Removal, "_filtered", watched)
        for field in ("path", "meta.path", "unindexed"):
            operation = op.DeletePoints(made.name, prefix="/photos/2024", field=field, reason="r")
            seen[field] = {one["id"] for one in fix.review(made.settings(), operation).previews[0].sample}
    assert seen == {"path": {1, 2, 3, 4}, "meta.path": {1, 2, 3, 4}, "unindexed": set()}
    indexed = [below_filter(field, "/photos/2024") for field in ("path", "meta.path")]
    assert asked == ([*indexed, None] if "url" in made.qdrant else [None] * 3)
