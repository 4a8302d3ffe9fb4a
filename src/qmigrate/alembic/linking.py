"""Link rows: written with Alembic's version row where one transaction can hold both, else right after its commit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Engine, Select, column, inspect, select, table

from qmigrate.alembic.lock import is_file
from qmigrate.alembic.said import log
from qmigrate.ledger import Ledger
from qmigrate.ledger.links import LINKED, STAMPED, Link, Place, all_links, place_in
from qmigrate.lint.alembic_files import Statement, directives_of


class Linking:
    """The links of one run. Make it with :meth:`open`."""

    def __init__(self, ledger: Ledger, place: Place | None, version_table: str, engine: Engine | None) -> None:
        self._ledger = ledger
        self._engine = engine
        self._place = place
        self._own = Place(ledger.database, ledger.database.schema)
        self._version_table = version_table
        self._actor = ledger.actor
        self._noted: list[Link] = []
        self._waiting: list[Link] = []
        self._gone: list[str] = []

    @classmethod
    def open(cls, ledger: Ledger, engine: Engine, version_table: str) -> Linking:
        """Find out whether Alembic's database is the ledger's, on a connection that is closed again."""
        if engine.dialect.name == "sqlite" and not is_file(engine):
            return cls(ledger, None, version_table, None)
        with ledger.database.explained(), engine.connect() as connection:
            found = place_in(ledger, connection)
        return cls(ledger, found, version_table, engine)

    @property
    def together(self) -> bool:
        """Whether a link is committed with the version row."""
        return self._place is not None

    def note(self, sql_revision: str, step: str, directive: str, state: str = LINKED) -> None:
        """A directive has passed: its link is written with the version row of its revision."""
        self._noted.append(Link(self._version_table, sql_revision, step, directive, state, self._actor))

    def applied(self, context: MigrationContext, step: MigrationInfo) -> None:
        """Alembic has written the version row and not committed it yet."""
        noted, self._noted = self._noted, []
        if step.is_stamp:
            moved = list(_stamped(step))
            noted = [link for script in moved for link in self._of(script, STAMPED)] if step.is_upgrade else []
            gone = [] if step.is_upgrade else [script.revision for script in moved]
            for link in noted:
                log.warning("stamped %s: whether vector step %s is done was not checked", link.sql_revision, link.step)
        else:
            gone = [] if step.is_upgrade else list(step.up_revision_ids)
        if self._place is None:
            self._waiting += noted
            self._gone += gone
            return
        assert context.connection is not None  # noqa: S101  online
        if gone:
            self._place.remove(context.connection, self._version_table, gone)
        self._place.put(context.connection, noted)

    def committed(self) -> None:
        """The version row is committed: what could not go with it is written now."""
        waiting, self._waiting = self._waiting, []
        gone, self._gone = self._gone, []
        if waiting or gone:
            self._write(waiting, gone)

    def catch_up(self, context: MigrationContext) -> None:
        """Where links come after the commit, a crash may have come between: write those that are missing."""
        if self.together or context.script is None:
            return
        log.warning(
            "Alembic's connection can't write the ledger (%s; another database, or no right to): links are written "
            "right after each commit",
            self._ledger.url_label,
        )
        applied = self._applied(context, context.script)
        known = {
            one.sql_revision for one in all_links(self._ledger) if one.version_table == self._version_table
        }
        done = {one.revision for entries in self._ledger.all_applied().values() for one in entries}
        missing = [
            link if link.step in done else replace(link, state=STAMPED)
            for script in applied
            if script.revision not in known
            for link in self._of(script, LINKED)
        ]
        if missing:
            names = ", ".join(dict.fromkeys(link.sql_revision for link in missing))
            log.info("recording the links of %s, which an earlier run committed", names)
            self._write(missing, [])

    def _applied(self, context: MigrationContext, script: ScriptDirectory) -> list[Script]:
        """Alembic's applied revisions, as another connection sees them: what is committed."""
        if self._engine is None:
            return []
        version, schema = context.version_table, context.version_table_schema
        with self._engine.connect() as connection:
            if not inspect(connection).has_table(version, schema=schema):
                return []
            query: Select[Any] = select(column("version_num")).select_from(table(version, schema=schema))
            heads = tuple(connection.scalars(query))
        found = script.revision_map.iterate_revisions(heads, "base") if heads else ()
        return [one for one in found if isinstance(one, Script)]

    def _write(self, links: Iterable[Link], gone: Iterable[str]) -> None:
        with self._ledger.database.writing() as connection:
            self._own.remove(connection, self._version_table, gone)
            self._own.put(connection, links)

    def _of(self, script: Script, state: str) -> Iterator[Link]:
        for one in directives_of_script(script, "upgrade"):
            if one.step is not None and one.kind != "revert":
                yield Link(self._version_table, script.revision, one.step, one.kind, state, self._actor)


def directives_of_script(script: Script, function: str) -> tuple[Statement, ...]:
    """Those of a revision's file."""
    return directives_of(Path(script.path), function)


def _stamped(step: MigrationInfo) -> Iterator[Script]:
    """Every revision that a stamp moves over: its two ends are all that Alembic names."""
    graph = step.revision_map
    kept = set(graph.iterate_revisions(step.down_revision_ids, "base")) if step.down_revision_ids else set()
    for found in graph.iterate_revisions(step.up_revision_ids, "base"):
        if isinstance(found, Script) and found not in kept:
            yield found
