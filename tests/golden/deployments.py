"""The deployments of the golden files, each stopped where a later version of qmigrate has to go on from.

What every one must come to afterwards stands in ``tests/integration/test_golden.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

from qdrant_client import models
from tests.alembic_project import AlembicProject
from tests.golden import project
from tests.golden.common import point
from tests.golden.project import POINTS, Project

Builder = Callable[[Path], Project]
#: 12 points with integer ids, for fixes.
SELECTED = "SELECT id FROM assets WHERE kind = 'even' AND id < 25"


def pending(folder: Path) -> Project:
    """A rebuild and a payload index are pending."""
    made = project.loaded(folder)
    made.revise("0002", project.ADD)
    made.revise("0003", project.INDEX)
    return made


def pending_hold(folder: Path) -> Project:
    """A rebuild that waits for its cut-over is pending."""
    made = project.loaded(folder)
    made.revise("0002", project.HOLD)
    return made


def rebuild(folder: Path) -> Project:
    """Killed in the middle of the copy: some pages are written and noted, others are not."""
    made = project.loaded(folder)
    made.revise("0002", project.ADD)
    made.killed("after checkpoint", 2, "upgrade")
    return made


def proven(folder: Path) -> Project:
    """Killed when everything is proven and the name has not moved; written to since."""
    made = project.loaded(folder)
    made.revise("0002", project.ADD)
    made.killed("after journal swap running", 1, "upgrade")
    made.load([3], text="written since")
    made.delete(5)
    return made


def swapped(folder: Path) -> Project:
    """Killed when the name has moved, and nothing of it is recorded."""
    made = project.loaded(folder)
    made.revise("0002", project.ADD)
    made.killed("before journal swap done", 1, "upgrade")
    return made


def changed(folder: Path) -> Project:
    """Rebuilt, and written to since: a new point, another text, one that is gone."""
    made = project.rebuilt(folder)
    for number in (2, POINTS):
        identifier, payload, vector = point(number)
        more = {"b": [1.0] * 8}
        with made.client() as client:
            found = models.PointStruct(id=identifier, payload={**payload, "text": "changed"}, vector={"a": vector, **more})
            client.upsert("docs", [found])
    made.delete(8)
    return made


def rollback(folder: Path) -> Project:
    """Killed in the middle of a rollback that carries what was written since."""
    made = changed(folder)
    made.killed("after mark_dirty", 1, "rollback", "0001", "--carry-writes")
    return made


def held(folder: Path) -> Project:
    """Built, proven, held for its cut-over, and written to since."""
    made = pending_hold(folder)
    made.cli("upgrade", code=11)
    made.load([2, POINTS], text="changed")
    made.delete(8)
    return made


def cutover(folder: Path) -> Project:
    """The same, killed in the middle of the cut-over."""
    made = held(folder)
    made.killed("after mark_dirty", 1, "cutover", "--all")
    return made


def fixed(folder: Path) -> Project:
    """Every kind of fix is done and can be undone, and the application's rows differ from the points again."""
    made = project.with_rows(folder)
    facts = ("--actor", "golden", "--metadata", "ticket=7")
    selected = ("--sql", "SELECT id FROM assets WHERE id IN (1, 2)")
    made.cli("fix", "delete", "docs", *selected, "--reason", "golden", "--yes", "--expect", "2", *facts)
    made.sql("UPDATE assets SET kind = 'third' WHERE id BETWEEN 10 AND 13")
    made.cli("fix", "sync", "docs", "--sql", "SELECT id, kind FROM assets", "--field", "kind", "--yes", "--expect", "3")
    made.cli("fix", "delete", "docs", "--id", "3", "--reason", "golden", "--soft", "--yes", "--expect", "1")
    made.revise("0002", project.WRITES)
    made.cli("upgrade")
    made.sql("DELETE FROM assets WHERE id IN (27, 28)")
    made.cli("fix", "retrain", "--preset", "retrain", "--value", "third", "--yes", "--expect", "3")
    made.load([9, 10, 11], kind="third")
    made.sql("UPDATE assets SET kind = 'fourth' WHERE id BETWEEN 4 AND 7")
    return made


def marked(folder: Path) -> Project:
    """A point is marked as deleted, and gc takes it an hour later."""
    made = project.with_rows(folder)
    made.cli("fix", "delete", "docs", "--id", "3", "--reason", "golden", "--soft", "--yes", "--expect", "1")
    settings = folder / "qmigrate.yaml"
    settings.write_text(settings.read_text().replace("soft_delete: 36500d", "soft_delete: 1h"))
    return made


def fix_begun(folder: Path) -> Project:
    """Killed in the middle of a deletion: its journal is there, and some of the points are gone."""
    made = project.with_rows(folder)
    made.killed("after journal change running", 3, *DELETION)
    return made


#: The command of :func:`fix_begun`.
DELETION = ("fix", "delete", "docs", "--sql", SELECTED, "--reason", "golden", "--max-rate", "5", "--yes", "--expect", "12")
#: The command of :func:`sync_begun`.
SYNC = ("fix", "sync", "docs", "--sql", "SELECT id, kind FROM assets", "--field", "kind", "--max-rate", "5", "--yes", "--expect", "12")


def sync_begun(folder: Path) -> Project:
    """Killed in the middle of a sync."""
    made = project.with_rows(folder)
    made.sql("UPDATE assets SET kind = 'third' WHERE kind = 'even' AND id < 25")
    made.killed("after journal change running", 3, *SYNC)
    return made


