"""repair: the decisions that only a human can make, each recorded. It touches no collection."""

from __future__ import annotations

from qmigrate.commands.results import Repaired
from qmigrate.commands.session import actor
from qmigrate.errors import RefusedError, RevisionError
from qmigrate.ledger import Ledger, accept_checksum
from qmigrate.ledger import unlock as unlock_lease
from qmigrate.revisions import Revisions
from qmigrate.settings import Settings


def accept(settings: Settings, revision: str, reason: str) -> Repaired:
    """Accept that an applied revision file has changed; who and why is recorded.

    Raises:
        RevisionError: no such revision, or it is not applied anywhere.
    """
    if not reason.strip():
        raise RevisionError("accepting a changed revision needs a reason", hint='--reason "…"')
    found = Revisions.load(settings.scripts).get(revision)
    ledger = Ledger.open(settings.ledger.url, schema=settings.ledger.schema)
    try:
        ledger.prepare()
        if found.id not in ledger.applied_checksums():
            raise RevisionError(f"revision {found.id} is not applied, so there is nothing to accept")
        accept_checksum(ledger, found.id, found.checksum, reason, actor())
    finally:
        ledger.close()
    return Repaired(action="accept", subject=found.id, detail=f"{found.path.name} is accepted as {found.checksum[:12]}")


def unlock(settings: Settings, collection: str) -> Repaired:
    """End the lease of a holder that is known to be dead; its run is then found interrupted.

    Raises:
        RefusedError: there is no such lease.
    """
    ledger = Ledger.open(settings.ledger.url, schema=settings.ledger.schema)
    try:
        held = next((row for row in ledger.leases() if row.name == collection and not row.expired), None)
        if held is None:
            raise RefusedError(f"nobody holds the lease of {collection}", hint="qmigrate status")
        unlock_lease(ledger, collection, actor())
    finally:
        ledger.close()
    return Repaired(action="unlock", subject=collection, detail=f"the lease of {held.owner} on {held.host} is ended")
