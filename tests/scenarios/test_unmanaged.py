"""Reading needs no adoption: a collection in no ledger is counted and compared, and not changed."""

from __future__ import annotations

import shutil

import click
import pytest
from sqlalchemy import create_engine, text
from tests.harness import CREATE, INDEX, Deployment, make_point, write
from tests.scenarios.cli import call, left, refused

from qmigrate import fix as program
from qmigrate.cli.shell import Shell
from qmigrate.model.schema import CollectionSchema

A = CollectionSchema({"a": {"size": 8, "distance": "Cosine"}})


@pytest.fixture(params=["folder", "bare"])
def made(deployment: Deployment, request, tmp_path) -> Deployment:
    """Five points that an application has written, four rows in SQL; with an empty folder of revisions, and without."""
    url = f"sqlite:///{tmp_path}/app.db"
    engine = create_engine(url)
    with engine.begin() as sql:
        sql.execute(text("CREATE TABLE rows (id INTEGER, kind TEXT)"))
        sql.execute(text("INSERT INTO rows VALUES (1, 'k0'), (2, 'other'), (3, 'k2'), (9, 'k0')"))
    engine.dispose()
    deployment.extra["databases"] = {"app": {"url": url}}
    deployment.__post_init__()
    store = deployment.store()
    try:
        store.create_collection(deployment.name, A, seal=None)
        points = [make_point(number) for number in range(5)]
        for number, point in enumerate(points):
            point.payload.update(path=f"/a/{number}.jpg", kind=f"k{number}")
        write(store, deployment.name, points)
    finally:
        store.close()
    if request.param == "bare":
        shutil.rmtree(deployment.root / "qdrant_migrations")
    return deployment


def test_who_names_a_collection_is_not_told_that_nothing_is_to_do(deployment):
    """A glob of a revision leaves alone what isn't under management; --only with the very name wants it changed."""
    deployment.revise("0001", CREATE)
    deployment.revise("0002", INDEX.replace("{name}", "{name}_*"))
    assert call(deployment.root, "upgrade").code == 0
    other = f"{deployment.name}_1"
    store = deployment.store()
    store.create_collection(other, A, seal=None)
    store.close()
    for verb in ("plan", "upgrade"):
        refused(deployment.root, (verb, "--only", other), 10, "not under management", f"qmigrate adopt {other}")
        assert call(deployment.root, verb, "--only", f"{deployment.name}*").code == 0


ROWS = "SELECT id, kind FROM rows"
#: A verb that reads, the code that it ends with, and what it prints.
LOOKS = [
    (("fix", "delete", "{}", "--id", "1", "--reason", "r", "--dry-run"), 0, "1 of 5 points would be deleted"),
    (("fix", "delete", "{}*", "--prefix", "/a", "--reason", "r", "--dry-run"), 0, "5 of 5 points would be deleted"),
    (("fix", "sync", "{}", "--sql", ROWS, "--field", "kind", "--check"), 4, "1 of 5 points would change"),
    (("fix", "orphans", "{}", "--sql", ROWS, "--check"), 4, "2 of 5 points would be deleted"),
    (("fix", "orphans", "{}", "--sql", ROWS, "--check", "--sample", "4"), 4, "orphans"),
    (("fix", "stats", "{}"), 0, "/a"),
    (("schema", "{}"), 0, "Cosine"),
    (("verify", "{}", "{}"), 0, ""),
    (("doctor",), 0, "{}"),
]


@pytest.mark.parametrize(("args", "code", "words"), LOOKS, ids=lambda one: " ".join(one[:2]) if isinstance(one, tuple) else None)
def test_what_only_looks_takes_any_collection(made, args, code, words):
    """Counts, comparisons, statistics, the schema and the doctor work before anything was adopted, and leave nothing."""
    said = call(made.root, *(one.format(made.name) for one in args))
    if args[0] == "doctor":
        # Other notes of it depend on the machine.
        assert "FAILED   revisions" not in said.out
        assert "not checked" not in said.out
        assert said.code in (0, 3), said.text
    else:
        assert said.code == code, said.text
    if not words.startswith("orphans"):
        assert words.format(made.name) in said.out
    assert left(made).history == 0
    assert left(made).names == (made.name,)


