"""Vector steps in an Alembic revision itself: recorded, resumed, repeated and undone like any other."""

from __future__ import annotations

import pytest
from qdrant_client import QdrantClient
from tests.alembic_project import AlembicProject
from tests.harness import Deployment
from tests.scenarios.cli import call

from qmigrate import ensure
from qmigrate.alembic import BridgeError
from qmigrate.commands import status, upgrade
from qmigrate.engine.golive import golive
from qmigrate.errors import DriftError, PlanError, RefusedError, RevisionError, UsageError

CREATE_TWO = """
def upgrade():
    return [
        op.CreateCollection(one, {{"content": VectorParams(size=8, distance=Distance.COSINE)}})
        for one in ("{name}_elena", "{name}_marcus")
    ]
"""
SEED = """
def upgrade():
    qdrant.add_vector_dimension(collection="NAME_*", vector_name="relationship", size=384)

def downgrade():
    qdrant.revert("KEY")
"""
LATER = """
def upgrade():
    return [op.CreatePayloadIndex("{name}_elena", "user_id", PayloadSchemaType.KEYWORD)]
"""


@pytest.fixture
def project(tmp_path) -> AlembicProject:
    """Everything in one SQLite file."""
    return project_at(tmp_path, f"sqlite:///{tmp_path}/sql.db")


@pytest.fixture
def postgres(tmp_path, postgres_database) -> AlembicProject:
    """Everything in one PostgreSQL database."""
    return project_at(tmp_path, postgres_database)


def project_at(tmp_path, url: str) -> AlembicProject:
    """Two collections at 0001, and an Alembic revision that gives each a further vector."""
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, url)
    made.revise("0001", CREATE_TWO)
    upgrade.upgrade(made.settings())
    found = AlembicProject(made, url)
    found.revise("a1", SEED.replace("KEY", key(made)))
    return found


def key(made: Deployment) -> str:
    """Of the one line."""
    return f"add_relationship_to_{made.name}__"


def applied(made: Deployment) -> dict[str, str | None]:
    """Collection -> its newest revision."""
    return {row.name: row.revision for row in status.status(made.settings()).collections}


@pytest.mark.postgres
def test_the_one_line_of_the_seed_is_a_revision_like_any_other(postgres):
    """Every matching collection gets it; status, history, plan, a later upgrade and the way back know it."""
    project = postgres
    made, two = project.made, (f"{project.made.name}_elena", f"{project.made.name}_marcus")
    project.upgrade()
    assert applied(made) == dict.fromkeys(two, key(made))
    assert project.links() == [("a1", key(made), "apply", "linked")]
    assert key(made) in call(made.root, "history").out
    made.revise("0002", LATER)
    assert call(made.root, "upgrade").code == 0
    assert applied(made) == {two[0]: "0002", two[1]: key(made)}
    assert call(made.root, "check").code == 0
    with pytest.raises(BridgeError) as caught:
        project.downgrade("base")
    assert isinstance(caught.value.error, RefusedError)
    assert "0002 came after it" in str(caught.value)
    assert call(made.root, "rollback", "-1").code == 0
    project.downgrade("base")
    assert (applied(made), project.version(), project.links()) == (dict.fromkeys(two, "0001"), None, [])
    assert call(made.root, "plan").out.count("relationship") == 0
    project.upgrade()
    assert applied(made)[two[1]] == key(made)


def test_what_an_inline_step_refuses(project):
    """Other operations under a used key, own code, and what can't be done; SQL stays where it was."""
    other = 'vectors.CreatePayloadIndex("NAME_elena", "kind", PayloadSchemaType.KEYWORD)'
    project.revise("a1", f'def upgrade():\n    qdrant.apply("step", {other})', down=None)
    project.upgrade()
    for body, kind, words in (
        ('"step", vectors.DropVector("NAME_elena", "x")', DriftError, "has other operations"),
        ('"own", vectors.TransformPoints("NAME_elena", len)', PlanError, "can't be recorded without a file"),
        ('"gone", vectors.DropVector("NAME_elena", "nothing")', PlanError, "nothing"),
        ('"a b", vectors.DropVector("NAME_elena", "content")', UsageError, "without spaces"),
        ('"none"', UsageError, "no operation is given"),
        ('"0001", vectors.DropVector("NAME_elena", "content")', RevisionError, "has the id 0001"),
    ):
        project.revise("a2", f"def upgrade():\n    qdrant.apply({body})", down="a1")
        with pytest.raises(BridgeError) as caught:
            project.upgrade()
        assert isinstance(caught.value.error, kind), caught.value
        assert words in str(caught.value)
    assert project.version() == "a1"
    assert call(project.made.root, "upgrade").code == 0


