"""check --offline: the lint over the revision files. It opens neither Qdrant nor SQL, and loads no model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qmigrate.lint import RULES, LintFinding, Suppressed
from qmigrate.lint import lint as run_rules
from qmigrate.lint.project import Project
from qmigrate.revisions import alembic_files
from qmigrate.settings.load import Settings

BROKEN = 8


@dataclass(frozen=True, slots=True)
class RuleInfo:
    """A rule, for people and for code scanning."""

    code: str
    name: str
    severity: str
    title: str
    why: str
    fix: str


@dataclass(frozen=True, slots=True)
class Linted:
    """`check --offline`.

    Attributes:
        scripts: the folder that was read.
        files: how many revision files.
        sql_files: how many of Alembic's; 0 without an environment of Alembic.
        findings: in the order of files and lines.
        suppressed: what comments ignore, with their reasons.
        errors: how many findings are errors.
        warnings: how many are warnings.
        rules: every rule that was asked.
        exit_code: 8 with an error, or with a warning under `strict`; else 0.
    """

    scripts: Path
    files: int
    sql_files: int
    findings: tuple[LintFinding, ...]
    suppressed: tuple[Suppressed, ...]
    errors: int
    warnings: int
    rules: tuple[RuleInfo, ...]
    exit_code: int


def lint(settings: Settings | None = None, *, strict: bool = False) -> Linted:
    """Every rule over every revision file, and over those of Alembic next to them.

    Args:
        settings: the folder, and the embedders that revisions name.
        strict: warnings count as errors.

    Raises:
        RevisionError: there is no folder of revisions.
        ConfigError: the Alembic environment that the settings name is not there.
    """
    settings = settings or Settings.load()
    embedders = {"": settings.embedders}
    embedders.update({name: one.embedders for name, one in settings.collections.items()})
    project = Project.read(settings.scripts, embedders)
    project.sql = alembic_files.find(settings.folder, settings.sql.config)
    project.run_points, project.points = settings.lint.run_points, settings.lint.points
    project.holdover = settings.rebuild.holdover
    findings, suppressed = run_rules(project)
    errors = sum(finding.severity == "error" for finding in findings)
    warnings = len(findings) - errors
    return Linted(
        scripts=settings.scripts,
        files=len(project.sources),
        sql_files=len(project.sql.sources) if project.sql is not None else 0,
        findings=findings,
        suppressed=suppressed,
        errors=errors,
        warnings=warnings,
        rules=tuple(RuleInfo(rule.code, rule.name, rule.severity, rule.title, rule.why, rule.fix) for rule in RULES),
        exit_code=BROKEN if errors or (strict and warnings) else 0,
    )
