"""Readiness of a service that uses the collections: `/readyz` for ASGI, and a plain function. It changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qmigrate.commands.expect import Expectation
from qmigrate.health.asgi import Health
from qmigrate.health.probe import Probe
from qmigrate.health.report import Report
from qmigrate.settings.load import Settings

__all__ = ["Expectation", "Health", "Probe", "Report", "readiness"]


def readiness(settings: Settings | None = None, *, config: str | Path | None = None, **more: Any) -> Report:
    """One look, for a program that asks once; a service keeps a :class:`Probe`, or a :class:`Health`.

    Args:
        settings: those of qmigrate; by default read from `config`.
        config: the settings file.
        more: what :class:`Probe` takes besides these.
    """
    return Probe(settings, config=config, **more).check()