def test_an_interrupted_inline_step_is_resumed(project, monkeypatch):
    """Killed in the middle, it is finished by `qmigrate upgrade` or by Alembic again, which then just records it."""

    def dying(*_):
        raise SystemExit("killed")

    with monkeypatch.context() as patched:
        patched.setattr(golive, "swap", dying)
        with pytest.raises(SystemExit):
            project.upgrade()
    assert project.version() is None
    assert call(project.made.root, "upgrade").code == 0
    assert "is done already" in project.upgrade()
    assert project.version() == "a1"
    assert set(applied(project.made).values()) == {key(project.made)}


def test_a_collection_that_comes_later_gets_the_inline_step_too(tmp_path):
    """No match yet, so Alembic continues; what `ensure` makes afterwards has the files' vectors and the step's."""
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/sql.db")
    made.revise("0001", 'def upgrade():\n    return [op.CreateCollection("{name}_*", {{"a": VectorParams(size=8, distance=Distance.DOT)}})]\n')
    project = AlembicProject(made, made.ledger_url)
    body = 'vectors.AddVector("NAME_*", "b", VectorParams(size=4, distance=Distance.DOT), values=Empty())'
    project.revise("a1", f'def upgrade():\n    qdrant.apply("more", {body})')
    project.upgrade()
    client = QdrantClient(path=str(tmp_path / "qdrant"))
    try:
        found = ensure(client, f"{made.name}_new", settings=made.settings())
        vectors = client.get_collection(f"{made.name}_new").config.params.vectors
    finally:
        client.close()
    assert found.revision == "more"
    assert set(vectors) == {"a", "b"}


# --- where the database takes no schema change back -------------------------------------------------------------------

#: As the first idea of it was written: SQL and vectors in one revision, SQL first.
TOGETHER = """
def upgrade():
    op.add_column("people", sa.Column("relationship_embedding", sa.LargeBinary()))
    STEP

def downgrade():
    op.execute("DELETE FROM people")
    qdrant.revert("KEY")
"""
STEPS = {
    "add_vector_dimension": 'qdrant.add_vector_dimension(collection="NAME_*", vector_name="relationship", size=384)',
    "apply": 'qdrant.apply("more", vectors.AddVector("NAME_*", "x", {"size": 4, "distance": "Dot"}, values=Empty()))',
    "run": 'qdrant.run("0002")',
    "in a helper": "vector_step()",
    "under a condition": 'if True:\n        qdrant.run("0002")',
}
HELPER = '\n\ndef vector_step():\n    qdrant.run("0002")\n'


def together(tmp_path, step: str) -> AlembicProject:
    """A table, two collections, and the revision that changes both; the next file revision is pending."""
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/sql.db")
    made.revise("0001", CREATE_TWO)
    upgrade.upgrade(made.settings())
    made.revise("0002", LATER)
    found = AlembicProject(made, f"sqlite:///{tmp_path}/sql.db")
    found.revise("a1", 'def upgrade():\n    op.create_table("people", sa.Column("id", sa.Integer()))')
    found.upgrade()
    body = TOGETHER.replace("STEP", STEPS[step]).replace("KEY", key(made)) + (HELPER if "helper" in step else "")
    found.revise("a2", body)
    return found


def columns(project: AlembicProject) -> set[str]:
    """Of the table."""
    from sqlalchemy import create_engine, inspect

    engine = create_engine(project.url)
    try:
        return {one["name"] for one in inspect(engine).get_columns("people")}
    finally:
        engine.dispose()


