"""Requests that need another person's approval: asked for, decided, and used once. Who may decide it doesn't know."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, or_, select, update

from qmigrate.ledger.codec import readable
from qmigrate.ledger.fence import Fenced
from qmigrate.ledger.reader import LedgerReader
from qmigrate.ledger.tables import deletions, requests, runs
from qmigrate.ledger.writer import OPEN_STATES, UNCHANGED
from qmigrate.model.approval import Person, Wanted, digest_of
from qmigrate.model.schema import JsonObject

PENDING, APPROVED, REJECTED, USED, MOVED = "pending", "approved", "rejected", "used", "moved"
#: What is shown in addition: it waits, or waited, for too long; and of a used one, what its run is.
EXPIRED, RUNNING, DONE, ENDED = "expired", "running", "done", "ended"
STATES = (PENDING, APPROVED, REJECTED, EXPIRED, MOVED, RUNNING, DONE, ENDED)
#: Words of an erasure that is not done: whom it was about is kept no longer than it waits.
NAMELESS = "erase points for good"
#: Runs that have ended before they had changed anything: their approval can be used again.
_NOTHING_DONE = ("refused", UNCHANGED)


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """One request.

    Attributes:
        id: its number.
        kind: ``delete``, ``soft``, ``orphans``, ``erase``, ``reset``, ``drop`` or ``gc``.
        digest: what the approval is bound to: collection, kind and `what`.
        what: the operation, plain JSON.
        words: the same for people.
        reason: why, as it was given.
        changes: points that would go, counted when it was asked for.
        points: that the collection had then.
        above: the bound of that time, in words.
        tolerance: by which share the number may differ when it runs.
        again: kind and arguments of the job that asks for the same; None where the command has to be typed again.
        state: one of :data:`STATES`.
        asked_by: who asked, by the recorded name; `asked_as` has the rest.
        decided_by: who has approved or rejected it, or None.
        decided_why: what they said.
        run: that has used it; None before.
        run_state: of that run.
        found: how many points there were when it ran, or was refused since there were too many or too few.
        created_at: by the ledger's clock, as all of these.
        expires_at: until when it can be approved, and begun.
    """

    id: int
    collection: str
    kind: str
    digest: str
    what: JsonObject
    words: str
    reason: str | None
    changes: int
    points: int
    above: str
    tolerance: float
    again: JsonObject | None
    state: str
    asked_by: str
    asked_as: JsonObject
    decided_by: str | None
    decided_as: JsonObject | None
    decided_at: datetime | None
    decided_why: str | None
    run: int | None
    run_state: str | None
    claimed_at: datetime | None
    found: int | None
    created_at: datetime
    expires_at: datetime

    @property
    def asked(self) -> Person:
        """Who asked."""
        return Person.of({"actor": self.asked_by, **self.asked_as})

    @property
    def decided(self) -> Person | None:
        """Who has approved or rejected it."""
        return None if self.decided_by is None else Person.of({"actor": self.decided_by, **(self.decided_as or {})})

    @property
    def is_whole(self) -> bool:
        """Whether it still says what was asked for; one that was edited in the database doesn't."""
        return digest_of(self.collection, self.kind, self.what) == self.digest

    @property
    def share(self) -> float:
        """Of the collection, 0 to 1."""
        return self.changes / self.points if self.points else 0.0

    def allows(self, changes: int) -> bool:
        """Whether this many points now are still what was approved."""
        return abs(changes - self.changes) <= self.tolerance * self.changes


