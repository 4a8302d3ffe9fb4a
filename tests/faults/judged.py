"""What must be true of one pause: the end is as if the holder had never come back. No tests here."""

from __future__ import annotations

from tests.faults.pause import paused
from tests.faults.verbs import HELD, Case, forth
from tests.harness import Deployment, make_point, write

from qmigrate.commands import gc
from qmigrate.errors import QmigrateError
from qmigrate.model.names import is_own_alias


def serves(holder) -> bool:
    """Whether the logical name leads anywhere."""
    name = holder.made.name
    return name in holder.store.aliases() or name in holder.store.physical_names()


def look(made: Deployment, monkeypatch, case: Case, number: int, label: str) -> None:
    """One pause."""
    where = f"paused before request {number}, {label}"
    with paused(made, monkeypatch, case.work, number) as holder:
        if not holder.start():
            return
        refused = [holder.other(work) for work in case.others]
        # Behind a gap there is a freeze, and in local mode no other client at all.
        writes = serves(holder) and not case.plain and HELD not in case.pending
        if writes:
            write(holder.store, made.name, [make_point(1000)])
        before = holder.state()
        taken_over = holder.held and before["epoch"] > holder.epoch
        holder.wake()
        # gc has it in its report.
        assert isinstance(holder.error, QmigrateError | type(None)), (where, holder.error)
        after = holder.state()
        for late in after["points"].keys() - before["points"].keys():
            # Nothing makes the creation of a collection conditional: it is empty, and known to be nothing.
            if not taken_over:
                break
            assert (after["seals"][late]["state"], after["rows"][late]) == ("building", "gone"), where
            assert after["points"][late] == {}, where
            for part in ("points", "seals", "schemas"):
                del after[part][late]
            assert holder.other(gc.gc) is None, where
            assert late not in holder.store.physical_names(), where
        if taken_over:
            # Where no other process has, it rightly continues.
            for state in (before, after):
                state["aliases"] = {alias: at for alias, at in state["aliases"].items() if not is_own_alias(alias, at)}
            for part, found in after.items():
                assert found == before[part], (where, part, refused)
        assert holder.own_aliases() == [], (where, taken_over, holder.error, refused)
        if {"running", "failed"} & set(after["runs"].values()):
            # An abort that was refused leaves the run to the process that finishes it.
            assert holder.other(forth) is None, where
            after = holder.state()
        live = [physical for physical, state in after["rows"].items() if state == "live"]
        assert all(physical in after["points"] for physical in live), where
        if live:
            assert after["aliases"].get(made.name, made.name) in live, where
            assert not (writes and taken_over) or 1001 in after["points"][live[0]], where
