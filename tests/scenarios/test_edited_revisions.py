"""The code of applied revisions is used again only as it was: a file that says something else since leads points astray."""

from __future__ import annotations

import pytest
from tests.harness import CREATE, make_point, write

from qmigrate import fix as program
from qmigrate import op
from qmigrate.commands import fix, repair, restore, rollback, snapshot, upgrade
from qmigrate.commands.quarantine import retry
from qmigrate.commands.session import UserCode, session
from qmigrate.engine.points.id_spaces import space_of
from qmigrate.errors import DriftError, RefusedError, UsageError
from qmigrate.model.transform import Point

RENAME = """
def upgrade():
    return [op.RenameVector("{name}", "a", "a2", cutover="immediate")]
"""
#: What the files say later: words, another vector.
WORDS = "# Nothing but words.\n" + RENAME
OTHER = """
def upgrade():
    return [op.AddVector("{name}", "c", VectorParams(size=4, distance=Distance.COSINE), values=Empty())]
"""
TEXTS = """
def upgrade():
    return [op.AddVector("{name}", "b", VectorParams(size=16, distance=Distance.COSINE),
                         values=Embed("words", text="text", on_failure="keep_without_vector"))]
"""
REKEY = """
def shifted(point):
    return point.id % 12 + 1

def upgrade():
    return [op.Rekey("{name}", shifted, cutover="immediate")]
"""
ELSE = "differs from what was applied"


@pytest.fixture
def made(deployment):
    """A dozen points at 0001."""
    deployment.extra["fixes"] = {"max_share": 1.0}
    deployment.__post_init__()
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(12, uuids=False)
    return deployment


def apply(made, body: str) -> None:
    """The revision 0002."""
    made.revise("0002", body, down="0001")
    upgrade.upgrade(made.settings())


def rewrite(made, body: str) -> None:
    """Another file for 0002, accepted."""
    made.revise("0002", body, down="0001")
    repair.accept(made.settings(), "0002", "a test", changed_meaning=True)


def put(made, number: int, vectors: dict, **payload) -> None:
    """A point that is written since."""
    store = made.store()
    write(store, made.name, [Point(number, {"n": number} | payload, vectors)])
    store.close()


@pytest.mark.parametrize("writes", ["carry", "refuse", "now"])
def test_no_write_is_carried_back_by_another_revision(made, writes):
    """It would arrive without its vector, and count as proven."""
    apply(made, RENAME)
    put(made, 99, {"a2": make_point(99).vectors["a"]})
    rewrite(made, OTHER)
    with pytest.raises(RefusedError, match=ELSE):
        rollback.rollback(made.settings(), writes=writes)
    assert set(made.contents()[99][1]) == {"a2"}
    assert made.row().state == "ready"
    rewrite(made, RENAME)
    rollback.rollback(made.settings(), writes="carry")
    assert set(made.contents()[99][1]) == {"a"}


@pytest.mark.parametrize(("body", "writes"), [(WORDS, "carry"), (OTHER, "discard")])
def test_words_carry_as_before_and_nothing_is_needed_to_lose_it(made, body, writes):
    """What the file says of the points counts, and where they are not brought along not even that."""
    apply(made, RENAME)
    put(made, 99, {"a2": make_point(99).vectors["a"]})
    rewrite(made, body)
    rollback.rollback(made.settings(), writes=writes)
    assert (99 in made.contents()) == (writes == "carry")
    assert made.row().revision == "0001"


def test_what_a_later_version_calls_it_is_no_other_meaning(made, monkeypatch):
    """The record has the words of the version that applied it; the next one may say the same in other words."""
    apply(made, RENAME)
    kept = snapshot.create(made.settings(), made.name, archived=True).rows[0].path
    put(made, 99, {"a2": make_point(99).vectors["a"]})
    rewrite(made, WORDS)
    monkeypatch.setattr(op.RenameVector, "describe", lambda _: "in the words of today")
    rollback.rollback(made.settings(), writes="carry")
    assert set(made.contents()[99][1]) == {"a"}
    upgrade.upgrade(made.settings())
    restore.restore(made.settings(), made.name, str(kept), consent=True)
    assert set(made.contents()) == set(range(1, 13))


