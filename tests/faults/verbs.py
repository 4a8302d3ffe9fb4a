"""What a holder runs, and what is there in advance: revisions, verbs and deployments for the tests of pauses. No tests."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.harness import Deployment, make_point, write
from tests.scenarios.plain_names import SCHEMA

from qmigrate import fix
from qmigrate.commands import adopt, cutover, gc, rollback, upgrade
from qmigrate.commands.reset import PHRASE

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
