"""``alembic upgrade --sql``: the script itself stops where a vector step is not done."""

from __future__ import annotations

import contextlib

import psycopg
import pytest
from tests.alembic_project import AlembicProject
from tests.harness import CREATE, INDEX, Deployment
from tests.scenarios.cli import call

from qmigrate.alembic import BridgeError
from qmigrate.commands import rollback, upgrade
from qmigrate.errors import RefusedError
from qmigrate.ledger import Ledger

GLOB = """
def upgrade():
    return [op.CreatePayloadIndex("{name}*", "n", PayloadSchemaType.INTEGER)]
"""
GATE = """
def upgrade():
    op.create_table("early", sa.Column("id", sa.Integer, primary_key=True))
    qdrant.require("{}")
    op.create_table("late", sa.Column("id", sa.Integer, primary_key=True))


def downgrade():
    op.drop_table("late")
    op.drop_table("early")
"""


def play(url: str, script: str) -> None:
    """As psql does it with --single-transaction off: the script brings its own BEGIN and COMMIT."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(script)


def made(tmp_path, url: str) -> AlembicProject:
    """Two vector revisions, the second one a glob, and a gate behind each."""
    deployment = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, url)
    deployment.revise("0001", CREATE)
    deployment.revise("0002", GLOB)
    project = AlembicProject(deployment, url)
    project.revise("a1", GATE.format("0002"))
    return project


@pytest.mark.postgres
def test_a_script_aborts_unless_the_ledger_says_done(postgres_database, tmp_path):
    """Without a ledger, and while anything is missing, nothing of the script stays; afterwards it records its link."""
    project = made(tmp_path, postgres_database)
    script = project.upgrade("head", sql=True)
    for words in ("has no ledger of qmigrate", rf"which is not done: {project.made.name} \(needs 0001\)"):
        with pytest.raises(psycopg.errors.RaiseException, match=words) as caught:
            play(postgres_database, script)
        assert caught.value.diag.message_hint == "qmigrate upgrade 0002"
        assert project.tables() == set()
        if "ledger" in words:
            with contextlib.closing(Ledger.open(postgres_database)) as ledger:
                ledger.prepare()
        else:
            upgrade.upgrade(project.made.settings(), "0001")
    with pytest.raises(psycopg.errors.RaiseException, match=rf"{project.made.name} \(needs 0002\)"):
        play(postgres_database, script)
    upgrade.upgrade(project.made.settings())
    project.made.revise("0003", INDEX)
    play(postgres_database, script)
    assert (project.version(), project.links()) == ("a1", [("a1", "0002", "require", "linked")])
    play(postgres_database, project.downgrade("a1:base", sql=True))
    assert (project.version(), project.links()) == (None, [])
    assert project.tables() <= {"alembic_version"}


@pytest.mark.postgres
@pytest.mark.parametrize("removed", [False, True], ids=["files there", "files gone"])
def test_a_gate_on_what_was_squashed(postgres_database, tmp_path, removed):
    """What has all of it passes, and so does what began with the whole; a part of it does not; reverting a part is refused."""
    project = made(tmp_path, postgres_database)
    settings, versions = project.made.settings(), project.made.root / "qdrant_migrations" / "versions"
    upgrade.upgrade(settings, "0001")
    assert call(project.made.root, "squash", "0001:0002").code == 0
    if not removed:
        with pytest.raises(psycopg.errors.RaiseException, match=r"\(needs 0002\)"):
            play(postgres_database, project.upgrade("head", sql=True))
    upgrade.upgrade(settings)
    for path in versions.glob("*_rev.py") if removed else ():
        path.unlink()
    play(postgres_database, project.upgrade("head", sql=True))
    play(postgres_database, project.downgrade("a1:base", sql=True))
    project.upgrade("head")
    assert project.version() == "a1"
    project.downgrade("base")
    assert call(project.made.root, "rollback", "base").code == 0
    upgrade.upgrade(settings)
    assert project.made.row().revision == "0001_0002"
    play(postgres_database, "DROP TABLE alembic_version")
    with contextlib.closing(Ledger.open(postgres_database)) as ledger:
        assert [one.revision for one in ledger.applied(project.made.name)] == ["0001_0002"]
    play(postgres_database, project.upgrade("head", sql=True))
    with pytest.raises(RefusedError, match="can't be undone alone"):
        rollback.revert(settings, "0002")


@pytest.mark.nightly
@pytest.mark.postgres
@pytest.mark.parametrize("begun", [False, True], ids=["old ids", "first squash"])
def test_a_gate_on_what_was_squashed_again(postgres_database, tmp_path, begun):
    """What has all of it by the old ids or by the first squash passes with the last file alone; a part of it does not."""
    project = made(tmp_path, postgres_database)
    deployment = project.made
    settings, versions = deployment.settings(), deployment.root / "qdrant_migrations" / "versions"
    if not begun:
        upgrade.upgrade(settings)
    assert call(deployment.root, "squash", "0001:0002").code == 0
    upgrade.upgrade(settings)
    deployment.revise("0003", INDEX)
    assert call(deployment.root, "squash", ":").code == 0
    project.revise("a1", GATE.format("0003"), down=None)
    with pytest.raises(psycopg.errors.RaiseException, match=r"\(needs 0003\)"):
        play(postgres_database, project.upgrade("head", sql=True))
    upgrade.upgrade(settings)
    for path in versions.glob("*.py"):
        if not path.name.startswith("0001_0003"):
            path.unlink()
    with contextlib.closing(Ledger.open(postgres_database)) as ledger:
        applied = [one.revision for one in ledger.applied(deployment.name)]
    assert applied == (["0001_0002", "0003"] if begun else ["0001", "0002", "0003"])
    play(postgres_database, project.upgrade("head", sql=True))
    assert project.version() == "a1"


#: A pattern, the collections that revision 0001 makes, and those that a script waits for.
WAITED_FOR = [
    ("{name}[ab]", ("a", "b"), ("a", "b")),
    ("{name}[ab]", ("a", "b", "[ab]"), ("[ab]",)),
    ("glob:{name}[ab]", ("a", "b", "[ab]"), ("a", "b")),
]


@pytest.mark.postgres
@pytest.mark.parametrize(("pattern", "ends", "waited"), WAITED_FOR)
def test_a_script_reads_a_name_as_every_verb_does(postgres_database, tmp_path, pattern, ends, waited):
    """A collection of just that name is the one that is meant, also where only the script can look."""
    deployment = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, postgres_database)
    made_here = ", ".join(CREATE.split("[", 1)[1].rsplit("]", 1)[0].replace("{name}", f"{{name}}{end}") for end in ends)
    deployment.revise("0001", f"def upgrade():\n    return [{made_here}]\n")
    upgrade.upgrade(deployment.settings())
    deployment.revise("0002", GLOB.replace("{name}*", pattern))
    project = AlembicProject(deployment, postgres_database)
    project.revise("a1", GATE.format("0002"))
    script = project.upgrade("head", sql=True)
    with pytest.raises(psycopg.errors.RaiseException, match="which is not done") as caught:
        play(postgres_database, script)
    missing = str(caught.value.diag.message_primary).partition("not done: ")[2]
    assert missing == ", ".join(f"{deployment.name}{end} (needs 0002)" for end in waited)


DROP = """
def upgrade():
    return [op.DropCollection("{name}_b")]
