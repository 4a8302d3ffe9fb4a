"""Alembic waits for vector steps or runs them, and both sides are recorded together."""

from __future__ import annotations

import pytest
from tests.alembic_project import AlembicProject
from tests.harness import CREATE, INDEX, Deployment

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
def project(ledger_url, tmp_path) -> AlembicProject:
    """Alembic and the ledger in one database, Qdrant in local mode; nothing is applied."""
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, ledger_url)
    made.revise("0001", CREATE)
    made.revise("0002", INDEX)
    if ledger_url.startswith("sqlite"):
        (tmp_path / "state").mkdir()
    return AlembicProject(made, ledger_url)


def test_a_gate_names_the_command_and_opens_when_it_was_run(project):
    """The gate is closed until the ledger says done; its link is committed with the version."""
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
