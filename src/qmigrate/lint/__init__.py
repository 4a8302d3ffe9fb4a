"""The lint: rules over revision files, without a server, a ledger or a model. It changes and prints nothing."""

from __future__ import annotations

from qmigrate.lint.report import LintFinding, Suppressed, lint
from qmigrate.lint.rule import Rule
from qmigrate.lint.table import RULES

__all__ = ["RULES", "LintFinding", "Rule", "Suppressed", "lint"]
