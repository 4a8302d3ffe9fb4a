"""metrics: figures for monitoring: where each collection is, and how far Qdrant and SQL agree. It only reads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qmigrate.atomic_file import writing
from qmigrate.commands.edits import count
from qmigrate.commands.fix import Narrow
from qmigrate.commands.readiness import Parts, Standing, changed_files, standings
from qmigrate.commands.session import Session, notes_on, opened_ledger, session
from qmigrate.errors import ConfigError, NotFoundError, QmigrateError, StoreError, UnavailableError, UsageError
from qmigrate.ledger.summary import last_migrations
from qmigrate.model.state import World
from qmigrate.observe import check_ownership, observe
from qmigrate.operations.base import Operation
from qmigrate.operations.data import SyncPayload
from qmigrate.operations.deletion import DeleteOrphans
from qmigrate.planner.fix import fixed_by
from qmigrate.ports import Store
from qmigrate.settings.load import Settings
from qmigrate.settings.values import check_keys, integer_between
from qmigrate.store import ConnectionSettings, records
from qmigrate.store.server.examine import Examiner
from qmigrate.text import did_you_mean

if TYPE_CHECKING:
    from prometheus_client.metrics_core import GaugeMetricFamily


#: What a check compares: ids on both sides, or payloads with columns.
ORPHANS, SYNC = "orphans", "sync"
#: How long a store is waited for until it counts as down, in seconds.
_PATIENCE = 10.0
#: Points that a search is measured with.
_NEAREST = 10
_KEYS = {
    ORPHANS: ("collection", "sql", "key", "database", "parameters"),
    SYNC: ("collection", "sql", "key", "database", "parameters", "fields", "json", "sample"),
}


@dataclass(frozen=True, slots=True)
class Figures:
    """One collection under management, or one that a pending revision creates.

    Attributes:
        points: exact; None when nothing serves.
        revision: the newest applied one, or None.
        state: as in `qmigrate status`.
        pending: revisions that it hasn't got.
        serving: its name leads to what the ledger left there.
        bytes: that its vectors and payloads take, as the server estimates it; None in local mode, or where the key
            may not read telemetry.
        search_seconds: dense vector -> how long one search took.
    """

    collection: str
    points: int | None
    revision: str | None
    state: str
    pending: int
    serving: bool
    bytes: int | None = None
    search_seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CheckFigures:
    """What one check of ``metrics.checks`` has found in one collection; None is what it doesn't count.

    Attributes:
        check: its name.
        rows: of SQL that were compared.
        assets: rows that the query has in all.
        orphaned: points without a row.
        missing: rows without a point.
        drifted: points whose payload differs from their row; of those that were sampled, where it samples.
        error: why it could not be done, or None.
        exit_code: of the error, or 0.
    """

    check: str
    collection: str
    seconds: float = 0.0
    rows: int | None = None
    assets: int | None = None
    orphaned: int | None = None
    missing: int | None = None
    drifted: int | None = None
    error: str | None = None
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class Metrics:
    """`metrics`.

    Attributes:
        at: when it was measured, UTC.
        up: ``qdrant`` and ``ledger``: whether it answers.
        collections: empty when one of them doesn't.
        migrated: logical name -> when a revision of it was last applied or rolled back.
        changed: whether files of applied revisions have changed since; None where that is unknown.
        checks: one entry per check and collection.
        notes: what could not be measured, and why.
        request_seconds: ``qdrant`` and ``ledger``: how long connecting and one small request took.
        exit_code: 0, also when something is pending or differs; 9 when a store doesn't answer; else the code of the
            first check that could not be done.
    """

    at: datetime
    up: Mapping[str, bool]
    collections: tuple[Figures, ...] = ()
    migrated: Mapping[str, datetime] | None = None
    changed: bool | None = None
    checks: tuple[CheckFigures, ...] = ()
    notes: tuple[str, ...] = ()
    request_seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """See the class."""
        codes = [check.exit_code for check in self.checks if check.exit_code]
        if not all(self.up.values()) or UnavailableError.exit_code in codes:
            return UnavailableError.exit_code
        return next(iter(codes), 0)


@dataclass(frozen=True, slots=True)
class _Check:
    name: str
    kind: str
    operation: Operation
    narrow: Narrow


def metrics(settings: Settings | None = None) -> Metrics:
    """Measure. Sends no write to Qdrant or SQL, waits for nothing, and takes no lease.

    Raises:
        ConfigError: a check of the settings can't be understood.
        UnavailableError: a store answers, and yet something failed that every figure needs.
    """
    settings = settings or Settings.load()
    checks = [_check(name, entry) for name, entry in settings.metrics.checks.items()]
    at = datetime.now(UTC)
    trouble, seconds = _asked(settings)
    up = {name: name not in trouble for name in ("qdrant", "ledger")}
    notes = tuple(trouble.values())
    if trouble:
        migrated = _migrated(settings) if up["ledger"] else None
        return Metrics(at, up, migrated=migrated, notes=notes, request_seconds=seconds)
    try:
        return replace(_measured(settings, checks, at, up), request_seconds=seconds)
    except UnavailableError:
        # Did one of the two go away in between?
        trouble, _ = _asked(settings)
        if not trouble:
            raise
        return Metrics(at, {name: name not in trouble for name in up}, notes=tuple(trouble.values()))


def _measured(settings: Settings, checks: list[_Check], at: datetime, up: Mapping[str, bool]) -> Metrics:
    with session(settings, writes=False, partial=True, readable=True) as opened:
        world = observe(opened.ledger, opened.store)
        rows = standings(world, opened.revisions)
        changed = changed_files(opened.revisions, opened.ledger)
        found = tuple(one for check in checks for one in _checked(opened, world, check))
        sizes = _sizes(settings)
        wrong = (f"check {one.check}, {one.collection}: {one.error}" for one in found if one.error is not None)
        return Metrics(
            at=at,
            up=up,
            collections=tuple(_figures(opened, world, row, sizes) for row in rows),
            migrated=last_migrations(opened.ledger),
            changed=bool(changed),
            checks=found,
            notes=(*notes_on(opened.problems), *wrong),
        )


def _asked(settings: Settings) -> tuple[dict[str, str], dict[str, float]]:
    """The parts that don't answer, with the reason; and how long it took the others."""
    parts = Parts(settings, min(_PATIENCE, settings.qdrant.timeout))
    # Opened once before: what importing takes is none of their time.
    with suppress(UnavailableError, ConfigError), opened_ledger(settings) as ledger:
        ledger.database.load_driver()
    trouble: dict[str, str] = {}
    seconds: dict[str, float] = {}
    for name, ask in (("qdrant", parts.qdrant), ("ledger", parts.ledger)):
        started = time.monotonic()
        try:
            ask()
            seconds[name] = time.monotonic() - started
        except UnavailableError as error:
            trouble[name] = error.message
    return trouble, seconds


