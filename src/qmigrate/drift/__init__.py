"""Drift: what is live compared with what is recorded. Pure: it reads nothing and changes nothing."""

from __future__ import annotations

from qmigrate.drift.collection import (
    Surroundings,
    collection_findings,
    embedders_of,
    file_findings,
    fingerprint_findings,
)
from qmigrate.drift.corrections import plan_loss, plan_put_back, plan_restoration
from qmigrate.drift.finding import Finding, note
from qmigrate.drift.schema import Difference, acceptance, differences, restoration
from qmigrate.drift.undeclared import effective

__all__ = [
    "Difference",
    "Finding",
    "Surroundings",
    "acceptance",
    "collection_findings",
    "differences",
    "effective",
    "embedders_of",
    "file_findings",
    "fingerprint_findings",
    "note",
    "plan_loss",
    "plan_put_back",
    "plan_restoration",
    "restoration",
]
