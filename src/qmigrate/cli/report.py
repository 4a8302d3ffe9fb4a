"""--html: what a command has found or done, as one file. The report itself is made by the console's templates."""

from __future__ import annotations

import os
import shlex
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qmigrate.cli.shell import Options, Shell, echo
from qmigrate.errors import CollectionsFailedError, QmigrateError, UsageError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmigrate.console.reports import Ended, Material

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
        if self.since is None or self.shell.options.verb != "upgrade":
            return found
        try:
            import qmigrate.commands.runs as runs

            settings = self.shell.settings()
            return replace(found, runs=runs.begun_since(settings, self.since), fields=settings.console.fields)
        except QmigrateError as trouble:
            return replace(found, notes=(f"The runs of this command can't be read: {trouble.message}",))

    def _is_dry(self) -> bool:
        return bool(self.ctx.params.get("dry_run"))


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
