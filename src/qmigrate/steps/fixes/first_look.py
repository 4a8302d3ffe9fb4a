"""The first look for orphans as something of its own, so that no process holds the lease until the second one.

It reads, and keeps what it saw in the ledger; no point is changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qmigrate.ledger import Lease
from qmigrate.ledger.clock import clock
from qmigrate.model.fix import Entry, Found
from qmigrate.model.schema import JsonObject
from qmigrate.steps.export import described
from qmigrate.steps.fixes.journal import write_ids
from qmigrate.steps.fixes.orphans import Orphans
from qmigrate.steps.fixes.protocol import Place, check_cap, consented
from qmigrate.steps.fixes.sighting import Keeping, Sighting, entries, query_of

#: What a second look may find in addition is its own.
_KEPT = ("rows", "strays", "missing", "without_id")


def look(lease: Lease, place: Place, edit: JsonObject) -> Sighting:
    """Look once, and keep it; the one before it counts no more.

    Raises:
        RefusedError: more are strays than the cap allows, or the query returns nothing.
    """
    fix = Orphans(place, {**edit, "look": True})
    found = Found()
    try:
        fix.moment()
        physical = described(place.store, place.address).physical
        keeping = Keeping(lease, _counted(fix.find(found), found))
        try:
            check_cap(place.collection, found, fix.share(), most=consented(edit, place.collection))
            # Of its end: what it saw last may be of a transaction that began while it looked.
            ended, moment = clock(place.ledger), fix.moment()
        except BaseException:
            keeping.drop()
            raise
    finally:
        fix.close()
    counts = {name: found.counts[name] for name in _KEPT if name in found.counts}
    seen = Sighting(query_of(edit), physical, ended, moment, found.points, keeping.strays, counts)
    keeping.keep(seen)
    if edit.get("ids_to"):
        write_ids(Path(edit["ids_to"]), entries(place.ledger, place.collection))
    return seen


def _counted(entries: Iterator[Entry], found: Found) -> Iterator[Entry]:
    for entry in entries:
        found.changes += 1
        yield entry
