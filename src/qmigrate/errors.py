"""The error tree: every failure a user can meet, with its exit code. It must not import anything of the package.

::

    QmigrateError                      1   internal: a promise of the code itself was broken
    ├── UsageError                     2   what the user typed or wrote
    │   ├── ConfigError                2   qmigrate.yaml, environment or flags
    │   │   └── NotConfiguredError     2   the settings don't say what is asked for
    │   ├── RevisionError              2   a revision file or the graph
    │   │   └── UnknownRevisionError   2   there is no revision of that id
    │   ├── UnknownNameError           2   a name that was given and nothing has; also a NotFoundError
    │   ├── PlanError                  2   an operation that can't be done, found while planning
    │   ├── EmbedError                 2   an embedder or its input
    │   └── RowsError                  2   the application's SQL: no SELECT, or rows that don't fit
    ├── PendingError                   3   revisions are pending
    ├── DriftError                     4   live schema, or a recorded checksum, differs
    ├── VerificationError              5   the proof failed
    ├── LeaseHeldError                 6   another process works on the collection
    ├── RepairNeededError              7   a human has to decide
    │   └── ForeignLedgerError         7   the collection belongs to another ledger
    ├── UnavailableError               9   a store can't be used
    │   ├── StoreError                 9   Qdrant: unreachable, denied, or a request failed
    │   │   ├── NotFoundError          9   what was addressed is not there (404)
    │   │   ├── ConflictError          9   it exists already (409)
    │   │   ├── UnchangedError         9   a change was refused before anything of its step was changed
    │   │   ├── DeniedError            9   the api key is missing, wrong, or its rights are too small
    │   │   └── RateLimitedError       9   refused for now by a limiter (429)
    │   ├── LedgerError                9   SQL: unreachable or not writable
    │   ├── DatabaseError              9   the application's SQL database is unreachable
    │   ├── EmbedderError              9   an embedding server: unreachable, denied, or out of order
    │   └── ServerTooOldError          9   a planned feature needs a newer server
    ├── RefusedError                  10   needs explicit consent, or is not done on purpose
    │   ├── PointsNotFoundError       10   points that were named are not there
    │   ├── ApprovalNeededError       10   more points would go than one person may decide: it was asked for
    │   ├── CountMovedError           10   an approval is for another number of points than there are now
    │   ├── OvertakenError            10   another client has written what would be lost, since it was asked about
    │   ├── ArchiveError              10   an archive is damaged, cut off or edited: it is not used
    │   └── QuarantineError           10   more points could not be embedded than the settings allow
    ├── HeldError                     11   built and proven; waits for its cut-over
    ├── CollectionsFailedError   (first)   some collections failed while the others continued; the first one's code
    └── StoppedError             130/143   stopped at a checkpoint by a signal
        └── BudgetError           12       stopped at a checkpoint, since the budget is used up
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: ``name=value`` where the name shows that the value opens something: passwords, keys, signatures of presigned URLs.
#: Short names that also mean other things count only inside the query of a URL.
_SECRET = re.compile(
    r"(?i)((?<![\w.%~-])[\w.%~-]*"
    r"(?:password|passwd|passphrase|api[-_]?key|access[-_]?key|token|secret|signature|credential|authorization)"
    r"[\w.%~-]*|(?<=[?&;])(?:sig|pwd|key|auth|code|hmac|hash|policy|key-pair-id|googleaccessid))=[^&\s]*"
)
#: ``https://name:password@host``; what is a placeholder already, as ``<password>``, stays.
_PASSWORD = re.compile(r"(://[^\s/?#:@]*:)(?!\*{3}@)[^\s/?#]+@")


def without_secrets(text: str) -> str:
    """A text in which ``***`` stands for the values of parameters such as ``token=``, and for passwords of URLs."""
    if "://" in text:
        text = _PASSWORD.sub(r"\1***@", text)
    return _SECRET.sub(r"\1=***", text) if "=" in text else text


class QmigrateError(Exception):
    """The root. `message` has what, where and why; `hint` is the next command or the repair.

    Args:
        message: one readable sentence or more, without secrets.
        hint: what to do next, usually a command; printed after an arrow.
        facts: plain JSON for ``--json``.
    """

    exit_code: int = 1
    #: For programs, where one exit code stands for several things; else empty.
    code: str = ""

    def __init__(self, message: str, *, hint: str | None = None, facts: dict[str, object] | None = None) -> None:
        # Whatever a message quotes, a URL of a payload or the text of a library: no key is in it.
        message = without_secrets(message)
        super().__init__(message)
        self.message = message
        self.hint = None if hint is None else without_secrets(hint)
        self.facts = dict(facts or {})


class UsageError(QmigrateError):
    """What the user typed or wrote can't be done."""

    exit_code = 2


class ConfigError(UsageError):
    """Settings are missing, malformed or contradictory."""


class NotConfiguredError(ConfigError):
    """The settings don't say what is asked for."""

    code = "not_configured"


class RevisionError(UsageError):
    """A revision file or the revision graph can't be used."""


class UnknownRevisionError(RevisionError):
    """There is no revision of the id that was given; nothing was done."""

    code = "unknown_revision"


class PlanError(UsageError):
    """An operation can't be done on this collection; nothing was written."""


class EmbedError(UsageError):
    """An embedder can't be loaded, or an input can't be embedded."""


class RowsError(UsageError):
    """A query of the application's SQL can't be used, or its rows don't fit; nothing was changed."""


class PendingError(QmigrateError):
    """Revisions are pending."""

    exit_code = 3


