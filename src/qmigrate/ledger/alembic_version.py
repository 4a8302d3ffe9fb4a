"""What Alembic's version table has, in whatever database it is. It reads one column, and writes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Select, column, create_engine, inspect, make_url, pool, select, table
from sqlalchemy.exc import SQLAlchemyError

from qmigrate.errors import UnavailableError
from qmigrate.settings_read import redact, sql_label


def sql_heads(url: str, version_table: str, schema: str | None) -> tuple[str, ...]:
    """The newest applied revisions of Alembic, sorted; none without the table.

    Raises:
        UnavailableError: the database can't be read.
    """
    try:
        parsed = make_url(url)
        file = parsed.database if parsed.get_backend_name() == "sqlite" else None
        if file and file != ":memory:" and not Path(file).exists():
            return ()  # connecting would create it, and readers write nothing
        engine = create_engine(parsed, poolclass=pool.NullPool, hide_parameters=True)
        try:
            with engine.connect() as connection:
                if not inspect(connection).has_table(version_table, schema=schema):
                    return ()
                query: Select[Any] = select(column("version_num")).select_from(table(version_table, schema=schema))
                return tuple(sorted(str(found) for found in connection.scalars(query)))
        finally:
            engine.dispose()
    except (SQLAlchemyError, ImportError) as error:
        cause = getattr(error, "orig", None) or error
        line = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
        raise UnavailableError(
            f"Alembic's version table in {sql_label(url)} can't be read: {redact(line)}",
            hint="check sql.url in qmigrate.yaml; by default it is the ledger's database",
        ) from None