@pytest.mark.parametrize("writes", ["carry-writes", "Refuse", None])
def test_a_word_that_nobody_knows_is_none_of_the_others(made, writes):
    """A rollback took it for carry, the undo of a restore for discard."""
    apply(made, RENAME)
    with pytest.raises(UsageError, match="is unknown"):
        rollback.rollback(made.settings(), writes=writes)
    with pytest.raises(UsageError, match="is unknown"):
        rollback.revert(made.settings(), "0002", writes=writes)
    with pytest.raises(UsageError, match="is unknown"):
        restore.undo(made.settings(), made.name, writes=writes)
    assert made.row().revision == "0002"


def test_nothing_deleted_comes_back_by_another_revision(made):
    """An undo goes through the revisions since, as they were."""
    done = fix.fix(made.settings(), op.DeletePoints(made.name, ids=[3], reason="r")).done
    apply(made, RENAME)
    rewrite(made, OTHER)
    with pytest.raises(RefusedError, match=ELSE):
        program.undo(done[0].log, settings=made.settings())
    assert 3 not in made.contents()


def test_nothing_is_embedded_by_another_revision(made):
    """What fills a vector is what has filled the others."""
    put(made, 50, {"a": [1.0] * 8}, kind="odd")
    apply(made, TEXTS)
    put(made, 50, {"a": [1.0] * 8}, kind="odd", text="at last")
    rewrite(made, TEXTS.replace('text="text"', 'text="kind"'))
    with pytest.raises(RefusedError, match=ELSE):
        retry(made.settings(), made.name)
    assert "b" not in made.contents()[50][1]
    rewrite(made, TEXTS)
    assert retry(made.settings(), made.name).filled == 1


@pytest.mark.parametrize("later", [OTHER, REKEY.replace("% 12", "% 12 * 1")])
def test_an_erasure_is_told_no_ids_by_a_file_that_was_rewritten(made, later):
    """A Rekey that was undone, and rewritten since: its generation still has the person, by another id."""
    apply(made, REKEY)
    rollback.rollback(made.settings(), "0001")
    made.revise("0002", later, down="0001")
    with pytest.raises(RefusedError, match="other ids than those of .* is unknown"):
        program.delete_points(made.name, ids=[3], reason="r", erase=True, settings=made.settings())
    assert 3 in made.contents()
    made.revise("0002", "# Words.\n" + REKEY, down="0001")
    (done,) = program.delete_points(made.name, ids=[3], reason="r", erase=True, settings=made.settings()).done
    assert {one.name: one.found for one in done.erasure.places if one.name in ("live", "generations")} == {
        "live": 1, "generations": 1
    }  # fmt: skip


def test_no_archive_of_another_revision_of_that_name_is_restored(made):
    """It would be recorded at a revision that it has never seen, and nothing would be left to do."""
    apply(made, OTHER)
    (taken,) = snapshot.create(made.settings(), made.name, archived=True).rows
    rewrite(made, "# Words.\n" + OTHER)
    restore.restore(made.settings(), made.name, str(taken.path), consent=True)
    assert made.row().state == "ready"
    restore.undo(made.settings(), made.name)
    rollback.rollback(made.settings(), "0001")
    apply(made, "# Other words.\n" + OTHER)
    restore.restore(made.settings(), made.name, str(taken.path), consent=True)
    restore.undo(made.settings(), made.name)
    rollback.rollback(made.settings(), "0001")
    apply(made, OTHER.replace('"c"', '"d"'))
    with pytest.raises(DriftError, match="was made with another 0002_rev.py"):
        restore.restore(made.settings(), made.name, str(taken.path), consent=True)
    assert made.row().state == "ready"


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
def test_whose_ids_a_copy_has_is_not_guessed(made):
    """Where the Rekey that gave them is unknown by now, an erased id may be meant by any copy."""
    path = made.root / "qdrant_migrations" / "versions" / "0002_rev.py"
    apply(made, REKEY)
    rollback.rollback(made.settings(), "0001")
    for text, known in ((path.read_text(), (0, 2)), ("# Words.\n" + path.read_text(), (0, 2)), (None, (0, None))):
        if text is None:
            path.unlink()
        else:
            path.write_text(text)
        with session(made.settings(), writes=False) as opened:
            code = UserCode(opened, opened.settings)
            names = (f"{made.name}__g0001", f"{made.name}__g0002")
            assert tuple(space_of(opened.ledger, code, made.name, one) for one in names) == known
    made.revise("0002", OTHER, down="0001")
    with session(made.settings(), writes=False) as opened:
        assert space_of(opened.ledger, UserCode(opened, opened.settings), made.name, f"{made.name}__g0002") is None
