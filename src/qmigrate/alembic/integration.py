"""What env.py gets: checks before configure(), options for it, and the session around run_migrations()."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, Engine, Select, column, inspect, select, table

from qmigrate.alembic.lock import is_file, only_one
from qmigrate.alembic.mode import Mode, Wish, shown_by_alembic, wish
from qmigrate.alembic.offline import Passage, forget
from qmigrate.alembic.position import Watch, version_table
from qmigrate.alembic.progress import log
from qmigrate.commands import gate
from qmigrate.commands.session import opened_ledger
from qmigrate.errors import PendingError, QmigrateError, RevisionError, UsageError
from qmigrate.json_log import VARIABLE, JsonFormatter, chosen_form
from qmigrate.ledger import TABLE_NAMES, Ledger
from qmigrate.ledger.alembic_links import LINKED, STAMPED, Link, LinkTable, all_links, place_in
from qmigrate.ledger.tables import metadata
from qmigrate.revisions.alembic_files import Statement, directives_of
from qmigrate.settings.load import CONFIG_NAME, Settings
from qmigrate.text import visible

Filter = Callable[..., bool]


def hides(own: Filter | None) -> Filter:
    """A value for ``include_object`` that leaves out what only the ledger uses.

    A table that the application's models have too, and that the ledger has extended, stays visible: only the
    columns and indexes that are the ledger's alone are left out.

    Args:
        own: the user's filter.
    """

    def include(object: Any, name: str | None, type_: str, reflected: bool, compare_to: Any) -> bool:  # noqa: A002
        if reflected and compare_to is None and _is_ours(object, name, type_):
            return False
        return own is None or bool(own(object, name, type_, reflected, compare_to))

    return include


def _is_ours(found: Any, name: str | None, kind: str) -> bool:
    if kind == "table":
        return name in TABLE_NAMES
    table = metadata.tables.get(getattr(getattr(found, "table", None), "name", ""))
    if table is None:
        return False
    if kind == "column":
        return name is not None and name in table.columns
    return kind == "index" and name in {index.name for index in table.indexes}


class Linking:
    """The links of one run. Make it with :meth:`open`."""

    def __init__(self, ledger: Ledger, place: LinkTable | None, version_table: str, engine: Engine | None) -> None:
        self._ledger = ledger
        self._engine = engine
        self._place = place
        self._own = LinkTable(ledger.database, ledger.database.schema)
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


def print_plan(settings: Settings, environment: EnvironmentContext, steps: Sequence[Any]) -> None:
    """Print what each directive would do, and stop: neither Qdrant nor SQL is changed.

    Raises:
        BridgeError: there is something to do.
    """
    if not steps:
        environment.config.print_stdout("Nothing to do in SQL.")
        return
    for step in steps:
        for line in _lines(settings, step):
            environment.config.print_stdout("%s", visible(line))
    with shown_by_alembic():
        raise PendingError(
            f"-x qdrant=plan: {len(steps)} Alembic revision(s) are listed above; nothing was changed in SQL or Qdrant",
            hint="without -x qdrant=plan they are applied",
        )


def _lines(settings: Settings, step: Any) -> list[str]:
    script = getattr(step, "revision", None)
    if not isinstance(script, Script):
        return [f"stamp {', '.join(step.to_revisions) or 'base'}"]
    way = "upgrade" if step.is_upgrade else "downgrade"
    lines = [f"{way} {script.revision}  {script.doc}"]
    for one in directives_of_script(script, way):
        lines.append(f"    {one.kind} {one.step or '(computed)'}: {_state(settings, one.kind, one.step)}")
    return lines


def _state(settings: Settings, kind: str, step: str | None) -> str:
    if step is None:
        return "known only when it runs"
    try:
        found = gate.gate_state(settings, step)
    except RevisionError as error:
        # An inline step is known from the time when it is run first.
        return "not done" if kind in ("apply", "fix") else error.message
    except QmigrateError as error:
        return error.message
    if kind == "revert":
        return "applied" if found.is_open else f"applied in part or nowhere: {found.describe()}"
    return "done" if found.is_open else f"not done: {found.describe()}"


#: Key under which a directive finds the integration in Alembic's options.
OPTION = "qmigrate"

_WIRING = "env.py: qm = qma.integrate(context, connection); context.configure(…, **qm.options()); with qm.session(), …"


class Integration:
    """One Alembic run with vector steps. Made by :func:`integrate`.

    Attributes:
        settings: of qmigrate.
        wish: what ``-x qdrant…`` asks for.
        changes: whether this command changes versions: upgrade, downgrade and stamp do, check and current don't.
        offline: whether SQL is only written down (``--sql``).
        watch: where the run is; None outside the session.
        linking: writes the link rows; None outside the session, offline, and where nothing is changed.
    """

    def __init__(
        self, environment: EnvironmentContext, connection: Connection | None, settings: Settings, asked: Wish
    ) -> None:
        self.settings = settings
        self.wish = asked
        self.offline = environment.is_offline_mode()
        self.changes = "destination_rev" in environment.context_opts
        self.watch: Watch | None = None
        self.linking: Linking | None = None
        self._environment = environment
        self._connection = connection
        self._steps = _alembics_own(environment.context_opts.get("fn", _no_steps))

    def options(
        self,
        *,
        on_version_apply: Callable[..., Any] | Iterable[Callable[..., Any]] | None = None,
        include_object: Callable[..., bool] | None = None,
    ) -> dict[str, Any]:
        """Keyword arguments for ``context.configure()``.

        Args:
            on_version_apply: your own callable or callables; they run first.
            include_object: your own filter; what either hides is hidden.
        """
        own = on_version_apply or ()
        callables = (own,) if callable(own) else tuple(own)
        made: dict[str, Any] = {
            OPTION: self,
            "fn": self._watched,
            "on_version_apply": (*callables, self._version_applied),
            "include_object": hides(include_object),
        }
        if self.wish.mode is Mode.PLAN:
            # Not even Alembic's own version table is made.
            made["dont_mutate"] = True
        return made

    @contextmanager
    def session(self) -> Iterator[None]:
        """Around ``context.begin_transaction()`` and ``context.run_migrations()``: the lock, and what comes afterwards.

        Raises:
            BridgeError: env.py is wired in a way in which vector steps are not safe, another Alembic run kept the
                lock, or the ledger can't be used. Nothing has run then.
        """
        with shown_by_alembic():
            context = self._environment.get_context()
            self._check(context)
        with ExitStack() as stack:
            with shown_by_alembic():
                self._open(stack, context)
            yield

    def _open(self, stack: ExitStack, context: MigrationContext) -> None:
        # What takes long to import is imported now: later a transaction would wait for it.
        import_module("qmigrate.alembic.gates")
        self.watch = stack.enter_context(Watch(context, self._connection).watching())
        stack.callback(setattr, self, "watch", None)
        if self.offline or not self.changes or self.wish.mode is Mode.PLAN:
            return
        assert self._connection is not None  # noqa: S101  online
        limits = self.settings.limits
        timeout = limits.lock_timeout if self.wish.lock_timeout is None else self.wish.lock_timeout
        stack.enter_context(only_one(self._connection.engine, version_table(context), timeout))
        ledger = stack.enter_context(opened_ledger(self.settings))
        # On a connection of its own, before Alembic's begins a transaction: later one could wait for the other.
        ledger.prepare()
        self.linking = Linking.open(ledger, self._connection.engine, version_table(context))
        self.settings = self._with_sql(context)
        self.linking.catch_up(context)
        stack.callback(setattr, self, "linking", None)

    def _with_sql(self, context: MigrationContext) -> Settings:
        """For revisions that wait for the SQL schema: what Alembic itself has wins over guesses."""
        assert self._connection is not None and self.linking is not None  # noqa: S101, PT018  the caller looked
        sql, ini = self.settings.sql, self._environment.config.config_file_name
        url = sql.url
        if url is None and not self.linking.together:
            url = self._connection.engine.url.render_as_string(hide_password=False)
        found = replace(
            sql,
            url=url,
            version_table=context.version_table,
            version_table_schema=context.version_table_schema,
            config=sql.config or (Path(ini) if ini else None),
        )
        return replace(self.settings, sql=found)

    def _check(self, context: MigrationContext) -> None:
        if context.opts.get(OPTION) is not self:
            raise UsageError("env.py doesn't pass qm.options() to context.configure()", hint=_WIRING)
        if self.offline or not self.changes:
            return
        if context.connection is not self._connection:
            raise UsageError("integrate() and context.configure() were given different connections", hint=_WIRING)
        if context._in_external_transaction:
            raise external()
        if not context._transaction_per_migration:
            raise UsageError(
                "env.py lets all of Alembic's revisions share one transaction: when a later one fails, what earlier "
                "ones did in SQL is rolled back, but not what they did in Qdrant",
                hint="context.configure(…, transaction_per_migration=True, **qm.options())",
            )

    def _watched(self, heads: Any, context: MigrationContext, **kwargs: Any) -> Iterator[Any]:
        """Alembic's own steps, one by one: between two of them the first one is committed."""
        watch, linking = self.watch, self.linking
        if watch is None:
            if self.changes:
                with shown_by_alembic():
                    raise UsageError("env.py runs Alembic's revisions outside qm.session()", hint=_WIRING)
            yield from self._steps(heads, context, **kwargs)
            return
        if self.wish.mode is Mode.PLAN and self.changes:
            print_plan(self.settings, self._environment, list(self._steps(heads, context, **kwargs)))
            return
        for step in self._steps(heads, context, **kwargs):
            watch.begin(step)
            with shown_by_alembic():
                watch.late = self._late(step)
            yield step
            if linking is not None:
                with shown_by_alembic():
                    linking.committed()
        watch.end()

    def _late(self, step: Any) -> tuple[str, ...]:
        """Vector steps after the SQL of the revision that is about to run; see ``Watch.late``."""
        path = getattr(getattr(step, "revision", None), "path", None)
        if path is None or not self.changes:
            return ()
        from qmigrate.alembic.gates import late_steps

        return late_steps(self, Path(path), "upgrade" if step.is_upgrade else "downgrade")

    def _version_applied(self, *, ctx: MigrationContext, step: Any, **_: Any) -> None:
        """Alembic's callback after the version row is written and before it is committed."""
        if self.linking is not None:
            with shown_by_alembic():
                self.linking.applied(ctx, step)
        elif self.offline and not step.is_upgrade and ctx.dialect.name == "postgresql":
            for script in step.up_revisions:
                if directives_of_script(script, "upgrade"):
                    passage = Passage(script.revision, version_table(ctx), "", "", self.settings.ledger.schema)
                    forget(ctx, passage)


