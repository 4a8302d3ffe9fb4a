"""Revisions that wait for Alembic: reads its version table only when one of them is pending. It runs no migration."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from qmigrate.commands.session import Session
from qmigrate.errors import PendingError
from qmigrate.ledger.alembic_links import LINKED, all_links
from qmigrate.model.state import World
from qmigrate.planner.forward import pending, to_create
from qmigrate.revisions import alembic_files
from qmigrate.revisions.graph import Revisions
from qmigrate.revisions.sql_history import is_applied, sql_heads
from qmigrate.settings.load import Settings
from qmigrate.text import quote


def required(world: World, revisions: Revisions, wanted: frozenset[str]) -> dict[str, str]:
    """Revision -> the SQL revision that must be applied first, for those that any collection still needs."""
    found = {one.id: one.requires_sql for one in revisions.order() if one.requires_sql and one.id in wanted}
    if not found:
        return {}
    needed = {one for name in world.collections for one in pending(world, revisions, wanted, name)}
    needed |= {one for entries in to_create(world, revisions).values() for one in entries}
    return {revision: sql for revision, sql in found.items() if revision in needed}


def reachable(revisions: Revisions, wanted: frozenset[str], waiting: Collection[str]) -> frozenset[str]:
    """What can be applied now: a revision that waits stops everything that comes after it."""
    # What another one replaces doesn't lead around it.
    stopped = {*waiting, *(old for one in revisions.squashed() if one.id in waiting for old in one.replaces)}
    return frozenset(one for one in wanted if one not in stopped and stopped.isdisjoint(revisions.ancestors(one)))


def within_reach(
    opened: Session, world: World, wanted: frozenset[str]
) -> tuple[frozenset[str], dict[str, str]]:
    """What can be applied now, and what waits: revision -> SQL revision.

    Raises:
        UnavailableError: the version table can't be read.
        RevisionError: Alembic has no such revision.
        ConfigError: it is unknown without Alembic's files.
    """
    needed = required(world, opened.revisions, wanted)
    if not needed:
        return wanted, {}
    settings, sql = opened.settings, opened.settings.sql
    heads = sql_heads(sql.url or settings.ledger.url, sql.version_table, sql.version_table_schema)
    config = _config(settings)
    waiting = {revision: one for revision, one in needed.items() if not is_applied(one, heads, config)}
    return reachable(opened.revisions, wanted, waiting), waiting


def notes_of(waiting: Mapping[str, str]) -> tuple[str, ...]:
    """One line for each revision that waits."""
    return tuple(
        f"{revision} waits for the SQL revision {sql}: alembic upgrade {quote(sql)}, then qmigrate upgrade"
        for revision, sql in waiting.items()
    )


def links_of(opened: Session, world: World, wanted: frozenset[str]) -> list[str]:
    """SQL revisions that went past a vector step which is not done, or not any more, one line each.

    Args:
        wanted: every revision that is to be applied some day.
    """
    links = all_links(opened.ledger)
    if not links:
        return []
    known = {one.id for one in opened.revisions.order()}
    missing = {one for name in world.collections for one in pending(world, opened.revisions, wanted, name)}
    missing |= {one for entries in to_create(world, opened.revisions).values() for one in entries}
    applied = world.applied()
    notes = []
    for link in links:
        whole = opened.revisions.replacement(link.step)
        if link.step not in missing and (link.step in known or (whole is not None and whole.id not in missing)):
            continue
        if link.state != LINKED:
            notes.append(f"the SQL revision {link.sql_revision} was {link.state} although {link.step} is not done")
        elif link.step not in applied:
            notes.append(f"the SQL revision {link.sql_revision} needs {link.step}, which was rolled back since")
    return notes


def waits(waiting: Mapping[str, str], who: str) -> PendingError:
    """The error for a caller that needs a revision that waits."""
    revision, sql = next(iter(waiting.items()))
    return PendingError(
        f"{who} can't continue: the vector revision {revision} waits for the SQL revision {sql}",
        hint=f"alembic upgrade {quote(sql)}",
        facts={"waiting": dict(waiting)},
    )


def _config(settings: Settings) -> Path | None:
    if settings.sql.config is not None:
        return settings.sql.config
    found = alembic_files.find(settings.folder, None)
    return found.config.path if found is not None else None
