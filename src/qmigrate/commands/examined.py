"""examined: whether the vectors of a collection are sound, found out by a job and kept with it. It changes no point.

No point is named in what is kept: an erasure would have to find it there. ``qmigrate doctor --vectors`` names them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from qmigrate.ledger import Ledger
from qmigrate.ledger.job_queue import COMPLETED, FAILED, JobQueue
from qmigrate.model.facts.soundness import VectorFinding, VectorHealth
from qmigrate.model.schema import JsonObject
from qmigrate.ports import Progress
from qmigrate.settings.load import Settings
from qmigrate.text import quote, to_plain

#: The kind of such a job.
KIND = "examine"
#: Seconds that it may take to open what it needs.
_BUDGET = 600.0


@dataclass(frozen=True, slots=True)
class Examination:
    """What is known of the vectors of one collection.

    Attributes:
        job: id of the newest one about it.
        state: of that job.
        message: why it failed, or None.
        health: what the newest one that was completed has found, on a sample; None where none was.
        at: when that was.
        by: who had asked for it.
    """

    job: str
    state: str
    message: str | None
    health: VectorHealth | None
    at: datetime | None
    by: str | None


def examine(settings: Settings, given: Mapping[str, Any], progress: Progress) -> JsonObject:
    """Read a sample of the vectors: by their numbers, their models and by searching; see ``doctor --vectors``.

    Args:
        given: ``collection``, as a job has it.

    Returns:
        A :class:`VectorHealth` without ids, as plain JSON.

    Raises:
        UnknownNameError: there is no such collection.
    """
    from qmigrate.commands.doctor.deployment import Deployment
    from qmigrate.commands.doctor.vectors import health

    collection = given["collection"]
    progress.say(f"{collection}: vectors of a sample")
    with Deployment(settings, deadline=time.monotonic() + _BUDGET) as patient:
        found = health(patient, collection)
    kept: JsonObject = to_plain(replace(found, findings=tuple(_without_points(found))))
    return kept


def _without_points(found: VectorHealth) -> Iterator[VectorFinding]:
    for one in found.findings:
        detail = one.detail.removesuffix(f" (ids {', '.join(map(str, one.ids))})") if one.ids else one.detail
        if one.kind == "checksum":
            # Behind that it quotes what one point has.
            detail = detail.partition(" SQL has:")[0] + " SQL has"
        named = one.kind == "copies"
        command = f"qmigrate doctor --vectors --only {quote(found.collection)}" if named else one.command
        yield replace(one, ids=(), detail=detail, command=command)


def examination(ledger: Ledger, collection: str) -> Examination | None:
    """The newest one of a collection; None where none was asked for, or gc has removed it."""
    queue = JobQueue(ledger)
    newest = queue.newest(KIND, collection)
    if newest is None:
        return None
    done = newest if newest.state == COMPLETED else queue.newest(KIND, collection, (COMPLETED,))
    message = (newest.error or {}).get("message") if newest.state == FAILED else None
    return Examination(
        job=newest.id,
        state=newest.state,
        message=message,
        health=_health(done.result) if done is not None and done.result else None,
        at=done.updated_at if done is not None else None,
        by=done.actor if done is not None else None,
    )


def _health(stored: dict[str, Any]) -> VectorHealth:
    findings = tuple(VectorFinding(**{**one, "ids": ()}) for one in stored["findings"])
    return VectorHealth(**{**stored, "findings": findings, "notes": tuple(stored["notes"])})
