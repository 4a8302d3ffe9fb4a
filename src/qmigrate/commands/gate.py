"""Whether the ledger has a revision as done: what another migration tool waits for. It only reads SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qmigrate.commands.held_runs import held_run
from qmigrate.commands.inline import applied_files, files_of, with_inline
from qmigrate.commands.session import opened_ledger
from qmigrate.errors import HeldError, PendingError, QmigrateError
from qmigrate.model.state import OpenRun
from qmigrate.planner import check_checksums
from qmigrate.planner.guard import unfinished
from qmigrate.revisions.graph import Revisions
from qmigrate.settings.load import Settings
from qmigrate.text import quote

#: Collections that a message lists.
_LISTED = 5


@dataclass(frozen=True, slots=True)
class Gate:
    """A revision as the ledger has it.

    Attributes:
        revision: its id.
        checksum: of its file.
        pending: logical name -> what it hasn't got, of the revision and everything before it.
        held: logical names whose next generation is built and waits for its cut-over.
        running: logical names that a process works on now.
        interrupted: logical names whose run was interrupted or has failed.
    """

    revision: str
    checksum: str
    pending: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    held: tuple[str, ...] = ()
    running: tuple[str, ...] = ()
    interrupted: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether every collection has it."""
        return not self.pending

    @property
    def command(self) -> str:
        """What opens it."""
        if self.held and set(self.held) >= set(self.pending):
            return f"qmigrate cutover {' '.join(map(quote, self.held))}"
        return f"qmigrate upgrade {quote(self.revision)}"

    def describe(self) -> str:
        """Why it is closed, for people."""
        names = sorted(self.pending)
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        listed = ", ".join(f"{name} (needs {', '.join(self.pending[name])})" for name in names[:_LISTED])
        parts = [f"{listed}{more}"]
        if self.held:
            parts.append(f"built, proven and held: {', '.join(self.held)}")
        if self.running:
            parts.append(f"another process is working on {', '.join(self.running)}")
        if self.interrupted:
            parts.append(f"interrupted: {', '.join(self.interrupted)}; the same command resumes from there")
        return "; ".join(parts)

    def refusal(self, who: str) -> QmigrateError:
        """The error for a caller that must not pass, beginning with its name."""
        message = f"{who} needs the vector revision {self.revision}, which is not done: {self.describe()}"
        kind = HeldError if self.held and set(self.held) >= set(self.pending) else PendingError
        facts: dict[str, object] = {"revision": self.revision, "pending": dict(self.pending), "held": list(self.held)}
        return kind(message, hint=self.command, facts=facts)


def gate_state(settings: Settings, revision: str) -> Gate:
    """The gate of a revision, from the files and the ledger; Qdrant is not asked.

    Args:
        revision: an id, or the beginning of one.

    Raises:
        RevisionError: there is no such revision.
        DriftError: an applied file has changed.
        LedgerError: the ledger can't be read.
    """
    files = Revisions.load(settings.scripts)
    with opened_ledger(settings) as ledger:
        revisions = with_inline(files, ledger)
        check_checksums(files_of(revisions), applied_files(revisions, ledger))
        found = revisions.standing_for(revision)
        wanted = revisions.ancestors(found.id) | {found.id}
        pending = unfinished(ledger.all_applied(), revisions, wanted, ledger.away())
        runs = {run.job.collection: run for run in ledger.open_runs() if run.job.collection in pending}
    return Gate(
        revision=found.id,
        checksum=found.checksum,
        pending=pending,
        held=tuple(sorted(name for name, run in runs.items() if held_run(run) is not None)),
        running=tuple(sorted(name for name, run in runs.items() if run.leased)),
        interrupted=tuple(sorted(name for name, run in runs.items() if _is_interrupted(run))),
    )


def _is_interrupted(run: OpenRun) -> bool:
    return not run.leased and held_run(run) is None
