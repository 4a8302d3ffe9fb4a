"""What a directive does in each mode: look, run, or pass with a record. Only this module here changes Qdrant."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol

from alembic.runtime.migration import MigrationContext

import qmigrate.commands.rollback as rollback
import qmigrate.commands.upgrade as upgrade
from qmigrate.alembic import offline
from qmigrate.alembic.mode import Mode, Wish
from qmigrate.alembic.position import Watch, refusal, version_table
from qmigrate.alembic.progress import Logged, log
from qmigrate.commands import gate, inline
from qmigrate.commands.session import opened_ledger
from qmigrate.commands.sql_gate import waits
from qmigrate.errors import QmigrateError, RefusedError, RevisionError
from qmigrate.ledger import Ledger
from qmigrate.ledger.alembic_links import LINKED, SKIPPED, all_links
from qmigrate.operations.base import Operation
from qmigrate.revisions.alembic_files import directives_behind_sql
from qmigrate.revisions.graph import Revisions
from qmigrate.settings.load import Settings
from qmigrate.text import quote, visible


class Links(Protocol):
    """Where it is noted that a directive of a SQL revision was passed."""

    def note(self, sql_revision: str, step: str, directive: str, state: str = LINKED) -> None:
        """A directive was passed: its link is written with the version row of its revision."""


class Bridge(Protocol):
    """The running integration, as far as a gate needs it.

    Attributes:
        settings: of this run.
        wish: what ``-x qdrant=…`` asks for.
        offline: whether SQL is only written down.
    """

    settings: Settings
    wish: Wish
    offline: bool

    @property
    def watch(self) -> Watch | None:
        """Where Alembic is; None outside of a run."""

    @property
    def linking(self) -> Links | None:
        """Where links are noted; None where nothing is changed."""


def require(bridge: Bridge, revision: str) -> None:
    """Pass when the ledger has a revision as done.

    Raises:
        PendingError: it isn't; names the command.
        HeldError: it is built and waits for its cut-over.
    """
    _gate(bridge, revision, "require", None)


def run(bridge: Bridge, revision: str, max_estimate: float | None) -> None:
    """Bring the collections to a revision, here and now.

    Raises:
        RefusedError: the Alembic revision has executed SQL already.
        PendingError: it would take longer than it may; nothing was begun.
        HeldError: it is built and waits for its cut-over.
    """
    _gate(bridge, revision, "run", max_estimate)


def _gate(bridge: Bridge, revision: str, directive: str, max_estimate: float | None) -> None:
    """A step that is done lets both pass; one that isn't is run where the directive or the mode asks for it."""
    watch = _watch(bridge)
    watch.reached(revision)
    if bridge.offline:
        _guard(bridge, watch, revision, directive)
        return
    with _outside(watch):
        found = gate.gate_state(bridge.settings, revision)
        if found.is_open:
            # Also after a run whose SQL was rolled back: only the record is missing.
            how = "done already: it is just recorded" if directive == "run" else "done"
            log.info("vector revision %s is %s", found.revision, how)
            _note(bridge, watch, found.revision, directive, LINKED)
        elif bridge.wish.mode is Mode.SKIP:
            _skip(bridge, watch, found, directive)
        elif directive == "run" or bridge.wish.mode is Mode.RUN:
            _run(bridge, watch, found, directive, max_estimate)
        else:
            raise found.refusal(watch.where)


