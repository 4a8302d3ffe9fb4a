"""Points that a rebuild leaves out because they could not be embedded: kept in an archive and recorded in the audit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from qmigrate import archive
from qmigrate.archive import Header
from qmigrate.engine.epoch_aliases import reach
from qmigrate.engine.export import file_name, remove_ours, run_file, started_at
from qmigrate.engine.points.quarantine import DROPPED
from qmigrate.engine.points.transformation import AGAIN, Maker
from qmigrate.engine.work import Work
from qmigrate.ledger import Fixed
from qmigrate.model.facts.audit import Audited
from qmigrate.model.facts.phases import LeftOut
from qmigrate.model.names import REHEARSAL
from qmigrate.model.schema import JsonObject
from qmigrate.store import portable, records

#: `Header.kind` for the points of a quarantine, and what the audit calls them.
QUARANTINED, AUDIT = "quarantine", "QUARANTINE"


def archive_dropped(work: Work, source: str, target: str, maker: Maker) -> LeftOut | None:
    """Write what is left out of `target` into an archive: each point as it would be there, without what it lacks.

    Returns:
        The file; None where nothing is left out. A repeated call writes the file again.
    """
    # Ranges fail side by side, so they come in any order; an archive is read in one.
    ids = sorted(maker.quarantine.ids(DROPPED), key=records.order_key) if maker.quarantine is not None else []
    if REHEARSAL.match(target):
        return None
    began = started_at(work.lease.ledger, work.run)
    path = run_file(work.settings.fixes.exports, target, work.run, "quarantine", started=began)
    if not ids:
        # An earlier call may have left some out that are there by now, or were deleted.
        remove_ours(path, work.ledger_id)
        return None
    generation = work.generation(target)
    header = Header(
        kind=QUARANTINED,
        name=work.collection,
        physical=target,
        generation=generation.number if generation is not None else None,
        schema=maker.schema,
        ledger=work.ledger_id,
        source=work.store.capabilities.label,
        created_at=datetime.now(UTC),
    )

    def pages() -> Iterator[Sequence[JsonObject]]:
        for start in range(0, len(ids), AGAIN):
            found = work.store.fetch(reach(work, source), ids[start : start + AGAIN])
            found = sorted(found, key=lambda stored: records.order_key(records.point_id(stored)))
            kept = [portable.stored_of(ready) for ready in maker.left_out(found)]
            # The exact payload is the source's as long as no function changes it.
            yield (
                portable.page_to_json(kept)
                if maker.transform.keeps_payload
                else [portable.to_json(one) for one in kept]
            )
            work.tick()

    made = archive.write(path, header, pages())
    return LeftOut(str(path), made.points)


def keep_again(work: Work, source: str, target: str, maker: Maker, known: LeftOut) -> LeftOut | None:
    """The same once late writes of the source were carried: what came for these points is in the file, too.

    Args:
        known: the facts that were kept before; their file goes where nothing is left out any more.
    """
    facts = archive_dropped(work, source, target, maker)
    if facts is None:
        remove_ours(Path(known.file), work.ledger_id)
    return facts


def audit(work: Work, target: str, facts: LeftOut | None) -> Fixed | None:
    """The row of the audit, or None where nothing was left out."""
    if not facts:
        return None
    reason = "could not be embedded; their operation says on_failure=\"drop\""
    revisions = tuple(_revisions(work))
    told = Audited(generation=target, archive=facts.file, changed=facts.points, undo=None, revisions=revisions)
    return Fixed(AUDIT, f"left out of {target}", facts.points, reason, told)


def forget_unborn(work: Work, physical: str) -> None:
    """Take out of ledger and exports what was kept of a generation that never served, and is abandoned."""
    generation = work.generation(physical)
    if generation is None or not generation.never_served:
        return
    rows = work.lease.ledger.quarantine([physical])
    if rows:
        work.lease.quarantine(physical, None, (), list(dict.fromkeys(row.point_id for row in rows)))
    for path in work.settings.fixes.exports.glob(file_name(physical, "*run*-quarantine")):
        remove_ours(path, work.ledger_id)


def _revisions(work: Work) -> list[str]:
    return [closing.revision for closing in work.job.closes if closing.step == work.step]
