"""Where an Alembic run is: the revision that runs, and whether it has executed SQL. It executes none itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, event

from qmigrate.alembic.mode import shown_by_alembic
from qmigrate.errors import RefusedError

#: Statements that leave nothing behind: committing them does no harm.
_READS = re.compile(r"\s*(SELECT|SHOW|PRAGMA|EXPLAIN)\b", re.IGNORECASE)


class Watch:
    """One run of Alembic's revisions.

    Attributes:
        context: Alembic's.
        revision: the one that runs, with its file in `where`; None between two.
        upward: False while it is a downgrade.
        statement: the first one that the revision itself has executed and that may change something, or None.
        late: vector steps that the revision still has after its SQL, and that can't be done there any more. Where the
            database rolls back no schema change, its first statement is refused for them.
    """

    def __init__(self, context: MigrationContext, connection: Connection | None) -> None:
        self.context = context
        self.revision: str | None = None
        self.where = "this Alembic revision"
        self.upward = True
        self.statement: str | None = None
        self.late: tuple[str, ...] = ()
        self._connection = connection

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        """Listen to the statements of the connection while the block runs."""
        if self._connection is None:
            yield self
            return
        event.listen(self._connection, "before_cursor_execute", self._executing)
        try:
            yield self
        finally:
            event.remove(self._connection, "before_cursor_execute", self._executing)

    def begin(self, step: Any) -> None:
        """The next step of Alembic starts; a stamp has no revision."""
        found = getattr(step, "revision", None)
        self.revision = getattr(found, "revision", None)
        self.where = f"Alembic revision {self.revision}" if self.revision else "this Alembic revision"
        self.upward = bool(step.is_upgrade)
        self.statement = None
        self.late = ()

    def reached(self, step: str) -> None:
        """A vector step has its turn: it comes before whatever is executed from now on."""
        self.late = tuple(one for one in self.late if one != step)

    def end(self) -> None:
        """No step runs any more."""
        self.revision = None

    def _executing(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if self.revision is not None and self.statement is None and not _READS.match(statement):
            said = " ".join(statement.split())[:80]
            if self.late:
                with shown_by_alembic():
                    raise refusal(
                        f"{self.where} executes SQL before its vector step {self.late[0]} ({said}): {self._dialect()} "
                        "rolls back no schema change, so it would stay without its version when the step is refused"
                    )
            self.statement = said

    def _dialect(self) -> str:
        return str(self.context.dialect.name)


def refusal(message: str) -> RefusedError:
    """The order of SQL and vector steps in a revision can't be."""
    return RefusedError(message, hint="put the vector step first, or into an Alembic revision of its own")


def version_table(context: MigrationContext) -> str:
    """Alembic's version table, with its schema where it has one."""
    schema = context.version_table_schema
    return f"{schema}.{context.version_table}" if schema else context.version_table
