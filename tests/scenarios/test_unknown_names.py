"""A name or a revision that doesn't exist: every verb reports it in the same words, with the same exit code."""

from __future__ import annotations

import contextlib
import sqlite3

import click
import pytest
from tests.harness import ADD, CREATE, Deployment
from tests.scenarios.cli import call

from qmigrate import fix
from qmigrate.cli.app import root
from qmigrate.commands import snapshot, upgrade
from qmigrate.commands.reset import PHRASE
from qmigrate.errors import NotFoundError, UnknownNameError, UsageError
from qmigrate.model.names import LISTED

SQL = ("--sql", "SELECT id, kind FROM t", "--database", "app")
REASON = ("--reason", "r")
#: Verbs that take the name of a collection, as they are typed; NAME is where it stands.
COLLECTION = {
    "adopt": ("adopt", "NAME"),
    "stamp --only": ("stamp", "0001", "--only", "NAME"),
    "plan --only": ("plan", "--only", "NAME"),
    "upgrade --only": ("upgrade", "--only", "NAME"),
    "upgrade --dry-run": ("upgrade", "--dry-run", "--only", "NAME"),
    "upgrade --rehearse": ("upgrade", "--rehearse", "5", "--only", "NAME"),
    "rollback --only": ("rollback", "0001", "--only", "NAME"),
    "rollback --dry-run": ("rollback", "0001", "--dry-run", "--only", "NAME"),
    "abort": ("abort", "NAME"),
    "cutover": ("cutover", "NAME"),
    "cutover --dry-run": ("cutover", "NAME", "--dry-run"),
    "history": ("history", "NAME"),
    "history --deletions": ("history", "NAME", "--deletions"),
    "history --carried": ("history", "NAME", "--carried", "0002"),
    "verify a": ("verify", "NAME", "there"),
    "verify b": ("verify", "there", "NAME"),
    "check --only": ("check", "--only", "NAME"),
    "schema": ("schema", "NAME"),
    "schema --recorded": ("schema", "NAME", "--recorded"),
    "schema --revision": ("schema", "NAME", "--revision", "0001"),
    "revision --from-drift": ("revision", "--from-drift", "--only", "NAME"),
    "revision --from-live": ("revision", "--from-live", "NAME"),
    "evaluate": ("evaluate", "NAME", "there", "--known-item", "text"),
    "try-models": ("try-models", "NAME", "--embedder", "words", "--text", "text", "--known-item", "text"),
    "snapshot create": ("snapshot", "create", "NAME"),
    "snapshot list": ("snapshot", "list", "NAME"),
    "snapshot restore": ("snapshot", "restore", "NAME", "--latest", "--yes"),
    "snapshot restore --undo": ("snapshot", "restore", "NAME", "--undo"),
    "snapshot delete --of": ("snapshot", "delete", "--of", "NAME", "--keep", "1", "--yes"),
    "gc": ("gc", "NAME"),
    "gc --dry-run": ("gc", "NAME", "--dry-run"),
    "gc --now": ("gc", "NAME", "--now", "--yes"),
    "repair --name": ("repair", "--name", "NAME", "--yes"),
    "repair --unlock": ("repair", "--unlock", "NAME", "--yes"),
    "repair --schema": ("repair", "--schema", "NAME", "--yes"),
    "fix delete": ("fix", "delete", "NAME", "--id", "1", *REASON, "--yes", "--expect", "1"),
    "fix delete --dry-run": ("fix", "delete", "NAME", "--id", "1", *REASON, "--dry-run"),
    "fix delete --erase": ("fix", "delete", "NAME", "--id", "1", *REASON, "--erase", "--yes", "--expect", "1"),
    "fix delete --preset": ("fix", "delete", "NAME", "--preset", "some", *REASON, "--yes", "--expect", "1"),
    "fix sync": ("fix", "sync", "NAME", *SQL, "--field", "kind", "--yes"),
    "fix sync --check": ("fix", "sync", "NAME", *SQL, "--field", "kind", "--check"),
    "fix orphans": ("fix", "orphans", "NAME", *SQL, *REASON, "--grace", "0s", "--yes", "--max-share", "0.5"),
    "fix orphans --check": ("fix", "orphans", "NAME", *SQL, "--check"),
    "fix stats": ("fix", "stats", "NAME", "--by", "kind"),
    "fix reset": ("fix", "reset", "NAME", *REASON, "--yes", "--expect", "1", "--confirm", PHRASE),
    "fix reset --dry-run": ("fix", "reset", "NAME", *REASON, "--dry-run"),
    "fix retrain": ("fix", "retrain", "NAME", "--preset", "again", "--value", "1", *REASON, "--yes", "--expect", "1"),
    "fix quarantine": ("fix", "quarantine", "NAME"),
    "fix quarantine --retry": ("fix", "quarantine", "NAME", "--retry"),
}
REVISION = {
    "plan": ("plan", "NAME"),
    "upgrade": ("upgrade", "NAME"),
    "rollback": ("rollback", "NAME"),
    "rollback --dry-run": ("rollback", "NAME", "--dry-run"),
    "stamp": ("stamp", "NAME"),
    "show": ("show", "NAME"),
    "edit": ("edit", "NAME"),
    "history --carried": ("history", "--carried", "NAME"),
    "schema --revision": ("schema", "--revision", "NAME"),
    "repair --accept": ("repair", "--accept", "NAME", *REASON),
}
#: What else is named -> the same.
FURTHER: dict[str, dict[str, tuple[str, ...]]] = {
    "snapshot": {
        "snapshot restore": ("snapshot", "restore", "there", "NAME", "--yes"),
        "snapshot restore --archive": ("snapshot", "restore", "there", "--archive", "NAME", "--yes"),
        "snapshot delete": ("snapshot", "delete", "NAME", "--yes"),
    },
    "generation": {
        "gc --generation": ("gc", "there", "--now", "--generation", "NAME", "--yes"),
        "repair --vanished": ("repair", "--vanished", "NAME"),
    },
    "fix": {"fix undo": ("fix", "undo", "NAME", "--yes"), "export show": ("export", "show", "NAME")},
    "request": {
        "requests show": ("requests", "show", "NAME"),
        "requests run": ("requests", "run", "NAME"),
        "approve": ("approve", "NAME"),
        "reject": ("reject", "NAME", *REASON),
    },
    "file": {"export show": ("export", "show", "NAME")},
}
#: What has a number, not a name.
NUMBERED = {"fix", "request"}
#: Verbs that filter by a name that may be one of the past, and what has the same words as one of its findings.
BESIDE = {"verify", "requests list", "doctor"}
#: Verbs that refuse a glob, whatever it means.
ONE = {"fix retrain"}
#: Words by which a parameter names something that has to be there.
NAMING = {"only", "collection", "pattern", "names", "a", "b", "target", "revision", "snapshot", "accept", "name", "number"}
NAMING |= {"vanished", "unlock", "schema", "carried", "generations", "what"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One collection at its second revision, in local mode."""
    folder = tmp_path_factory.mktemp("unknown")
    with contextlib.closing(sqlite3.connect(folder / "app.db")) as connection:
        connection.execute("CREATE TABLE t (id INTEGER, kind TEXT)")
    presets = {
        "some": {"filter": {"must": [{"key": "kind", "match": {"value": "even"}}]}},
        "again": {"prefix": ":value", "type": "DIRECTORY", "mark": ["UPDATE t SET kind = NULL WHERE kind = :value"]},
    }
    extra = {"databases": {"app": {"url": f"sqlite:///{folder}/app.db"}}, "fixes": {"presets": presets}}
    store = {"path": str(folder / "qdrant")}
    found = Deployment(folder / "project", store, f"sqlite:///{folder}/ledger.db", name="there", extra=extra)
    found.revise("0001", CREATE)
    upgrade.upgrade(found.settings())
    found.load(5)
    found.revise("0002", ADD)
    upgrade.upgrade(found.settings())
    snapshot.create(found.settings(), "there", archived=True)
    return found


def refusal(made, words, name):
    """The error of a verb, as JSON."""
    answer = call(made.root, *(name if word == "NAME" else word for word in words), "--json")
    assert answer.code, f"exit 0: {answer.text}"
    return answer.json["error"]


@pytest.mark.parametrize(
    ("verb", "name"), [(verb, name) for verb in COLLECTION for name in ("nope", "nope*") if verb not in ONE or "*" not in name]
)
def test_a_collection_that_there_is_not(made, verb, name):
    """Exit 2, one class, one wording; a glob that meets nothing is named as one."""
    error = refusal(made, COLLECTION[verb], name)
    assert (error["exit_code"], error["type"], error["code"]) == (2, "UnknownNameError", "unknown_name"), error
    said = f"no collection matches {name!r}" if "*" in name else f"there is no collection {name!r}"
    assert error["message"].startswith(said), error
    assert error["hint"] == LISTED["collection"]
    assert (error["facts"]["kind"], error["facts"]["name"]) == ("collection", name)


@pytest.mark.parametrize("verb", REVISION)
def test_a_revision_that_there_is_not(made, verb):
    """The same of a revision, whatever it was needed for."""
    error = refusal(made, REVISION[verb], "nope")
    assert (error["exit_code"], error["type"], error["code"]) == (2, "UnknownRevisionError", "unknown_revision"), error
    assert (error["message"], error["hint"]) == ('there is no revision "nope"', "the newest ones are: 0001, 0002")


@pytest.mark.parametrize(("kind", "verb"), [(kind, verb) for kind in FURTHER for verb in FURTHER[kind]])
def test_something_else_that_there_is_not(made, kind, verb):
    """The same of snapshots, generations, fixes and files."""
    given = "99" if kind in NUMBERED else "nope"
    error = refusal(made, FURTHER[kind][verb], given)
    assert (error["exit_code"], error["type"], error["code"]) == (2, "UnknownNameError", "unknown_name"), error
    assert error["message"].startswith(f"there is no {kind} {given if kind in NUMBERED else repr(given)}")


def test_what_is_there_but_has_nothing_to_do_is_no_error(made):
    """A name that is known, and nothing under way, nothing held, nothing deleted."""
    for words in (("abort", "there"), ("cutover", "there"), ("history", "there"), ("history", "there", "--deletions")):
        assert call(made.root, *words).code == 0, words
    made.revise("0003", CREATE.replace("{name}", "{name}_new"))
    for words in (("abort", "there_new"), ("history", "there_new"), ("plan", "--only", "there_new")):
        assert call(made.root, *words).code == 0, words
    made.root.joinpath("qdrant_migrations", "versions", "0003_rev.py").unlink()


def test_a_near_miss_says_what_was_meant(made):
    """A typo is the usual reason."""
    assert 'did you mean "there"?' in refusal(made, ("abort", "NAME"), "theer")["message"]


def test_it_is_still_caught_as_before(made):
    """Programs that catch what is not there, or what was typed wrongly, still do."""
    for error in (NotFoundError, UsageError, UnknownNameError):
        with pytest.raises(error):
            fix.delete_points("nope", ids=[1], reason="r", settings=made.settings())


def leaves(command, path=()):
    """Every verb with its parameters."""
    if isinstance(command, click.Group):
        for name, one in command.commands.items():
            yield from leaves(one, (*path, name))
    else:
        yield " ".join(path), {one.name for one in command.params}


def test_every_verb_that_takes_a_name_is_here():
    """A new verb, or a new option by which something is named, needs a row."""
    tables = (COLLECTION, REVISION, *FURTHER.values())
    rows = {verb.split(" --")[0] for table in tables for verb in table} | BESIDE
    taking = {verb for verb, names in leaves(root) if names & NAMING}
    assert taking - rows == set()
