"""Alembic's environment: the lines with ``qm`` are what lets its revisions wait for vector steps, or run them."""

from pathlib import Path

from alembic import context
from sqlalchemy import create_engine, pool

import qmigrate.alembic as qma

FOLDER = Path(__file__).resolve().parents[1]
url = context.config.get_main_option("sqlalchemy.url")

if context.is_offline_mode():
    qm = qma.integrate(context, None, config=FOLDER / "qmigrate.yaml")
    context.configure(url=url, literal_binds=True, **qm.options())
    with qm.session(), context.begin_transaction():
        context.run_migrations()
else:
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        qm = qma.integrate(context, connection, config=FOLDER / "qmigrate.yaml")
        context.configure(connection=connection, transaction_per_migration=True, **qm.options())
        with qm.session(), context.begin_transaction():
            context.run_migrations()
    engine.dispose()
