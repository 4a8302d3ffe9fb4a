"""The figures of `metrics` as OpenMetrics text, and that in a file. It measures nothing.

There are gauges only, without time stamps, so the text is valid in the older format of Prometheus too, which the
textfile collector of its node exporter reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qmigrate.commands.metrics import CheckFigures, Figures, Metrics
from qmigrate.errors import UsageError
from qmigrate.whole import writing

if TYPE_CHECKING:
    from prometheus_client.metrics_core import GaugeMetricFamily

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
