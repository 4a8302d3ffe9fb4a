"""The other ways in which Alembic is run: async engines and Flask-Migrate. Skipped where those aren't installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.alembic_project import AlembicProject, project_at
from tests.harness import CREATE, Deployment

from qmigrate.alembic import BridgeError

ASYNC_ENV = '''
import asyncio

from alembic import context
from sqlalchemy import MetaData, pool
from sqlalchemy.ext.asyncio import create_async_engine

import qmigrate.alembic as qma


def do_run_migrations(connection):
    qm = qma.integrate(context, connection)
    context.configure(
        connection=connection, target_metadata=MetaData(), transaction_per_migration=True, **qm.options()
    )
    with qm.session(), context.begin_transaction():
        context.run_migrations()


async def run_async_migrations():
    connectable = create_async_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool)
    async with connectable.connect() as connection:
        await connection.run_sync(do_run_migrations)
    await connectable.dispose()


asyncio.run(run_async_migrations())
'''
BOTH = """
def upgrade():
    qdrant.run("0001")
    op.create_table("one", sa.Column("id", sa.Integer, primary_key=True))


def downgrade():
    op.drop_table("one")
"""
GATE = """
def upgrade():
    qdrant.require("0002")
    op.create_table("two", sa.Column("id", sa.Integer, primary_key=True))


def downgrade():
    op.drop_table("two")
"""
APP = '''
from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = "{url}"
db = SQLAlchemy(app)
migrate = Migrate(app, db)
'''


@pytest.mark.parametrize(
    ("driver", "module"),
    [
        ("sqlite+aiosqlite", "aiosqlite"),
        pytest.param("postgresql+asyncpg", "asyncpg", marks=pytest.mark.postgres),
    ],
)
def test_async_engines(request, tmp_path, driver, module):
    """In a running event loop the vector step runs, gates look, and links go with the version."""
    pytest.importorskip(module)
    ledger = f"sqlite:///{tmp_path}/sql.db" if "sqlite" in driver else request.getfixturevalue("postgres_database")
    made = project_at(tmp_path, ledger).made
    project = AlembicProject(made, driver + ledger[ledger.index(":") :], ASYNC_ENV)
    project.revise("a1", BOTH)
    project.revise("a2", GATE)
    with pytest.raises(BridgeError, match="→ qmigrate upgrade 0002"):
        project.upgrade()
    links = [("a1", "0001", "run", "linked")]
    assert (project.version(), project.links()) == ("a1", links)
    project.upgrade("head", "qdrant=run")
    assert project.links() == [*links, ("a2", "0002", "require", "linked")]
    project.downgrade("base")
    assert project.links() == []


def test_flask_migrate(tmp_path):
    """The three lines in the env.py that `flask db init` writes are enough."""
    pytest.importorskip("flask_migrate")
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/sql.db")
    made.revise("0001", CREATE)
    (made.root / "app.py").write_text(APP.format(url=made.ledger_url))
    flask(made, "init")
    env = made.root / "migrations" / "env.py"
    text = env.read_text()
    for old, new in (
        ("        context.configure(\n            connection=", "        qm = qma.integrate(context, connection)\n        context.configure(\n            connection="),
        ("**conf_args", "transaction_per_migration=True,\n            **qm.options(),\n            **conf_args"),
        ("        with context.begin_transaction():\n            context.run_migrations()\n\n\nif", "        with qm.session(), context.begin_transaction():\n            context.run_migrations()\n\n\nif"),
    ):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    env.write_text("import qmigrate.alembic as qma\n" + text)
    project = AlembicProject(made, made.ledger_url)
    body = project.revise("a1", BOTH).read_text()
    (made.root / "migrations" / "versions" / "a1_rev.py").write_text(body)
    flask(made, "upgrade")
    assert (project.version(), project.links()) == ("a1", [("a1", "0001", "run", "linked")])


def flask(made: Deployment, verb: str) -> None:
    """``flask db …`` in a process of its own."""
    source = str(Path(__file__).parents[2] / "src")
    done = subprocess.run(
        [sys.executable, "-m", "flask", "db", verb],
        cwd=made.root, env={**os.environ, "PYTHONPATH": source, "FLASK_APP": "app.py"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