class DriftError(QmigrateError):
    """The live schema differs from the recorded one, or an applied revision file has changed."""

    exit_code = 4


class VerificationError(QmigrateError):
    """The proof failed; the live collection was not touched."""

    exit_code = 5


class LeaseHeldError(QmigrateError):
    """Another process holds the lease of the collection."""

    exit_code = 6


class RepairNeededError(QmigrateError):
    """The recorded and the found state can't be brought together without a human."""

    exit_code = 7


class ForeignLedgerError(RepairNeededError):
    """The collection is sealed by another ledger, or by a newer state of this one."""


class UnavailableError(QmigrateError):
    """A store can't be used."""

    exit_code = 9


class StoreError(UnavailableError):
    """Qdrant is unreachable, denied the request, or failed it."""


class NotFoundError(StoreError):
    """The collection, alias, snapshot or point is not there."""


class UnknownNameError(UsageError, NotFoundError):
    """Nothing has the name that was given, of a collection, generation, snapshot, fix or file; nothing was done."""

    code = "unknown_name"


class ConflictError(StoreError):
    """What should be made exists already."""


class UnchangedError(StoreError):
    """Qdrant has refused the first change of a step, and everything is as it was: the run is over."""


class NoVersionsError(StoreError):
    """Point versions can't be listed, or don't show what was written: contents have to be read instead.

    The message is the reason, in one sentence.
    """


class DeniedError(StoreError):
    """The api key is missing or wrong, or its rights are too small.

    Attributes:
        known: whether the server accepts the key: then it is the rights that are too small (403, not 401).
    """

    def __init__(self, message: str, *, hint: str | None = None, known: bool = True) -> None:
        super().__init__(message, hint=hint)
        self.known = known


class RateLimitedError(StoreError):
    """A limiter of the server refused the request for now."""


class LedgerError(UnavailableError):
    """The SQL database of the ledger is unreachable or not writable."""


class DatabaseError(UnavailableError):
    """A SQL database of the application is unreachable, or the connection broke."""


class EmbedderError(UnavailableError):
    """An embedding server is unreachable, denies the key, or answers something unreadable; no item is to blame."""


class ServerTooOldError(UnavailableError):
    """A planned feature needs a newer Qdrant server."""


class RefusedError(QmigrateError):
    """Not done without explicit consent; nothing was changed."""

    exit_code = 10


class PointsNotFoundError(RefusedError):
    """Points that were named are not there; nothing was changed."""

    code = "not_found"


class ApprovalNeededError(RefusedError):
    """More points would go than one person may decide; nothing was changed.

    Args:
        wish: what it is about, for who records the request; None once it is recorded.
    """

    code = "approval_needed"

    def __init__(
        self, message: str, *, hint: str | None = None, facts: dict[str, object] | None = None, wish: Any = None
    ) -> None:
        super().__init__(message, hint=hint, facts=facts)
        self.wish = wish


class CountMovedError(RefusedError):
    """An approval is for another number of points than there are now; nothing was changed, and it is void."""

    code = "count_moved"


class OvertakenError(RefusedError):
    """Another client has written what would be lost, since it was asked about; nothing was changed: the run is over."""


class ArchiveError(RefusedError):
    """An archive is damaged, cut off or edited; it is not used, and the message names the line."""


class QuarantineError(RefusedError):
    """More points could not be embedded than limits.max_quarantine allows; the run resumes where it stopped."""


class HeldError(QmigrateError):
    """The next generation is built and proven, and waits for its cut-over: no failure, and nothing has moved."""

    exit_code = 11


class CollectionsFailedError(QmigrateError):
    """Some collections failed while the others continued; the exit code is that of the first failure.

    Args:
        failed: logical name -> what went wrong, in the order in which it did; not empty.
        result: what became of the others, as the verb would have returned it.
    """

    def __init__(self, failed: Mapping[str, QmigrateError], result: Any) -> None:
        first = next(iter(failed.values()))
        lines = [f"{name}: {error.message}" for name, error in failed.items()]
        message = lines[0] if len(lines) == 1 else "\n  ".join([f"{len(lines)} collections failed", *lines])
        hints = dict.fromkeys(error.hint for error in failed.values() if error.hint)
        facts = [
            {"collection": name, "type": type(error).__name__, "message": error.message, "hint": error.hint}
            | {"exit_code": error.exit_code, "facts": error.facts}
            for name, error in failed.items()
        ]
        super().__init__(message, hint="\n".join(hints) or None, facts={"failed": facts, "result": result})
        self.exit_code = first.exit_code
        self.failed = dict(failed)
        self.result = result


class StoppedError(QmigrateError):
    """Stopped at a checkpoint by a signal; the same command resumes from there.

    Args:
        asked_by: who has asked this very run to stop; None where its process is to end.
    """

    exit_code = 130

    def __init__(self, message: str, *, signal_number: int = 2, asked_by: str | None = None) -> None:
        super().__init__(message, hint="run the same command again: it continues from here")
        self.exit_code = 128 + signal_number
        self.asked_by = asked_by

    @property
    def ends_process(self) -> bool:
        """Whether the process is to end, so that another one may continue at once; else a person decides."""
        return self.asked_by is None


class BudgetError(StoppedError):
    """Stopped at a checkpoint: ``rebuild.budget`` is used up; with a larger one the same command resumes from there."""

    exit_code = 12

    def __init__(self, message: str, *, hint: str | None = None, facts: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.hint = hint or self.hint
        self.facts = facts or {}
        self.exit_code = 12

    @property
    def ends_process(self) -> bool:
        """Never: what continues is stopped by the same budget."""
        return False
