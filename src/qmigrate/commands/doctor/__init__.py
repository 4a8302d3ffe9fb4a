"""doctor and wait: is everything there that a migration needs, and what is the next command. They change nothing.

Each check is one small function, a row of ``TABLE``; a part that is broken is reported once, and hides no other.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from qmigrate.commands.doctor import collections, project, server
from qmigrate.commands.doctor.deployment import Deployment
from qmigrate.commands.doctor.vectors import VectorsWanted
from qmigrate.commands.doctor.vectors import checks as of_vectors
from qmigrate.commands.results import Check, Doctor
from qmigrate.commands.wait import wait
from qmigrate.errors import QmigrateError
from qmigrate.settings.load import Settings
from qmigrate.settings.values import redact


@dataclass(frozen=True, slots=True)
class Row:
    """One check.

    Attributes:
        group: what it is about, for people.
        name: of its finding where the check itself fails.
        look: yields what it finds; an error of ours is a failure under `name`.
        needs: parts of the patient without which it can't run: they are reported by checks of their own.
        server: only for a server, not for local mode.
    """

    group: str
    name: str
    look: Callable[[Deployment], Iterable[Check]]
    needs: tuple[str, ...] = ()
    server: bool = False


TABLE: tuple[Row, ...] = (
    Row("project", "revisions", project.revisions),
    Row("project", "settings", project.settings),
    Row("project", "overrides", project.overrides, ("revisions", "world")),
    Row("project", "software", project.software),
    Row("project", "system", project.system),
    Row("ledger", "ledger", server.reached),
    Row("ledger", "ledger rights", server.rights, ("ledger",)),
    Row("ledger", "ledger room", server.room, ("ledger",)),
    Row("ledger", "ledger clock", server.ledger_clock, ("ledger",)),
    Row("ledger", "leases", server.leases, ("ledger",)),
    Row("ledger", "runs", server.runs, ("ledger",)),
    Row("qdrant", "qdrant", server.connected),
    Row("qdrant", "nodes", server.nodes, server=True),
    Row("qdrant", "versions", server.versions, ("reached",), server=True),
    Row("qdrant", "client", server.client, ("reached",), server=True),
    Row("qdrant", "points", server.points_port, ("store", "live"), server=True),
    Row("qdrant", "cluster", server.cluster, ("store",), server=True),
    Row("qdrant", "barriers", server.barriers, ("store",), server=True),
    Row("qdrant", "server clock", server.server_clock, ("reached",), server=True),
    Row("qdrant", "rights", server.of_key, ("reached",), server=True),
    Row("room", "RAM", server.ram, ("store", "live")),
    Row("room", "disk", server.disk, ("store", "live")),
    Row("room", "number of collections", server.number, ("reached", "live"), server=True),
    Row("collections", "recorded state", collections.recorded, ("revisions", "ledger", "store")),
    Row("collections", "health", collections.health, ("store",)),
    Row("collections", "transfers", collections.transfers, ("store",), server=True),
    Row("collections", "strict mode", collections.strict_mode, ("live",), server=True),
    Row("collections", "kept settings", collections.unknown, ("live",)),
    Row("collections", "names", collections.names, ("world", "physical")),
    Row("collections", "shadowed names", collections.shadowed, ("aliases", "physical")),
    Row("leftovers", "own aliases", collections.own_aliases, ("ledger", "aliases")),
    Row("leftovers", "probes", collections.probes, ("aliases", "physical")),
    Row("leftovers", "fences", collections.fences, ("world",)),
    Row("leftovers", "generations", collections.generations, ("world", "live")),
    Row("models", "embedders", project.loaded),
    Row("models", "models", project.fingerprints, ("revisions", "world")),
)


def examine(patient: Deployment, rows: Sequence[Row]) -> list[Check]:
    """Make every check that can be made; what could not be checked is reported in one line per reason."""
    checks: list[Check] = []
    waiting: dict[str, list[str]] = {}
    for row in rows:
        if row.server and patient.local:
            continue
        if not patient.left:
            waiting.setdefault("time", []).append(row.name)
            continue
        missing = next((part for part in row.needs if patient.broken(part)), None)
        if missing is not None:
            waiting.setdefault(missing, []).append(row.name)
            continue
        checks += (replace(check, group=row.group) for check in _made(row, patient))
    return [*checks, *_not_made(checks, waiting)]


def _made(row: Row, patient: Deployment) -> list[Check]:
    found: list[Check] = []
    try:
        found.extend(replace(check, hint=_onwards(check.hint)) for check in row.look(patient))
    except QmigrateError as error:
        found.append(Check(row.name, False, error.message, _onwards(error.hint), error.exit_code))
    except Exception as error:
        # A fault of this check must not hide the others.
        message = redact(f"the check itself failed: {type(error).__name__}: {error}")
        found.append(Check(row.name, False, message, "please report it; the other checks are not affected", 1))
    return found


def _onwards(hint: str | None) -> str | None:
    """A hint for who has just run doctor: what it shows is above, so that nothing leads back here."""
    return hint and re.sub(r"qmigrate doctor (?=(shows|tries|has|names)\b)", "this report ", hint)


def _not_made(checks: Sequence[Check], waiting: dict[str, list[str]]) -> list[Check]:
    found = []
    late = waiting.pop("time", [])
    if late:
        hint = "give it more time: qmigrate doctor --timeout 5m"
        detail = f"time was up before: {', '.join(late)}"
        found.append(Check("not checked", None, detail, hint, group="doctor", warns=True))
    names = [name for missed in waiting.values() for name in missed]
    if names:
        broken = any(check.ok is False for check in checks)
        detail = f"because of {'the failures above' if broken else 'missing parts'}: {', '.join(names)}"
        found.append(Check("not checked", None, detail, "repair them, then: qmigrate doctor", group="doctor"))
    return found


def _of_vectors(wanted: VectorsWanted) -> Sequence[Row]:
    return [Row("vectors", "vectors", lambda patient: of_vectors(patient, wanted), ("store",))]


__all__ = ["doctor", "wait"]


def doctor(
    settings: Settings | None = None, *, budget: float = 60.0, vectors: VectorsWanted | None = None
) -> Doctor:
    """Check every part by itself: versions, rights, room, clocks, cluster, names, leftovers, models.

    Args:
        budget: seconds after which no further check is begun; those left out are named.
        vectors: also whether these are sound, however long that takes; nothing else is checked then.

    Returns:
        Failures, warnings, what is in order, and what is only to be known; each with the next command.
    """
    settings = settings or Settings.load()
    started = time.monotonic()
    with Deployment(settings, deadline=started + budget) as patient:
        checks = examine(patient, TABLE if vectors is None else _of_vectors(vectors))
    return Doctor(tuple(checks), seconds=round(time.monotonic() - started, 3))
