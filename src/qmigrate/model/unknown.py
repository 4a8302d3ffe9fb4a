"""Names that were given and that nothing has: one error in one wording, whichever verb was asked. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

from qmigrate.errors import UnknownNameError
from qmigrate.model.patterns import has_signs, met

#: Kind of thing -> where its names are listed.
LISTED = {
    "collection": "qmigrate status lists what is there",
    "generation": "qmigrate gc --dry-run lists what is kept, by its names",
    "snapshot": "qmigrate snapshot list shows what is there",
    "fix": "qmigrate history --deletions lists them",
    "file": "qmigrate history --deletions --json names the files of fixes; their numbers work, too",
}


def unknown(
    kind: str, given: object, known: Iterable[str] = (), *, of: str = "", hint: str | None = None
) -> UnknownNameError:
    """The error for a name, or a glob, that means nothing.

    Args:
        kind: a key of :data:`LISTED`.
        known: the names that there are, for what was probably meant.
        of: where it was looked for, if that isn't everywhere: `` in the ledger``.
    """
    glob = isinstance(given, str) and has_signs(given)
    said = f"no {kind} matches {given!r}" if glob else f"there is no {kind} {given!r}"
    close = difflib.get_close_matches(str(given), sorted(known), n=1)
    more = f'; did you mean "{close[0]}"?' if close else ""
    return UnknownNameError(f"{said}{of}{more}", hint=hint or LISTED[kind], facts={"kind": kind, "name": str(given)})


def check_known(kind: str, patterns: Iterable[str], known: Collection[str]) -> None:
    """Every pattern means something.

    Raises:
        UnknownNameError: one doesn't.
    """
    for pattern in patterns:
        if not met(pattern, known):
            raise unknown(kind, pattern, known)
