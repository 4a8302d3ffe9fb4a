"""The ledger's database: reach, rights, room, clock, leases and unfinished runs. It writes no row."""

from __future__ import annotations

from collections.abc import Iterator

from qmigrate.commands.doctor.patient import Patient
from qmigrate.commands.doctor.words import SKEW, some
from qmigrate.commands.results import Check
from qmigrate.ledger import examine
from qmigrate.ledger.schema import HEAD
from qmigrate.model.state import OpenRun
from qmigrate.model.words import counted, quote, size
from qmigrate.steps.base import ENTRY_SIZE

#: A ledger whose statements take longer makes an upgrade wait for SQL, in seconds.
SLOW = 0.1


def reached(patient: Patient) -> Iterator[Check]:
    """It answers, and its tables are of this version."""
    ledger = patient.ledger()
    identity = ledger.identity()
    told = examine.look(ledger.database)
    known = f"identity {identity}" if identity else "no tables yet: the first upgrade creates them"
    milliseconds = told.seconds * 1000
    yield Check(
        "ledger",
        True,
        f"{ledger.url_label}, {known}; {told.server}, {milliseconds:.1f} ms a statement",
        facts={
            "identity": identity,
            "server": told.server,
            "version": told.version,
            "code_version": HEAD,
            "milliseconds": round(milliseconds, 2),
        },
    )
    if told.seconds > SLOW:
        yield Check(
            "ledger latency",
            None,
            f"one small statement took {milliseconds:.0f} ms; every checkpoint of a copy waits for several",
            "run qmigrate nearer to its database",
            warns=True,
        )


def rights(patient: Patient) -> Iterator[Check]:
    """Its user may write every table, and make new ones."""
    found = examine.rights(patient.ledger().database)
    facts = {"lacking": list(found.lacking), "creates": found.creates}
    if found.busy:
        detail = "another process was writing all the time, so the right to write could not be tried"
        yield Check("ledger rights", None, detail, "qmigrate status shows who works", facts=facts)
    elif found.lacking:
        detail = f"plan, status and check can be used; upgrade can't: no right to {some(found.lacking)}"
        yield Check("ledger rights", None, detail, "the grants are in docs/rights.md", warns=True, facts=facts)
    elif not found.creates and not patient.ledger().ready():
        detail = "there are no tables yet, and this user may not make them"
        hint = "run the first upgrade as a user who may, or grant CREATE on the schema (docs/rights.md)"
        yield Check("ledger rights", None, detail, hint, warns=True, facts=facts)
    elif not found.creates:
        detail = "it may write every table, but not create one: a newer qmigrate that needs new ones would stop"
        yield Check("ledger rights", True, detail, facts=facts)
    else:
        yield Check("ledger rights", True, "it may read, write and create tables", facts=facts)


def room(patient: Patient) -> Iterator[Check]:
    """A rebuild keeps some bytes per point in the ledger."""
    found = examine.free_disk(patient.ledger().database)
    if found is None:
        yield Check("ledger room", None, "a database server does not report its free disk")
        return
    folder, free = found
    points = 0 if patient.broken("live") else max((one.points for one in patient.live().values()), default=0)
    # The old pages of a base stay until the new ones are committed, and the log holds them once more.
    needed = points * ENTRY_SIZE * 3
    facts = {"folder": str(folder), "free": free, "needed": needed}
    detail = f"{size(free)} free in {folder}; a rebuild of the biggest collection needs about {size(needed)}"
    if free < needed:
        hint = "make room there, or set ledger.url to another place"
        yield Check("ledger room", False, detail, hint, 9, facts=facts)
    else:
        yield Check("ledger room", True, detail, facts=facts)


def clock(patient: Patient) -> Iterator[Check]:
    """Leases are counted by the database's clock alone; what is kept until a date is not."""
    told = examine.look(patient.ledger().database)
    if told.skew is None:
        yield Check("ledger clock", True, "it is this machine's")
        return
    yield SKEW.judge("ledger clock", "the database", told.skew)


def leases(patient: Patient) -> Iterator[Check]:
    """Who works right now."""
    for row in patient.ledger().leases():
        if not row.expired:
            detail = f"held by {row.owner} on {row.host} until {row.expires_at:%H:%M:%S}"
            facts = {"owner": row.owner, "host": row.host, "epoch": row.epoch, "expires_at": row.expires_at}
            yield Check(f"lease {row.name}", None, detail, facts=facts)


def runs(patient: Patient) -> Iterator[Check]:
    """Runs that no process works on and that are not finished."""
    for run in patient.ledger().open_runs():
        if run.leased:
            continue
        name = run.job.collection
        detail = f"{run.verb} of {run.started_at:%Y-%m-%d %H:%M} UTC on {run.host} {_ended(run)}"
        facts = {"run": run.id, "state": run.state, "verb": run.verb, "error": run.error}
        hint = "qmigrate cutover finishes it"
        if run.state != "held":
            hint = f"resume it: qmigrate upgrade; or undo it: qmigrate abort {quote(name)}"
        yield Check(f"run of {name}", None, detail, hint, warns=run.state != "held", facts=facts)


def _ended(run: OpenRun) -> str:
    phase = f" in {run.records[-1].phase}" if run.records else ""
    if run.state == "failed":
        return f"failed{phase}: {run.error or 'no reason recorded'}"
    if run.state == "held":
        return "is built and held until its cut-over"
    total = f", {run.done_points:,} of {counted(run.total_points, 'point')}" if run.total_points else ""
    return f"was interrupted{phase}{total}"
