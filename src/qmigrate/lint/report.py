"""All rules over a project: what they found, less what is ignored with a reason. It prints nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qmigrate.lint.project import Project
from qmigrate.lint.rule import Hit, Rule
from qmigrate.lint.table import IGNORE_WITHOUT_REASON, RULES, USELESS_IGNORE
from qmigrate.revisions.python_source import Ignore, PythonSource, Span


@dataclass(frozen=True, slots=True)
class LintFinding:
    """One finding.

    Attributes:
        code: of the rule.
        severity: ``error`` or ``warning``.
        path: the file.
        line: the first line, from 1.
        end_line: the last one.
        revision: its id, or None when the file can't be loaded.
        message: what is wrong there.
        why: the rule's reason.
        fix: what to do.
    """

    code: str
    severity: str
    path: Path
    line: int
    end_line: int
    revision: str | None
    message: str
    why: str
    fix: str


@dataclass(frozen=True, slots=True)
class Suppressed:
    """A finding that a comment ignores, and the comment's reason."""

    finding: LintFinding
    reason: str


def lint(project: Project) -> tuple[tuple[LintFinding, ...], tuple[Suppressed, ...]]:
    """What counts, and what is ignored with a reason; each in the order of files and lines."""
    found: list[LintFinding] = []
    silenced: list[Suppressed] = []
    used: set[tuple[Path, int, str]] = set()
    for rule in RULES:
        for hit in rule.look(project):
            made = _finding(rule, hit)
            ignore = _ignoring(hit, rule.code)
            if ignore is None:
                found.append(made)
            else:
                used.add((hit.source.path, ignore.line, rule.code))
                silenced.append(Suppressed(made, ignore.reason))
    for source in project.every_source():
        found += _judged(source, used)
    return tuple(sorted(dict.fromkeys(found), key=_place)), tuple(sorted(silenced, key=lambda one: _place(one.finding)))


def _ignoring(hit: Hit, code: str) -> Ignore | None:
    """The comment on a line of the finding, or right above it, that ignores the code with a reason."""
    for ignore in hit.source.ignores:
        if code in ignore.codes and ignore.reason and hit.span.line <= ignore.covers <= hit.span.end:
            return ignore
    return None


def _judged(source: PythonSource, used: set[tuple[Path, int, str]]) -> list[LintFinding]:
    """What is wrong with the ignores of a file."""
    known = {rule.code for rule in RULES}
    found = []
    for ignore in source.ignores:
        place = Span(ignore.line, ignore.line)
        if not ignore.codes or not ignore.reason:
            what = "the reason is missing" if ignore.codes else "no code is named"
            found.append(_finding(IGNORE_WITHOUT_REASON, Hit(source, place, f"ignored, but {what}")))
            continue
        for code in ignore.codes:
            if code not in known:
                found.append(_finding(USELESS_IGNORE, Hit(source, place, f"there is no rule {code}")))
            elif (source.path, ignore.line, code) not in used:
                found.append(_finding(USELESS_IGNORE, Hit(source, place, f"{code} finds nothing here")))
    return found


def _finding(rule: Rule, hit: Hit) -> LintFinding:
    revision = hit.source.revision.id if hit.source.revision else None
    return LintFinding(
        code=rule.code,
        severity=rule.severity,
        path=hit.source.path,
        line=hit.span.line,
        end_line=max(hit.span.line, hit.span.end),
        revision=revision,
        message=hit.message,
        why=rule.why,
        fix=rule.fix,
    )


def _place(finding: LintFinding) -> tuple[str, int, str, str]:
    return (str(finding.path), finding.line, finding.code, finding.message)
