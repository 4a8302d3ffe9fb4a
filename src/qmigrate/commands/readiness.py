"""What a readiness probe asks: whether the parts answer, and the state of the collections. It only reads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from qmigrate.commands.condition import condition, drifted, percent, ways_forward
from qmigrate.commands.expect import Expectation, judge, opened
from qmigrate.commands.held_runs import held_run
from qmigrate.commands.inline import applied_files, files_of, with_inline
from qmigrate.commands.missing_rows import function_of
from qmigrate.commands.session import configured_embedder, open_store, opened_ledger
from qmigrate.errors import DriftError, QmigrateError, RevisionError
from qmigrate.ledger import Ledger, examine
from qmigrate.model.names import GENERATION, is_glob, met, met_by_any, unknown
from qmigrate.model.state import CollectionState, OpenRun, World
from qmigrate.observe import check_place, known_names, observe
from qmigrate.planner import check_checksums
from qmigrate.planner.forward import pending, to_create
from qmigrate.planner.members import made_by_glob, untouched
from qmigrate.planner.replaced import stands_at
from qmigrate.ports import Store
from qmigrate.revisions.graph import Revisions
from qmigrate.rows.database import Database
from qmigrate.settings.load import Settings
from qmigrate.settings.sections import HealthCheck

#: How a run is called for a program that polls it.
PROCESSING, WAITING, FAILED = "processing", "pending", "failed"


@dataclass(frozen=True, slots=True)
class JobStanding:
    """An unfinished run.

    Attributes:
        verb: what is done.
        status: ``processing``; ``pending`` (held, or interrupted: a command has to resume it); ``failed``.
        stage: the phase that it is in, ``held``, or None before the first.
        progress: 0 to 100.
        error: why it has failed, or None.
        started_at: UTC.
    """

    verb: str
    status: str
    stage: str | None
    progress: int
    error: str | None
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """One collection under management, or one that a pending revision creates.

    Attributes:
        revision: the newest applied one, or None.
        generation: ``g0007``, ``plain``, or None when nothing serves.
        state: as in `qmigrate status`; ``absent`` for a name that was asked for and that nothing has.
        serving: its name leads to what the ledger left there.
        pending: revisions that it hasn't got.
        drift: the first difference between live and recorded, in words; None without one.
        detail: what to know about the state.
        next_command: what to do about it, or None.
        job: its unfinished run, or None.
        untouched: revisions that are newer than `revision` and have nothing for it: it is at the newest all the same.
    """

    name: str
    revision: str | None
    generation: str | None
    state: str
    serving: bool
    pending: tuple[str, ...] = ()
    drift: str | None = None
    detail: str = ""
    next_command: str | None = None
    job: JobStanding | None = None
    untouched: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Look:
    """The state of everything.

    Attributes:
        head: the newest revision of the files; None without files, or with several heads.
        pending: revisions that some collection hasn't got; None where there are no files.
        drift: every difference that was seen, in words.
        progress: 0 to 100, of the running job that is least far; None when none runs.
        unmet: collection -> why it is not what the application declares.
        notes: what is unknown, and why.
    """

    collections: tuple[Standing, ...]
    head: str | None
    pending: tuple[str, ...] | None
    drift: tuple[str, ...]
    progress: int | None
    unmet: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Parts:
    """The parts of a deployment, each asked by a method of its own; safe to use from several threads.

    Args:
        settings: those of qmigrate.
        timeout: the longest time of one request to Qdrant, in seconds, and how long it is waited for.
        client: the application's own ``QdrantClient``; needed in local mode where it has the folder open.
        expects: what the application declares.
        only: logical names or globs to read; empty for all.
    """

    settings: Settings
    timeout: float
    client: object | None = None
    expects: Sequence[Expectation] = ()
    only: Sequence[str] = ()
    _folder: threading.Lock = field(default_factory=threading.Lock)
    _revisions: Revisions | None = None
    _fingerprints: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)

    def qdrant(self) -> None:
        """Reach Qdrant with one small request.

        Raises:
            StoreError: it doesn't answer, or denies the key.
        """
        with self._turn(), ExitStack() as stack:
            open_store(self._patient().with_client(self.client), stack, writes=False, partial=True).aliases()

    def ledger(self) -> None:
        """Reach the ledger's database, and read the version of its tables.

        Raises:
            LedgerError: it doesn't answer.
        """
        with opened_ledger(self.settings) as ledger:
            examine.examine_ledger(ledger.database)
            ledger.identity()

    def embedder(self, name: str) -> None:
        """Load an embedder, and ask what it is.

        Raises:
            EmbedError: it can't be loaded.
        """
        self._fingerprint("", name)

    def check(self, name: str, wanted: HealthCheck) -> None:
        """Ask a further part that the settings name.

        Raises:
            QmigrateError: the database doesn't answer, or there is no such function; and whatever the function raises.
        """
        if wanted.function is not None:
            call: Callable[..., object] = function_of(self.settings, wanted.function)
            call()
            return
        database = Database(self.settings.database(wanted.database or ""), wanted.database or name)
        with closing(database), database.connected() as connection:
            database.execute(connection, "SELECT 1")

    def look(self) -> Look:
        """The state of the collections.

        Raises:
            QmigrateError: Qdrant or the ledger doesn't answer.
        """
        notes: list[str] = []
        files = self._files(notes)
        with self._turn(), opened(self._patient(), self.client) as (ledger, store):
            world = observe(ledger, store, only=self._names(ledger, store))
            files = with_inline(files, ledger, store) if files is not None else None
            changed = changed_files(files, ledger) if files is not None else ()
            rows = self._asked(standings(world, files), world, (store, files), notes)
        return _summed(rows, files, changed, self._unmet(world), notes)

    def _asked(
        self, every: Sequence[Standing], world: World, where: tuple[Store, Revisions | None], notes: list[str]
    ) -> tuple[Standing, ...]:
        """The rows that were asked for: also of a name that nothing has, which the service can't do without.

        Args:
            notes: gets what else was asked for in vain; the collections of a glob may be yet to come.
        """
        if not self.only:
            return tuple(every)
        store, files = where
        known = {*world.known, *(row.name for row in every)}
        rows = {row.name: row for row in every}
        found: dict[str, Standing] = {}
        for pattern in self.only:
            there = met(pattern, rows, known)
            if there:
                found |= {name: rows[name] for name in there}
            elif is_glob(pattern, known):
                notes.append(f"no collection under management matches {pattern!r}")
            elif pattern in known or pattern in (world.physical or ()) or pattern in store.aliases():
                notes.append(f"{pattern} is not under management by this name: its state is not known")
            elif files is not None and made_by_glob(files, pattern):
                notes.append(f"{pattern} is not there yet: an application creates it by qmigrate.ensure")
            else:
                lacking = unknown("collection", pattern, known)
                found[pattern] = Standing(
                    pattern, None, None, "absent", False, detail=lacking.message, next_command="qmigrate status"
                )
        return tuple(row for name, row in (rows | found).items() if name in found)

    def _turn(self) -> AbstractContextManager[object]:
        """The folder of local mode can be open once."""
        return self._folder if self.settings.qdrant.path is not None and self.client is None else nullcontext()

    def _patient(self) -> Settings:
        """The settings with the probe's patience instead of that of a migration."""
        return replace(self.settings, qdrant=replace(self.settings.qdrant, timeout=self.timeout))

    def _names(self, ledger: Ledger, store: Store) -> list[str]:
        """What is read: a service of one collection needn't describe a thousand others every few seconds."""
        known = known_names(ledger, store)
        asked = met_by_any(self.only, known) if self.only else known
        return sorted({*asked, *(one.collection for one in self.expects)})

    def _files(self, notes: list[str]) -> Revisions | None:
        """The revision files, read once: those of a deployed service don't change."""
        if self._revisions is None:
            if not (self.settings.scripts / "versions").is_dir():
                notes.append(f"there is no folder {self.settings.scripts.name}/versions: what is pending is unknown")
                return None
            try:
                self._revisions = Revisions.load(self.settings.scripts)
            except RevisionError as error:
                notes.append(error.message)
        return self._revisions

    def _fingerprint(self, collection: str, name: str) -> Mapping[str, Any]:
        key = (collection, name)
        if key not in self._fingerprints:
            configured = self.settings.for_collection(collection).embedders
            self._fingerprints[key] = configured_embedder(name, configured).fingerprint()
        return self._fingerprints[key]

    def _unmet(self, world: World) -> dict[str, str]:
        found: dict[str, str] = {}
        for wanted in self.expects:

            def fingerprint(name: str, collection: str = wanted.collection) -> Mapping[str, Any]:
                return self._fingerprint(collection, name)

            try:
                judge(world, wanted, fingerprint)
            except QmigrateError as error:
                found.setdefault(wanted.collection, error.message)
        return found


