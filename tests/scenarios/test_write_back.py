"""The application's SQL with an embedding: a checksum of the input before, a statement per point once it serves."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from sqlalchemy import create_engine, text
from tests.conftest import clean
from tests.harness import CREATE, Deployment, make_point, write

from qmigrate.commands import cutover, quarantine, status, upgrade
from qmigrate.commands import rollback as back
from qmigrate.embed.options import fingerprint_digest
from qmigrate.engine import write_back
from qmigrate.errors import DatabaseError, EmbedError, RowsError
from qmigrate.ledger import Ledger
from qmigrate.store import records

POINTS = 40
ADD = """
def upgrade():
    return [op.AddVector("{{name}}", "b", VectorParams(size=16, distance=Distance.COSINE), values=Embed("words", text="text", {more}))]
"""
CHECKED = 'checksum=Checksum("SELECT id, sum FROM assets", column="sum"{more})'
TELL = (
    "UPDATE assets SET indexed_at = :now, model = :model, fingerprint = :fingerprint, generation = :generation, "
    "revision = :revision, vector_sum = :checksum, told = told + 1 WHERE id = :id AND kind <> :other"
)
TOLD = f'write_back=WriteBack("{TELL}", parameters={{{{"other": "nothing"}}}})'


class App:
    """The application's table of assets, one row per point with the checksum of its text."""

    def __init__(self, made: Deployment, url: str) -> None:
        self.made, self.url = made, url
        made.extra["databases"] = {"app": {"url": url}}
        made.__post_init__()
        made.revise("0001", CREATE)
        upgrade.upgrade(made.settings())
        made.load(POINTS, uuids=False)
        self.run(
            "CREATE TABLE assets (id BIGINT PRIMARY KEY, kind TEXT, sum TEXT, indexed_at TIMESTAMP, model TEXT, fingerprint TEXT, "
            "generation TEXT, revision TEXT, vector_sum TEXT, told INTEGER DEFAULT 0, CONSTRAINT spared CHECK (told < 1 OR id <> 25))"
        )
        rows = [{"id": point.id, "sum": digest(point.payload["text"])} for point in map(make_point, range(POINTS))]
        self.run("INSERT INTO assets (id, kind, sum) VALUES (:id, 'image', :sum)", rows)

    def run(self, sql: str, rows=None) -> list:
        engine = create_engine(self.url)
        try:
            with engine.begin() as connection:
                result = connection.execute(text(sql), rows) if rows else connection.execute(text(sql))
                return list(result.mappings()) if result.returns_rows else []
        finally:
            engine.dispose()

    def told(self) -> dict[int, int]:
        """How often each row was written, where it was."""
        return {row["id"]: row["told"] for row in self.run("SELECT id, told FROM assets WHERE told > 0")}


def digest(content: str) -> str:
    """What the application calls the checksum of a text."""
    return hashlib.sha256(content.encode()).hexdigest()