def undo_begun(folder: Path) -> Project:
    """Killed in the middle of an undo of a deletion."""
    made = project.with_rows(folder)
    made.cli("fix", "delete", "docs", "--sql", SELECTED, "--reason", "golden", "--yes", "--expect", "12")
    made.killed("before journal change done", 1, "fix", "undo", "1", "--yes")
    return made


def erase_begun(folder: Path) -> Project:
    """Killed in the middle of an erasure."""
    made = project.rebuilt(folder)
    made.killed("before journal change done", 1, *ERASURE)
    return made


#: The command of :func:`erase_begun`.
ERASURE = ("fix", "delete", "docs", "--id", "4", "--id", "5", "--erase", "--reason", "golden", "--yes", "--expect", "2")


def orphans_seen(folder: Path) -> Project:
    """The first of the two looks for orphans."""
    made = project.with_rows(folder)
    made.sql("DELETE FROM assets WHERE id IN (27, 28)")
    made.cli(*ORPHANS, "--no-wait", code=12)
    return made


#: The command of :func:`orphans_seen`.
ORPHANS = ("fix", "orphans", "docs", "--sql", "SELECT id FROM assets", "--grace", "1s", "--reason", "golden", "--yes", "--expect", "5")


def quarantined(folder: Path) -> Project:
    """Points without a text are kept without the vector; since then two of them have got one."""
    made = project.loaded(folder)
    made.load([4, 5, 6], text=None)
    made.revise("0002", project.KEEP)
    made.cli("upgrade")
    made.load([4, 5])
    return made


def dropped(folder: Path) -> Project:
    """Points without a text are left out, in a file and the audit."""
    made = project.loaded(folder)
    made.load([4, 5, 6], text=None)
    made.revise("0002", project.DROP)
    made.cli("upgrade")
    return made


def gc_begun(folder: Path) -> Project:
    """Killed when the deletion of the way back is recorded and not done."""
    made = project.rebuilt(folder)
    made.killed("after begin_deletion", 1, "gc", "--now", "--yes")
    return made


def archived(folder: Path) -> Project:
    """An archive was made, and written to since."""
    made = project.rebuilt(folder)
    made.cli("snapshot", "create", "docs")
    made.delete(8)
    return made


def restored(folder: Path) -> Project:
    """Gone back to an archive."""
    made = archived(folder)
    made.cli("snapshot", "restore", "docs", "--latest", "--yes")
    return made


def restore_begun(folder: Path) -> Project:
    """Killed in a restore: points are written, and not noted."""
    made = archived(folder)
    made.killed("before checkpoint", 1, "snapshot", "restore", "docs", "--latest", "--yes")
    return made


def reset_done(folder: Path) -> Project:
    """Reset, with a way back."""
    made = project.rebuilt(folder)
    made.cli("fix", "reset", "docs", "--reason", "golden", "--yes", "--expect", "30", "--confirm", "DELETE ALL VECTORS")
    return made


def told(folder: Path) -> Project:
    """Killed when it serves, and the application's SQL has not been told of it."""
    made = project.with_rows(folder)
    made.revise("0002", project.TOLD)
    made.killed("before journal write_back done", 1, "upgrade")
    return made


def called(folder: Path) -> Project:
    """Killed in the middle of a call of a function of the user's own."""
    made = project.loaded(folder)
    made.revise("0002", project.CALL)
    made.killed("before journal change done", 1, "upgrade")
    return made


def moved(folder: Path) -> Project:
    """The name was moved by hand."""
    made = project.rebuilt(folder)
    with made.client() as client:
        operation = models.CreateAlias(collection_name="docs__g0001", alias_name="docs")
        client.update_collection_aliases([models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name="docs")), models.CreateAliasOperation(create_alias=operation)])
    return made


def vanished(folder: Path) -> Project:
    """The way back was deleted by hand."""
    made = project.rebuilt(folder)
    with made.client() as client:
        client.delete_collection("docs__g0001")
    return made


def adopted(folder: Path) -> Project:
    """Taken over as it was, under an alias."""
    made = project.plain(folder)
    made.cli("adopt", "docs", "--alias", "texts", "-m", "baseline")
    return made


def rekeyed(folder: Path) -> Project:
    """Every point has another id."""
    made = project.loaded(folder)
    made.revise("0002", project.REKEY)
    made.cli("upgrade")
    return made


def inline(folder: Path) -> Project:
    """A revision that stands in one of Alembic."""
    made = project.loaded(folder)
    found = AlembicProject(SimpleNamespace(root=folder, name="docs"), f"sqlite:///{folder}/ledger.db")  # type: ignore[arg-type]
    found.revise("a1", 'def upgrade():\n    qdrant.add_vector_dimension(collection="docs", vector_name="later", size=4)')
    found.upgrade()
    return made


DEPLOYMENTS: Mapping[str, Builder] = {
    "plain": project.plain,
    "pending": pending,
    "pending-hold": pending_hold,
    "ready": project.rebuilt,
    "rebuild": rebuild,
    "proven": proven,
    "swapped": swapped,
    "carried": changed,
    "rollback": rollback,
    "held": held,
    "cutover": cutover,
    "fixed": fixed,
    "marked": marked,
    "fix-begun": fix_begun,
    "sync-begun": sync_begun,
    "undo-begun": undo_begun,
    "erase-begun": erase_begun,
    "orphans-seen": orphans_seen,
    "quarantined": quarantined,
    "dropped": dropped,
    "gc-begun": gc_begun,
    "archived": archived,
    "restored": restored,
    "restore-begun": restore_begun,
    "reset": reset_done,
    "told": told,
    "called": called,
    "moved": moved,
    "vanished": vanished,
    "adopted": adopted,
    "rekeyed": rekeyed,
    "inline": inline,
}