def standings(world: World, files: Revisions | None) -> list[Standing]:
    """The state of the collections: those under management by name, then those that a pending revision creates.

    Args:
        files: None where there are none, so that what is pending is unknown.
    """
    found = [_standing(world, files, name) for name in sorted(world.collections)]
    rows = [*(row for row in found if row is not None), *_to_create(world, files)]
    if files is None:
        return rows
    said = {row.name: (row.detail, row.next_command) for row in rows if row.state == "pending"}
    ways = ways_forward(world, files, said)
    return [
        replace(row, detail=ways[row.name][0], next_command=ways[row.name][1]) if row.name in ways else row
        for row in rows
    ]


def changed_files(files: Revisions, ledger: Ledger) -> tuple[str, ...]:
    """What is wrong with the files of applied revisions."""
    try:
        check_checksums(files_of(files), applied_files(files, ledger))
    except DriftError as error:
        return (error.message,)
    return ()


def _standing(world: World, files: Revisions | None, name: str) -> Standing | None:
    state = world.collections[name]
    wanted = frozenset(one.id for one in files.order()) if files is not None else frozenset()
    missing = pending(world, files, wanted, name) if files is not None else ()
    if not state.managed and state.open_run is None and not missing:
        # Another ledger's.
        return None
    named, detail, command = condition(world, state, missing)
    generation = GENERATION.match(state.physical or "")
    newest = stands_at(state, files)
    return Standing(
        name=name,
        revision=newest,
        generation=f"g{generation['number']}" if generation else "plain" if state.physical else None,
        state=named,
        serving=_serves(world, state),
        pending=missing,
        drift=drifted(world, state) if state.open_run is None else None,
        detail=detail,
        next_command=command,
        job=_job(state.open_run),
        untouched=untouched(files, name, newest, wanted) if files is not None and not missing else (),
    )