def _sizes(settings: Settings) -> Mapping[str, int | None]:
    """Physical name -> bytes, of what the server reports; empty where it doesn't, or the key may not read that."""
    if settings.qdrant.path is not None:
        return {}
    patience = min(_PATIENCE, settings.qdrant.timeout)
    examiner = Examiner(ConnectionSettings(**settings.connection() | {"timeout": patience}))
    try:
        return {name: one.bytes for name, one in examiner.stored().items()}
    except StoreError:
        return {}
    finally:
        examiner.close()


def _searches(store: Store, physical: str) -> dict[str, float]:
    """Dense vector -> seconds of one search for what is near to a point that is there."""
    first = next(iter(next(iter(store.scan(physical, page=1)), ())), None)
    found = {}
    for name, value in records.vectors_of(first).items() if first is not None else ():
        # Sparse vectors are mappings, multivectors lists of lists.
        if isinstance(value, Mapping) or isinstance(value[0], Sequence):
            continue
        started = time.monotonic()
        store.nearest(physical, name, [value], limit=_NEAREST, exact=False)
        found[name] = time.monotonic() - started
    return found


def _migrated(settings: Settings) -> Mapping[str, datetime] | None:
    """What the ledger alone has."""
    with suppress(UnavailableError), opened_ledger(settings) as ledger:
        return last_migrations(ledger)
    return None


