"""check --offline for people, and as annotations for GitHub. It judges nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from qmigrate.cli.layout import Text
from qmigrate.text import counted
from qmigrate.version import __version__

if TYPE_CHECKING:
    from rich.console import Console

    from qmigrate.commands.lint import Linted
    from qmigrate.lint import LintFinding


def annotation(
    level: str, message: str, *, title: str = "", file: str = "", line: int | None = None, end_line: int | None = None
) -> str:
    """One annotation.

    Args:
        level: ``error | warning | notice``.
        message: may have several lines.
        file: relative to the root of the repository.
        line: the first one, from 1.
        end_line: the last one.
    """
    given = {"file": file, "line": line, "endLine": end_line, "title": title}
    properties = ",".join(f"{key}={_property(str(value))}" for key, value in given.items() if value)
    return f"::{level}{' ' if properties else ''}{properties}::{_escaped(message)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")


def show_kept(console: Console, silent: Sequence[str], alone: Sequence[str]) -> None:
    """What a comparison with what is declared leaves as it is.

    Args:
        console: where to.
        silent: what revisions have set and nothing declares.
        alone: collections that are not declared.
    """
    for line in silent:
        console.print(Text(f"note: set by revisions and not declared, so it stays: {line}"))
    if alone:
        console.print(Text(f"note: not declared, and left alone: {', '.join(alone)}"))


STYLES = {"error": "bold red", "warning": "yellow"}


def show_lint(console: Console, result: Linted, *, verbose: bool = False) -> None:
    """One block per file; each finding with its line, its reason and what to do.

    Args:
        console: where to.
        result: what was found.
        verbose: show what is ignored, too.
    """
    for path, findings in groupby(result.findings, key=lambda one: one.path):
        console.print(Text(near(path), style="bold"))
        for one in findings:
            word = (one.severity, STYLES[one.severity])
            console.print(Text.assemble(f"  {one.line}: ", word, f" {one.code}  {one.message}"))
            console.print(Text(f"      {one.why}", style="dim"))
            console.print(f"      → {one.fix}")
        console.print()
    if verbose:
        for ignored in result.suppressed:
            one = ignored.finding
            console.print(f"ignored: {near(one.path)}:{one.line} {one.code} {one.message} ({ignored.reason})")
    console.print(_summary(result))


def _summary(result: Linted) -> str:
    parts = [counted(result.errors, "error")] if result.errors else []
    parts += [counted(result.warnings, "warning")] if result.warnings else []
    ignored = f"; {result.suppressed and len(result.suppressed)} ignored with a reason" if result.suppressed else ""
    looked = counted(result.files, "revision")
    looked += f" and {result.sql_files} of Alembic" if result.sql_files else ""
    if not parts:
        return f"{looked}: no findings{ignored}."
    said = f"{looked}: {', '.join(parts)}{ignored}."
    return f"{said} ({result.exit_code})" if result.exit_code else said


def lint_github_lines(result: Linted) -> list[str]:
    """One annotation per finding, shown next to its lines in a pull request."""
    return [
        annotation(
            one.severity,
            _message(one),
            title=one.code,
            file=near(one.path),
            line=one.line,
            end_line=one.end_line,
        )
        for one in result.findings
    ]


def _message(one: LintFinding) -> str:
    return f"{one.message}\n{one.why}\n{one.fix}"


def near(path: Path) -> str:
    """Relative to the current folder where it lies below it, with slashes."""
    here = Path.cwd()
    return (path.relative_to(here) if path.is_relative_to(here) else path).as_posix()


SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
#: The folder that relative paths are meant from: the root of the repository in CI.
ROOT = "%SRCROOT%"


def sarif(result: Linted) -> dict[str, Any]:
    """One run with every rule, every finding, and what is ignored with its reason."""
    places = {rule.code: place for place, rule in enumerate(result.rules)}
    results = [_result(one, places) for one in result.findings]
    for ignored in result.suppressed:
        made = _result(ignored.finding, places)
        made["suppressions"] = [{"kind": "inSource", "justification": ignored.reason}]
        results.append(made)
    driver = {
        "name": "qmigrate",
        "version": __version__,
        "rules": [
            {
                "id": rule.code,
                "name": rule.name,
                "shortDescription": {"text": rule.title},
                "fullDescription": {"text": rule.why},
                "help": {"text": rule.fix},
                "defaultConfiguration": {"level": rule.severity},
            }
            for rule in result.rules
        ],
    }
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _result(one: LintFinding, places: dict[str, int]) -> dict[str, Any]:
    location = {
        "artifactLocation": _artifact(one.path),
        "region": {"startLine": one.line, "endLine": one.end_line},
    }
    # The same finding on a moved line is the same finding.
    known = hashlib.sha256(f"{one.code}\n{near(one.path)}\n{one.message}".encode()).hexdigest()[:32]
    return {
        "ruleId": one.code,
        "ruleIndex": places[one.code],
        "level": one.severity,
        "message": {"text": f"{one.message}. {one.fix[:1].upper()}{one.fix[1:]}."},
        "locations": [{"physicalLocation": location}],
        "partialFingerprints": {"qmigrate/v1": known},
    }


def _artifact(path: Path) -> dict[str, str]:
    shown = near(path)
    if Path(shown).is_absolute():
        return {"uri": path.as_uri()}
    return {"uri": quote(shown), "uriBaseId": ROOT}
