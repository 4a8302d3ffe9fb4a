"""Asking for approvals: what a verb may not do alone is written down as a request. It approves nothing."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from dataclasses import replace

from qmigrate.commands.edits import count, place_of
from qmigrate.commands.session import Session
from qmigrate.engine.approval import counts, is_above
from qmigrate.engine.fixes.kinds import opened as opened_fix
from qmigrate.errors import ApprovalNeededError
from qmigrate.ledger.approvals import ApprovalRequest, Requests
from qmigrate.ledger.fence import system_user
from qmigrate.model.approval import DELETIONS, DROP, RESET, Person, Wanted, wanted
from qmigrate.model.fix import Found
from qmigrate.model.plan import CollectionPlan, EditPoints, Erase, GoLive, Plan
from qmigrate.model.schema import JsonObject
from qmigrate.model.transform import PointId
from qmigrate.settings.load import Settings


def check_plan(opened: Session, plan: Plan) -> Plan:
    """Ask for everything that a plan needs an approval for, before anything of it is begun.

    It is counted again under the lease, right before each step begins.

    Returns:
        The plan, as it was given.

    Raises:
        ApprovalNeededError: no other person has approved it; nothing was changed, of no collection.
    """
    asked = [
        ask(opened, found)
        for item in plan.collections
        if opened.settings.for_collection(item.job.collection).fixes.approval is not None
        for found in _above(opened, item)
    ]
    if asked:
        raise waiting(asked)
    return plan


def asked_for(opened: Session, error: ApprovalNeededError) -> ApprovalNeededError:
    """The same error once its request is recorded, which it names."""
    return waiting([ask(opened, error.wish)]) if isinstance(error.wish, Wanted) else error


def ask(opened: Session, found: Wanted) -> ApprovalRequest:
    """Record a request; the one that is there already, where the same was asked for before."""
    settings = opened.settings.for_collection(found.collection).fixes.approval
    assert settings is not None  # noqa: S101  nothing needs an approval without it
    made, new = Requests(opened.ledger).ask(
        found,
        words_of(found),
        caller(opened.settings),
        above=str(settings.above),
        tolerance=settings.tolerance,
        expires=settings.expires,
        again=None if opened.settings.called.again is None else dict(opened.settings.called.again),
    )
    if new:
        opened.progress.say(f"{found.collection}: request {made.id} waits for another person's approval")
    return made


def waiting(asked: list[ApprovalRequest]) -> ApprovalNeededError:
    """The error that names the requests which wait for an approval."""
    parts = [
        f"{one.changes:,} of {one.points:,} points of {one.collection} (request {one.id})" for one in asked[:3]
    ] + ([f"{len(asked) - 3:,} more"] if len(asked) > 3 else [])
    one = asked[0]
    what = Wanted(one.collection, one.kind, {}, None).would
    shown = [
        {name: getattr(each, name) for name in ("id", "collection", "kind", "state", "changes", "points", "expires_at")}
        for each in asked
    ]
    return ApprovalNeededError(
        f"{'; '.join(parts)} would {what}, and above {one.above} another person has to approve that; nothing was "
        "changed",
        hint=f"another person: qmigrate requests show {one.id}, then qmigrate approve {one.id}; then the same command",
        facts={"request": one.id, "requests": shown},
    )


def caller(settings: Settings, *, agent: str | None = None) -> Person:
    """Who calls, with what is known of them besides the name."""
    behind, seen = settings.metadata.get("requested_by"), settings.metadata.get("agent")
    more = {
        "agent": agent or (seen if isinstance(seen, str) else None),
        "behind": behind if isinstance(behind, str) else None,
    }
    actor = settings.actor or system_user()
    if settings.called.proven is not None:
        return Person(actor, settings.called.proven, agent=agent)
    return Person(actor, None, _os_user(), socket.gethostname(), **more)


def _os_user() -> str:
    """The user of this process by its number: the environment, which any process may set, is not asked."""
    if sys.platform == "win32":
        found = system_user().partition("@")[0]
    else:
        import os
        import pwd

        number = os.getuid()
        try:
            found = pwd.getpwuid(number).pw_name
        except KeyError:
            found = str(number)
    return found


def words_of(found: Wanted) -> str:
    """What is asked for, in words, with everything that selects points."""
    edit = found.what.get("edit") or {}
    if found.kind == RESET:
        return f"start over with an empty {found.collection}"
    if found.kind == DROP:
        return f"drop the collection {found.collection}"
    if not edit:
        return f"delete the generation {found.what.get('generation')} before its holdover ends"
    return f"{_VERBS.get(found.kind, found.kind)} of {found.collection}: {'; '.join(_selection(edit))}"


_VERBS = {"delete": "delete points", "soft": "mark points as deleted", "orphans": "delete points without a row"}
_VERBS["erase"] = "erase points for good"
#: Ids that are named in words; the request has all of them.
_IDS = 20


def _selection(edit: dict[str, object]) -> Iterator[str]:
    import json

    ids, prefix, sql = edit.get("ids"), edit.get("prefix"), edit.get("sql")
    if isinstance(ids, list):
        yield f"{len(ids):,} ids: {', '.join(map(str, ids[:_IDS]))}{', …' if len(ids) > _IDS else ''}"
    if isinstance(prefix, list):
        yield f"{prefix[0]} below {prefix[1]}"
    if edit.get("filter") is not None:
        yield f"filter {json.dumps(edit['filter'], ensure_ascii=False)}"
    if isinstance(sql, dict):
        given = json.dumps(sql.get("parameters") or {}, ensure_ascii=False, default=str)
        values = "" if given == "{}" else f" with {given}"
        yield f"{sql.get('key')} of the query on {sql.get('database')}: {sql.get('sql')}{values}"
    if isinstance(older := edit.get("older_than"), dict):
        yield f"{older.get('field')} older than {float(str(older.get('age') or 0)) / 86400:g} days"
    if edit.get("export") is False and edit.get("kind") != "erase":
        yield "nothing is kept for an undo"


#: Of an edit that is only counted: it writes nowhere what it has found.
SILENT: JsonObject = {"ids_to": None, "missing_to": None, "missing_table": None}


def _above(opened: Session, item: CollectionPlan) -> Iterator[Wanted]:
    """The steps of a job that need an approval and have none, as things stand now."""
    name = item.job.collection
    settings = opened.settings.for_collection(name).fixes.approval
    assert settings is not None  # noqa: S101  asked by the caller
    before, seen = 0, set[PointId]()
    for position, step in enumerate(item.job.steps):
        found = wanted(item.job, position)
        if found is None or found.kind not in (*DELETIONS, RESET, DROP):
            continue
        source = step.source if isinstance(step, GoLive) else name
        if opened.store.describe(source or name) is None:
            # It is only made by an earlier step, which counts it then.
            continue
        if isinstance(step, EditPoints):
            now = _counted(opened, name, step, seen if len(item.job.steps) > 1 else None)
            found = replace(found, changes=now.changes, points=now.points)
        else:
            points = opened.store.count(source or name)
            found = replace(found, changes=points, points=points)
        if is_above(settings, opened.ledger, found, planned=before) and not _has_one(opened, found):
            yield found
        before += found.changes


def _counted(opened: Session, name: str, step: EditPoints, seen: set[PointId] | None) -> Found:
    """What a step would take away now; it is only read, and nothing is written.

    Args:
        seen: ids that earlier steps will have taken; those of this one are added.
    """
    edit = {**step.edit, **SILENT}
    if seen is None or step.kind == Erase.kind:
        return count(opened, name, edit, step.ops)
    found = Found()
    with opened_fix(place_of(opened, name, step.ops), edit) as fix:
        for entry in fix.find(found):
            found.changes += entry.id not in seen
            seen.add(entry.id)
    return found


def _has_one(opened: Session, found: Wanted) -> bool:
    """Whether an approval of just this is there; whether its number still fits is seen when it is used."""
    settings = opened.settings.for_collection(found.collection).fixes.approval
    known = Requests(opened.ledger).approved(found.collection, found.digest)
    return settings is not None and any(one.is_whole and counts(settings, one) for one in known)
