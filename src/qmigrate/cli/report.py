"""--html: what a command has found or done, as one file. The report itself is made by the console's templates."""

from __future__ import annotations

import os
import shlex
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qmigrate.cli.shell import Options, Shell, echo
from qmigrate.errors import CollectionsFailedError, QmigrateError, UsageError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmigrate.console.reports import Ended, Material
    from qmigrate.model.facts.comparison import Compared

#: Exit code of Ctrl-C where no checkpoint takes care of it.
_INTERRUPTED = 130


def _begin(ctx: click.Context, _parameter: click.Parameter, value: Path | None) -> None:
    """A report is written when the command has ended, however it did."""
    if value is not None and not ctx.resilient_parsing:
        ctx.with_resource(_reported(ctx, value))


@contextmanager
def _reported(ctx: click.Context, file: Path) -> Iterator[None]:
    """The exit code stays that of the command; what was typed wrongly leaves none."""
    report = _Report.begun(ctx, file)
    try:
        yield
    except (click.ClickException, click.exceptions.Exit):
        raise
    except BaseException as error:
        # What went wrong is what the command says, whatever becomes of the report.
        report.write(error)
        raise
    report.write(None)


html_option = click.option(
    "--html",
    type=click.Path(path_type=Path),
    metavar="FILE",
    expose_value=False,
    callback=_begin,
    help="Also write a report, as one HTML file.",
)


@dataclass(frozen=True, slots=True)
class _Report:
    """A report to be written.

    Attributes:
        since: from when on runs are of this command; None where the ledger could not say.
    """

    ctx: click.Context
    file: Path
    began: datetime
    clock: float
    since: datetime | None

    @classmethod
    def begun(cls, ctx: click.Context, file: Path) -> _Report:
        """Before the command does anything: what makes the report has to be there, and room for it.

        Raises:
            ConfigError: the extra is not installed.
            UsageError: the file can't be written.
        """
        from qmigrate.console import report as _made_by  # noqa: F401  whether it is there

        there = next(one for one in (file.absolute(), *file.absolute().parents) if one.exists())
        if file.is_dir() or not os.access(there if there.is_dir() else there.parent, os.W_OK) or (
            there != file.absolute() and not there.is_dir()
        ):
            raise UsageError(f"the report {file} can't be written there", hint="choose another one: --html report.html")
        since = None
        # The command says what is wrong with settings or ledger.
        with suppress(QmigrateError):
            import qmigrate.commands.runs as runs

            since = runs.now(Shell(ctx.ensure_object(Options)).settings())
        return cls(ctx, file, datetime.now(UTC), time.monotonic(), since)

    @property
    def shell(self) -> Shell:
        """Where the command was called."""
        return Shell(self.ctx.ensure_object(Options))

    def write(self, error: BaseException | None) -> None:
        """Write it; that it couldn't be is said, and changes nothing about what was done.

        Args:
            error: that has ended the command, or None.
        """
        from qmigrate.atomic_file import writing
        from qmigrate.console import report
        from qmigrate.console.reports import About, Ended
        from qmigrate.ledger.fence import system_user
        from qmigrate.settings.values import redact
        from qmigrate.version import __version__

        try:
            material = self._material(error)
            options = self.shell.options
            about = About(
                verb=options.verb,
                command=redact(shlex.join(["qmigrate", *options.typed])),
                began=self.began,
                seconds=time.monotonic() - self.clock,
                actor=options.actor or system_user(),
                host=system_user().rpartition("@")[2],
                version=__version__,
            )
            with suppress(QmigrateError):
                settings = self.shell.settings()
                about = replace(
                    about,
                    actor=settings.actor or about.actor,
                    qdrant=settings.qdrant.label,
                    ledger=settings.ledger.label,
                )
            text = report(about, Ended(options.code) if error is None else _failure(error), material)
            with writing(self.file) as out:
                out.write(text.encode("utf-8", "backslashreplace"))
        except (QmigrateError, OSError) as trouble:
            echo(f"the report could not be written: {trouble}\n", err=True)

    def _material(self, error: BaseException | None) -> Material:
        from qmigrate.cli.plans import strategy
        from qmigrate.commands.results import UpgradeResult
        from qmigrate.console.reports import Material
        from qmigrate.model.facts.stored import loaded
        from qmigrate.model.plan import Plan
        from qmigrate.model.report import VerificationReport

        shown = error.result if isinstance(error, CollectionsFailedError) else self.shell.options.result
        if isinstance(error, VerificationError) and isinstance(error.facts.get("report"), dict):
            shown = loaded(VerificationReport, error.facts["report"])
        found = Material(strategy=strategy)
        if isinstance(shown, UpgradeResult):
            found = replace(found, plan=shown.plan, result=None if not shown.outcomes and self._is_dry() else shown)
        elif isinstance(shown, Plan):
            found = replace(found, plan=shown)
        elif isinstance(shown, VerificationReport):
            found = replace(found, verification=shown)
        found = self._with_searches(found, shown, error)
        if self.since is None or self.shell.options.verb != "upgrade":
            return found
        try:
            import qmigrate.commands.runs as runs

            settings = self.shell.settings()
            return replace(found, runs=runs.begun_since(settings, self.since), fields=settings.console.fields)
        except QmigrateError as trouble:
            return replace(found, notes=(f"The runs of this command can't be read: {trouble.message}",))

    def _with_searches(self, found: Material, shown: Any, error: BaseException | None) -> Material:
        """With the searches that were compared, and what may be shown of the points among their misses."""
        from qmigrate.commands.try_models import TriedModels

        compared = list(_compared(shown, error))
        if isinstance(shown, TriedModels):
            found = replace(found, tried=shown)
        if not compared:
            return found
        import qmigrate.commands.evaluate as evaluate
        from qmigrate.console.comparisons import Searches

        made, notes = [], list[str]()
        for title, names, one in compared:
            points: dict[Any, dict[str, Any]] = {}
            ids = [each for miss in one.misses for each in (*miss.relevant, *miss.before, *miss.after)]
            try:
                points = evaluate.shown_points(self.shell.settings(), names, ids)
                hidden = not self.shell.settings().console.fields
            except QmigrateError as trouble:
                hidden = False
                notes.append(f"The payloads of {title} can't be read: {trouble.message}")
            made.append(Searches(title, one, points, hidden))
        return replace(found, compared=made, notes=(*found.notes, *notes))

    def _is_dry(self) -> bool:
        return bool(self.ctx.params.get("dry_run"))


