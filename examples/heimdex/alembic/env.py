"""Alembic's environment with the bridge: SQL and vector steps wait for each other."""

import os
from pathlib import Path

from alembic import context
from sqlalchemy import create_engine, pool

import qmigrate.alembic as qma

FOLDER = Path(__file__).resolve().parents[1]
URL = os.environ.get("DATABASE_URL", f"sqlite:///{FOLDER}/.qmigrate/app.db")


def offline() -> None:
    qm = qma.integrate(context, None, config=FOLDER / "qmigrate.yaml")
    context.configure(url=URL, literal_binds=True, **qm.options())
    with qm.session(), context.begin_transaction():
        context.run_migrations()


def online() -> None:
    (FOLDER / ".qmigrate").mkdir(mode=0o700, exist_ok=True)
    engine = create_engine(URL, poolclass=pool.NullPool)
    with engine.connect() as connection:
        qm = qma.integrate(context, connection, config=FOLDER / "qmigrate.yaml")
        context.configure(connection=connection, transaction_per_migration=True, **qm.options())
        with qm.session(), context.begin_transaction():
            context.run_migrations()
    engine.dispose()


offline() if context.is_offline_mode() else online()