def _serves(world: World, state: CollectionState) -> bool:
    """Whether the name leads to what the ledger left there; a name that was never to serve is not asked."""
    try:
        check_place(world, state.name)
    except QmigrateError:
        return False
    return state.live is not None or not any(row.state == "live" for row in state.generations)


def _job(run: OpenRun | None) -> JobStanding | None:
    if run is None:
        return None
    held = held_run(run) is not None and not run.leased
    status = PROCESSING if run.leased else FAILED if run.state == "failed" else WAITING
    stage = "held" if held else run.records[-1].phase if run.records else None
    done = 100 if held else int(percent(run) or 0)
    return JobStanding(run.verb, status, stage, done, run.error if status == FAILED else None, run.started_at)


def _to_create(world: World, files: Revisions | None) -> Iterator[Standing]:
    for name, entries in to_create(world, files).items() if files is not None else ():
        detail = f"{len(entries)} pending, will be created"
        yield Standing(name, None, None, "pending", True, entries, None, detail, "qmigrate upgrade")


def _summed(
    rows: tuple[Standing, ...],
    files: Revisions | None,
    changed: tuple[str, ...],
    unmet: Mapping[str, str],
    notes: Sequence[str],
) -> Look:
    missing = {revision for row in rows for revision in row.pending}
    heads = files.heads() if files is not None else ()
    running = [row.job.progress for row in rows if row.job is not None and row.job.status == PROCESSING]
    return Look(
        collections=rows,
        head=heads[0] if len(heads) == 1 else None,
        pending=tuple(one.id for one in files.order() if one.id in missing) if files is not None else None,
        drift=(*changed, *(f"{row.name}: {row.drift}" for row in rows if row.drift)),
        progress=min(running) if running else None,
        unmet=unmet,
        notes=tuple(notes),
    )
