"""Every rule, by its code. Codes are never used again; a retired rule leaves a gap."""

from __future__ import annotations

from collections.abc import Iterator

from qmigrate.lint import alembic_rules, change_rules, code_rules, fix_rules, graph_rules, setting_rules, vector_rules
from qmigrate.lint.project import Project
from qmigrate.lint.rule import ERROR, WARNING, Hit, Rule


def _by_report(_: Project) -> Iterator[Hit]:
    """These two are about what other rules have found; ``report`` judges them."""
    return iter(())


IGNORE_WITHOUT_REASON = Rule(
    "QM002",
    "ignore-without-reason",
    ERROR,
    "ignore without code or reason",
    "The next reader can't tell whether it still holds.",
    "# qmigrate: ignore[QM302] why it is fine here",
    _by_report,
)
USELESS_IGNORE = Rule(
    "QM003",
    "useless-ignore",
    WARNING,
    "ignore that silences nothing",
    "It hides what will be found on this line one day.",
    "remove it, or repair its code",
    _by_report,
)

RULES: tuple[Rule, ...] = tuple(
    sorted(
        (
            IGNORE_WITHOUT_REASON,
            USELESS_IGNORE,
            *graph_rules.RULES,
            *code_rules.RULES,
            *change_rules.RULES,
            *vector_rules.RULES,
            *setting_rules.RULES,
            *alembic_rules.RULES,
            *fix_rules.RULES,
        ),
        key=lambda rule: rule.code,
    )
)

__all__ = ["ERROR", "IGNORE_WITHOUT_REASON", "RULES", "USELESS_IGNORE", "WARNING"]