class Requests:
    """The requests of a ledger."""

    def __init__(self, ledger: LedgerReader) -> None:
        self._ledger = ledger
        self._database = ledger.database

    def ask(
        self,
        wish: Wanted,
        words: str,
        who: Person,
        *,
        above: str,
        tolerance: float,
        expires: float,
        again: JsonObject | None = None,
    ) -> tuple[ApprovalRequest, bool]:
        """Ask for an approval; where the same is waiting for one, or has one, that request is returned.

        Args:
            words: what it is, for people.
            above: the bound, for people.
            tolerance: by which share the number may differ when it runs.
            expires: seconds until it can neither be approved nor begun.
            again: kind and arguments of the job that asks for the same.

        Returns:
            The request, and whether it is new.
        """
        self._ledger.prepare()
        values = {
            "collection": wish.collection,
            "kind": wish.kind,
            "digest": wish.digest,
            "what": wish.what,
            "words": readable(words),
            "reason": None if wish.reason is None else readable(wish.reason),
            "changes": wish.changes,
            "points": wish.points,
            "above": above,
            "tolerance": tolerance,
            "again": again,
            "state": PENDING,
            "asked_by": readable(who.actor),
            "asked_as": who.to_json(),
        }
        with self._database.writing() as connection:
            alive = and_(requests.c.state.in_((PENDING, APPROVED)), requests.c.expires_at > self._database.now())
            same = and_(requests.c.collection == wish.collection, requests.c.digest == wish.digest, alive)
            known = self._read(connection, same)
            if known:
                return known[0], False
            now, until = self._database.now(), self._database.now(expires)
            made = connection.execute(requests.insert().values(**values, created_at=now, expires_at=until))
            key = made.inserted_primary_key
            found = self._read(connection, requests.c.id == (key[0] if key is not None else 0))
        return found[0], True

    def get(self, number: int) -> ApprovalRequest | None:
        """One request; None where there is none of that number."""
        found = self._rows(requests.c.id == number) if 0 < number < 1 << 63 else []
        return found[0] if found else None

    def listed(
        self, states: Collection[str] = (), collection: str | None = None, limit: int = 50, offset: int = 0
    ) -> list[ApprovalRequest]:
        """Requests, newest first.

        Args:
            states: only these, of :data:`STATES`.
            collection: only of this one.
        """
        where = requests.c.id > 0 if collection is None else requests.c.collection == collection
        if not states:
            return self._rows(where, limit=limit, offset=offset)
        found = [one for one in self._rows(where) if one.state in states]
        return found[offset : offset + limit]

    def approve(self, number: int, who: Person, why: str | None = None) -> bool:
        """Approve one that waits; whether it still did."""
        return self._decide(number, requests.c.state == PENDING, APPROVED, who, why)

    def reject(self, number: int, who: Person, why: str | None = None) -> bool:
        """Reject one that waits, or take its approval back before it is used; whether it could be."""
        free = or_(requests.c.state.in_((PENDING, APPROVED)), _is_given_back())
        return self._decide(number, free, REJECTED, who, why)

    def _decide(self, number: int, free: ColumnElement[bool], state: str, who: Person, why: str | None) -> bool:
        now = self._database.now()
        here = and_(requests.c.id == number, free, requests.c.expires_at > now)
        values = {
            "state": state,
            "decided_by": readable(who.actor),
            "decided_as": who.to_json(),
            "decided_at": now,
            "decided_why": None if why is None else readable(why),
        }
        with self._database.writing() as connection:
            done = connection.execute(update(requests).where(here).values(**values)).rowcount == 1
            if state == REJECTED:
                _forget(connection, requests.c.id == number)
            return done

    def forget_expired(self) -> int:
        """Take out of erasures that were asked for in vain whom they were about; of how many."""
        if not self._database.has(requests):
            return 0
        late = and_(requests.c.state.in_((PENDING, APPROVED)), requests.c.expires_at <= self._database.now())
        with self._database.writing() as connection:
            return _forget(connection, or_(late, requests.c.state == MOVED))

    def approved(self, collection: str, digest: str) -> list[ApprovalRequest]:
        """Approvals that can be used for this now, the oldest first."""
        return self._rows(_usable(self._ledger, collection, digest))[::-1]

    def unapproved(self, collection: str, seconds: float) -> int:
        """Points that were deleted of a collection within this many seconds, and that no other person has approved."""
        approved = select(requests.c.run).where(requests.c.run.is_not(None), requests.c.collection == collection)
        since = deletions.c.created_at >= self._database.now(-seconds)
        query = select(deletions.c.metadata, deletions.c.vector_count).where(
            deletions.c.collection == collection, since
        )
        used = {row["run"] for row in self._ledger.rows(approved)} if self._database.has(requests) else set()
        rows = self._ledger.rows(query)
        facts = [(row["metadata"] if isinstance(row["metadata"], dict) else {}, row["vector_count"]) for row in rows]
        return sum(int(count) for one, count in facts if one.get("run") not in used)

    def _rows(
        self, where: ColumnElement[bool], limit: int | None = None, offset: int | None = None
    ) -> list[ApprovalRequest]:
        """None while there is no table yet: the ledger of an earlier qmigrate can be read."""
        if not self._database.has(requests):
            return []
        query = _query(self._ledger, where).limit(limit).offset(offset)
        return [_request(row) for row in self._ledger.rows(query)]

    def _read(self, connection: Connection, where: ColumnElement[bool]) -> list[ApprovalRequest]:
        return [_request(row) for row in connection.execute(_query(self._ledger, where)).mappings()]


@dataclass(frozen=True, slots=True)
class Claimed:
    """What came of a claim.

    Attributes:
        request: the approval that the run has now; None where there is none.
        moved: one that was approved for another number of points than there are: it can't be used any more.
    """

    request: ApprovalRequest | None = None
    moved: ApprovalRequest | None = None


