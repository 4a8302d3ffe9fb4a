"""Whether a revision of Alembic is applied, from its files and its heads. It reads no database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qmigrate.errors import ConfigError, RevisionError
from qmigrate.model.words import quote

if TYPE_CHECKING:
    from alembic.config import Config


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
