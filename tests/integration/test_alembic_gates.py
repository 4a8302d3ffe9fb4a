"""Alembic waits for vector steps or runs them, and both sides are recorded together."""

from __future__ import annotations

import pytest
from tests.alembic_project import AlembicProject, project_at
from tests.scenarios.cli import call
from tests.scenarios.plain_names import SCHEMA

from qmigrate.alembic import BridgeError
from qmigrate.commands import upgrade

TABLE = """
def upgrade():
    op.create_table("{name}", sa.Column("id", sa.Integer, primary_key=True))


def downgrade():
    op.drop_table("{name}")
"""
REQUIRE = """
def upgrade():
    qdrant.require("{name}")
    op.create_table("after_{name}", sa.Column("id", sa.Integer, primary_key=True))


def downgrade():
    op.drop_table("after_{name}")
"""


@pytest.fixture
def project(tmp_path) -> AlembicProject:
    """Everything in one SQLite file."""
    return project_at(tmp_path, f"sqlite:///{tmp_path}/sql.db")


@pytest.fixture
def postgres(tmp_path, postgres_database) -> AlembicProject:
    """Everything in one PostgreSQL database."""
    return project_at(tmp_path, postgres_database)


@pytest.mark.parametrize("kind", ["project", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_a_gate_names_the_command_and_opens_when_it_was_run(request, kind):
    """The gate is closed until the ledger has it as done; its link is committed with the version."""
    project = request.getfixturevalue(kind)
    project.revise("a1", TABLE.format(name="one"))
    project.revise("a2", REQUIRE.format(name="0002"))
    with pytest.raises(BridgeError) as caught:
        project.upgrade()
    assert "Alembic revision a2 needs the vector revision 0002" in str(caught.value)
    assert "→ qmigrate upgrade 0002" in str(caught.value)
    assert (project.version(), project.tables(), project.links()) == ("a1", {"one", "alembic_version"}, [])
    upgrade.upgrade(project.made.settings())
    project.upgrade()
    assert (project.version(), project.links()) == ("a2", [("a2", "0002", "require", "linked")])
    project.downgrade("a1")
    assert (project.version(), project.links()) == ("a1", [])


def test_run_mode_brings_an_empty_database_up(project):
    """-x qdrant=run turns gates into runs; a second run has nothing to do."""
    project.revise("a1", TABLE.format(name="one"))
    project.revise("a2", REQUIRE.format(name="0001"))
    project.revise("a3", "def upgrade():\n    qdrant.run('0002')")
    project.upgrade("head", "qdrant=run")
    assert project.made.row().revision == "0002"
    assert project.version() == "a3"
    assert project.links() == [("a2", "0001", "require", "linked"), ("a3", "0002", "run", "linked")]
    project.upgrade("head", "qdrant=run")


WAITS = """
requires_sql = "a2"

def upgrade():
    return [op.CreatePayloadIndex("{name}", "n", PayloadSchemaType.INTEGER)]
"""


def test_an_upgrade_goes_as_far_as_the_sql_schema_lets_it(project):
    """requires_sql stops before its revision with the next command; plan and status say so; an ancestor counts."""
    made = project.made
    made.revise("0003", WAITS)
    for name in ("a1", "a2", "a3"):
        project.revise(name, TABLE.format(name=f"table_{name}"))
    project.upgrade("a1")
    assert "0003 waits for the SQL revision a2: alembic upgrade a2" in call(made.root, "plan").text
    said = call(made.root, "upgrade")
    assert (said.code, made.row().revision) == (3, "0002")
    assert "Next: alembic upgrade a2" in said.out
    assert call(made.root, "upgrade", "--json").json["data"]["plan"]["waiting"] == {"0003": "a2"}
    assert "0003 waits for the SQL revision a2" in call(made.root, "status").text
    project.upgrade("a3")
    assert call(made.root, "upgrade").code == 0
    assert made.row().revision == "0003"


def test_a_run_says_what_it_leaves_alone(project):
    """A glob that meets a collection which is not under management: the upgrade's note is Alembic's, too."""
    project.made.revise("0003", WAITS.replace("{name}", "{name}*").replace('requires_sql = "a2"', ""))
    store = project.made.store()
    store.create_collection(f"{project.made.name}_other", SCHEMA, seal=None)
    store.close()
    project.revise("a1", "def upgrade():\n    qdrant.run('0003')")
    assert f"{project.made.name}_other matches revision 0003, but is not under management" in project.upgrade()


@pytest.mark.postgres
def test_the_two_directions_interleave(postgres):
    """A gate whose vector revision itself waits for SQL names which; with both in order one command does all of it."""
    project = postgres
    project.made.revise("0003", WAITS)
    project.revise("a1", TABLE.format(name="one"))
    project.revise("a2", TABLE.format(name="two"))
    project.revise("a3", REQUIRE.format(name="0003"))
    project.revise("a0", REQUIRE.format(name="0003"), down=None)
    with pytest.raises(BridgeError) as caught:
        project.upgrade("a0", "qdrant=run")
    assert "the vector revision 0003 waits for the SQL revision a2" in str(caught.value)
    (project.folder / "versions" / "a0_rev.py").unlink()
    project.upgrade("head", "qdrant=run")
    assert project.made.row().revision == "0003"


HELD = """
def upgrade():
    return [op.AlterVector(
        "{name}", "a", VectorParams(size=16, distance=Distance.COSINE), values=Embed("words", text="text"), cutover="hold"
    )]
"""


def test_what_is_built_and_held_is_not_taken_back_by_a_downgrade(tmp_path):
    """It would go live with the next cut-over: the downgrade stops and names abort, and passes when that was done."""
    project = project_at(tmp_path, f"sqlite:///{tmp_path}/sql.db")
    made = project.made
    made.revise("0003", HELD)
    project.revise("a1", "def upgrade():\n    qdrant.run('0002')\n", down=None)
    project.revise("a2", "def upgrade():\n    qdrant.run('0003')\n\ndef downgrade():\n    qdrant.revert('0003')\n")
    project.upgrade("a1")
    made.load(5)
    with pytest.raises(BridgeError, match="built, proven and held"):
        project.upgrade()
    project.upgrade("head", "qdrant=skip")
    with pytest.raises(BridgeError, match="begun and not finished") as refused:
        project.downgrade("a1")
    assert f"qmigrate abort {made.name}" in str(refused.value)
    assert project.version() == "a2"
    assert call(made.root, "abort", made.name).code == 0
    project.downgrade("a1")
    assert project.version() == "a1"
    assert made.row().revision == "0002"
