"""requests, approve, reject: what waits for another person, who decides it, and how it runs then. It plans nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import qmigrate.commands.reset as reset
from qmigrate.commands.asking import caller
from qmigrate.commands.run_fixes import run_fix
from qmigrate.commands.session import opened_ledger, session
from qmigrate.engine.approval import problem
from qmigrate.errors import RefusedError, UnknownNameError, UsageError
from qmigrate.ledger import DeletionRow, Ledger
from qmigrate.ledger.approvals import APPROVED, DONE, EXPIRED, PENDING, STATES, ApprovalRequest, Requests
from qmigrate.model.approval import DELETIONS, DROP, RESET, Person
from qmigrate.model.names import ExactName
from qmigrate.model.schema import JsonObject
from qmigrate.operations.base import Operation
from qmigrate.operations.deletion import DeleteOrphans, DeletePoints
from qmigrate.planner import plan_fix
from qmigrate.ports import Progress
from qmigrate.settings.load import Settings
from qmigrate.text import did_you_mean, quote


@dataclass(frozen=True, slots=True)
class RequestRow:
    """One request, as it is shown.

    Attributes:
        id: what ``approve`` takes.
        kind: ``delete``, ``soft``, ``orphans``, ``erase``, ``reset``, ``drop`` or ``gc``.
        words: what is asked for, in full.
        what: the same as it is bound to the approval, plain JSON.
        reason: why, as it was given.
        state: ``pending``, ``approved``, ``rejected``, ``expired``, ``moved`` (another number of points was found),
            ``running``, ``done``, ``ended`` (its run was aborted).
        changes: points that would go, counted when it was asked for.
        points: of the collection, then.
        share: the one of the other, 0 to 1.
        above: the bound.
        allowed: how many points there may be when it runs, the least and the most.
        asked_by: who asked, by the recorded name.
        asked_as: what is known of them, in words.
        decided_by: who has approved or rejected it, or None.
        decided_as: what is known of them, in words.
        run: that has used the approval, or None.
        log: its row of the audit, for ``fix undo``; None where there is none.
        undo: whether that can be undone.
        found: how many points there were when it ran.
        again: whether an approval by the HTTP API runs it.
        command: what to do next; None where nothing is left to do.
    """

    id: int
    collection: str
    kind: str
    words: str
    what: JsonObject
    reason: str | None
    state: str
    changes: int
    points: int
    share: float
    above: str
    allowed: tuple[int, int]
    asked_by: str
    asked_as: str
    created_at: datetime
    expires_at: datetime
    decided_by: str | None
    decided_as: str | None
    decided_at: datetime | None
    decided_why: str | None
    run: int | None
    log: int | None
    undo: bool
    found: int | None
    again: bool
    command: str | None


@dataclass(frozen=True, slots=True)
class AskedFor:
    """`requests`, newest first."""

    rows: tuple[RequestRow, ...]


def requests(
    settings: Settings | None = None,
    states: Sequence[str] = (),
    *,
    collection: str | None = None,
    limit: int = 50,
    offset: int = 0,
) -> AskedFor:
    """Requests that need, or have had, another person's approval, newest first.

    Args:
        states: only these.
        collection: only of this logical name.

    Raises:
        UsageError: a request is never in such a state.
    """
    settings = settings or Settings.load()
    odd = [one for one in states if one not in STATES]
    if odd:
        said = f"a request is never {odd[0]!r}{did_you_mean(odd[0], STATES)}"
        raise UsageError(said, hint=f"one of {', '.join(STATES)}")
    with opened_ledger(settings) as ledger:
        found = Requests(ledger).listed(states, collection, limit, offset)
        audit = ledger.deletions() if any(one.state == DONE for one in found) else []
        return AskedFor(tuple(_shown(one, audit) for one in found))


def request(settings: Settings | None, number: int) -> RequestRow:
    """One request.

    Raises:
        UnknownNameError: there is none.
    """
    with opened_ledger(settings or Settings.load()) as ledger:
        return _row(ledger, known_request(ledger, number))


def approve(
    settings: Settings | None, number: int, *, reason: str | None = None, agent: str | None = None
) -> RequestRow:
    """Approve what another person has asked for; it runs when it is asked for again.

    Args:
        reason: for the record.
        agent: the assistant that calls, where one is recognised: it can't approve anything.

    Raises:
        UnknownNameError: there is no such request.
        RefusedError: the caller can't approve it, it does not wait any more, or it was edited.
    """
    settings = settings or Settings.load()
    with opened_ledger(settings) as ledger:
        found, who = known_request(ledger, number), caller(settings, agent=agent)
        _check_open(found, (PENDING,))
        _check_whole(found)
        why = _problem(settings, found, who)
        if why is not None:
            raise RefusedError(f"request {number} was not approved: {why}", hint=f"qmigrate requests show {number}")
        if not Requests(ledger).approve(number, who, reason):
            raise _over(known_request(ledger, number))
        return _row(ledger, known_request(ledger, number))


def reject(
    settings: Settings | None, number: int, *, reason: str | None = None, agent: str | None = None
) -> RequestRow:
    """Reject what was asked for, or take an approval back before it is used; who asked may do so, too.

    Args:
        reason: for the record, and for who asked.
        agent: as :func:`approve` has it.

    Raises:
        UnknownNameError: there is no such request.
        RefusedError: it has run, or does not wait any more.
    """
    settings = settings or Settings.load()
    with opened_ledger(settings) as ledger:
        found = known_request(ledger, number)
        _check_open(found, (PENDING, APPROVED))
        if not Requests(ledger).reject(number, caller(settings, agent=agent), reason):
            raise _over(known_request(ledger, number))
        return _row(ledger, known_request(ledger, number))


@dataclass(frozen=True, slots=True)
class RequestRun:
    """`requests run`.

    Attributes:
        changed: points that went.
        log: its row of the audit; None where nothing was there.
    """

    request: int
    collection: str
    changed: int
    log: int | None


def run(
    settings: Settings | None,
    number: int,
    *,
    max_rate: float | None = None,
    lock_timeout: float | None = None,
    progress: Progress | None = None,
) -> RequestRun:
    """Do what was approved; the same as asking for it again.

    Args:
        max_rate: most points per second.

    Raises:
        UnknownNameError: there is no such request.
        UsageError: it belongs to a revision or to gc, which have commands of their own.
        RefusedError: no other person has approved it, or it is used up.
        CountMovedError: there are more or fewer points than it allows.
    """
    settings = settings or Settings.load()
    with opened_ledger(settings) as ledger:
        found = known_request(ledger, number)
        _check_open(found, (APPROVED,))
        _check_whole(found)
    edit: JsonObject | None = found.what.get("edit")
    if found.kind == RESET:
        there = reset.review(settings, found.collection, reason=str(found.reason)).points
        given: dict[str, Any] = {"expect": there, "confirm": reset.PHRASE, "lock_timeout": lock_timeout}
        done = reset.reset(settings, found.collection, reason=str(found.reason), progress=progress, **given)
        return RequestRun(number, found.collection, done.left, done.log)
    if edit is None or found.what.get("revisions") or edit.get("mark"):
        said = f"request {number} is part of {_command_of(found)}, which does more than that"
        raise UsageError(said, hint=_command_of(found))
    # What bounds it is the approval: who asked, and who approved, have seen the number.
    pace = {} if max_rate is None else {"max_rate": max_rate}
    with session(settings, writes=True, progress=progress) as opened:
        operation = _operation(found.collection, edit)
        result = run_fix(opened, lambda world: plan_fix(world, [(operation, {**edit, **pace})]), lock_timeout)
    return RequestRun(number, found.collection, result.changed, result.log)


def approved_run(settings: Settings, number: int) -> int | None:
    """The run that has done what was approved; None while it can still be begun.

    Raises:
        UnknownNameError: there is no such request.
        RefusedError: no other person has approved it (any more), or it is used up by what came to nothing.
    """
    with opened_ledger(settings) as ledger:
        found = known_request(ledger, number)
    if found.state == DONE:
        return found.run
    _check_open(found, (APPROVED,))
    return None


def _operation(collection: str, edit: JsonObject) -> Operation:
    """An operation for this collection that has the words of an edit; the edit itself is what is done."""
    sql: JsonObject = edit.get("sql") or {}
    query: JsonObject = {name: sql[name] for name in ("sql", "key", "database", "parameters") if name in sql}
    shared: dict[str, Any] = {"filter": edit.get("filter"), "reason": edit.get("reason") or "", **query}
    if edit["kind"] == "orphans":
        return DeleteOrphans(ExactName(collection), **shared)
    field, prefix = edit.get("prefix") or ("path", None)
    return DeletePoints(
        ExactName(collection),
        ids=edit.get("ids"),
        prefix=prefix,
        field=field,
        soft=edit["kind"] == "soft",
        type=edit.get("type"),
        older_than=_age(edit.get("older_than")),
        **shared,
    )


def _age(said: Any) -> Any:
    """As an operation takes it: with a unit."""
    return None if said is None else {**said, "age": f"{said['age']:.3f}s"}


def why_not(settings: Settings, number: int) -> str | None:
    """Why the caller can't approve a request; None where they can.

    Raises:
        UnknownNameError: there is no such request.
    """
    with opened_ledger(settings) as ledger:
        return _problem(settings, known_request(ledger, number), caller(settings))


def _problem(settings: Settings, found: ApprovalRequest, who: Person) -> str | None:
    own = settings.for_collection(found.collection).fixes.approval
    if own is None:
        return f"the settings ask for no approval of {found.collection} (any more): the command needs none"
    return problem(own, found, who)


def _check_open(found: ApprovalRequest, states: Sequence[str]) -> None:
    """See that it still waits for what is to be done.

    Raises:
        RefusedError: it doesn't.
    """
    if found.state not in states:
        raise _over(found)


def _over(found: ApprovalRequest) -> RefusedError:
    words = {
        PENDING: "waits for another person's approval",
        APPROVED: "is approved already",
        EXPIRED: f"has expired, at {found.expires_at:%Y-%m-%d %H:%M} UTC",
        "rejected": f"was rejected by {found.decided_by}",
        "moved": f"is void: {found.found or 0:,} points were found where {found.changes:,} were asked for",
        "running": f"runs already, as run {found.run}",
        DONE: f"was done by run {found.run}; an approval is used once",
        "ended": f"was used by run {found.run}, which was aborted; an approval is used once",
    }
    hint = f"qmigrate approve {found.id}" if found.state == PENDING else f"qmigrate requests show {found.id}"
    return RefusedError(f"request {found.id} {words[found.state]}", hint=hint, facts={"state": found.state})


def _check_whole(found: ApprovalRequest) -> None:
    if not found.is_whole:
        raise RefusedError(
            f"request {found.id} is not what was asked for: its row in the ledger was edited",
            hint=f'qmigrate reject {found.id} --reason "edited in the ledger"',
        )


def known_request(ledger: Ledger, number: int) -> ApprovalRequest:
    """One request as the ledger has it.

    Raises:
        UnknownNameError: there is none of that number.
    """
    found = Requests(ledger).get(number)
    if found is None:
        raise UnknownNameError(f"there is no request {number}", hint="qmigrate requests")
    return found


def _row(ledger: Ledger, one: ApprovalRequest) -> RequestRow:
    return _shown(one, ledger.deletions() if one.state == DONE else [])


def _shown(one: ApprovalRequest, audit: Sequence[DeletionRow]) -> RequestRow:
    least = int(one.changes - one.tolerance * one.changes + 0.999999)
    decided = one.decided
    done = audited(one, audit)
    row, undone = done if done is not None else (None, None)
    undo = row is not None and isinstance(row.told.undo, str) and undone is None
    return RequestRow(
        id=one.id,
        collection=one.collection,
        kind=one.kind,
        words=one.words,
        what=one.what,
        reason=one.reason,
        state=one.state,
        changes=one.changes,
        points=one.points,
        share=one.share,
        above=one.above,
        allowed=(least, int(one.changes + one.tolerance * one.changes)),
        asked_by=one.asked_by,
        asked_as=one.asked.shown,
        created_at=one.created_at,
        expires_at=one.expires_at,
        decided_by=one.decided_by,
        decided_as=None if decided is None else decided.shown,
        decided_at=one.decided_at,
        decided_why=one.decided_why,
        run=one.run,
        log=row.id if row is not None else None,
        undo=undo,
        found=one.found,
        again=one.again is not None or runs_alone(one),
        command=_next(one, row.id if row is not None and undo else None),
    )


def runs_alone(one: ApprovalRequest) -> bool:
    """Whether ``requests run`` does all of it."""
    edit = one.what.get("edit") or {}
    return one.kind == RESET or (one.kind in DELETIONS and not one.what.get("revisions") and not edit.get("mark"))


def _next(one: ApprovalRequest, undo: int | None) -> str | None:
    if one.state == PENDING:
        return f"qmigrate approve {one.id}"
    if one.state == APPROVED:
        return f"qmigrate requests run {one.id}" if runs_alone(one) else _command_of(one)
    return f"qmigrate fix undo {quote(undo)}" if one.state == DONE and undo is not None else None


def _command_of(one: ApprovalRequest) -> str:
    if one.what.get("revisions") or one.kind == DROP:
        return "qmigrate upgrade"
    if (one.what.get("edit") or {}).get("mark"):
        return "qmigrate fix retrain --preset NAME --value VALUE"
    # Other generations were not approved, and may be few enough to need none.
    generation = one.what.get("generation")
    discard = " --discard-writes" if one.what.get("writes") == "discard" else ""
    return f"qmigrate gc {quote(one.collection)} --now --generation {quote(generation)}{discard}"


def audited(one: ApprovalRequest, audit: Sequence[DeletionRow]) -> tuple[DeletionRow, DeletionRow | None] | None:
    """The row of the audit of a request's run, and the one that has undone it; None where there is none.

    Args:
        audit: all of it, newest first.
    """
    mine = (row for row in audit if row.collection == one.collection and row.told.run == one.run)
    row = next(mine, None) if one.run is not None else None
    return None if row is None else (row, next((later for later in audit if later.told.undoes == row.id), None))