def integrate(
    context: Any,
    connection: Connection | None,
    *,
    config: str | Path | None = None,
    settings: Settings | None = None,
) -> Integration:
    """Call it in env.py before ``context.configure()``.

    Args:
        context: ``alembic.context``.
        connection: what ``configure()`` gets; None for offline mode (``--sql``).
        config: qmigrate's settings file; else ``QMIGRATE_CONFIG``, else ``qmigrate.yaml`` in the current folder or
            next to alembic.ini.
        settings: instead of a file.

    Raises:
        BridgeError: wrong settings or ``-x`` arguments, or a connection that is in a transaction already.
    """
    environment: EnvironmentContext = getattr(context, "_proxy", None) or context
    with shown_by_alembic():
        asked = wish(environment.get_x_argument(as_dictionary=True))
        if connection is not None and connection.in_transaction():
            raise external()
        if connection is None and not environment.is_offline_mode():
            raise UsageError("integrate() got no connection, but Alembic is online", hint=_WIRING)
        found = settings or Settings.load(config=config or _config(environment))
        if chosen_form(os.environ.get(VARIABLE)) == "json":
            _log_as_json()
        return Integration(environment, connection, found, asked)


def _log_as_json() -> None:
    """env.py has set up logging by now (fileConfig): its lines keep their places and become JSON."""
    for logger in (logging.getLogger(), logging.getLogger("alembic")):
        for handler in logger.handlers:
            handler.setFormatter(JsonFormatter())


