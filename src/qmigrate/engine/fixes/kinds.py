"""Which kind of data fix an edit means, opened for it. It changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from qmigrate.engine.fixes.delete import Removal
from qmigrate.engine.fixes.erase.selection import Erasure
from qmigrate.engine.fixes.journal import write_ids
from qmigrate.engine.fixes.orphans import Orphans
from qmigrate.engine.fixes.payload import Assign, SoftRemoval
from qmigrate.engine.fixes.protocol import Fix, FixSource, check_cap, consented
from qmigrate.engine.fixes.purge import KIND as PURGE
from qmigrate.engine.fixes.purge import Purge
from qmigrate.engine.fixes.quarantine import Retry
from qmigrate.engine.fixes.sync import Sync
from qmigrate.engine.fixes.undo import BringBack, Undo
from qmigrate.errors import RepairNeededError
from qmigrate.model.facts.edits import Edit, words_of
from qmigrate.model.fix import Found
from qmigrate.model.schema import JsonObject

#: What is found like a fix, and done by a checklist of its own: ``engine/fixes/erase/erase.py``.
ERASE = "erase"
Opener = Callable[[FixSource, JsonObject], Fix]


_KINDS: Mapping[str, Opener] = {
    "sync": Sync,
    "assign": Assign,
    "payload": Assign,
    "undo": Undo,
    "delete": Removal,
    "soft": SoftRemoval,
    PURGE: Purge,
    "orphans": Orphans,
    "bring_back": BringBack,
    "retry": Retry,
}


@contextmanager
def opened(place: FixSource, edit: JsonObject) -> Iterator[Fix]:
    """The fix of an edit.

    Raises:
        RepairNeededError: this version has no such fix.
    """
    kind = Edit.of(edit).kind
    if kind not in _KINDS:
        raise RepairNeededError(
            f"this version of qmigrate has no fix {kind!r}", hint="use the version that planned it"
        )
    fix = _KINDS[kind](place, edit)
    try:
        yield fix
    finally:
        fix.close()


def preview(place: FixSource, edit: JsonObject) -> Found:
    """What a fix would do now: exact counts and a sample. It only reads."""
    found, said = Found(), Edit.of(edit)
    if said.kind == ERASE:
        found.changes = sum(1 for _ in Erasure(place, edit).find(found))
        return found
    with opened(place, edit) as fix:
        if said.ids_to:
            found.changes = write_ids(Path(said.ids_to), ((entry,) for entry in fix.find(found)))
        else:
            found.changes = sum(1 for _ in fix.find(found))
    return found


def check(place: FixSource, edit: JsonObject) -> None:
    """Refuse what a fix would refuse, were it done now. It only reads.

    Raises:
        RefusedError: more would change than was agreed to; nothing was changed.
        QmigrateError: what it reads doesn't fit.
    """
    found, said = Found(), Edit.of(edit)
    # Of what is checked twice, a part may be left by then.
    expected = None if said.kind == "orphans" else said.expect
    if said.kind == ERASE:
        erasure = Erasure(place, edit)
        found.changes, share = sum(1 for _ in erasure.find(found)), erasure.share()
    else:
        with opened(place, edit) as fix:
            found.changes, share = sum(1 for _ in fix.find(found)), fix.share()
            if isinstance(fix, Orphans):
                fix.check_met(found)
    agreed = consented(edit, place.collection)
    would, ops = words_of(edit).would, place.operations
    check_cap(place.collection, found, share, expected, agreed, would=would, operations=ops)