def _compared(shown: Any, error: BaseException | None) -> Iterator[tuple[str, tuple[str, ...], Compared]]:
    """Title, collections and figures of every comparison of two searches that a command has made."""
    from qmigrate.commands.evaluate import Evaluated
    from qmigrate.commands.results import UpgradeResult
    from qmigrate.commands.try_models import TriedModels
    from qmigrate.model.facts.comparison import Compared
    from qmigrate.model.facts.phases import Quality
    from qmigrate.model.facts.stored import loaded

    failed = error.failed.values() if isinstance(error, CollectionsFailedError) else [error]
    for one in failed:
        if isinstance(one, VerificationError) and isinstance(one.facts.get("compared"), dict):
            found, name = loaded(Compared, one.facts["compared"]), str(one.facts.get("collection", ""))
            yield f"Search in {name}: {_sides(found)}", (name,), found
    if isinstance(shown, Evaluated):
        yield f"Search: {shown.a} → {shown.b}", (shown.a, shown.b), shown.result
    if isinstance(shown, UpgradeResult):
        for outcome in shown.outcomes:
            for found in [each for facts in outcome.learned(Quality) for each in facts.compared or ()]:
                yield f"Search in {outcome.collection}: {_sides(found)}", (outcome.collection,), found
    if isinstance(shown, TriedModels):
        for model in shown.models:
            if model.compared is not None:
                title = f"Search in the sample: {shown.models[0].embedder} → {model.embedder}"
                yield title, (shown.collection,), model.compared


def _sides(found: Compared) -> str:
    """The vectors; before and after where both are called the same."""
    old, new = (one or "(unnamed)" for one in (found.old_vector, found.vector))
    return f"{old} → {new}" if old != new else f"{new}, before and after"


def _failure(error: BaseException) -> Ended:
    """How a command that raises ends."""
    from qmigrate.console.reports import Ended
    from qmigrate.settings.values import redact

    if isinstance(error, QmigrateError):
        hint = tuple((error.hint or "").splitlines())
        return Ended(error.exit_code, error.message, hint, type(error).__name__)
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return Ended(_INTERRUPTED, "interrupted", ("run the same command again: it continues from where it was",))
    return Ended(QmigrateError.exit_code, redact(f"unexpected {type(error).__name__}: {error}"), (), "unexpected")