@pytest.mark.parametrize("step", STEPS)
def test_sql_before_a_vector_step_is_refused_before_it_runs_where_it_would_stay(tmp_path, step):
    """SQLite can't undo a column: the refusal comes before the first statement, and the repaired revision runs."""
    project = together(tmp_path, step)
    for _ in range(2):
        with pytest.raises(BridgeError, match="executes SQL before its vector step") as caught:
            project.upgrade()
        assert isinstance(caught.value.error, RefusedError)
        assert columns(project) == {"id"}, "nothing of the refused revision is left"
        assert project.version() == "a1"
    file = next((project.folder / "versions").glob("*a2*"))
    sql = '    op.add_column("people", sa.Column("relationship_embedding", sa.LargeBinary()))\n'
    text = file.read_text().replace(sql, "")
    behind = "\n\ndef downgrade"
    file.write_text(text.replace(behind, f"\n{sql}{behind}", 1))
    project.upgrade()
    assert (columns(project), project.version()) == ({"id", "relationship_embedding"}, "a2")


def test_a_vector_step_that_is_done_already_may_stand_behind_sql(tmp_path):
    """Nothing can be refused any more: the SQL runs, and the step is recorded."""
    project = together(tmp_path, "run")
    upgrade.upgrade(project.made.settings())
    project.upgrade()
    assert (columns(project), project.version()) == ({"id", "relationship_embedding"}, "a2")


def test_going_back_is_refused_before_its_sql_as_well(tmp_path):
    """A revert behind SQL of the same downgrade(): nothing is executed."""
    project = together(tmp_path, "add_vector_dimension")
    with pytest.raises(BridgeError):
        project.upgrade()
    file = next((project.folder / "versions").glob("*a2*"))
    add = '    op.add_column("people", sa.Column("relationship_embedding", sa.LargeBinary()))\n'
    file.write_text(file.read_text().replace(add, ""))
    project.upgrade()
    from sqlalchemy import create_engine, text

    engine = create_engine(project.url)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO people VALUES (1)"))
    with pytest.raises(BridgeError, match="executes SQL before its vector step"):
        project.downgrade("a1")
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM people")) == 1
    engine.dispose()
    assert project.version() == "a2"


def test_reading_before_a_vector_step_is_no_reason(tmp_path):
    """A SELECT leaves nothing behind, so it may come first."""
    project = together(tmp_path, "run")
    file = next((project.folder / "versions").glob("*a2*"))
    add = 'op.add_column("people", sa.Column("relationship_embedding", sa.LargeBinary()))'
    file.write_text(file.read_text().replace(add, 'op.execute("SELECT 1")'))
    project.upgrade()
    assert project.version() == "a2"


FAILS = SEED + "    op.drop_table('nowhere')\n"


def test_a_step_that_was_passed_by_is_told_and_its_revision_can_be_taken_back(project):
    """Nothing would do it any more: check and status say so, and the downgrade has nothing to undo."""
    made = project.made
    project.upgrade("head", "qdrant=skip")
    assert project.links() == [("a1", key(made), "apply", "skipped")]
    told = f"the SQL revision a1 was skipped although {key(made)} is not done"
    for verb, code in (("status", 0), ("check", 0), ("check --strict", 4)):
        said = call(made.root, *verb.split())
        assert (said.code, told in said.text) == (code, True), said.text
    assert "never done: nothing is reverted" in project.downgrade("base")
    assert (project.version(), project.links()) == (None, [])
    assert told not in call(made.root, "check").text
    project.upgrade()
    assert set(applied(made).values()) == {key(made)}


def test_a_step_of_another_name_is_no_step_that_was_passed_by(project):
    """A slip in the name is an error as ever."""
    project.upgrade("head", "qdrant=skip")
    project.last = None
    project.revise("a1", SEED.replace('revert("KEY")', 'revert("another")'))
    with pytest.raises(BridgeError, match='there is no revision "another"'):
        project.downgrade("base")
    assert project.version() == "a1"


def test_a_downgrade_whose_sql_fails_behind_its_vector_step_is_told(project):
    """The step is undone and the SQL stays, so that its link is of something that is not there any more."""
    made = project.made
    project.last = None
    project.revise("a1", FAILS.replace("KEY", key(made)))
    project.upgrade()
    told = f"the SQL revision a1 needs {key(made)}, which was rolled back since"
    assert told not in call(made.root, "check").text
    with pytest.raises(Exception, match="nowhere"):
        project.downgrade("base")
    assert (project.version(), project.links()) == ("a1", [("a1", key(made), "apply", "linked")])
    for verb in ("status", "check"):
        assert told in call(made.root, verb).text
    project.last = None
    project.revise("a1", SEED.replace("KEY", key(made)))
    project.downgrade("base")
    assert told not in call(made.root, "check").text
