"""Opens what a verb needs: revisions, ledger and store, checked against each other. It plans and changes nothing."""

from __future__ import annotations

import gc
import json
import logging
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from qmigrate.commands.inline import applied_files, files_of, with_inline
from qmigrate.commands.meanings import said
from qmigrate.engine.work import OneAtATime, Said
from qmigrate.errors import EmbedError, QmigrateError, RevisionError, UnknownNameError
from qmigrate.ledger import Ledger, meaning
from qmigrate.ledger.alembic_links import inline_rows
from qmigrate.ledger.job_queue import done_before
from qmigrate.model.plan import OpRef
from qmigrate.model.weight import Weight
from qmigrate.operations.base import Operation
from qmigrate.planner import check_checksums
from qmigrate.planner.guard import changed_files
from qmigrate.ports import Embedder, Progress, Silent, Store
from qmigrate.revisions.graph import Revisions
from qmigrate.revisions.readable import Recorded, read_all
from qmigrate.settings.load import CONFIG_NAME, Settings
from qmigrate.store import ConnectionSettings, connect
from qmigrate.store.weigh import weigh
from qmigrate.text import did_you_mean

#: New objects between two passes over the young ones; a pass over this many takes a millisecond or two.
_YOUNG = 50_000

_lock = threading.Lock()
_working = 0
_before = gc.get_threshold()


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Raise the threshold of the collector, for the process, until the last of those who are inside has left.

    What an application has set higher, or has switched off, stays as it is.
    """
    global _before, _working
    with _lock:
        if not _working:
            _before = gc.get_threshold()
            if 0 < _before[0] < _YOUNG:
                gc.set_threshold(_YOUNG, *_before[1:])
        _working += 1
    try:
        yield
    finally:
        with _lock:
            _working -= 1
            if not _working:
                gc.set_threshold(*_before)


log = logging.getLogger(__name__)


@dataclass(slots=True)
class Session:
    """What a verb works with.

    Attributes:
        ledger_id: identity of the ledger; empty while it has none.
        parallel: how many collections are worked on at a time, at most.
        several: whether more than one is being worked on, so that a display can't be that of one alone.
        turn: whose code and models are at work.
        problems: what is wrong with revision files, where the verb continues without them.
        passed: collections for which nothing is begun: an earlier worker of the same job has done it.
    """

    settings: Settings
    revisions: Revisions
    ledger: Ledger
    store: Store
    progress: Progress
    ledger_id: str = ""
    problems: tuple[QmigrateError, ...] = ()
    passed: frozenset[str] = frozenset()
    parallel: int = 1
    several: bool = False
    turn: OneAtATime = field(default_factory=OneAtATime)
    _loading: threading.Lock = field(default_factory=threading.Lock)
    _embedders: dict[str, Embedder] = field(default_factory=dict)
    _weights: dict[str, Weight] = field(default_factory=dict)

    def weighed(self, name: str) -> Weight:
        """What the points behind a name take, by a sample that is taken once."""
        if name not in self._weights:
            self._weights[name] = weigh(self.store, name)
        return self._weights[name]

    def files(self) -> Mapping[str, tuple[str, str]]:
        """Revision -> (checksum, file) as they are now."""
        return files_of(self.revisions)

    def operation(self, ref: OpRef) -> Operation:
        """Operation `ref.index` of a revision; indexes after those of upgrade() are those of downgrade().

        Raises:
            RevisionError: it has none of this number, or its file can't be used.
            DriftError: its file is not what was applied.
        """
        revision = self.revisions.get(ref.revision)
        if revision.problem is not None:
            raise revision.problem
        operations = revision.operations
        if ref.index >= len(operations):
            operations += tuple(self.revisions.downgrade_operations(ref.revision) or ())
        if ref.index >= len(operations):
            raise RevisionError(f"revision {ref.revision} has no operation {ref.index} any more")
        found: Operation = operations[ref.index]
        return found

    def embedder(self, name: str, configured: Mapping[str, Mapping[str, object]]) -> Embedder:
        """The embedder that `configured` has under a name, loaded once per configuration.

        Raises:
            EmbedError: unknown, or it can't be loaded.
        """
        key = name + json.dumps(configured.get(name), sort_keys=True, default=str)
        with self._loading:
            if key not in self._embedders:
                self._embedders[key] = configured_embedder(name, configured)
            return self._embedders[key]


def configured_embedder(name: str, configured: Mapping[str, Mapping[str, object]]) -> Embedder:
    """The embedder that `configured` has under a name.

    Raises:
        EmbedError: unknown, or it can't be loaded.
    """
    from qmigrate.embed import load

    if name not in configured:
        known = ", ".join(sorted(configured)) or "none"
        raise EmbedError(
            f"embedder {name!r} is not configured (known: {known}){did_you_mean(name, configured)}",
            hint="add it under embedders: in qmigrate.yaml",
        )
    return load(name, configured[name])


@dataclass(frozen=True, slots=True)
class UserCode:
    """The user's code as one collection sees it: its settings may override an embedder. See ``engine.work.Code``."""

    session: Session
    settings: Settings

    @property
    def turn(self) -> OneAtATime:
        """Whose code and models are at work."""
        return self.session.turn

    def operation(self, ref: OpRef) -> Operation:
        """The operation that a reference names."""
        return self.session.operation(ref)

    def said(self, ref: OpRef, checksum: str) -> Said | None:
        """What an operation said in the file of a checksum, where it says something else now; else None."""
        return said(self.session.revisions.get(ref.revision), self.session.ledger, ref, checksum)

    def embedder(self, name: str) -> Embedder:
        """The embedder configured under `name`."""
        return self.session.embedder(name, self.settings.embedders)


