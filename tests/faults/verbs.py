"""What a holder runs, and what is there in advance: revisions, verbs and deployments for the tests of pauses. No tests."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tests.harness import ADD, CREATE, Deployment, make_point, write
from tests.scenarios.plain_names import SCHEMA

from qmigrate import fix, op
from qmigrate.commands import adopt, cutover, gc, restore, rollback, snapshot, upgrade
from qmigrate.commands.reset import PHRASE
from qmigrate.errors import EmbedError
from qmigrate.ports import Silent

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
SMALL = {"limits": {"lease_ttl": "600s", "max_quarantine": 0.5}, "rebuild": {"holdover": "7d"}}


@dataclass(frozen=True)
class Case:
    """What is there in advance, what the holder runs, and what others do while it is paused.

    Attributes:
        then: the last thing that is done in advance.
        server: whether it is about what local mode has not.
    """

    revisions: tuple[str, ...]
    pending: tuple[str, ...]
    work: object
    others: tuple[object, ...]
    holdover: str = "7d"
    plain: bool = False
    snapshot: str = "off"
    then: Callable[[Deployment], object] | None = None
    server: bool = False


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


def undo_it(settings):
    """`qmigrate fix undo` of the first fix."""
    fix.undo(1, settings=settings)


def taken(settings):
    """`qmigrate snapshot create --archive`."""
    snapshot.create(settings, name_of(settings), archived=True)


def restore_it(settings):
    """`qmigrate snapshot restore` of the newest archive, or snapshot."""
    rows = snapshot.list_(settings, name_of(settings)).rows
    restore.restore(settings, name_of(settings), rows[0].name, consent=True)


def restored_back(settings):
    """`qmigrate snapshot restore --undo --discard-writes`."""
    restore.undo(settings, name_of(settings), writes="discard")


def back_with_writes(settings):
    """`qmigrate rollback 0001 --carry-writes`."""
    rollback.rollback(settings, "0001", writes="carry")


def sync_some(settings):
    """`qmigrate fix sync` of three points."""
    name = name_of(settings)
    fix.sync_payload(name, sql="SELECT id, text FROM docs", fields={"text": "text"}, max_share=1.0, reason="sync", settings=settings)


def retrain_some(settings):
    """`qmigrate fix retrain` of what one value selects."""
    fix.retrain("kind", ["even"], reason="again", expect=4, settings=settings)


def marked(settings):
    """`qmigrate fix` of a payload key of every point: a run that works through an own alias."""
    fix.run(op.SetPayload(name_of(settings), {"seen": True}, max_share=1.0), settings=settings)


class Interrupted(Silent):
    """Ends a run at the beginning of a phase, as a second interrupt of the keyboard does."""

    def __init__(self, at: str) -> None:
        self._at = at

    def begin(self, collection: str, phase: str, total: int | None, done: int = 0) -> None:
        if phase == self._at:
            raise KeyboardInterrupt


def interrupted(at: str) -> Callable[[Deployment], None]:
    """An upgrade that was interrupted at the beginning of a phase."""

    def upgraded(made: Deployment) -> None:
        with suppress(KeyboardInterrupt):
            upgrade.upgrade(made.settings(), progress=Interrupted(at))
            raise AssertionError(f"there is no phase {at}")

    return upgraded


def written(made: Deployment) -> None:
    """A client writes by the name: a new point, another value, a deletion."""
    store = made.store()
    write(store, made.name, [make_point(100), make_point(3, text="another text")])
    store.delete(made.name, [7])
    store.close()


def application(folder: Path) -> None:
    """The application's SQL: a row for each point with a number, three of them with another text."""
    with closing(sqlite3.connect(folder / "app.db")) as connection, connection:
        connection.execute("CREATE TABLE docs (id INTEGER PRIMARY KEY, text TEXT, kind TEXT, marked INTEGER)")
        points = [make_point(number) for number in range(12) if number % 3 != 2]
        rows = [(point.id, point.payload["text"] + "!" * (point.id in (1, 2, 4)), point.payload["kind"]) for point in points]
        connection.executemany("INSERT INTO docs VALUES (?, ?, ?, 0)", rows)


def sections(folder: Path, name: str) -> dict:
    """Settings that name the application's SQL of a folder."""
    preset = {
        "collection": name,
        "sql": "SELECT id FROM docs WHERE kind = :value",
        "mark": ["UPDATE docs SET marked = 1 WHERE kind = :value"],
        "max_share": 1.0,
        "type": "KIND",
    }
    return {"databases": {"app": {"url": f"sqlite:///{folder}/app.db"}}, "fixes": {"presets": {"kind": preset}}}


def moved(made: Deployment) -> Deployment:
    """A copy of a deployment uses the application's SQL of its own folder."""
    made.extra = {**made.extra, **sections(made.root.parent, made.name)}
    made.__post_init__()
    return made