"""


@pytest.mark.postgres
def test_a_script_waits_for_nothing_that_was_dropped(postgres_database, tmp_path):
    """A glob behind the drop is about the others alone, and also where what was dropped is recreated."""
    deployment = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, postgres_database)
    create = CREATE.split("[", 1)[1].rsplit("]", 1)[0]
    both = ", ".join(create.replace("{name}", f"{{name}}_{end}") for end in "ab")
    deployment.revise("0001", f"def upgrade():\n    return [{both}]\n")
    deployment.revise("0002", DROP)
    deployment.revise("0003", GLOB)
    upgrade.upgrade(deployment.settings())
    deployment.revise("0004", "def upgrade():\n    return [" + create.replace("{name}", "{name}_b") + "]\n")
    project = AlembicProject(deployment, postgres_database)
    project.revise("a1", GATE.format("0003").replace("early", "one").replace("late", "two"))
    project.revise("a2", GATE.format("0004"))
    play(postgres_database, project.upgrade("a1", sql=True))
    assert project.version() == "a1"
    script = project.upgrade("a1:a2", sql=True)
    with pytest.raises(psycopg.errors.RaiseException, match=rf"not done: {deployment.name}_b \(needs 0004\)\n"):
        play(postgres_database, script)
    upgrade.upgrade(deployment.settings())
    play(postgres_database, script)
    assert project.version() == "a2"


def test_what_a_script_can_not_do_is_refused(tmp_path):
    """SQLite has no such block, and nothing runs offline; passing by knowingly is a comment in the script."""
    sqlite = made(tmp_path / "a", f"sqlite:///{tmp_path}/sql.db")
    with pytest.raises(BridgeError, match="can't be written into a script"):
        sqlite.upgrade("head", sql=True)
    assert "-- SKIPPED: vector revision 0002" in sqlite.upgrade("head", "qdrant=skip", sql=True)
    postgres = made(tmp_path / "b", "postgresql+psycopg://nobody@nowhere/none")
    with pytest.raises(BridgeError, match="running vector revision 0002 can't be written"):
        postgres.upgrade("head", "qdrant=run", sql=True)