def _no_steps(_heads: Any, _context: MigrationContext) -> Iterable[Any]:
    """What an environment does that was made for no command."""
    return ()


def _alembics_own(function: Callable[..., Iterable[Any]]) -> Callable[..., Iterable[Any]]:
    """Alembic's function that gives the steps; with several databases in one env.py ours of the last one is there."""
    earlier = getattr(function, "__self__", None)
    return earlier._steps if isinstance(earlier, Integration) else function


def current(context: MigrationContext) -> Integration:
    """The integration of a running migration.

    Raises:
        UsageError: env.py has none.
    """
    found = context.opts.get(OPTION)
    if not isinstance(found, Integration):
        raise UsageError("a revision uses qmigrate.alembic.qdrant, but env.py doesn't call integrate()", hint=_WIRING)
    if found.watch is None:
        raise UsageError("env.py runs Alembic's revisions outside qm.session()", hint=_WIRING)
    return found


def external() -> QmigrateError:
    """The connection is in a transaction that isn't Alembic's."""
    return UsageError(
        "the connection is in a transaction before context.configure(): Alembic would run in it and commit nothing, "
        "and vector steps could not run outside of it",
        hint="pass a fresh connection: engine.connect(), not engine.begin(), and no statement before configure(); "
        "the lock is taken by qm.session()",
    )


def _config(environment: EnvironmentContext) -> Path | None:
    """The file next to alembic.ini, when neither the environment nor the current folder has one."""
    ini = environment.config.config_file_name
    if ini is None or os.environ.get("QMIGRATE_CONFIG") or Path(CONFIG_NAME).is_file():
        return None
    beside = Path(ini).absolute().parent / CONFIG_NAME
    return beside if beside.is_file() else None
