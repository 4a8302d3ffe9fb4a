"""doctor and wait: is everything there that a migration needs, and what is the next command. They change nothing.

Each check is one small function in the table of ``table.py``; a broken part is reported once, and hides no other.
"""

from __future__ import annotations

import time

from qmigrate.commands.doctor.patient import Patient
from qmigrate.commands.doctor.table import TABLE
from qmigrate.commands.doctor.table import examine as _examine
from qmigrate.commands.doctor.waiting import wait
from qmigrate.commands.results import Doctor
from qmigrate.settings import Settings

__all__ = ["doctor", "wait"]


def doctor(settings: Settings, *, budget: float = 60.0) -> Doctor:
    """Check every part by itself: versions, rights, room, clocks, cluster, names, leftovers, models.

    Args:
        budget: seconds after which no further check is begun; those left out are named.

    Returns:
        Failures, warnings, what is in order, and what is only to be known; each with the next command.
    """
    started = time.monotonic()
    with Patient(settings, deadline=started + budget) as patient:
        checks = _examine(patient, TABLE)
    return Doctor(tuple(checks), seconds=round(time.monotonic() - started, 3))
