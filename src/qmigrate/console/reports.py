"""Reports: one file each that needs nothing else, with the look of the pages, to attach where people decide.

It makes texts of results, and reads and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from qmigrate.commands.results import UpgradeResult
from qmigrate.commands.runs import Run, RunFigures
from qmigrate.commands.try_models import TriedModels
from qmigrate.console.comparisons import Searches, drawings, milliseconds, segments_of, times
from qmigrate.console.pages.assets import ASSETS
from qmigrate.console.pages.runs import PARTS
from qmigrate.console.pages.words import environment
from qmigrate.console.plots import plots
from qmigrate.model.plan import Plan, Step
from qmigrate.model.report import VerificationReport


@dataclass(frozen=True, slots=True)
class Ended:
    """How the command ended.

    Attributes:
        exit_code: of the process.
        message: what failed; None where nothing did.
        hint: what to do, a line each.
        kind: class of the error.
    """

    exit_code: int
    message: str | None = None
    hint: tuple[str, ...] = ()
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class About:
    """Which command it is about.

    Attributes:
        verb: of it.
        command: as it was typed, without secrets.
        began: when.
        seconds: that it took.
        actor: who.
        host: where it ran.
        version: of qmigrate.
        qdrant: where, without secrets; None where the settings could not be read.
        ledger: likewise.
    """

    verb: str
    command: str
    began: datetime
    seconds: float
    actor: str
    host: str
    version: str
    qdrant: str | None = None
    ledger: str | None = None


@dataclass(frozen=True, slots=True)
class Material:
    """What a report shows, as far as there is of it.

    Attributes:
        plan: what would be done, or was to be.
        result: of an upgrade.
        verification: of a comparison of points.
        compared: old and new searches on the same questions: of `evaluate`, of a gate, of models that were tried.
        tried: of `try-models`.
        runs: that the command has begun or resumed, each with its figures.
        fields: of payloads that may be shown.
        strategy: how a job works, in a word or two.
        notes: what else a reader should know.
    """

    plan: Plan | None = None
    result: UpgradeResult | None = None
    verification: VerificationReport | None = None
    compared: Sequence[Searches] = ()
    tried: TriedModels | None = None
    runs: Sequence[tuple[Run, RunFigures]] = ()
    fields: tuple[str, ...] = ()
    strategy: Callable[[Iterable[Step]], str] = field(default=lambda _: "")
    notes: tuple[str, ...] = ()


def report(about: About, ended: Ended, material: Material) -> str:
    """The whole file."""
    facts: dict[str, Any] = {name: getattr(material, name) for name in Material.__slots__ if name != "runs"}
    return environment().get_template("report.html").render(
        facts
        | {
            "about": about,
            "ended": ended,
            "state": _state(ended, material),
            "runs": [(run, plots(figures)) for run, figures in material.runs],
            "css": Markup(ASSETS.text("qmigrate.css")),  # noqa: S704  a file of this package
            "now": datetime.now(UTC),
            **PARTS,
            **_DRAWING,
        }
    )


#: What the parts of a comparison need besides it.
_DRAWING: dict[str, Any] = {
    "drawings": drawings, "times": times, "segments_of": segments_of, "milliseconds": milliseconds
}


def _state(ended: Ended, material: Material) -> str:
    """In a word."""
    if ended.message is not None:
        if material.compared and not all(one.found.go for one in material.compared):
            return "no-go"
        return "refused" if ended.exit_code == _REFUSED else "failed"
    if material.result is None and material.tried is None and material.compared:
        return "go" if all(one.found.go for one in material.compared) else "no-go"
    if material.verification is not None:
        return "done" if material.verification.holds else "failed"
    if material.plan is not None and material.result is None:
        return "refused" if material.plan.refusals else "planned"
    return "held" if material.result is not None and material.result.held else "done"


_REFUSED = 10
