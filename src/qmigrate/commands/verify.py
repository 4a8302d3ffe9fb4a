"""verify: whether two collections hold the same points. It only reads."""

from __future__ import annotations

from collections.abc import Iterator

from qmigrate.commands.session import session
from qmigrate.errors import UsageError, VerificationError
from qmigrate.model.names import unknown
from qmigrate.model.report import VerificationReport
from qmigrate.model.transform import PointTransform
from qmigrate.ports import Progress, Silent, Store, Stored
from qmigrate.sequences import join
from qmigrate.settings.load import Settings
from qmigrate.store import records


def verify(settings: Settings | None, a: str, b: str, *, progress: Progress | None = None) -> VerificationReport:
    """Compare every point of two collections (names or aliases): ids, payload, and the vectors that both have.

    Vectors that only one side declares are left out of the comparison, and named in the report. Filled vectors of the
    second side are checked for presence on every point of the first.

    Raises:
        UsageError: two names lead to one collection, which is equal to itself whatever it holds.
        VerificationError: points are missing, extra or different; the first 20 ids and why.
    """
    settings = settings or Settings.load()
    shown = progress or Silent()
    with session(settings, writes=False, progress=progress, partial=True, readable=True) as opened:
        store = opened.store
        transform, alone = _shared_vectors(store, a, b)
        report = VerificationReport(source=a, target=b, not_compared=alone)
        shown.begin(a, "verify", store.count(a))
        for key, left, right in join(_keyed(store, a), _keyed(store, b)):
            _compare(key, left, right, transform, report)
            shown.advance(1)
        shown.end(f"{report.proven:,} of {report.points:,} proven")
    if not report.holds:
        named = "; ".join(f"{identifier} {reason}" for identifier, reason in report.failures.named)
        raise VerificationError(
            f"{report.failures.count:,} points differ between {a} and {b}: {named}", facts={"report": report.to_json()}
        )
    return report


def _compare(
    key: bytes, left: Stored | None, right: Stored | None, transform: PointTransform, report: VerificationReport
) -> None:
    identifier = records.id_of_key(key)
    if left is None:
        report.failures.add(identifier, f"is only in {report.target}")
        return
    report.points += 1
    if right is None:
        report.failures.add(identifier, f"is only in {report.source}")
        return
    reason = None
    if not records.same(left, right):
        wanted, seen = records.expected(left, transform, None), records.found(right, transform)
        reason = records.difference(wanted, seen, {})
    if reason is None:
        report.proven += 1
    else:
        report.failures.add(identifier, reason)


def _shared_vectors(store: Store, a: str, b: str) -> tuple[PointTransform, tuple[str, ...]]:
    """What is compared, and the vectors that only one of the two has."""
    names, physical = [], []
    for name in (a, b):
        found = store.describe(name)
        if found is None:
            raise unknown("collection", name)
        names.append(found.schema.vector_names())
        physical.append(found.physical)
    if a != b and physical[0] == physical[1]:
        raise UsageError(
            f"{a} and {b} lead to the same collection ({physical[0]}): a comparison with itself shows nothing",
            hint="name the other generation: qmigrate gc --dry-run lists what is kept",
        )
    return PointTransform.identity(names[0] & names[1]), tuple(sorted(names[0] ^ names[1]))


def _keyed(store: Store, name: str) -> Iterator[tuple[bytes, Stored]]:
    size = records.page_size(next(iter(store.scan(name, page=64)), ()), limit=2 * 2**20)
    for page in store.scan(name, page=size):
        for stored in page:
            yield records.order_key(records.point_id(stored)), stored