@contextmanager
def session(  # noqa: PLR0913  how it is opened differs from verb to verb
    settings: Settings,
    *,
    writes: bool,
    progress: Progress | None = None,
    store: Store | None = None,
    unchanged: bool = True,
    looking: bool = False,
    partial: bool = False,
    readable: bool = False,
    begins: bool = True,
) -> Iterator[Session]:
    """Open everything, check applied revisions against their files, and close everything at the end.

    Args:
        writes: whether the verb changes anything: only then are the ledger's tables made, or a local folder.
        store: one that is open already, and is left open; None for that of the settings.
        unchanged: stop at an applied file that has changed; only a verb that reports them continues.
        looking: the verb reads points or schemas, whatever manages them: see :func:`read_revisions`.
        partial: continue with the nodes of a cluster that answer; only for a verb that writes nothing.
        readable: continue without the files that can't be used, are missing or have changed, for a verb that must work
            in an emergency: it reports `problems`, and only what would run one of them is refused.
        begins: the verb may be the first one in a place. Another one makes neither tables nor a folder where it is.

    Raises:
        RevisionError: a revision file can't be used.
        DriftError: an applied revision file has changed.
    """
    with ExitStack() as stack:
        stack.enter_context(seldom_collected())
        # The files first: a mistake in one of them shows without any connection.
        files = None if looking or readable else Revisions.load(settings.scripts)
        ledger = stack.enter_context(opened_ledger(settings))
        if files is None and not readable:
            files = read_revisions(settings, ledger)
        absent = settings.qdrant.path is not None and not settings.qdrant.path.exists() and not ledger.ready()
        writes = writes and (begins or not absent)
        opened = Session(
            settings=settings,
            revisions=files or Revisions.none(),
            ledger=ledger,
            store=store or open_store(settings, stack, writes=writes, partial=partial and not writes),
            progress=progress or Silent(),
        )
        opened.ledger_id = ledger.prepare() if writes else ledger.identity() or ""
        opened.passed = done_before(ledger) if writes else frozenset()
        if files is None:
            opened.revisions, opened.problems = read_readable(settings, ledger, opened.store)
        else:
            opened.revisions = with_inline(files, ledger, opened.store)
            if unchanged:
                check_checksums(opened.files(), applied_files(opened.revisions, ledger))
        try:
            yield opened
        except UnknownNameError as error:
            if absent and settings.config is None:
                raise _elsewhere(error, settings) from error
            raise


