"""Whether a revision of Alembic is applied, from its files and its heads. It reads no database."""

from __future__ import annotations

from pathlib import Path

from qmigrate.errors import ConfigError, RevisionError


def is_applied(wanted: str, heads: tuple[str, ...], config: Path | None) -> bool:
    """Whether `wanted` is one of the heads or before one.

    Args:
        wanted: id of a revision of Alembic, or the beginning of one.
        heads: what the version table says.
        config: alembic.ini; None where there is none: then only the heads are known.

    Raises:
        RevisionError: Alembic has no such revision.
        ConfigError: it can't be told without Alembic's files, or they can't be read.
    """
    if wanted in heads:
        return True
    if config is None:
        if not heads:
            return False
        raise ConfigError(
            f"the SQL schema is at {', '.join(heads)}, and without Alembic's files nobody can tell whether that comes "
            f"after {wanted}",
            hint="name alembic.ini in qmigrate.yaml: sql: {config: alembic.ini}",
        )
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    made = Config(str(config))
    if made.get_main_option("script_location") is None:
        # Flask-Migrate keeps it beside the scripts and says nothing.
        made.set_main_option("script_location", str(config.parent).replace("%", "%%"))
    try:
        script = ScriptDirectory.from_config(made)
        found = script.get_revision(wanted)
        if not heads:
            return False
        before = script.revision_map.iterate_revisions(heads, "base")
        return found.revision in {one.revision for one in before if one is not None}
    except CommandError as error:
        raise RevisionError(
            f"the SQL revision {wanted} can't be found: {error}", hint=f"look for it with: alembic -c {config} history"
        ) from error