def apply(
    bridge: Bridge,
    key: str,
    operations: Sequence[Operation],
    max_estimate: float | None,
    directive: str = "apply",
) -> None:
    """Record operations under a key, and do them here and now.

    Raises:
        DriftError: other operations were applied under this key.
        PlanError: they can't be done, or hold code.
    """
    watch, settings = _watch(bridge), bridge.settings
    watch.reached(key)
    if bridge.offline:
        _guard(bridge, watch, key, directive, operations)
        return
    with _outside(watch), opened_ledger(settings) as ledger:
        recorded = inline.is_recorded(ledger, key, operations, watch.where)
        done = recorded and gate.gate_state(settings, key).is_open
        if not done and bridge.wish.mode is Mode.SKIP:
            log.warning("SKIPPED: %s continues without its vector step %s", watch.where, key)
            _note(bridge, watch, key, directive, SKIPPED)
            return
        if done:
            log.info("vector step %s is done already: it is just recorded", key)
            _note(bridge, watch, key, directive, LINKED)
            return
        check_outside(watch)
        inline.record(settings.scripts, ledger, key, operations, watch.where, actor=ledger.actor)
        try:
            _run(bridge, watch, gate.gate_state(settings, key), directive, max_estimate)
        except QmigrateError:
            inline.drop_unless_begun(ledger, key)
            raise


def late_steps(bridge: Bridge, file: Path, function: str) -> tuple[str, ...]:
    """Vector steps of a revision that come after its SQL and are not done: refused there, so that SQL would stay.

    Where the database rolls back schema changes, nothing would.

    Args:
        file: of the Alembic revision.
        function: ``upgrade`` or ``downgrade``.
    """
    watch = _watch(bridge)
    if bridge.offline or watch.context.impl.transactional_ddl or bridge.wish.mode is Mode.SKIP:
        return ()
    changing = {"run", "apply", "fix", "revert"} | ({"require"} if bridge.wish.mode is Mode.RUN else set())
    found = [one for one in directives_behind_sql(file, function) if one.kind in changing and one.step is not None]
    return tuple(str(one.step) for one in found if not _is_done(bridge, str(one.step), back=one.kind == "revert"))


def _is_done(bridge: Bridge, step: str, *, back: bool) -> bool:
    with opened_ledger(bridge.settings) as ledger:
        applied = {one.revision for entries in ledger.all_applied().values() for one in entries}
        try:
            known = inline.resolve(bridge.settings.scripts, ledger, step)
        except RevisionError:
            # An inline step that was never begun.
            return back and step not in applied
        if back:
            return known not in applied
    return gate.gate_state(bridge.settings, step).is_open


def revert(bridge: Bridge, revision: str, writes: str) -> None:
    """Revert a revision where it is applied, here and now.

    Raises:
        RefusedError: something was written since, or later revisions came after it.
    """
    watch, settings = _watch(bridge), bridge.settings
    watch.reached(revision)
    if bridge.offline:
        if bridge.wish.mode is not Mode.SKIP:
            raise offline.refuse(watch.context, f"reverting vector revision {revision}")
        watch.context.impl.static_output(f"-- SKIPPED: vector revision {revision} is not reverted")
        return
    with _outside(watch), opened_ledger(settings) as ledger:
        try:
            wanted = inline.resolve(settings.scripts, ledger, revision)
        except RevisionError:
            if not _was_passed_by(ledger, watch, revision):
                raise
            log.info("vector step %s was skipped and never done: nothing is reverted", revision)
            return
        if bridge.wish.mode is not Mode.SKIP:
            _refuse_begun(ledger, wanted, watch.where)
            inline.refuse_part(Revisions.load(settings.scripts), ledger, wanted)
        if not any(one.revision == wanted for entries in ledger.all_applied().values() for one in entries):
            log.info("vector revision %s is reverted already", wanted)
        elif bridge.wish.mode is Mode.SKIP:
            log.warning("SKIPPED: %s continues without reverting vector revision %s", watch.where, wanted)
        else:
            check_outside(watch)
            log.info("reverting vector revision %s", wanted)
            rollback.revert(settings, wanted, writes=writes, progress=Logged())
            inline.drop_unless_begun(ledger, wanted)


def _was_passed_by(ledger: Ledger, watch: Watch, step: str) -> bool:
    """Whether the SQL revision that is reverted was only stamped, or went past a step without a file."""
    own = (version_table(watch.context), watch.revision, step)
    links = (one for one in all_links(ledger) if one.state != LINKED)
    return any((one.version_table, one.sql_revision, one.step) == own for one in links)


