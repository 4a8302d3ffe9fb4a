"""What must be true of one pause: the end is as if the holder had never come back. No tests here."""

from __future__ import annotations

from typing import Any

from tests.faults.pause import GONE, PAUSED, World, paused
from tests.faults.verbs import HELD, Case, collect, forth, let_on, marked
from tests.harness import Deployment, make_point, write

from qmigrate.commands import gc
from qmigrate.errors import QmigrateError
from qmigrate.model.names import is_own_alias

#: A point that a client deletes while the holder stands still, and one that it writes.
DELETED, WRITTEN = 10, 1001


def serves(holder: World) -> bool:
    """Whether the logical name leads anywhere."""
    name = holder.made.name
    return name in holder.store.aliases() or name in holder.store.physical_names()


def look(made: Deployment, monkeypatch: Any, case: Case, number: int, label: str, mode: str = PAUSED) -> None:
    """One pause of a holder in a thread."""
    with paused(made, monkeypatch, case.work, number, mode) as holder:
        judge(holder, case, f"{mode} before request {number}, {label}")


def judge(holder: World, case: Case, where: str) -> bool:
    """Others act while it stands still, then it comes back; whether it stood still at all."""
    made = holder.made
    if not holder.start():
        return False
    refused = [holder.other(work) for work in case.others]
    # Behind a gap there is a freeze, and in local mode no other client at all.
    writes = serves(holder) and not case.plain and HELD not in case.pending
    if writes:
        write(holder.store, made.name, [make_point(WRITTEN - 1)])
        holder.store.delete(made.name, [DELETED])
    before = holder.state()
    taken_over = holder.held and before["epoch"] > holder.epoch
    went_on = holder.went_on()
    holder.wake()
    # gc has it in its report.
    assert isinstance(holder.error, QmigrateError | type(None)), (where, holder.error)
    after = holder.state()
    if taken_over:
        check_late_collections(holder, before, after, where)
        # Where no other process has, it rightly continues.
        for state in (before, after):
            state["aliases"] = {alias: at for alias, at in state["aliases"].items() if not is_own_alias(alias, at)}
        # Who was refused, or had nothing to do, has removed no alias: the next request of the run may still be made.
        for part in after if went_on else ("rows", "runs", "ledger"):
            assert after[part] == before[part], (where, part, refused)
    check_end(holder, after, where, taken_over=taken_over, written=writes and taken_over)
    return True


def check_late_collections(holder: World, before: dict, after: dict, where: str) -> None:
    """Nothing makes a creation conditional, nor a recovery: what comes of it has a number that was given up."""
    for late in after["points"].keys() - before["points"].keys():
        number = int(late[-4:])
        assert after["rows"][late] == "gone", where
        if after["seals"][late]["generation"] == number:
            assert (after["seals"][late]["state"], after["points"][late]) == ("building", {}), where
        for part in ("points", "seals", "schemas"):
            del after[part][late]


def check_end(holder: World, state: dict, where: str, *, taken_over: bool, written: bool) -> None:
    """After what is left is finished: one generation serves, with what clients have written; nothing remains of the rest."""
    name = holder.made.name
    if holder.mode == PAUSED or (taken_over and holder.mode != GONE):
        assert holder.own_aliases() == [], (where, holder.error)
    if {"running", "failed"} & set(state["runs"].values()):
        # An abort that was refused leaves the run to the process that finishes it.
        assert (refused := holder.other(forth)) is None, (where, refused)
        state = holder.state()
    if holder.mode != PAUSED:
        # No process may be there any more that could remove what its last request has made: the next one does.
        if "held" in state["runs"].values():
            assert holder.other(let_on) is None, where
            state = holder.state()
        refused = holder.other(marked if "live" in state["rows"].values() else collect)
        assert refused is None, (where, refused)
    assert holder.own_aliases() == [], where
    assert (refused := holder.other(gc.gc)) is None, (where, refused)
    left = holder.state()
    assert {left["rows"][physical] for physical in left["points"]} <= {"live", "retired"}, (where, left["rows"])
    live = [physical for physical, found in state["rows"].items() if found == "live"]
    assert len(live) <= 1, where
    assert all(physical in state["points"] for physical in live), where
    if live:
        assert state["aliases"].get(name, name) in live, where
        points = state["points"][live[0]]
        assert not written or (WRITTEN in points and DELETED not in points), where
