"""Runs the SQL revisions of the reference deployment. Gates in them ask, or start, qmigrate."""

import os
from logging.config import fileConfig
from pathlib import Path

from alembic import context
from image_search_tables import metadata
from sqlalchemy import create_engine, pool

import qmigrate.alembic as qma
from qmigrate.settings.load import Settings

root = Path(__file__).resolve().parent.parent
if context.config.config_file_name is not None and context.config.attributes.get("configure_logger", True):
    fileConfig(context.config.config_file_name, disable_existing_loggers=False)

# One place names SQL: QMIGRATE_LEDGER_URL, else ledger.url in qmigrate.yaml, else SQLite next to that file.
settings = Settings.load(config=os.environ.get("QMIGRATE_CONFIG") or root / "qmigrate.yaml")
url = settings.ledger.url


def run_offline() -> None:
    """``alembic upgrade head --sql``: SQL for another person to run; every gate becomes a guard."""
    qm = qma.integrate(context, None, settings=settings)
    context.configure(
        url=url,
        target_metadata=metadata,
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
        transaction_per_migration=True,
        **qm.options(),
    )
    with qm.session(), context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    """The usual way. One transaction per revision: what a gate has waited for is committed before SQL continues."""
    if url.startswith("sqlite:///"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        qm = qma.integrate(context, connection, settings=settings)
        context.configure(
            connection=connection,
            target_metadata=metadata,
            transaction_per_migration=True,
            render_as_batch=connection.dialect.name == "sqlite",
            **qm.options(),
        )
        with qm.session(), context.begin_transaction():
            context.run_migrations()


if context.is_offline_mode():
    run_offline()
else:
    run_online()
