"""check --offline as SARIF 2.1.0, for code scanning. Plain JSON; it prints nothing."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from qmigrate import __version__
from qmigrate.cli.render.lint import near

if TYPE_CHECKING:
    from qmigrate.commands.lint import Linted
    from qmigrate.lint import LintFinding

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