def prepare(folder, qdrant, case: Case, ledger_url: str | None = None) -> Deployment:
    """A deployment with a few points, at the last of the revisions that come before."""
    qdrant = {"path": str(folder / "qdrant")} if "path" in qdrant else qdrant
    extra = {**SMALL, "rebuild": {"holdover": case.holdover, "snapshot": case.snapshot}}
    folder.mkdir(parents=True, exist_ok=True)
    application(folder)
    made = moved( Deployment(folder / "project", qdrant, ledger_url or f"sqlite:///{folder}/ledger.db", extra=extra))
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
    if case.then is not None:
        case.then(made)
    return made


def unmanaged(made: Deployment) -> None:
    """A plain collection that an application has made."""
    store = made.store()
    store.create_collection(made.name, SCHEMA, seal=None)
    write(store, made.name, [make_point(number) for number in range(12)])
    store.close()


def before(work: Callable[..., object]) -> Callable[[Deployment], object]:
    """A verb as the last thing that is done in advance."""
    return lambda made: work(made.settings())


def archived_and_upgraded(made: Deployment) -> None:
    """An archive of 0001, then 0002."""
    taken(made.settings())
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())


def restored(made: Deployment) -> None:
    """The same, and the archive restored."""
    archived_and_upgraded(made)
    restore_it(made.settings())


#: Texts that can't be embedded.
WRONG: set[str] = set()


def embed(items):
    """An embedder that fails at these."""
    return [EmbedError("it is too long") if item in WRONG else [float(len(item))] + [1.0] * 15 for item in items]


def quarantined(made: Deployment) -> None:
    """A revision adds a vector that two points don't get; by now they would."""
    made.extra = {**made.extra, "embedders": {"words": {"type": "callable", "function": f"{__name__}:embed", "size": 16}}}
    made.__post_init__()
    made.revise("0002", ADD.replace('text="text"', 'text="text", on_failure="keep_without_vector"'))
    WRONG.update(make_point(number).payload["text"] for number in (3, 6))
    try:
        upgrade.upgrade(made.settings())
    finally:
        WRONG.clear()


def retry_some(settings):
    """`qmigrate fix quarantine --retry`."""
    fix.retry_quarantine(name_of(settings), settings=settings)


#: Every verb that sends what deletes, moves or writes, and what is there before it.
VERBS = {
    "upgrade, copied": Case((CREATE,), (REBUILD,), up, ()),
    "upgrade, cloned": Case((CREATE,), (CLONE,), up, (), snapshot="auto", server=True),
    "upgrade, in place": Case((CREATE,), (IN_PLACE,), up, ()),
    "upgrade, dropped": Case((CREATE, UNALIAS), (DROP,), up, ()),
    "upgrade, resumed": Case((CREATE,), (REBUILD,), up, (), then=interrupted("fill")),
    "gap": Case((CREATE,), (REBUILD,), forth, (), plain=True),
    "cutover": Case((CREATE,), (HELD,), let_on, ()),
    "rollback": Case((CREATE, REBUILD), (), back, ()),
    "rollback, writes carried": Case((CREATE, REBUILD), (), back_with_writes, (), then=written),
    "rollback, in place": Case((CREATE, IN_PLACE.replace("op.AddVector", "# op.AddVector")), (), back, ()),
    "abort": Case((CREATE,), (REBUILD,), abort, (), then=interrupted("swap")),
    "abort, held": Case((CREATE,), (HELD,), abort, ()),
    "abort, in place": Case((CREATE,), (IN_PLACE,), abort, (), then=interrupted("change")),
    "gc": Case((CREATE, REBUILD), (), collect, ()),
    "gc, snapshots": Case((CREATE, REBUILD), (), collect, (), snapshot="auto"),
    "restore": Case((CREATE,), (), restore_it, (), then=archived_and_upgraded),
    "restore, undone": Case((CREATE,), (), restored_back, (), then=restored),
    "restore, snapshot": Case((CREATE, REBUILD), (), restore_it, (), snapshot="auto", server=True),
    "fix delete": Case((CREATE,), (), delete_some, ()),
    "fix erase": Case((CREATE, REBUILD), (), erase_some, ()),
    "fix reset": Case((CREATE,), (), empty, ()),
    "fix sync": Case((CREATE,), (), sync_some, ()),
    "fix retrain": Case((CREATE,), (), retrain_some, ()),
    "fix quarantine": Case((CREATE,), (), retry_some, (), then=quarantined),
    "fix undo, delete": Case((CREATE,), (), undo_it, (), then=before(delete_some)),
    "fix undo, reset": Case((CREATE,), (), undo_it, (), then=before(empty)),
    "fix undo, sync": Case((CREATE,), (), undo_it, (), then=before(sync_some)),
    "adopt": Case((CREATE,), (), adopt_it, (), plain=True),
}
#: What others do meanwhile; None is the holder's own command.
OTHERS = {
    "resume": (None,),
    "abort": (abort,),
    "rollback": (back,),
    "gc": (collect,),
    "abort and resume": (abort, None),
}


def cases() -> dict[str, Case]:
    """Each verb with each of what others do."""
    return {
        f"{verb}; {other}": replace(case, others=tuple(one or case.work for one in works))
        for verb, case in VERBS.items()
        for other, works in OTHERS.items()
    }