def _figures(opened: Session, world: World, row: Standing, sizes: Mapping[str, int | None]) -> Figures:
    state = world.collections.get(row.name)
    physical = state.physical if state is not None else None
    points, searches = None, dict[str, float]()
    if physical is not None:
        # It may have been deleted since it was listed, or be on a node that is down.
        with suppress(StoreError if opened.store.capabilities.silent else NotFoundError):
            points = opened.store.count(physical)
        # Strict mode may forbid it, and an unhealthy collection may not answer.
        with suppress(StoreError):
            searches = _searches(opened.store, physical)
    size = sizes.get(str(physical))
    return Figures(row.name, points, row.revision, row.state, len(row.pending), row.serving, size, searches)


def _checked(opened: Session, world: World, check: _Check) -> Iterator[CheckFigures]:
    """One check on every collection that it is about; one that can't be done leaves the others alone."""
    try:
        names = [state.name for state in fixed_by(world, check.operation, looking=True)]
    except QmigrateError as error:
        yield CheckFigures(check.name, check.operation.pattern, error=error.message, exit_code=error.exit_code)
        return
    for name in names:
        started = time.monotonic()
        try:
            check_ownership(world, name)
            found = count(opened, name, check.narrow.of(check.operation))
        except QmigrateError as error:
            yield CheckFigures(check.name, name, error=error.message, exit_code=error.exit_code)
            continue
        seconds, counts = round(time.monotonic() - started, 3), found.counts
        if check.kind == SYNC:
            yield CheckFigures(check.name, name, seconds, counts["rows"], drifted=found.changes)
        else:
            rows, missing = counts["rows"], counts["missing"]
            yield CheckFigures(check.name, name, seconds, rows, rows, orphaned=counts["strays"], missing=missing)


def _check(name: str, entry: Mapping[str, Any]) -> _Check:
    """One entry of ``metrics.checks``.

    Raises:
        ConfigError: it has unknown keys, or lacks some.
    """
    at, kind = f"metrics.checks.{name}", entry.get("kind")
    if kind not in _KEYS:
        raise ConfigError(f"{at}.kind must be orphans or sync, not {kind!r}{did_you_mean(str(kind), _KEYS)}")
    given = {key: value for key, value in entry.items() if key != "kind" and value is not None}
    check_keys(given, _KEYS[kind], at)
    for key in ("collection", "sql"):
        if not isinstance(given.get(key), str):
            raise ConfigError(f"{at} needs {key}: a string")
    sample = given.pop("sample", None)
    narrow = Narrow(sample=None if sample is None else integer_between(1, 10**9)(sample, f"{at}.sample"))
    made = SyncPayload(**given) if kind == SYNC else DeleteOrphans(**given, reason="only checked")
    try:
        made.check_words()
    except QmigrateError as error:
        raise ConfigError(f"{at}: {error.message}", hint=error.hint) from error
    return _Check(name, kind, made, narrow)


#: Who collects the file is another user than the one who writes it, and there is no data of points in it.
_READABLE = 0o644

Sample = tuple[Sequence[str], float | None]