@pytest.mark.parametrize(
    "args",
    [
        ("fix", "delete", "{}", "--id", "1", "--reason", "r", "--yes", "--expect", "1"),
        ("fix", "sync", "{}", "--sql", ROWS, "--field", "kind", "--yes"),
        ("fix", "delete", "{}", "--id", "1", "--reason", "r"),
    ],
)
def test_what_changes_points_still_needs_it(made, args, monkeypatch):
    """A change is refused with the way on, also on a terminal: no user is asked about what can't be done."""
    (made.root / "qdrant_migrations" / "versions").mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(Shell, "may_ask", property(lambda self: True))
    monkeypatch.setattr(click, "confirm", lambda *_, **__: pytest.fail("no question may be asked"))
    said = call(made.root, *(one.format(made.name) for one in args))
    assert (said.code, f"qmigrate adopt {made.name}" in said.text) == (10, True), said.text
    assert len(made.contents()) == 5


def test_programs_look_too(made):
    """The functions that only look take any collection."""
    seen = program.check_payload(made.name, sql=ROWS, fields=["kind"], settings=made.settings())
    assert (seen.changes, seen.unmanaged) == (1, (made.name,))


def test_a_missing_folder_is_reported_once_revisions_were_applied(made):
    """Where the ledger has revisions, the folder is missing: what an emergency needs goes on and says so."""
    (made.root / "qdrant_migrations" / "versions").mkdir(parents=True, exist_ok=True)
    assert call(made.root, "adopt", made.name).code == 0
    shutil.rmtree(made.root / "qdrant_migrations")
    for args, code in ((("status",), 0), (("history",), 0), (("schema", made.name), 2), (("upgrade",), 2)):
        said = call(made.root, *args)
        assert (said.code, "there is no folder" in said.text) == (code, True), said.text
    assert call(made.root, "fix", "stats", made.name).code == 0


CONSENT = ("--reason", "r", "--yes", "--expect", "1")
#: What changes a collection, as typed; of one without an owner each advises to adopt it.
CHANGES = {
    "delete": ("fix", "delete", "{}", "--id", "1", *CONSENT),
    "delete, asking": ("fix", "delete", "{}", "--id", "1", "--reason", "r"),
    "erase": ("fix", "delete", "{}", "--id", "1", "--erase", *CONSENT),
    "sync": ("fix", "sync", "{}", "--sql", ROWS, "--field", "kind", "--yes", "--max-share", "1"),
    "sync, asking": ("fix", "sync", "{}", "--sql", ROWS, "--field", "kind"),
    "orphans": ("fix", "orphans", "{}", "--sql", ROWS, *CONSENT),
    "reset": ("fix", "reset", "{}", "--reason", "r", "--yes", "--expect", "5", "--confirm", "DELETE ALL VECTORS"),
    "adopt": ("adopt", "{}"),
}


@pytest.mark.parametrize("whose", ["another ledger", "a lost state"])
def test_what_adopt_refuses_is_not_advised_to_be_adopted(deployment, tmp_path, whose):
    """A collection that another ledger has sealed, or a state of this one that is lost, is exit 7 for every verb."""
    url = f"sqlite:///{tmp_path}/app.db"
    engine = create_engine(url)
    with engine.begin() as sql:
        sql.execute(text("CREATE TABLE rows (id INTEGER, kind TEXT)"))
        sql.execute(text("INSERT INTO rows VALUES (1, 'other')"))
    engine.dispose()
    deployment.extra["databases"] = {"app": {"url": url}}
    deployment.__post_init__()
    other = deployment.name + "_other"
    deployment.revise("0001", CREATE.replace("{name}", other))
    assert call(deployment.root, "upgrade").code == 0
    shutil.copy(tmp_path / "ledger.db", tmp_path / "backup.db")
    deployment.revise("0002", CREATE)
    assert call(deployment.root, "upgrade").code == 0
    deployment.load(5)
    (tmp_path / "ledger.db").unlink()
    if whose == "a lost state":
        shutil.copy(tmp_path / "backup.db", tmp_path / "ledger.db")
    found = {}
    for said, words in CHANGES.items():
        answer = call(deployment.root, *(one.format(deployment.name) for one in words))
        advice = answer.text.replace("--take-over", "")
        found[said] = answer.code, "sealed" in advice, f"qmigrate adopt {deployment.name}\n" in advice
    assert found == dict.fromkeys(CHANGES, (7, True, False))
