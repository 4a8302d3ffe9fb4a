"""The project by itself: revision files, settings, installed software. It opens no store."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version

from qmigrate import __version__
from qmigrate.commands.doctor.patient import Patient
from qmigrate.commands.results import Check
from qmigrate.settings_read import meant

#: What the work depends on, by the names under which it is installed.
SOFTWARE = ("qdrant-client", "SQLAlchemy", "alembic", "psycopg", "numpy", "grpcio")


def revisions(patient: Patient) -> Iterator[Check]:
    """The files can be read, and have one head."""
    found = patient.revisions()
    heads = found.heads()
    scripts = patient.settings.scripts
    facts = {"scripts": str(scripts), "heads": list(heads), "revisions": len(found.order())}
    detail = f"{len(found.order())} in {scripts}, head {', '.join(heads) or 'none'}"
    yield Check("revisions", True, detail, facts=facts)
    if len(heads) > 1:
        yield Check(
            "heads",
            None,
            f"{len(heads)} heads: {', '.join(heads)}; an upgrade needs one, or the name of one",
            'qmigrate revision --merge -m "merge"',
            warns=True,
        )
    if not found.order():
        yield Check("first revision", None, "there is no revision yet", 'qmigrate revision -m "what changes"')


def settings(patient: Patient) -> Iterator[Check]:
    """Where the settings come from, and what was not chosen."""
    chosen = patient.settings
    yield Check("settings", True, str(chosen.config) if chosen.config else "no qmigrate.yaml: defaults")
    if chosen.ledger.defaulted:
        yield Check(
            "ledger place",
            None,
            f"no ledger is configured: it is {chosen.ledger.label}, and is lost with this machine",
            "name your SQL database: ledger.url in qmigrate.yaml, or QMIGRATE_LEDGER_URL",
        )
    for name, database in chosen.databases.items():
        if database.url is None:
            yield Check(f"database {name}", None, database.missing, "set it, or remove it from databases:", warns=True)


def overrides(patient: Patient) -> Iterator[Check]:
    """What ``collections:`` names is a collection that there is, or that a revision makes."""
    operations = [operation for one in patient.revisions().order() for operation in one.operations]
    known = {*patient.world().collections, *(one.pattern for one in operations if not one.is_glob)}
    for name in patient.settings.collections:
        if name not in known and not any(one.matches(name) for one in operations):
            yield Check(
                f"override {name}",
                None,
                f"collections: in the settings names {name}, and there is no such collection{meant(name, known)}",
                "correct the name in qmigrate.yaml: as it is, it changes nothing",
                warns=True,
            )


def software(_patient: Patient) -> Iterable[Check]:
    """What is installed here."""
    found = {"qmigrate": __version__, "python": platform.python_version(), **dict(_installed())}
    yield Check("software", True, ", ".join(f"{name} {shown}" for name, shown in found.items()), facts=found)


def _installed() -> Iterator[tuple[str, str]]:
    for name in SOFTWARE:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, "not installed"