def _elsewhere(error: UnknownNameError, settings: Settings) -> UnknownNameError:
    """The error with where was looked: without settings it is probably the wrong folder."""
    looked = f"there is no {CONFIG_NAME} in {settings.folder}, and nothing in {settings.qdrant.path}, Qdrant's default"
    hint = "qmigrate init begins a project here; --config FILE names another one"
    return UnknownNameError(f"{error.message}: {looked}", hint=hint, facts=error.facts)


def read_readable(
    settings: Settings, ledger: Ledger, store: Store | None = None
) -> tuple[Revisions, tuple[QmigrateError, ...]]:
    """All revisions as far as they can be read, those without a file among them, and what is wrong with files.

    Nothing runs a file that can't be used, is missing, or isn't what was applied: :attr:`Revision.problem`.

    Args:
        store: see :func:`qmigrate.commands.inline.with_inline`.
    """
    checksums = ledger.applied_checksums()
    orders = [[entry.revision for entry in entries] for entries in ledger.all_applied().values()]
    inline = frozenset(row.revision for row in inline_rows(ledger))
    # A squashed revision that is only recorded is not missed: what it stood for is what is applied.
    applied = {one: checksums[one] for entries in orders for one in entries if one in checksums}
    files, problems = read_all(settings.scripts, Recorded(orders, applied, inline))
    try:
        known = with_inline(files, ledger, store)
    except RevisionError as error:
        known, problems = files, (*problems, error)
    meant = {one: meaning(ledger, one, checksum) for one, checksum in checksums.items()}
    downgrades = {one: said.get("downgrade") is not None for one, said in meant.items() if said is not None}
    known = known.with_problems(changed_files(files_of(known), applied_files(known, ledger)), downgrades)
    found = [one.problem for one in known.order() if one.problem is not None]
    try:
        known.head()
    except RevisionError as error:
        found.append(error)
    return known, tuple(dict.fromkeys([*found, *problems]))


def notes_on(problems: Iterable[QmigrateError]) -> tuple[str, ...]:
    """What is wrong with revision files, for people: one line each."""
    return tuple(f"{one.message} → {one.hint}" if one.hint else one.message for one in problems)


def read_revisions(settings: Settings, ledger: Ledger) -> Revisions:
    """The revision files; none where there is no folder yet and the ledger has no revision.

    Raises:
        RevisionError: a file can't be used, or the folder is missing although revisions were applied.
    """
    if (settings.scripts / "versions").is_dir() or ledger.applied_checksums():
        return Revisions.load(settings.scripts)
    return Revisions.none()


@contextmanager
def opened_ledger(settings: Settings) -> Iterator[Ledger]:
    """The ledger alone, for what needs neither revisions nor Qdrant; it is closed at the end."""
    wanted = settings.ledger
    ledger = Ledger.open(
        wanted.url,
        schema=wanted.schema,
        file_systems=wanted.file_systems,
        actor=settings.actor,
        metadata=settings.metadata,
    )
    try:
        yield ledger
    finally:
        ledger.close()


def open_store(settings: Settings, stack: ExitStack, *, writes: bool, partial: bool = False) -> Store:
    """The store of the settings, closed with `stack`; without `writes` no folder of local mode is made.

    A client that the settings hold is used for it, and left open.

    Args:
        partial: see :func:`session`; a node that is left out is named in the log, as a warning.
    """
    wanted = ConnectionSettings(**settings.connection())
    if settings.client is not None:
        # Only here: it needs the client's local mode, which no other module loads.
        from qmigrate.store.borrowed import Borrowed

        borrowed = Borrowed(settings.client)
        stack.callback(borrowed.close)
        lent, own = borrowed.store(wanted)
        if own:
            stack.callback(lent.close)
        return lent
    if wanted.path is not None and not writes and not Path(wanted.path).exists():
        # A verb that only reads must not make the folder of a store that isn't there yet.
        wanted = replace(wanted, absent=True)
    store = connect(wanted, partial=partial, patience=settings.limits.lock_timeout)
    stack.callback(store.close)
    for line in store.capabilities.silent:
        log.warning("%s; what it holds may be missing here", line)
    return store