class _Measured:
    """One measurement, as the library expects to collect it."""

    def __init__(self, result: Metrics) -> None:
        self._result = result

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Every gauge that has a sample."""
        result = self._result
        yield from self._own(result)
        yield from self._of_collections(result.collections)
        yield from self._of_checks(result.checks)

    @staticmethod
    def _own(result: Metrics) -> Iterator[GaugeMetricFamily]:
        yield from _gauge("qmigrate_up", "Whether it answers.", ["store"], [([k], v) for k, v in result.up.items()])
        yield from _gauge(
            "qmigrate_request_duration_seconds",
            "How long connecting and one small request took.",
            ["store"],
            [([k], v) for k, v in result.request_seconds.items()],
        )
        yield from _gauge(
            "qmigrate_measured_timestamp_seconds", "When this was measured.", [], [([], result.at.timestamp())]
        )
        yield from _gauge(
            "qmigrate_last_migration_timestamp_seconds",
            "When a revision of the collection was last applied or rolled back.",
            ["collection"],
            [([name], at.timestamp()) for name, at in sorted((result.migrated or {}).items())],
        )
        yield from _gauge(
            "qmigrate_changed_revision_files",
            "Whether files of applied revisions were changed since.",
            [],
            [([], result.changed)],
        )

    @staticmethod
    def _of_collections(rows: Sequence[Figures]) -> Iterator[GaugeMetricFamily]:
        named = ["collection"]
        yield from _gauge(
            "qdrant_vector_count", "Points of the collection.", named, [([one.collection], one.points) for one in rows]
        )
        yield from _gauge(
            "qdrant_collection_bytes",
            "Bytes of vectors and payloads, as the server estimates them.",
            named,
            [([one.collection], one.bytes) for one in rows],
        )
        yield from _gauge(
            "qdrant_search_duration_seconds",
            "How long one search for the ten nearest points took.",
            [*named, "vector"],
            [([one.collection, vector], took) for one in rows for vector, took in one.search_seconds.items()],
        )
        yield from _gauge(
            "qmigrate_pending_revisions",
            "Revisions that the collection hasn't got.",
            named,
            [([one.collection], one.pending) for one in rows],
        )
        yield from _gauge(
            "qmigrate_serving",
            "Whether the name leads to what the ledger left there.",
            named,
            [([one.collection], one.serving) for one in rows],
        )
        yield from _gauge(
            "qmigrate_collection_state",
            "1 for the state that qmigrate status shows.",
            ["collection", "state"],
            [([one.collection, one.state], 1) for one in rows],
        )
        yield from _gauge(
            "qmigrate_applied_revision",
            "1 for the newest revision that is applied.",
            ["collection", "revision"],
            [([one.collection, one.revision], 1) for one in rows if one.revision is not None],
        )

    @staticmethod
    def _of_checks(checks: Sequence[CheckFigures]) -> Iterator[GaugeMetricFamily]:
        def each(name: str, text: str, values: Iterable[float | None]) -> Iterator[GaugeMetricFamily]:
            labels = ([one.collection, one.check] for one in checks)
            return _gauge(name, text, ["collection", "check"], list(zip(labels, values, strict=True)))

        yield from each("database_asset_count", "Rows that the query has.", (one.assets for one in checks))
        yield from each("orphaned_vector_count", "Points without a row.", (one.orphaned for one in checks))
        yield from each("missing_vector_count", "Rows without a point.", (one.missing for one in checks))
        yield from each(
            "payload_drift_count", "Points whose payload differs from their row.", (one.drifted for one in checks)
        )
        yield from each("qmigrate_check_rows", "Rows that were compared.", (one.rows for one in checks))
        yield from each("qmigrate_check_up", "Whether the check could be done.", (one.error is None for one in checks))
        yield from each(
            "qmigrate_check_duration_seconds", "How long the check took.", (one.seconds for one in checks)
        )


def _gauge(name: str, text: str, labels: Sequence[str], samples: Sequence[Sample]) -> Iterator[GaugeMetricFamily]:
    """A gauge, unless nothing is known for it: what is not there can be alerted on, and a zero would lie."""
    from prometheus_client.metrics_core import GaugeMetricFamily

    known = [(values, float(value)) for values, value in samples if value is not None]
    if not known:
        return
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in known:
        family.add_metric(list(values), value)
    yield family


def exposition(result: Metrics) -> str:
    """OpenMetrics text of a measurement."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.openmetrics.exposition import generate_latest

    # The oldest version that is supported has no types here.
    text: Callable[[CollectorRegistry], bytes] = generate_latest
    measured: Any = _Measured(result)
    registry = CollectorRegistry()
    registry.register(measured)
    return text(registry).decode()


def write(result: Metrics, path: Path) -> None:
    """The same in a file that others may read, complete or not at all.

    Raises:
        UsageError: its folder is not there: one that only its owner may enter would be of no use.
        UnavailableError: it can't be written.
    """
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent} for the metrics", hint="name one that is collected from")
    text = exposition(result)
    with writing(path, _READABLE) as out:
        out.write(text.encode())