def _refuse_begun(ledger: Ledger, revision: str, where: str) -> None:
    """What is built and held, or was interrupted, goes live some day: it is not reverted by not being applied yet.

    Raises:
        RefusedError: a run of it is not finished.
    """
    begun = [
        run.job.collection
        for run in ledger.open_runs()
        if any((one.revision, one.direction) == (revision, "upgrade") for one in run.job.closes)
    ]
    if begun:
        raise RefusedError(
            f"{where} reverts vector revision {revision}, and for {', '.join(begun)} it is begun and not finished: "
            "the next qmigrate upgrade or cutover would apply it",
            hint="\n".join(f"qmigrate abort {quote(name)}" for name in begun),
        )


def _run(bridge: Bridge, watch: Watch, found: gate.Gate, directive: str, max_estimate: float | None) -> None:
    check_outside(watch)
    limits = [limit for limit in (max_estimate, bridge.wish.max_estimate) if limit is not None]
    if limits:
        upgrade.guard(bridge.settings, found.revision, None, min(limits))
    log.info("running vector revision %s", found.revision)
    result = upgrade.upgrade(bridge.settings, found.revision, progress=Logged())
    for outcome in result.outcomes:
        log.info("%s", outcome.summary())
    for note in result.plan.notes:
        # What the revision leaves alone, for example: collections that are not under management.
        log.warning("%s", visible(note))
    now = gate.gate_state(bridge.settings, found.revision)
    if not now.is_open:
        if result.plan.waiting:
            raise waits(result.plan.waiting, watch.where)
        raise now.refusal(watch.where)
    _note(bridge, watch, found.revision, directive, LINKED)


def _outside(watch: Watch) -> AbstractContextManager[None]:
    """No transaction while the revision has none of its own work in it: a server may end one that is idle for long."""
    return watch.context.autocommit_block() if watch.statement is None else nullcontext()


def check_outside(watch: Watch) -> None:
    """Stop where a vector step would commit half of a SQL revision.

    Raises:
        RefusedError: it has executed SQL.
    """
    if watch.statement is not None:
        raise refusal(
            f"{watch.where} has executed SQL before its vector step ({watch.statement}): the step runs outside "
            "Alembic's transaction, so that SQL would be committed without the version, and fail when it is repeated"
        )


def _guard(
    bridge: Bridge, watch: Watch, step: str, directive: str, operations: Sequence[Operation] | None = None
) -> None:
    """A script is written: it stops by itself where the step is not done."""
    context = watch.context
    if bridge.wish.mode is Mode.SKIP:
        context.impl.static_output(f"-- SKIPPED: vector revision {step} is not checked")
        return
    if bridge.wish.mode is Mode.RUN:
        raise offline.refuse(context, f"running vector revision {step}")
    table = version_table(context)
    passage = offline.Passage(watch.revision, table, step, directive, bridge.settings.ledger.schema)
    if operations is None:
        offline.guard_revision(context, passage, Revisions.load(bridge.settings.scripts))
    else:
        offline.guard_inline(context, passage, operations)


def _watch(bridge: Bridge) -> Watch:
    watch = bridge.watch
    assert watch is not None  # noqa: S101  current() looked
    return watch


def _skip(bridge: Bridge, watch: Watch, found: gate.Gate, directive: str) -> None:
    log.warning(
        "SKIPPED: %s continues although vector revision %s is not done: %s",
        watch.where,
        found.revision,
        found.describe(),
    )
    _note(bridge, watch, found.revision, directive, SKIPPED)


def _note(bridge: Bridge, watch: Watch, step: str, directive: str, state: str) -> None:
    if bridge.linking is not None and watch.revision is not None and watch.upward:
        bridge.linking.note(watch.revision, step, directive, state)


def context_of() -> MigrationContext:
    """Alembic's context of the revision that runs."""
    from alembic import op

    return op.get_context()
