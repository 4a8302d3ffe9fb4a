"""An Alembic project made on the spot next to a deployment: env.py as people write it, revisions, and ways to run it."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, inspect, text

from tests.harness import CREATE, INDEX, Deployment

ENV = '''
from alembic import context
from sqlalchemy import MetaData, create_engine, pool

import qmigrate.alembic as qma

metadata = MetaData()
url = context.config.get_main_option("sqlalchemy.url")
if context.is_offline_mode():
    qm = qma.integrate(context, None)
    context.configure(url=url, target_metadata=metadata, literal_binds=True, **qm.options())
    with qm.session(), context.begin_transaction():
        context.run_migrations()
else:
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        qm = qma.integrate(context, connection)
        context.configure(
            connection=connection, target_metadata=metadata, transaction_per_migration=True, **qm.options()
        )
        with qm.session(), context.begin_transaction():
            context.run_migrations()
    engine.dispose()
'''
REVISION = '''"""{doc}"""
import sqlalchemy as sa
from alembic import op
from qmigrate import Compute, CopyOf, Embed, Empty
from qmigrate import op as vectors
from qdrant_client.models import Distance, PayloadSchemaType, VectorParams
from qmigrate.alembic import qdrant

revision = "{id}"
down_revision = {down!r}


'''


@dataclass
class AlembicProject:
    """An alembic.ini, an env.py and revisions in the folder of a deployment."""

    made: Deployment
    url: str
    env: str = ENV
    last: str | None = None
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "versions").mkdir(parents=True, exist_ok=True)
        (self.folder / "env.py").write_text(self.env)
        (self.folder / "script.py.mako").write_text(
            '"""${message}"""\nrevision = ${repr(up_revision)}\ndown_revision = ${repr(down_revision)}\n'
            "def upgrade():\n    ${upgrades if upgrades else 'pass'}\n\ndef downgrade():\n    pass\n"
        )
        ini = f"[alembic]\nscript_location = {self.folder}\nsqlalchemy.url = {self.url.replace('%', '%%')}\n"
        self.ini.write_text(ini)

    @property
    def folder(self) -> Path:
        return self.made.root / "alembic"

    @property
    def ini(self) -> Path:
        return self.made.root / "alembic.ini"

    def revise(self, identifier: str, body: str, *, down: object = "previous") -> Path:
        """Write a revision of Alembic; by default it follows the one written before."""
        path = self.folder / "versions" / f"{identifier}_rev.py"
        parent = self.last if down == "previous" else down
        head = REVISION.format(doc=f"sql {identifier}", id=identifier, down=parent)
        body = textwrap.dedent(body).replace("NAME", self.made.name)
        if "def downgrade" not in body:
            body += "\n\ndef downgrade():\n    pass\n"
        path.write_text(head + body)
        self.last = identifier
        return path

    def config(self, *x: str) -> Config:
        """What alembic.command takes; `x` as behind ``-x``."""
        from argparse import Namespace

        self.out = io.StringIO()
        return Config(str(self.ini), stdout=self.out, output_buffer=self.out, cmd_opts=Namespace(x=list(x)))

    def upgrade(self, target: str = "head", *x: str, sql: bool = False) -> str:
        """``alembic -x … upgrade``, in this process; gives what it printed and logged."""
        return self.run(command.upgrade, target, *x, sql=sql)

    def downgrade(self, target: str, *x: str, sql: bool = False) -> str:
        """``alembic downgrade``."""
        return self.run(command.downgrade, target, *x, sql=sql)

    def stamp(self, target: str, *x: str) -> str:
        """``alembic stamp``."""
        return self.run(command.stamp, target, *x)

    def run(self, verb, *args: str, **kwargs) -> str:
        """Any command of Alembic; the first argument is its own, the others are for ``-x``."""
        log = io.StringIO()
        handler = logging.StreamHandler(log)
        logger = logging.getLogger("alembic.qmigrate")
        logger.addHandler(handler)
        level = logger.level
        logger.setLevel(logging.INFO)
        config = self.config(*args[1:])
        try:
            with contextlib.chdir(self.made.root):
                verb(config, *args[:1], **kwargs)
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
            self.said.append(log.getvalue() + self.out.getvalue())
        return self.said[-1]

    def spawn(self, *args: str, **env: str) -> subprocess.Popen:
        """``alembic …`` in a process of its own."""
        source = str(Path(__file__).parents[1] / "src")
        variables = {**os.environ, "PYTHONPATH": source, **env}
        return subprocess.Popen(
            [sys.executable, "-m", "alembic", *args],
            cwd=self.made.root, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    @contextlib.contextmanager
    def engine(self) -> Engine:
        made = create_engine(self.url.replace("+asyncpg", "+psycopg").replace("+aiosqlite", ""))
        try:
            yield made
        finally:
            made.dispose()

    def version(self) -> str | None:
        """What Alembic's version table says; None without one."""
        with self.engine() as engine, engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            return connection.scalar(text("SELECT version_num FROM alembic_version"))

    def tables(self) -> set[str]:
        """Tables of the database, without the ledger's."""
        from qmigrate.ledger import TABLE_NAMES

        with self.engine() as engine:
            return set(inspect(engine).get_table_names()) - TABLE_NAMES

    def links(self) -> list[tuple[str, str, str, str]]:
        """(SQL revision, step, directive, state) of every link."""
        from qmigrate.ledger import Ledger
        from qmigrate.ledger.alembic_links import all_links

        ledger = Ledger.open(self.made.ledger_url)
        try:
            return sorted((one.sql_revision, one.step, one.directive, one.state) for one in all_links(ledger))
        finally:
            ledger.close()


def project_at(tmp_path: Path, url: str, env: str = ENV, qdrant: dict | None = None, **extra: dict) -> AlembicProject:
    """Alembic and the ledger in one database, Qdrant in local mode, vector revisions 0001 and 0002; nothing is applied."""
    made = Deployment(tmp_path / "project", qdrant or {"path": str(tmp_path / "qdrant")}, url, extra=extra)
    made.revise("0001", CREATE)
    made.revise("0002", INDEX)
    return AlembicProject(made, url, env)
