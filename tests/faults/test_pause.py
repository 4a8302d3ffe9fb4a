"""A holder is paused right before each of its requests; others act; it wakes: nothing is as if it had done anything."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.faults.pause import WRITES, paused
from tests.faults.stride import thinned
from tests.harness import CREATE, Deployment, Repeated, make_point, write
from tests.scenarios.plain_names import SCHEMA

from qmigrate import fix
from qmigrate.commands import adopt, cutover, gc, rollback, upgrade
from qmigrate.commands.reset import PHRASE
from qmigrate.errors import QmigrateError
from qmigrate.model.names import is_own_alias

#: Minutes: see scripts/test --nightly.
pytestmark = pytest.mark.nightly

DROP = """
def upgrade():
    return [op.DropCollection("{name}")]
"""
IN_PLACE = """
def upgrade():
    return [
        op.SetAlias("{name}_also", "{name}"),
        op.UpdateCollection("{name}", metadata={{"owner": "search"}}),
        op.AddVector("{name}", "c", VectorParams(size=4, distance=Distance.DOT), values=Empty(), strategy="in_place"),
    ]
"""
UNALIAS = """
def upgrade():
    return [op.SetAlias("{name}_also", "{name}")]
"""
REBUILD = """
def upgrade():
    return [
        op.SetAlias("{name}_also", "{name}"),
        op.AddVector("{name}", "b", VectorParams(size=16, distance=Distance.COSINE), values=Embed("words", text="text")),
    ]
"""
CLONE = """
def upgrade():
    return [op.UpdateCollection("{name}", hnsw_config=HnswConfigDiff(m=8))]
"""
HELD = """
def upgrade():
    return [
        op.AlterVector("{name}", "a", VectorParams(size=16, distance=Distance.COSINE), values=Embed("words", text="text"), cutover="hold"),
    ]
