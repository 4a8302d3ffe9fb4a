"""One condition, one answer: class, wording, exit code and suggestion are the same over all verbs."""

from __future__ import annotations

import re

import pytest
import yaml
from tests.integration.test_golden import unpacked
from tests.scenarios.cli import VERBS, call

from qmigrate.cli.help import codes_of
from qmigrate.commands.reset import PHRASE
from qmigrate.ledger import Ledger
from qmigrate.settings.load import Settings

SQL = "SELECT id, kind FROM assets"
SYNC = ("--sql", SQL, "--field", "kind")
NOPE = "nope"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Name of a stored deployment -> its folder, unpacked once: what is refused changes nothing."""
    made = {}

    def folder(name: str):
        if name not in made:
            made[name] = unpacked(name, tmp_path_factory.mktemp(name))
            file = made[name] / "qmigrate.yaml"
            settings = yaml.safe_load(file.read_text())
            settings["limits"] = {**settings.get("limits", {}), "lock_timeout": "0s"}
            file.write_text(yaml.safe_dump(settings))
        return made[name]

    return folder


#: Every way to name a collection that isn't there.
NO_COLLECTION = [
    ("abort", NOPE),
    ("adopt", NOPE),
    ("check", "--only", NOPE),
    ("cutover", NOPE),
    ("gc", NOPE),
    ("history", NOPE),
    ("history", NOPE, "--deletions"),
    ("plan", "--only", NOPE),
    ("upgrade", "--only", NOPE),
    ("upgrade", "--only", NOPE, "--dry-run"),
    ("rollback", "--only", NOPE),
    ("stamp", "0001", "--only", NOPE),
    ("schema", NOPE),
    ("schema", NOPE, "--recorded"),
    ("schema", NOPE, "--revision", "0001"),
    ("verify", NOPE, "docs"),
    ("verify", "docs", NOPE),
    ("try-models", NOPE, "--embedder", "words", "--text", "text", "--known-item", "text"),
    ("evaluate", NOPE, "docs", "--same-value", "kind"),
    ("evaluate", "docs/a", NOPE, "--same-value", "kind"),
    ("snapshot", "create", NOPE),
    ("snapshot", "list", NOPE),
    ("snapshot", "restore", NOPE, "--latest"),
    ("snapshot", "restore", NOPE, "--undo"),
    ("snapshot", "delete", "*", "--of", NOPE, "--yes"),
    ("fix", "sync", NOPE, *SYNC, "--yes"),
    ("fix", "sync", NOPE, *SYNC, "--check"),
    ("fix", "delete", NOPE, "--id", "1", "--reason", "x", "--yes", "--expect", "1"),
    ("fix", "orphans", NOPE, "--sql", SQL, "--check"),
    ("fix", "stats", NOPE),
    ("fix", "reset", NOPE, "--reason", "x", "--yes", "--expect", "1", "--confirm", PHRASE),
    ("fix", "quarantine", NOPE),
    ("fix", "quarantine", NOPE, "--retry"),
    ("repair", "--unlock", NOPE, "--yes"),
    ("repair", "--name", NOPE, "--yes"),
    ("repair", "--schema", NOPE, "--yes"),
    ("revision", "--from-drift", "--only", NOPE),
]
NO_REVISION = [
    ("plan", "9999"),
    ("plan", "9999+1"),
    ("upgrade", "9999"),
    ("rollback", "9999"),
    ("rollback", "9999-1"),
    ("stamp", "9999"),
    ("show", "9999"),
    ("squash", "0001:9999"),
    ("edit", "9999"),
    ("schema", "--revision", "9999"),
    ("history", "--carried", "9999"),
    ("repair", "--accept", "9999", "--reason", "x"),
]
NO_FIX = [("fix", "undo", "99", "--yes"), ("export", "show", "99")]
#: Condition -> the calls, the class, its word for programs, the message, and the suggestion.
UNKNOWN = {
    "collection": (
        NO_COLLECTION,
        "UnknownNameError",
        "unknown_name",
        r"there is no collection 'nope'( in the ledger)?",
        "qmigrate status lists what is there",
    ),
    "revision": (
        NO_REVISION,
        "UnknownRevisionError",
        "unknown_revision",
        r'there is no revision "9999"',
        "the newest ones are: 0001, 0002",
    ),
    "fix": (NO_FIX, "UnknownNameError", "unknown_name", r"there is no fix 99 in the audit", "qmigrate history --deletions lists them"),
}
CALLS = [(kind, args) for kind, (calls, *_) in UNKNOWN.items() for args in calls]


@pytest.mark.parametrize(("kind", "args"), CALLS, ids=[" ".join(args)[:60] for _, args in CALLS])
def test_what_is_not_there(folders, kind, args):
    """Exit code 2, one class, one sentence and one way to find what there is."""
    _, name, code, message, hint = UNKNOWN[kind]
    said = call(folders("ready"), *args, "--json")
    error = said.json["error"]
    assert (said.code, error["type"], error["code"], error["hint"]) == (2, name, code, hint)
    assert re.fullmatch(message, error["message"])


#: Verbs that change a collection, with a deployment in which they would.
CHANGING = [
    ("pending", ("upgrade",)),
    ("ready", ("rollback", "0001")),
    ("rebuild", ("abort",)),
    ("held", ("cutover", "--all")),
    ("ready", ("gc", "--now", "--yes")),
    ("plain", ("adopt", "docs")),
    ("archived", ("snapshot", "restore", "docs", "--latest", "--yes")),
    ("fixed", ("fix", "sync", "docs", *SYNC, "--max-share", "1", "--yes", "--expect", "4")),
    ("fixed", ("fix", "delete", "docs", "--id", "4", "--reason", "x", "--yes", "--expect", "1")),
    ("fixed", ("fix", "undo", "1", "--yes")),
    ("ready", ("fix", "reset", "docs", "--reason", "x", "--yes", "--expect", "30", "--confirm", PHRASE)),
    ("quarantined", ("fix", "quarantine", "docs", "--retry")),
    ("moved", ("repair", "--name", "docs", "--yes")),
]


@pytest.mark.parametrize(("deployment", "args"), CHANGING, ids=[" ".join(args)[:40] for _, args in CHANGING])
def test_another_process_works_there(folders, deployment, args):
    """Exit code 6, the holder named, and how to see it and what to do when it is dead."""
    folder = folders(deployment)
    ledger = Ledger.open(Settings.load(config=folder / "qmigrate.yaml", environ={}).ledger.url)
    try:
        ledger.prepare()
        with ledger.hold("docs", ttl=600, timeout=0):
            said = call(folder, *args, "--json")
    finally:
        ledger.close()
    assert said.code == 6, said.text
    if args[0] == "gc":
        # It goes on with other collections, and names the ones that it leaves.
        spared = said.json["data"]["spared"]
        assert [one["collection"] for one in spared] == ["docs"]
        error = {"type": "LeaseHeldError", "message": spared[0]["reason"], "hint": spared[0]["hint"]}
    else:
        error = said.json["error"]
    assert error["type"] == "LeaseHeldError", error
    assert error["message"].startswith("another process works on docs: ")
    assert error["hint"] == "qmigrate status shows it; if it is certainly dead: qmigrate repair --unlock docs"


#: Calls that find nothing to do, and change nothing.
NOTHING = [
    ("upgrade",),
    ("plan",),
    ("abort",),
    ("abort", "docs"),
    ("cutover", "--all"),
    ("cutover", "docs"),
    ("gc", "--yes"),
    ("gc", "docs", "--yes"),
    ("rollback", "0002"),
    ("fix", "quarantine", "--retry"),
    ("repair", "--leftovers"),
    ("repair", "--schema", "docs", "--yes"),
    ("repair", "--name", "docs", "--yes"),
    ("repair", "--unlock", "docs", "--yes"),
    ("repair", "--accept", "0001", "--reason", "x"),
    ("adopt", "docs"),
    ("stamp", "0002", "--only", "docs"),
    ("snapshot", "delete", "--older-than", "900d", "--yes"),
]


@pytest.mark.parametrize("args", NOTHING, ids=" ".join)
def test_nothing_to_do(folders, args):
    """Exit code 0, and a line that says so; as JSON it is a result, no error."""
    said = call(folders("ready"), *args)
    assert said.code == 0, said.text
    assert re.search(r"(^|\n|: )[Nn]othing to [a-z]+", said.out), said.out
    assert call(folders("ready"), *args, "--json").json["ok"] is True


def test_no_verb_is_left_out():
    """Each verb that takes a collection, a revision or the number of a fix is in one of the tables."""
    tried = {" ".join(args[:2] if args[0] in ("fix", "snapshot", "export") else args[:1]) for _, args in [*CALLS, *CHANGING]}
    others = {"init", "status", "heads", "branches", "doctor", "wait", "metrics", "completion", "fix retrain", "jobs", "worker", "requests list", "requests show", "requests run", "approve", "reject"}
    assert {verb.replace(".", " ") for verb in VERBS} - tried == others
    # What the help of a verb shows covers what is found here.
    for args in (args for _, args in CALLS):
        assert 2 in codes_of(" ".join(args[:2] if args[0] in ("fix", "snapshot", "export") else args[:1]))
    for _, args in CHANGING:
        assert 6 in codes_of(" ".join(args[:2] if args[0] in ("fix", "snapshot", "export") else args[:1]))
