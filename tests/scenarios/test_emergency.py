"""What can be read is read, and the way back is open, whatever has become of a revision file meanwhile."""

from __future__ import annotations

import json
import sqlite3

import pytest
from tests.harness import ADD, CREATE, INDEX, Deployment, Repeated, make_point, write
from tests.scenarios.cli import call, left

from qmigrate import op
from qmigrate.commands import fix, snapshot, upgrade

NAME = "docs"


def applied(made: Deployment):
    """The file of 0002, which is applied by a copy."""
    return made.root / "qdrant_migrations" / "versions" / "0002_rev.py"


def edit(change):
    """A spoiler that edits the file of 0002."""

    def spoil(made: Deployment) -> None:
        text = applied(made).read_text()
        after = change(text)
        assert after != text
        applied(made).write_text(after)

    return spoil


def two_heads(made: Deployment) -> None:
    """Two pending revisions follow the newest applied one."""
    made.revise("0003", INDEX, down="0002")
    made.revise("0004", INDEX.replace('"kind"', '"n"').replace("KEYWORD", "INTEGER"), down="0002")


def pending(body: str):
    """A spoiler that leaves the applied files alone, and adds a broken one."""
    return lambda made: made.revise("0003", body, down="0002")


def twice(made: Deployment) -> None:
    """A second file has the id of 0002."""
    applied(made).with_name("0002_other.py").write_text(applied(made).read_text() + "# another one\n")


def circle(made: Deployment) -> None:
    """The two applied ones follow each other."""
    first = applied(made).with_name("0001_rev.py")
    first.write_text(first.read_text().replace("down_revision = None", "down_revision = '0002'"))


#: What is wrong -> how it comes about, and what every verb says of it.
BROKEN = {
    "syntax error": (edit(lambda text: text + "\ndef (:\n"), "SyntaxError"),
    "exception at import": (edit(lambda text: text.replace("def upgrade", "1 / 0\n\ndef upgrade")), "ZeroDivisionError"),
    "missing library": (edit(lambda text: "import no_such_library\n" + text), "ModuleNotFoundError"),
    "upgrade() fails": (edit(lambda text: text.replace("return [", "return 1 / 0, [")), "upgrade() failed"),
    "no upgrade()": (edit(lambda text: text.replace("def upgrade", "def update")), "has no upgrade()"),
    "not text": (lambda made: applied(made).write_bytes(b"\xff\x00\xfe"), "0002_rev.py"),
    "missing file": (lambda made: applied(made).unlink(), "revision 0002 is applied, but its file is not"),
    "changed file": (edit(lambda text: text + "\n# an afterthought\n"), "was changed after it was applied"),
    "no down_revision": (edit(lambda text: text.replace("down_revision", "parent")), "no down_revision"),
    "unknown down_revision": (
        edit(lambda text: text.replace("down_revision = '0001'", "down_revision = '0009'")),
        "follows the revision 0009, and no file has that id",
    ),
    "circle": (circle, "in a circle"),
    "id twice": (twice, "two files have the revision 0002"),
    "two heads": (two_heads, "there are 2 heads: 0003 (0003_rev.py), 0004 (0004_rev.py)"),
    "pending syntax error": (pending("def (:\n"), "SyntaxError"),
    "pending exception": (pending("1 / 0\n"), "ZeroDivisionError"),
}

