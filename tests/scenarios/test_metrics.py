"""Metrics of a real deployment next to an application's SQL, and of one whose stores don't answer."""

from __future__ import annotations

import pytest
from tests.harness import INDEX
from tests.scenarios.app_sql import FACES, App, application, drift
from tests.scenarios.cli import call, left, refused
from tests.unit.commands.test_metrics import samples

from qmigrate.ledger import Ledger


@pytest.fixture
def app(deployment, app_url) -> App:
    """Local mode with SQLite, a server with PostgreSQL: 60 points, and every kind of drift."""
    made = application(deployment, app_url)
    drift(made)
    return made


def checks(app: App, **found) -> None:
    """The checks of the settings."""
    app.made.extra["metrics"] = {"checks": {name: {"collection": app.made.name, **one} for name, one in found.items()}}
    app.made.__post_init__()


def figures(text: str) -> dict:
    """Name, or (name, check) -> value; the deployment has one collection."""
    found = {}
    for (name, labels), value in samples(text).items():
        told = dict(labels)
        word = told.get("check") or told.get("store") or told.get("state") or told.get("revision")
        found[(name, word) if word else name] = value
    return found


def test_figures_are_those_of_the_fixes(app, tmp_path):
    """What fix --check counts is what is printed; pending is not a failure; nothing is written anywhere."""
    made, name = app.made, app.made.name
    checks(
        app,
        ids={"kind": "orphans", "sql": "SELECT id FROM faces"},
        persons={"kind": "sync", "sql": FACES, "fields": ["person", "score"]},
        some={"kind": "sync", "sql": FACES, "fields": {"person": "person"}, "sample": 10},
    )
    made.revise("0002", INDEX)
    before = left(made)
    orphans = call(made.root, "fix", "orphans", name, "--sql", "SELECT id FROM faces", "--check", "--json").json
    (seen,) = orphans["data"]["previews"]
    words = ["--sql", FACES, "--field", "person", "--field", "score"]
    (differs,) = call(made.root, "fix", "sync", name, *words, "--check", "--json").json["data"]["previews"]
    said = call(made.root, "metrics")
    assert (said.code, said.err) == (0, ""), said.text
    found = figures(said.out)
    assert found["qdrant_vector_count"] == seen["points"] == len(app.payloads())
    assert found["database_asset_count", "ids"] == seen["counts"]["rows"] == len(app.rows())
    assert found["orphaned_vector_count", "ids"] == seen["changes"] > 0
    assert found["missing_vector_count", "ids"] == seen["counts"]["missing"] > 0
    assert found["payload_drift_count", "persons"] == differs["changes"] > 0
    assert found["qmigrate_check_rows", "some"] <= 10 < found["qmigrate_check_rows", "persons"]
    assert (found["qmigrate_pending_revisions"], found["qmigrate_collection_state", "pending"]) == (1, 1)
    assert (found["qmigrate_applied_revision", "0001"], found["qmigrate_serving"]) == (1, 1)
    assert found["qdrant_search_duration_seconds"] > 0
    assert all(found["qmigrate_request_duration_seconds", one] > 0 for one in ("qdrant", "ledger"))
    assert ("qdrant_collection_bytes" in found) == ("url" in made.qdrant)
    assert found.get("qdrant_collection_bytes", 1) > 0
    ledger = Ledger.open(made.ledger_url)
    (row,) = ledger.history(name)
    ledger.close()
    assert found["qmigrate_last_migration_timestamp_seconds"] == pytest.approx(row.created_at.timestamp(), abs=0.01)
    file = tmp_path / "q.prom"
    said = call(made.root, "metrics", "--textfile", str(file))
    assert (said.code, said.text) == (0, "")
    assert figures(file.read_text()).keys() == found.keys()
    assert call(made.root, "metrics", "--json").json["data"]["collections"][0]["points"] == seen["points"]
    assert left(made) == before


def test_what_cannot_be_measured_is_a_figure_too(app):
    """A check that fails, a changed file and a store that is down leave the other figures as they are."""
    made = app.made
    ids = {"kind": "orphans", "sql": "SELECT id FROM faces"}
    checks(app, ids=ids, wrong={**ids, "sql": "SELECT id FROM nowhere"}, none={**ids, "collection": "nobody"})
    file = made.revise("0002", INDEX)
    file.unlink()
    said = call(made.root, "metrics")
    found = figures(said.out)
    assert (said.code, found["orphaned_vector_count", "ids"] > 0, "note: check wrong" in said.err) == (2, True, True)
    assert [found["qmigrate_check_up", one] for one in ("ids", "wrong", "none")] == [1, 0, 0]
    made.extra["databases"]["gone"] = {"url": "postgresql://nobody@127.0.0.1:1/none"}
    checks(app, ids=ids, away={**ids, "database": "gone"})
    said = call(made.root, "metrics")
    assert (said.code, figures(said.out)["qmigrate_check_up", "away"]) == (9, 0)
    checks(app, ids=ids)
    (applied,) = (made.root / "qdrant_migrations" / "versions").glob("0001*.py")
    applied.write_text(applied.read_text() + "\n# an afterthought\n")
    said = call(made.root, "metrics")
    assert (said.code, figures(said.out)["qmigrate_changed_revision_files"]) == (0, 1)
    assert "was changed after it was applied" in said.err
    away = call(made.root, "--qdrant-url", "http://127.0.0.1:1", "--ledger-url", made.ledger_url, "metrics")
    found = figures(away.out)
    assert (away.code, found["qmigrate_up", "qdrant"], found["qmigrate_up", "ledger"]) == (9, 0, 1), away.text
    assert not {"qdrant_vector_count", "qdrant_collection_bytes", "qdrant_search_duration_seconds"} & found.keys()
    assert ("qmigrate_request_duration_seconds", "qdrant") not in found
    assert found["qmigrate_request_duration_seconds", "ledger"] > 0
    assert found["qmigrate_last_migration_timestamp_seconds"] > 0
    lost = call(made.root, "--ledger-url", "postgresql://nobody@127.0.0.1:1/none", "metrics")
    found = figures(lost.out)
    assert (lost.code, found["qmigrate_up", "qdrant"], found["qmigrate_up", "ledger"]) == (9, 1, 0), lost.text
    refused(made.root, ("metrics", "--textfile", str(made.root / "none" / "q.prom")), 2, "there is no folder")