@pytest.fixture(params=["local-sqlite", pytest.param("server-postgresql", marks=[pytest.mark.server, pytest.mark.postgres])])
def app(request, tmp_path):
    """A loaded deployment and the application's SQL: both ends, not every pair."""
    if request.param == "local-sqlite":
        (tmp_path / "app.db").touch()
        yield App(Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db"), f"sqlite:///{tmp_path}/app.db")
        return
    server = request.getfixturevalue("qdrant_server")
    config = {"url": server.url, "grpc_port": server.grpc_port, "timeout": 2}
    made = Deployment(tmp_path / "project", config, f"sqlite:///{tmp_path}/ledger.db")
    yield App(made, request.getfixturevalue("postgres_database"))
    clean(made)


def revise(app: App, *more: str) -> None:
    """A revision that embeds into b, with these arguments too."""
    app.made.revise("0002", ADD.format(more=", ".join(more)))


def test_rows_are_told_of_what_serves_and_of_nothing_else(app):
    """A changed input is quarantined and not written; every other row gets what it asked for, with bound values."""
    app.run("UPDATE assets SET id = 1025 WHERE id = 25")
    app.run("UPDATE assets SET sum = :sum WHERE id = 6", [{"sum": digest("another text")}])
    app.run("UPDATE assets SET sum = NULL WHERE id = 7")
    app.run("UPDATE assets SET kind = 'nothing' WHERE id = 8")
    app.run("UPDATE assets SET sum = 'sha256:' || upper(sum) WHERE id = 9")
    revise(app, 'on_failure="keep_without_vector"', CHECKED.format(more=""), TOLD)
    planned = upgrade.plan(app.made.settings()).collections[0]
    assert [step.kind for step in planned.job.steps] == ["build", "golive", "write_back"]
    assert "checked by sha256 in app, recorded in app once it is live" in planned.lines[0]
    assert any("app is updated for each point that got b, at least once" in line for line in planned.reasons)
    assert app.told() == {}
    report = upgrade.upgrade(app.made.settings()).outcomes[0].report
    # Of one row SQL needs nothing, and one has another id by now.
    assert report["2.write_back"]["told"] == {"points": 39, "rows": 37}
    assert report["2.write_back"]["cursor"] is None
    listed = quarantine.quarantine(app.made.settings(), app.made.name).rows
    assert [(row.point_id, row.stage, row.reason) for row in listed] == [
        (6, "checksum", "its text doesn't match its sum in app")
    ]
    store = app.made.store()
    vectors = {
        records.point_id(one): records.array_of(records.vector_messages(one)["b"])
        for page in store.scan(app.made.name)
        for one in page
        if "b" in records.vector_messages(one)
    }
    store.close()
    rows = {row["id"]: row for row in app.run("SELECT * FROM assets")}
    assert {number for number, row in rows.items() if not row["told"]} == {6, 8, 1025}
    ledger = Ledger.open(app.made.ledger_url)
    fingerprint = ledger.view(app.made.name).embedders["b"]
    ledger.close()
    for number in vectors.keys() & rows.keys() - {8}:
        row = rows[number]
        assert row["vector_sum"] == hashlib.sha256(np.asarray(vectors[number], "<f4").tobytes()).hexdigest()
        assert (row["revision"], row["generation"]) == ("0002", f"{app.made.name}__g0002")
        assert (row["fingerprint"], row["model"]) == (fingerprint_digest(fingerprint), "hashing, 16 values")
    assert len({str(row["indexed_at"]) for row in rows.values() if row["told"]}) == 1
    # Repaired in SQL, the point is taken again, and SQL gets it; while it isn't, it stays listed.
    assert quarantine.retry(app.made.settings(), app.made.name).filled == 0
    assert 6 not in app.told()
    app.run("UPDATE assets SET sum = :sum WHERE id = 6", [{"sum": digest(make_point(5).payload["text"])}])
    assert quarantine.retry(app.made.settings(), app.made.name).filled == 1
    told = app.run("SELECT revision, model, told FROM assets WHERE id = 6")[0]
    assert tuple(told.values()) == ("0002", "hashing, 16 values", 1)


@pytest.mark.parametrize("missing", ["accept", "fail"])
@pytest.mark.parametrize("written", ["{{{}}}", "{}   ", "mixed"])
def test_a_checksum_is_found_however_its_row_writes_the_id(tmp_path, written, missing):
    """What is compared does not depend on it: in braces, padded, or in both cases."""
    (tmp_path / "app.db").touch()
    app = App(Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db"), f"sqlite:///{tmp_path}/app.db")
    points = [make_point(number, uuid_id=True) for number in range(POINTS)]
    store = app.made.store()
    store.delete(app.made.name, list(range(1, POINTS + 1)))
    write(store, app.made.name, points)
    store.close()
    app.run("CREATE TABLE others (id TEXT PRIMARY KEY, sum TEXT)")
    # The last one is as in its row.
    sums = ["another text"] * (POINTS - 1) + [points[-1].payload["text"]]
    spelt = [one.id[:9].upper() + one.id[9:] if written == "mixed" else written.format(one.id) for one in points]
    app.run("INSERT INTO others VALUES (:id, :sum)", [{"id": one, "sum": digest(known)} for one, known in zip(spelt, sums, strict=True)])
    app.made.extra["limits"] = {**app.made.extra.get("limits", {}), "max_quarantine": POINTS}
    app.made.__post_init__()
    revise(app, 'on_failure="keep_without_vector"', CHECKED.format(more=f', missing="{missing}"').replace("assets", "others"))
    upgrade.upgrade(app.made.settings())
    with_it = [key for key, (_, vectors) in app.made.contents().items() if "b" in vectors]
    assert with_it == [points[-1].id]


def test_a_refused_write_back_leaves_the_swap_and_goes_on(app, monkeypatch):
    """A row that the database refuses stops it there: the vector serves, earlier portions are not written twice."""
    monkeypatch.setattr(write_back, "PORTION", 10)
    revise(app, TOLD)
    with pytest.raises(RowsError, match="is live on .*__g0002, but SQL was not updated completely") as refused:
        upgrade.upgrade(app.made.settings())
    assert "qmigrate upgrade resumes it" in refused.value.hint
    assert (app.made.row().revision, app.made.row().generation) == ("0002", "g0002")
    # Of the portion with the row that is refused nothing is there.
    assert app.told() == dict.fromkeys(range(1, 21), 1)
    app.run("UPDATE assets SET id = 1025 WHERE id = 25")
    upgrade.upgrade(app.made.settings())
    assert app.told() == dict.fromkeys([number for number in range(1, 41) if number != 25], 1)
    assert not upgrade.plan(app.made.settings()).collections
    back.rollback(app.made.settings(), "0001")
    assert app.made.row().revision == "0001"


def test_a_write_back_can_be_given_up(app):
    """After an abort the vector serves, the revision is applied, and SQL stays as it is."""
    revise(app, TOLD)
    with pytest.raises(RowsError):
        upgrade.upgrade(app.made.settings())
    back.abort(app.made.settings(), app.made.name)
    assert (app.made.row().revision, app.made.row().generation) == ("0002", "g0002")
    assert app.told() == {}
    assert not upgrade.plan(app.made.settings()).collections


@pytest.mark.parametrize(
    ("more", "error", "said"),
    [
        ((CHECKED.format(more=', missing="fail"'),), EmbedError, "there is no sum in app for it"),
        ((CHECKED.format(more=', algorithm="md5"'),), EmbedError, "its sum in app is not a valid md5 digest"),
        (('write_back=WriteBack("UPDATE assets SET absent = :now WHERE id = :id")',), RowsError, "absent"),
        (('write_back=WriteBack("DELETE FROM assets WHERE id = :id", database="app2")',), DatabaseError, "app2"),
    ],
    ids=["no-checksum", "no-digest", "no-column", "no-database"],
)
def test_what_can_not_work_stops_before_anything_is_built(tmp_path, more, error, said):
    """A statement that the database refuses, or a row without the checksum that must be there: no shadow is made."""
    (tmp_path / "app.db").touch()
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
    app = App(made, f"sqlite:///{tmp_path}/app.db")
    made.extra["databases"]["app2"] = {"url": f"sqlite:///{tmp_path}/missing.db"}
    made.__post_init__()
    app.run("UPDATE assets SET sum = NULL WHERE id = 1")
    if "md5" in more[0]:
        app.run("UPDATE assets SET sum = 'abc' WHERE id = 1")
    revise(app, *more)
    with pytest.raises(error, match=said):
        upgrade.upgrade(made.settings())
    row = next(one for one in status.status(made.settings()).collections if one.name == made.name)
    assert (row.generation, row.state) == ("g0001", "failed")
    store = made.store()
    assert store.physical_names() == (f"{made.name}__g0001",)
    store.close()


def test_what_is_held_is_not_told(tmp_path):
    """Built and waiting for its cut-over nothing is written back; then it is, for the revision that filled the vector last."""
    (tmp_path / "app.db").touch()
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
    app = App(made, f"sqlite:///{tmp_path}/app.db")
    app.run("UPDATE assets SET id = 1025 WHERE id = 25")
    revise(app, TOLD)
    values = f'Embed("words", text="{{{{kind}}}} {{{{text}}}}", {TOLD})'
    made.revise("0003", f'\ndef upgrade():\n    return [op.Reembed("{{name}}", "b", values={values}, cutover="hold")]\n')
    assert upgrade.upgrade(made.settings()).outcomes[0].held is not None
    assert app.told() == {}
    cutover.cutover(made.settings(), [made.name])
    assert set(app.told().values()) == {1}
    assert {row["revision"] for row in app.run("SELECT revision FROM assets WHERE told > 0")} == {"0003"}