"""
SMALL = {"limits": {"lease_ttl": "600s"}, "rebuild": {"holdover": "7d"}}


@dataclass(frozen=True)
class Case:
    """What is there in advance, what the holder runs, and what others do while it is paused."""

    revisions: tuple[str, ...]
    pending: tuple[str, ...]
    work: object
    others: tuple[object, ...]
    holdover: str = "7d"
    plain: bool = False
    snapshot: str = "off"


def name_of(settings) -> str:
    """The collection of a deployment: what its first revision creates."""
    first = next(Path(settings.scripts).rglob("0001_*.py")).read_text()
    return re.search(r'CreateCollection\("(\w+)"', first)[1]


def up(settings):
    """`qmigrate upgrade`."""
    upgrade.upgrade(settings)


def collect(settings):
    """`qmigrate gc --now`."""
    gc.gc(settings, now=True)


def back(settings):
    """`qmigrate rollback 0001 --discard-writes`."""
    rollback.rollback(settings, "0001", writes="discard")


def abort(settings):
    """`qmigrate abort`."""
    rollback.abort(settings)


def forth(settings):
    """`qmigrate upgrade --allow-gap`."""
    upgrade.upgrade(settings, allow_gap=True)


def let_on(settings):
    """`qmigrate cutover --all`."""
    cutover.cutover(settings, ["*"])


def adopt_it(settings):
    """`qmigrate adopt` of what is not under management."""
    adopt.adopt(settings, name_of(settings))


def delete_some(settings):
    """`qmigrate fix delete` of three points."""
    fix.delete_points(name_of(settings), ids=[1, 2, 4], reason="asked for", max_share=1.0, settings=settings)


def erase_some(settings):
    """`qmigrate fix delete --erase` of three points, wherever they are."""
    fix.delete_points(name_of(settings), ids=[1, 2, 4], reason="asked for", max_share=1.0, erase=True, settings=settings)


def empty(settings):
    """`qmigrate fix reset`."""
    fix.reset(name_of(settings), reason="asked for", expect=12, confirm=PHRASE, settings=settings)


CASES = {
    "fix, then abort": Case((CREATE,), (), delete_some, (abort,)),
    "fix, then fix": Case((CREATE,), (), delete_some, (delete_some,)),
    "erasure, then erasure": Case((CREATE, REBUILD), (), erase_some, (up, erase_some)),
    "reset, then abort": Case((CREATE,), (), empty, (abort,)),
    "reset, then upgrade": Case((CREATE,), (), empty, (up,)),
    "adopt, then adopt": Case((CREATE,), (), adopt_it, (adopt_it,), plain=True),
    "gap, then upgrade": Case((CREATE,), (REBUILD,), forth, (forth,), plain=True),
    "gap, then abort": Case((CREATE,), (REBUILD,), forth, (abort,), plain=True),
    "abort of a held one, then cutover": Case((CREATE,), (HELD,), abort, (let_on,)),
    "abort of a held one, then abort": Case((CREATE,), (HELD,), abort, (abort, up)),
    "gc, then abort and rollback": Case((CREATE, REBUILD), (), collect, (abort, back)),
    "gc, then gc": Case((CREATE, REBUILD), (), collect, (collect,)),
    "gc, then rollback": Case((CREATE, REBUILD), (), collect, (back,)),
    "gc at an upgrade, then abort and rollback": Case((CREATE, REBUILD), (IN_PLACE.replace("_also", "_more"),), up, (abort, back), "0s"),
    "gc with snapshots, then abort and rollback": Case((CREATE, REBUILD), (), collect, (abort, back), snapshot="auto"),
    "clone, then abort": Case((CREATE,), (CLONE,), up, (abort,), snapshot="auto"),
    "clone, then upgrade": Case((CREATE,), (CLONE,), up, (up,), snapshot="auto"),
    "drop, then abort": Case((CREATE, UNALIAS), (DROP,), up, (abort,)),
    "drop, then upgrade": Case((CREATE,), (DROP,), up, (up,)),
    "in place, then abort": Case((CREATE,), (IN_PLACE,), up, (abort,)),
    "in place, then upgrade": Case((CREATE,), (IN_PLACE,), up, (up,)),
    "in place, then abort and upgrade": Case((CREATE,), (IN_PLACE,), up, (abort, up)),
    "rollback, then abort": Case((CREATE, REBUILD), (), back, (abort,)),
    "rollback, then upgrade": Case((CREATE, REBUILD), (), back, (up, up)),
    "rollback in place, then upgrade": Case((CREATE, IN_PLACE.replace("op.AddVector", "# op.AddVector")), (), back, (up, up)),
    "rebuild, then abort": Case((CREATE,), (REBUILD,), up, (abort,)),
    "rebuild, then upgrade and rollback": Case((CREATE,), (REBUILD,), up, (up, back)),
    "rebuild, then abort and upgrade": Case((CREATE,), (REBUILD,), up, (abort, up)),
}


def prepare(folder, qdrant, case: Case) -> Deployment:
    """A deployment with a few points, at the last of the revisions that come before."""
    qdrant = {"path": str(folder / "qdrant")} if "path" in qdrant else qdrant
    extra = {**SMALL, "rebuild": {"holdover": case.holdover, "snapshot": case.snapshot}}
    made = Deployment(folder / "project", qdrant, f"sqlite:///{folder}/ledger.db", extra=extra)
    for number, body in enumerate((*case.revisions, *case.pending), start=1):
        made.revise(f"{number:04d}", body)
        if number == 1 and case.plain:
            unmanaged(made)
        elif number == 1:
            upgrade.upgrade(made.settings())
            made.load(12)
        elif number == len(case.revisions):
            upgrade.upgrade(made.settings())
    if case.plain and case.pending:
        adopt.adopt(made.settings(), made.name)
    if HELD in case.pending:
        upgrade.upgrade(made.settings())
    return made


def unmanaged(made: Deployment) -> None:
    """A plain collection that an application has made."""
    store = made.store()
    store.create_collection(made.name, SCHEMA, seal=None, defer_index=False)
    write(store, made.name, [make_point(number) for number in range(12)])
    store.close()


def serves(holder) -> bool:
    """Whether the logical name leads anywhere."""
    name = holder.made.name
    return name in holder.store.aliases() or name in holder.store.physical_names()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.timeout(600)
def test_a_holder_that_wakes_changes_nothing_any_more(qdrant_config, tmp_path, monkeypatch, name):
    """Before every request it is paused, others act and the application writes; then it wakes, and all is as it was."""
    case = CASES[name]
    prepared = Repeated(lambda folder: prepare(folder, qdrant_config, case), "path" in qdrant_config)
    with paused(prepared(tmp_path / "all"), monkeypatch, case.work, None) as holder:
        holder.start()
        requests = holder.gate.passed
        assert holder.error is None
    assert requests
    numbers = range(len(requests)) if "path" in qdrant_config else thinned(range(len(requests)))
    for number in numbers:
        look(prepared(tmp_path / str(number)), monkeypatch, case, number, requests[number])


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


def test_every_request_that_changes_something_is_paused():
    """The table of requests is taken from the store's protocol, so that none can be left out."""
    assert {"drop_collection", "change_aliases", "rename_aliases", "write_seal", "apply", "lift_fence"} <= set(WRITES)