class ApprovalWrites(Fenced):
    """The part of a lease that uses approvals."""

    def claim_approval(
        self, step: tuple[int, int], digest: str, changes: int, counts: Callable[[ApprovalRequest], bool]
    ) -> Claimed:
        """Use an approval for a run, once: no other run can use it, and this one keeps it when it is resumed.

        One whose number of points has moved is void from here on.

        Args:
            step: the run, and the position of the step in its job.
            digest: of what the run is about to do.
            changes: points that would go, counted just now.
            counts: whether an approval is one by the settings of today.
        """
        claimed, run = Claimed(), step[0]
        with self._write() as connection:
            mine = and_(requests.c.run == run, requests.c.digest == digest, requests.c.state == USED)
            found = [_request(row) for row in connection.execute(_query(self._reads, mine)).mappings()]
            usable = _usable(self._reads, self.collection, digest)
            # Load-bearing: another run that has just taken one has committed by then, and it isn't usable any more.
            found += [_request(row) for row in connection.execute(_query(self._reads, usable)).mappings()][::-1]
            for one in found:
                if not one.is_whole or not counts(one):
                    continue
                values: dict[str, Any] = {"found": changes}
                if not one.allows(changes):
                    values |= {"state": MOVED}
                elif one.run != run:
                    values |= {"state": USED, "run": run, "step": step[1], "claimed_at": self.ledger.database.now()}
                taken = requests.c.run.is_(None) if one.run is None else requests.c.run == one.run
                here = and_(requests.c.id == one.id, requests.c.state.in_((APPROVED, USED)), taken)
                if connection.execute(update(requests).where(here).values(**values)).rowcount != 1:
                    continue
                if one.allows(changes):
                    return Claimed(request=one)
                claimed = Claimed(moved=one)
        return claimed

    def forget_asked(self, run: int, ids: Collection[Any]) -> int:
        """Take points out of what was asked for: of the run's own request whom it was about, of others these ids.

        Returns:
            From how many requests.
        """
        texts, gone = {str(one) for one in ids}, 0
        with self._write() as connection:
            mine = requests.c.collection == self.collection
            for row in connection.execute(select(requests).where(mine)).mappings().all():
                edit = row["what"].get("edit") or {}
                own = row["run"] == run and row["kind"] == "erase"
                if not own and texts.isdisjoint(map(str, edit.get("ids") or ())):
                    continue
                words = f"points that were erased ({row['changes']:,})"
                kept = {"edit": {"kind": edit.get("kind")}}
                values = {"what": kept, "words": words, "again": None}
                if row["state"] in (PENDING, APPROVED):
                    values |= {"state": MOVED}
                connection.execute(update(requests).where(requests.c.id == row["id"]).values(**values))
                gone += 1
        return gone

    @property
    def _reads(self) -> LedgerReader:
        found = self.ledger
        assert isinstance(found, LedgerReader)  # noqa: S101  a lease is one of a ledger
        return found


def _forget(connection: Connection, where: ColumnElement[bool]) -> int:
    """Erasures among these name no points any more: nothing of them is left to be done."""
    mine = and_(requests.c.kind == "erase", requests.c.words != NAMELESS, where)
    values = {"what": {"edit": {"kind": "erase"}}, "words": NAMELESS, "again": None}
    return int(connection.execute(update(requests).where(mine).values(**values)).rowcount)


def _usable(ledger: LedgerReader, collection: str, digest: str) -> ColumnElement[bool]:
    """Approved, not expired, and used by no run, or by one that has ended before it had changed anything."""
    free = or_(requests.c.state == APPROVED, _is_given_back())
    fresh = requests.c.expires_at > ledger.database.now()
    return and_(requests.c.collection == collection, requests.c.digest == digest, free, fresh)


def _is_given_back() -> ColumnElement[bool]:
    """Used by a run that has ended before it had changed anything."""
    nothing = select(runs.c.id).where(runs.c.state.in_(_NOTHING_DONE))
    return and_(requests.c.state == USED, requests.c.run.in_(nothing))


def _query(ledger: LedgerReader, where: ColumnElement[bool]) -> Select[Any]:
    """Newest first, with the clock of the ledger and the state of the run."""
    ended = runs.c.state.label("run_state")
    late = (requests.c.expires_at <= ledger.database.now()).label("late")
    joined = select(requests, ended, late).outerjoin_from(requests, runs, runs.c.id == requests.c.run)
    return joined.where(where).order_by(requests.c.id.desc())


_NAMES = tuple(name for name in ApprovalRequest.__slots__ if name not in ("state", "run_state"))


def _request(row: RowMapping) -> ApprovalRequest:
    return ApprovalRequest(
        **{name: row[name] for name in _NAMES}, state=_state(row), run_state=row["run_state"]
    )


def _state(row: Mapping[Any, Any]) -> str:
    if row["state"] == USED and row["run_state"] in _NOTHING_DONE:
        return EXPIRED if row["late"] else APPROVED
    if row["state"] == USED:
        return {"done": DONE}.get(row["run_state"], RUNNING if row["run_state"] in OPEN_STATES else ENDED)
    return EXPIRED if row["late"] and row["state"] in (PENDING, APPROVED) else str(row["state"])

