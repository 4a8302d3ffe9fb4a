"""Kinds of jobs: how each is done, and the result of one that an earlier worker has done. It queues none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import qmigrate.commands.examined as examined
import qmigrate.commands.fix as fix
import qmigrate.commands.requests as requests
import qmigrate.commands.vectors as vectors
from qmigrate.commands.cutover import cutover
from qmigrate.commands.held_runs import held_run
from qmigrate.commands.rollback import abort, rollback
from qmigrate.commands.upgrade import upgrade
from qmigrate.errors import RefusedError, UnknownNameError
from qmigrate.ledger import DeletionRow, Ledger
from qmigrate.model.facts.audit import Audited
from qmigrate.model.schema import JsonObject
from qmigrate.ports import Progress
from qmigrate.settings.load import Settings
from qmigrate.text import to_plain

Arguments = Mapping[str, Any]
#: Arguments that no caller gives: of a cut-over, what was held when it was asked for; of what runs since another person
#: has approved it, the number of that request; where approvals are asked for, what has logged in who asked.
HELD, APPROVAL, PROVEN = "held", "approved", "proven"
OWN = frozenset({HELD, APPROVAL, PROVEN})


@dataclass(frozen=True, slots=True)
class JobKind:
    """What a job can be.

    Attributes:
        run: does it, and returns a result that is plain JSON.
        recovered: the result, from the rows of the audit that its runs have left, and what was to come after them;
            None where it leaves none, and the verb goes on with the collections that are left.
        several: whether it may be about several collections.
        takes: names of its arguments.
        needs: those of them that have no default.
    """

    run: Callable[[Settings, Arguments, Progress], JsonObject]
    recovered: Callable[[Settings, Arguments, Sequence[DeletionRow]], JsonObject] | None
    takes: frozenset[str]
    needs: frozenset[str] = frozenset()
    several: Callable[[Settings, Arguments], bool] = lambda _settings, _given: False


def _delete(settings: Settings, given: Arguments, progress: Progress) -> JsonObject:
    agreed, reason = given.get("most"), given["reason"]
    return asdict(
        vectors.delete(settings, given["endpoint"], given["value"], reason=reason, most=agreed, progress=progress)
    )


def _retrain(settings: Settings, given: Arguments, progress: Progress) -> JsonObject:
    agreed, reason = given.get("expect"), given["reason"]
    found = vectors.retrain_directory(
        settings, given["path_prefix"], given["category_id"], reason=reason, expect=agreed, progress=progress
    )
    return asdict(found)


def _orphans(settings: Settings, given: Arguments, progress: Progress) -> JsonObject:
    return asdict(vectors.delete_orphans(settings, reason=given["reason"], most=given.get("most"), progress=progress))


def _reset(settings: Settings, given: Arguments, progress: Progress) -> JsonObject:
    return asdict(vectors.delete_all(settings, reason=given["reason"], expect=given.get("expect"), progress=progress))


def _session(settings: Settings, given: Arguments, progress: Progress) -> JsonObject:
    """Delete a training session, and its points before it.

    Raises:
        UnknownNameError: there is none.
    """
    number, points = given["session"], given.get("vectors", True)
    found = vectors.delete_session(settings, number, vectors=points, reason=given["reason"], progress=progress)
    if found is None:
        raise UnknownNameError(f"there is no training session {number}")
    return asdict(found)


def _undo(settings: Settings, given: Arguments, progress: Progress) -> JsonObject:
    return _plain(fix.undo(settings, given["log"], progress=progress))


def _upgrade(settings: Settings, given: Arguments, progress: Progress) -> JsonObject:
    consents = {name: bool(given.get(name)) for name in ("hold", "allow_gap")}
    target = given.get("target") or "head"
    return _plain(upgrade(settings, target, only=given.get("only"), progress=progress, **consents))


def _cutover(settings: Settings, given: Arguments, progress: Progress) -> JsonObject:
    """Release what was held when it was asked for, and nothing that waits since.

    Raises:
        RefusedError: all of it was held later.
    """
    names, meant = given["names"], given.get(HELD)
    if meant is not None:
        found = cutover(settings, names, dry_run=True)
        later = [one.collection for one in found.held if [one.run, one.physical] != meant.get(one.collection)]
        left = [one for one in found.chosen if one not in later]
        if later and not left:
            raise RefusedError(
                f"{', '.join(later)} was not held when this was asked for: what waits now is something else",
                hint="qmigrate status shows it; ask for it again",
            )
        names = left if later else names
    return _plain(cutover(settings, names, progress=progress))


def held_now(ledger: Ledger) -> JsonObject:
    """Collection -> run and generation that wait."""
    found = [held_run(run) for run in ledger.open_runs()]
    return {one.collection: [one.run, one.physical] for one in found if one is not None}


def _rollback(settings: Settings, given: Arguments, progress: Progress) -> JsonObject:
    writes = given.get("writes") or "refuse"
    return _plain(rollback(settings, given["target"], only=given.get("only"), writes=writes, progress=progress))


def _request(settings: Settings, given: Arguments, progress: Progress) -> JsonObject:
    return asdict(requests.run(settings, given["request"], progress=progress))


def _abort(settings: Settings, given: Arguments, progress: Progress) -> JsonObject:
    return _plain(abort(settings, given["collection"], run=given.get("run"), progress=progress))


def _plain(result: Any) -> JsonObject:
    found: JsonObject = to_plain(result)
    return found


def _of_deletion(_settings: Settings, _given: Arguments, rows: Sequence[DeletionRow]) -> JsonObject:
    return {"deleted": sum(row.count for row in rows), "log": rows[-1].id if rows else None}


def _of_session(settings: Settings, given: Arguments, rows: Sequence[DeletionRow]) -> JsonObject:
    """Its points are gone; its rows may be there still."""
    number = given["session"]
    vectors.delete_session(settings, number, vectors=False, reason=given["reason"])
    return {**_of_deletion(settings, given, rows), "session": number}


def _of_retraining(settings: Settings, given: Arguments, rows: Sequence[DeletionRow]) -> JsonObject:
    """The training is queued, once more where the worker died right behind that: without it the points were gone."""
    path, category = given["path_prefix"], given["category_id"]
    job = vectors.queued(settings, path, category, reason=given["reason"])
    told = rows[-1].told if rows else Audited()
    named, marked = dict(told.rows or {}), told.marked or ()
    sessions = named.get(settings.console.sessions, marked[0] if marked else 0)
    log = rows[-1].id if rows else 0
    return {"deleted": sum(row.count for row in rows), "job": job or f"retrain-{log}", "sessions": max(0, sessions)}


def _of_orphans(_settings: Settings, _given: Arguments, rows: Sequence[DeletionRow]) -> JsonObject:
    """How many went; their ids are in the export that `fix undo` needs: ``qmigrate export show``."""
    return {"deleted": sum(row.count for row in rows), "ids": [], "log": rows[-1].id if rows else None}


def _all(*names: str, agreed: str | None = None) -> tuple[frozenset[str], frozenset[str]]:
    """Arguments that all have to be given.

    Args:
        agreed: one that holds how many points a person has agreed to, where one was asked.
    """
    return frozenset(names) | ({agreed} if agreed else set()), frozenset(names)


#: By name. What has no row of the audit of its own (a revision that is applied, a name that is moved) is asked of the
#: ledger by the verb itself, which then does nothing.
KINDS: Mapping[str, JobKind] = {
    "delete": JobKind(
        _delete,
        _of_deletion,
        *_all("endpoint", "value", "reason", agreed="most"),
        several=lambda settings, given: vectors.is_about_several(settings, given["endpoint"]),
    ),
    "retrain": JobKind(_retrain, _of_retraining, *_all("path_prefix", "category_id", "reason", agreed="expect")),
    "orphans": JobKind(
        _orphans,
        _of_orphans,
        *_all("reason", agreed="most"),
        several=lambda settings, _given: vectors.is_about_several(settings, "orphans"),
    ),
    "session": JobKind(
        _session,
        _of_session,
        frozenset({"session", "vectors", "reason"}),
        frozenset({"session", "reason"}),
        several=lambda settings, _given: vectors.is_about_several(settings, "session"),
    ),
    "reset": JobKind(_reset, _of_deletion, *_all("reason", agreed="expect")),
    "undo": JobKind(_undo, _of_deletion, *_all("log")),
    examined.KIND: JobKind(examined.examine, None, *_all("collection")),
    "request": JobKind(_request, _of_deletion, *_all("request")),
    "upgrade": JobKind(_upgrade, None, frozenset({"target", "only", "hold", "allow_gap"})),
    "abort": JobKind(_abort, None, frozenset({"collection", "run"}), frozenset({"collection"})),
    "cutover": JobKind(_cutover, None, *_all("names")),
    "rollback": JobKind(_rollback, None, frozenset({"target", "only", "writes"}), frozenset({"target"})),
}
