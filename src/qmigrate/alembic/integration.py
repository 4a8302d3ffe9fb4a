"""What env.py gets: checks before configure(), options for it, and the session around run_migrations()."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection

from qmigrate.alembic import listing
from qmigrate.alembic.autogenerate import hides
from qmigrate.alembic.failures import shown_by_alembic
from qmigrate.alembic.linking import Linking, directives_of_script
from qmigrate.alembic.lock import only_one
from qmigrate.alembic.mode import Mode, Wish, wish
from qmigrate.alembic.offline import Passage, forget
from qmigrate.alembic.watch import Watch
from qmigrate.commands.session import opened_ledger
from qmigrate.errors import QmigrateError, UsageError
from qmigrate.json_log import VARIABLE, JsonFormatter, chosen_form
from qmigrate.settings import CONFIG_NAME, Settings

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
            listing.print_plan(self.settings, self._environment, list(self._steps(heads, context, **kwargs)))
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


def version_table(context: MigrationContext) -> str:
    """Alembic's version table, with its schema where it has one."""
    schema = context.version_table_schema
    return f"{schema}.{context.version_table}" if schema else context.version_table


def _config(environment: EnvironmentContext) -> Path | None:
    """The file next to alembic.ini, when neither the environment nor the current folder has one."""
    ini = environment.config.config_file_name
    if ini is None or os.environ.get("QMIGRATE_CONFIG") or Path(CONFIG_NAME).is_file():
        return None
    beside = Path(ini).absolute().parent / CONFIG_NAME
    return beside if beside.is_file() else None