#: Verb -> the arguments behind it, exit codes of success, and what must be in its output.
VERBS = {
    "status": (("status",), {0}, NAME),
    "history": (("history",), {0}, "0002"),
    "history of one": (("history", NAME), {0}, "0002"),
    "deletions": (("history", "--deletions"), {0}, "ASSET"),
    "rollback --dry-run": (("rollback", "--dry-run"), {0}, "back to"),
    "snapshot list": (("snapshot", "list"), {0}, NAME),
    "fix undo --dry-run": (("fix", "undo", "1", "--dry-run"), {0}, "would come back"),
    "fix orphans --check": (
        ("fix", "orphans", NAME, "--sql", "SELECT 2 AS id", "--database", "rows", "--check"), {4}, "would be deleted",
    ),
    "gc --dry-run": (("gc", "--dry-run"), {0}, "stays"),
    "metrics": (("metrics",), {0}, "qdrant_vector_count"),
    "doctor": (("doctor",), {0, 2, 4}, "Qdrant"),
}  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A collection at 0002, with a fix that can be undone and an archive, in local mode; copied for each test."""

    def make(folder):
        extra = {"fixes": {"max_share": 1.0}, "databases": {"rows": {"url": f"sqlite:///{folder}/rows.db"}}}
        made = Deployment(folder / "project", {"path": str(folder / "qdrant")}, f"sqlite:///{folder}/ledger.db", NAME, extra)
        made.revise("0001", CREATE)
        upgrade.upgrade(made.settings())
        made.load(12, uuids=False)
        made.revise("0002", ADD)
        upgrade.upgrade(made.settings())
        fix.fix(made.settings(), op.DeletePoints(NAME, ids=[3], reason="a test"))
        snapshot.create(made.settings(), NAME, archived=True)
        sqlite3.connect(folder / "rows.db").close()
        return made

    return Repeated(make, local=True), tmp_path_factory


@pytest.fixture
def spoilt(prepared, request):
    """That deployment with one thing wrong; its name, and the words for it."""
    repeated, folders = prepared
    made = repeated(folders.mktemp("spoilt") / "one")
    spoil, words = BROKEN[request.param]
    spoil(made)
    return made, words


@pytest.mark.parametrize("spoilt", sorted(BROKEN), indirect=True)
def test_what_reads_goes_on_and_says_so(spoilt):
    """Each kind of broken file times each verb: its answer is there, and the file is named with what is wrong."""
    made, words = spoilt
    before = left(made)
    for verb, (args, codes, answer) in VERBS.items():
        said = call(made.root, *args)
        assert said.code in codes, (verb, said.text)
        assert answer in said.text, (verb, said.text)
        assert words in said.text.replace("\n         ", " "), (verb, said.text)
        assert "Traceback" not in said.text
    told = [call(made.root, *args, "--json") for args, _, _ in VERBS.values() if args[0] not in ("metrics", "doctor")]
    assert all(words in json.dumps(one.json["data"]) for one in told)
    assert left(made) == before


@pytest.mark.parametrize("spoilt", sorted(BROKEN), indirect=True)
def test_the_way_back_is_open(spoilt):
    """A rollback and the undo of a fix run nothing of the file, so they are done; an upgrade refuses."""
    made, words = spoilt
    said = call(made.root, "upgrade")
    assert said.code in (2, 4), said.text
    said = call(made.root, "fix", "undo", "1", "--yes")
    assert said.code == 0, said.text
    assert 3 in made.contents()
    assert words in said.text
    # What came back was written since, and was there before, so it is brought along, or lost by consent.
    said = call(made.root, "rollback", "0001", "--discard-writes")
    assert said.code == 0, said.text
    assert words in said.text
    assert all(set(vectors) == {"a"} for _, vectors in made.contents().values())
    assert call(made.root, "history", NAME, "--json").json["data"]["rows"][0]["direction"] == "rollback"


NEEDS_CODE = sorted(set(BROKEN) - {"id twice", "two heads", "pending syntax error", "pending exception", "unknown down_revision"})


@pytest.mark.parametrize("spoilt", NEEDS_CODE, indirect=True)
def test_only_what_would_run_the_file_refuses(spoilt):
    """Points are carried back by the code of the revision: with a broken file they are counted, and neither is lost."""
    made, words = spoilt
    store = made.store()
    write(store, NAME, [make_point(77)])
    store.close()
    for flags, code in (((), {10}), (("--carry-writes",), {2, 4}), (("--now",), {2, 4})):
        before = left(made)
        said = call(made.root, "rollback", "0001", *flags)
        assert said.code in code, said.text
        assert "--discard-writes" in said.err
        assert (words in said.text) or not flags
        assert (left(made).open_runs, left(made).history) == (before.open_runs, before.history)
    assert 78 in made.contents()
    assert call(made.root, "rollback", "0001", "--discard-writes").code == 0
    assert 78 not in made.contents()


def test_a_downgrade_is_not_guessed(prepared):
    """In-place work of a file that is gone is undone by what the ledger has, unless the file had a way back of its own."""
    repeated, folders = prepared
    for way_back, code in (("", 0), ("\ndef downgrade():\n    return []\n", 4)):
        made = repeated(folders.mktemp("downgrade") / "one")
        path = made.revise("0003", INDEX + way_back, down="0002")
        upgrade.upgrade(made.settings())
        path.unlink()
        said = call(made.root, "rollback", "0002")
        assert said.code == code, said.text
        assert made.row().revision == ("0002" if not code else "0003")


def test_other_ids_are_not_counted_without_their_code(prepared):
    """The base of a Rekey is in another order: nothing is concluded from it, and the way back needs consent."""
    repeated, folders = prepared
    made = repeated(folders.mktemp("rekey") / "one")
    body = "def other(point):\n    return 1000 - point.id\n\ndef upgrade():\n    return [op.Rekey('docs', other, cutover='immediate')]\n"
    path = made.revise("0003", body, down="0002")
    upgrade.upgrade(made.settings())
    path.write_text("def (:\n")
    said = call(made.root, "rollback", "0002")
    assert (said.code, "got other ids" in said.err, "--discard-writes" in said.err) == (10, True, True), said.text
    assert made.row().revision == "0003"
    assert call(made.root, "rollback", "0002", "--discard-writes").code == 0
    assert 1 in made.contents()


def test_nothing_is_pending_of_what_can_not_be_read(prepared):
    """The head is still known, what a broken file would do is not, and that is said."""
    repeated, folders = prepared
    made = repeated(folders.mktemp("pending") / "one")
    made.revise("0003", "1 / 0\n", down="0002")
    found = call(made.root, "status", "--json").json["data"]
    assert found["head"] == "0003"
    assert found["collections"][0]["state"] == "ready"
    assert "ZeroDivisionError" in found["notes"][0]


def test_abort_needs_no_file(prepared, monkeypatch):
    """An interrupted run whose file is broken can't go on, and is undone."""
    from qmigrate.errors import StoreError
    from qmigrate.store.local.local import LocalStore

    repeated, folders = prepared
    made = repeated(folders.mktemp("abort") / "one")
    body = ADD.replace('"b"', '"c"')
    path = made.revise("0003", body, down="0002")
    with monkeypatch.context() as patched:
        def fail(*_, **__):
            raise StoreError("out of order")

        patched.setattr(LocalStore, "upsert", fail)
        with pytest.raises(StoreError):
            upgrade.upgrade(made.settings())
    assert left(made).open_runs
    path.write_text("def (:\n")
    assert call(made.root, "upgrade").code == 2
    said = call(made.root, "abort", NAME)
    assert said.code == 0, said.text
    assert "SyntaxError" in said.text
    assert left(made).open_runs == ()


def test_a_missing_file_is_no_second_head(prepared):
    """The other files have one head: `status` and `rollback` name the file, not the merge that finds nothing to do."""
    repeated, folders = prepared
    made = repeated(folders.mktemp("heads") / "one")
    for number in ("0001", "0002"):
        next((made.root / "qdrant_migrations/versions").glob(f"{number}*")).unlink()
    made.last = None
    made.revise("0003", CREATE.replace("{name}", "{name}_other"))
    row = next(row for row in call(made.root, "status", "--json").json["data"]["collections"] if row["name"] == f"{NAME}_other")
    assert row["next_command"] is None
    assert row["detail"].endswith("refused before the file of 0001, 0002 is back")
    said = [call(made.root, "status").text, call(made.root, "rollback", "head").text]
    assert all("there are 2 heads: 0002 (no file has it), 0003 (0003_rev.py)" in one for one in said)
    assert all("bring the file of 0002 back" in one and "--merge" not in one for one in said)
    assert "nothing to merge" in call(made.root, "revision", "--merge", "-m", "merge").text
