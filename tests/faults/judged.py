"""What must be true of one pause: the end is the same as if the holder had never come back. No tests here.

Where another holder has continued or ended its run, nothing at all may change when it comes back. Where something may,
what the end must be is not assumed: on an equal deployment the holder dies before the same request, and everything else
is done there too (:class:`Ends`). Two ends are equal where server, ledger and the application's SQL hold the same;
:func:`lasting` says what of a ledger tells only how and when it was done. What this rule can't require, and why:

- No other process has taken the lease over (it was refused, or had nothing to do): the holder rightly continues. Then
  the end is that of a holder that died, or that of its command run by another process at that moment.
- The lease was taken over by who neither continued nor ended the run (it was refused, or had nothing to do, and so has
  removed no alias): one more request of the run may be made. At once the ledger is as before; the end is equal.
- What nothing makes conditional may arrive last: an alias of an earlier epoch, which is never used and which the next
  holder removes, and a collection (created or recovered) of a number that was given up, which the next gc deletes. Both
  are seen for what they are, and are gone at the end; gc has recorded a run more.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.faults.pause import DEAD, GONE, PAUSED, World, paused
from tests.faults.verbs import HELD, Case, collect, forth, let_on, marked
from tests.harness import Deployment, make_point, write

from qmigrate.commands import gc
from qmigrate.errors import QmigrateError
from qmigrate.ledger import tables
from qmigrate.model.names import is_own_alias

#: A point that a client deletes while the holder stands still, and one that it writes.
DELETED, WRITTEN = 10, 1001
#: What tells when something was done; that there is a value must be the same.
WHEN = {"at", "created_at", "epoch", "erased_at", "held_until", "last_migration", "now", "resolved_at"}
#: Tables and columns that tell how: in which runs, passes and pages.
TABLES = {tables.runs, tables.phases, tables.ranges, tables.bases, tables.fingerprints, tables.dirty, tables.carries}
HOW = {"id", "run", "report"}
#: What differs between equal deployments: checksums of files with a name in them, the identity of a ledger, and the moment
#: in the name of an export.
_OWN = re.compile(r"\b[0-9a-f]{32,}\b|(?<=-)\d{8}T\d+(?=-)")

#: What a holder still sends until it finds that another one has the lease: an alias of its own, which is confirmed in the
#: ledger before it is used, and what changes nothing; then it removes the aliases that it has made. Names are moved only
#: by renaming such an alias, which is gone by then, so that nothing moves: while a plain collection is deleted, another
#: thread asks for its name repeatedly.
LEAVING = {"create_alias", "drop_alias", "barrier", "flush", "rename_aliases"}

State = dict[str, Any]
#: Ends, by a request's number, and whether the command is run again.
Seen = dict[tuple[int, bool], State]


@dataclass
class Ends:
    """What the end is where the holder never comes back, seen on deployments of its own, once for each request.

    Attributes:
        dead: of a request's number, a holder that dies before it.
        case: what it runs, and what others do.
        seen: the ends that are known.
    """

    dead: Callable[[int], Any]
    case: Case
    seen: Seen

    def without(self, number: int, *, again: bool = False) -> State:
        """Where it died before a request.

        Args:
            again: its command is run by another process, after the others.
        """
        if (number, again) not in self.seen:
            with self.dead(number) as holder:
                assert holder.start(), f"there is no request {number}"
                act(holder, self.case)
                if again:
                    holder.other(self.case.work)
                holder.wake()
                self.seen[number, again] = lasting(finished(holder, "without it"), holder.made)
        return self.seen[number, again]


@dataclass(frozen=True)
class Acted:
    """What others have done: what they were refused with, and whether clients wrote."""

    refused: list[QmigrateError | None]
    wrote: bool


def serves(holder: World) -> bool:
    """Whether the logical name leads anywhere."""
    name = holder.made.name
    return name in holder.store.aliases() or name in holder.store.physical_names()


def look(
    prepared: Callable[[str], Deployment], monkeypatch: Any, ends: Ends, number: int, label: str, mode: str = PAUSED
) -> bool:
    """One pause of a holder in a thread; whether there is a request of this number."""
    with paused(prepared(f"{mode}{number}"), monkeypatch, ends.case.work, number, mode) as holder:
        return judge(holder, ends, number, f"{mode} before request {number}, {label}")


def ends_of(prepared: Callable[[str], Deployment], monkeypatch: Any, case: Case, seen: Seen | None = None) -> Ends:
    """The ends of a holder in a thread.

    Args:
        seen: those that are known already.
    """
    made = itertools.count()
    return Ends(
        lambda number: paused(prepared(f"dead{next(made)}"), monkeypatch, case.work, number, DEAD),
        case,
        {} if seen is None else seen,
    )


def act(holder: World, case: Case) -> Acted:
    """While the holder stands still, or is dead: the others, then clients."""
    refused = [holder.other(work) for work in case.others]
    # Behind a gap there is a freeze, and in local mode there are no other clients while a run goes on. Behind a hold the
    # vector has another size.
    writes = serves(holder) and HELD not in case.pending
    writes = writes and (holder.went_on() or not (case.plain or "path" in holder.made.qdrant))
    if writes:
        write(holder.store, holder.made.name, [make_point(WRITTEN - 1)])
        holder.store.delete(holder.made.name, [DELETED])
    return Acted(refused, writes)


def judge(holder: World, ends: Ends, number: int, where: str) -> bool:
    """Others act while it stands still, then it comes back; whether it stood still at all."""
    if not holder.start():
        return False
    acted = act(holder, ends.case)
    before = holder.state()
    taken_over = holder.held and before["epoch"] > holder.epoch
    went_on = holder.went_on()
    holder.wake()
    # gc has it in its report.
    assert isinstance(holder.error, QmigrateError | type(None)), (where, holder.error)
    after = holder.state()
    unchanged = taken_over and went_on and after == before
    if taken_over:
        check_at_once(before, after, where, went_on=went_on)
        # What was sent while it was cut off for good has not arrived. A server's requests don't tell what they change.
        sent = holder.requests[number:] if holder.mode != GONE and "path" in holder.made.qdrant else []
        assert set(sent[1:]) <= {*sent[:1], *LEAVING}, (where, sent)
    if holder.mode == PAUSED or (taken_over and holder.mode != GONE):
        assert holder.own_aliases() == [], (where, holder.error)
    left = finished(holder, where)
    check_end(left, holder.made.name, where, written=acted.wrote and taken_over)
    if unchanged:
        # Then what comes of it is that of a holder that never came back.
        return True
    found = lasting(left, holder.made)
    same = difference(ends.without(number), found)
    if same and not taken_over:
        again = difference(ends.without(number, again=True), found)
        assert not again, (where, acted, "dead:", same, "again:", again)
    else:
        assert not same, (where, acted, same)
    return True


def check_at_once(before: State, after: State, where: str, *, went_on: bool) -> None:
    """Another holder has the lease: who comes back has changed nothing."""
    check_late_collections(before, after, where)
    for state in (before, after):
        state["aliases"] = {alias: at for alias, at in state["aliases"].items() if not is_own_alias(alias, at)}
    for part in after if went_on else ("rows", "runs", "ledger"):
        assert after[part] == before[part], (where, part)


def check_late_collections(before: State, after: State, where: str) -> None:
    """Nothing makes a creation conditional, nor a recovery: what comes of it has a number that was given up."""
    for late in after["points"].keys() - before["points"].keys():
        number, seal = int(late[-4:]), after["seals"][late]
        assert after["rows"].get(late) == "gone", (where, late)
        assert seal is not None, (where, late)
        if seal["generation"] == number:
            assert (seal["state"], after["points"][late]) == ("building", {}), where
        for part in ("points", "seals", "schemas", "snapshots"):
            del after[part][late]


def finished(holder: World, where: str) -> State:
    """What was not finished is, by the commands that are there for it; what there is then."""
    state = holder.state()
    if {"running", "failed"} & set(state["runs"].values()):
        # An abort that was refused leaves the run to the process that finishes it.
        assert (refused := holder.other(forth)) is None, (where, refused)
        state = holder.state()
    if "held" in state["runs"].values():
        assert (refused := holder.other(let_on)) is None, (where, refused)
        state = holder.state()
    # Behind its last request no process may be left that could remove what came of it: the next holder does.
    refused = holder.other(marked if "live" in state["rows"].values() else collect)
    assert refused is None, (where, refused)
    assert (refused := holder.other(gc.gc)) is None, (where, refused)
    return holder.state()


def check_end(state: State, name: str, where: str, *, written: bool) -> None:
    """One generation serves, with what clients have written; nothing remains of the rest."""
    assert [one for one, at in state["aliases"].items() if is_own_alias(one, at)] == [], where
    # What an application has made, and nothing has taken under management, is its own.
    known = state["rows"] or {name: "live"}
    assert {known.get(physical) for physical in state["points"]} <= {"live", "retired"}, (where, state["rows"])
    live = [physical for physical, found in state["rows"].items() if found == "live"]
    assert len(live) <= 1, where
    assert all(physical in state["points"] for physical in live), where
    if live:
        assert state["aliases"].get(name, name) in live, where
        points = state["points"][live[0]]
        assert not written or (WRITTEN in points and DELETED not in points), where


def lasting(state: State, made: Deployment) -> State:
    """Of a state what must be the same however it came about, as JSON; without the names of one deployment.

    Of runs that is what became of them, but for those of gc; of carries those that a person should check.
    """
    ledger = {table: rows for table, rows in state["ledger"].items() if table not in {one.name for one in TABLES}}
    ledger["runs"] = sorted([run["verb"], run["state"]] for run in state["ledger"][tables.runs.name] if run["verb"] != "gc")
    ledger["carries"] = [[row["point_id"], row["reason"]] for row in state["ledger"][tables.carries.name] if row["reason"]]
    kept = {part: found for part, found in state.items() if part not in ("epoch", "runs")} | {"ledger": ledger}
    # Each ledger has a key of its own for its digests.
    text = json.dumps(kept, default=lambda value: "digests" if isinstance(value, bytes) else str(value))
    text = text.replace(str(made.root.parent), "FOLDER").replace(made.name, "NAME")
    return json.loads(_OWN.sub("OWN", text), object_hook=_timeless)


def _timeless(found: State) -> State:
    return {name: value is not None if name in WHEN else value for name, value in found.items() if name not in HOW}


def difference(expected: Any, found: Any, place: str = "") -> list[str]:
    """Where two states differ, and how; nothing where they are equal."""
    if expected == found:
        return []
    if isinstance(expected, dict) and isinstance(found, dict):
        return [
            line
            for key in sorted(expected.keys() | found.keys())
            for line in difference(expected.get(key), found.get(key), f"{place}/{key}")
        ]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        return [
            line
            for number, (one, other) in enumerate(zip(expected, found, strict=True))
            for line in difference(one, other, f"{place}/{number}")
        ]
    if isinstance(expected, list) and isinstance(found, list):
        other = [one for one in expected if one not in found], [one for one in found if one not in expected]
        # The same rows, some of them more than once.
        expected, found = other if any(other) else (expected, found)
    return [f"{place}: expected {expected!r}, got {found!r}"]
