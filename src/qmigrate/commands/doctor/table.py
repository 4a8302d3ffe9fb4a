"""Every check of doctor, in order, and what each needs; how they are run. It checks nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from qmigrate.commands.doctor import collections, leftovers, models, project, rights, server, sql
from qmigrate.commands.doctor.patient import Patient
from qmigrate.commands.results import Check
from qmigrate.errors import QmigrateError
from qmigrate.settings_read import redact


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
    look: Callable[[Patient], Iterable[Check]]
    needs: tuple[str, ...] = ()
    server: bool = False


TABLE: tuple[Row, ...] = (
    Row("project", "revisions", project.revisions),
    Row("project", "settings", project.settings),
    Row("project", "overrides", project.overrides, ("revisions", "world")),
    Row("project", "software", project.software),
    Row("ledger", "ledger", sql.reached),
    Row("ledger", "ledger rights", sql.rights, ("ledger",)),
    Row("ledger", "ledger room", sql.room, ("ledger",)),
    Row("ledger", "ledger clock", sql.clock, ("ledger",)),
    Row("ledger", "leases", sql.leases, ("ledger",)),
    Row("ledger", "runs", sql.runs, ("ledger",)),
    Row("qdrant", "qdrant", server.connected),
    Row("qdrant", "nodes", server.nodes, server=True),
    Row("qdrant", "versions", server.versions, ("reached",), server=True),
    Row("qdrant", "client", server.client, ("reached",), server=True),
    Row("qdrant", "points", server.points_port, ("store", "live"), server=True),
    Row("qdrant", "cluster", server.cluster, ("store",), server=True),
    Row("qdrant", "barriers", server.barriers, ("store",), server=True),
    Row("qdrant", "server clock", server.clock, ("reached",), server=True),
    Row("qdrant", "rights", rights.of_key, ("reached",), server=True),
    Row("room", "RAM", server.ram, ("store", "live")),
    Row("room", "disk", server.disk, ("store", "live")),
    Row("room", "number of collections", server.number, ("reached", "live"), server=True),
    Row("collections", "recorded state", collections.recorded, ("revisions", "ledger", "store")),
    Row("collections", "health", collections.health, ("store",)),
    Row("collections", "transfers", collections.transfers, ("store",), server=True),
    Row("collections", "strict mode", collections.strict_mode, ("live",), server=True),
    Row("collections", "kept settings", collections.unknown, ("live",)),
    Row("collections", "names", collections.names, ("world",)),
    Row("collections", "shadowed names", collections.shadowed, ("aliases", "physical")),
    Row("leftovers", "own aliases", leftovers.own_aliases, ("ledger", "aliases")),
    Row("leftovers", "probes", leftovers.probes, ("aliases", "physical")),
    Row("leftovers", "fences", leftovers.fences, ("world",)),
    Row("leftovers", "generations", leftovers.generations, ("world", "live")),
    Row("models", "embedders", models.loaded),
    Row("models", "models", models.fingerprints, ("revisions", "world")),
)


def examine(patient: Patient, rows: Sequence[Row]) -> list[Check]:
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


def _made(row: Row, patient: Patient) -> list[Check]:
    found: list[Check] = []
    try:
        found.extend(row.look(patient))
    except QmigrateError as error:
        found.append(Check(row.name, False, error.message, error.hint, error.exit_code))
    except Exception as error:
        # A fault of this check must not hide the others.
        message = redact(f"the check itself failed: {type(error).__name__}: {error}")
        found.append(Check(row.name, False, message, "please report it; the other checks are not affected", 1))
    return found


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
