"""Whether a revision of Alembic is applied, from its files and the heads in its database. It changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, column, create_engine, inspect, make_url, pool, select, table
from sqlalchemy.exc import SQLAlchemyError

from qmigrate.errors import ConfigError, RevisionError, UnavailableError
from qmigrate.settings.values import redact, sql_label
from qmigrate.text import quote

if TYPE_CHECKING:
    from alembic.config import Config


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


def is_applied(wanted: str, heads: tuple[str, ...], config: Path | None) -> bool:
    """Whether `wanted` is one of the heads or before one.

    Args:
        wanted: id of a revision of Alembic, or the beginning of one.
        heads: those in the version table.
        config: alembic.ini or pyproject.toml; None where there is none: then only the heads are known.

    Raises:
        RevisionError: Alembic has no such revision.
        ConfigError: it is unknown without Alembic's files, or they can't be read.
    """
    if wanted in heads:
        return True
    if config is None:
        if not heads:
            return False
        raise ConfigError(
            f"the SQL schema is at {', '.join(heads)}, and without Alembic's files it is unknown whether that comes "
            f"after {wanted}",
            hint="name alembic.ini in qmigrate.yaml: sql: {config: alembic.ini}",
        )
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    made = _read(config)
    try:
        script = ScriptDirectory.from_config(made)
        found = script.get_revision(wanted)
        if not heads:
            return False
        before = script.revision_map.iterate_revisions(heads, "base")
        return found.revision in {one.revision for one in before if one is not None}
    except CommandError as error:
        raise RevisionError(
            f"the SQL revision {wanted} can't be found: {error}",
            hint=f"look for it with: alembic -c {quote(config)} history",
        ) from error


def _read(config: Path) -> Config:
    """Alembic's settings.

    Raises:
        ConfigError: this Alembic reads no such file.
    """
    from alembic import __version__
    from alembic.config import Config

    if config.suffix == ".toml":
        try:
            return Config(toml_file=config)
        except TypeError:
            raise ConfigError(
                f"{config} can't be read by Alembic {__version__}, which reads alembic.ini only",
                hint="pip install 'alembic>=1.16', or name an alembic.ini: sql: {config: alembic.ini}",
            ) from None
    made = Config(str(config))
    if made.get_main_option("script_location") is None:
        # Flask-Migrate keeps it next to the scripts and names it nowhere.
        made.set_main_option("script_location", str(config.parent).replace("%", "%%"))
    return made
