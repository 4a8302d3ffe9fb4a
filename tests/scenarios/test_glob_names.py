"""A collection whose name looks like a glob, next to those that the glob would match: every verb means the name."""

from __future__ import annotations

import json

import pytest
from tests.harness import Deployment, make_point, write
from tests.scenarios.cli import call

from qmigrate.model.schema import CollectionSchema

A = CollectionSchema({"a": {"size": 8, "distance": "Cosine"}})
#: What is behind the deployment's own name: all of them, the one that is meant, the others.
EVERY = ("[eu]", "e", "u")
MEANT, OTHERS = ("[eu]",), ("e", "u")


def make(deployment: Deployment, ends=EVERY) -> None:
    """Collections of five points each, as an application makes them."""
    store = deployment.store()
    try:
        for end in ends:
            store.create_collection(f"{deployment.name}{end}", A, seal=None)
            write(store, f"{deployment.name}{end}", [make_point(number) for number in range(5)])
    finally:
        store.close()


def counts(deployment: Deployment) -> dict[str, int]:
    """End of the name -> points."""
    store = deployment.store()
    try:
        there = {*store.physical_names(), *store.aliases()}
        return {end: store.count(f"{deployment.name}{end}") for end in EVERY if f"{deployment.name}{end}" in there}
    finally:
        store.close()


@pytest.fixture
def adopted(deployment: Deployment) -> Deployment:
    """All three under management."""
    make(deployment)
    said = call(deployment.root, "adopt", f"{deployment.name}*")
    assert said.code == 0, said.text
    return deployment


def ends_in(made: Deployment, answer) -> tuple[str, ...]:
    """Which of the three collections an answer names, in their order."""
    text = json.dumps(answer.json)
    return tuple(end for end in EVERY if f'"{made.name}{end}"' in text)


DELETE = ("--id", "1", "--reason", "r", "--yes", "--max-share", "1")


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("{}[eu]", (4, 5, 5)),
        ("glob:{}[eu]", (5, 4, 4)),
        ("{}[e]", (5, 4, 5)),
        ("{}*", (4, 4, 4)),
    ],
)
def test_a_deletion_goes_where_its_name_says(adopted, pattern, left):
    """The points of the collection of that name go, and of no other; a glob is resolved in the preview."""
    pattern = pattern.format(adopted.name)
    preview = call(adopted.root, "fix", "delete", pattern, *DELETE, "--dry-run")
    assert preview.code == 0, preview.text
    touched = [f"{adopted.name}{end}" for end, count in zip(EVERY, left, strict=True) if count == 4]
    glob = not pattern.endswith("[eu]") or pattern.startswith("glob:")
    listed = f"{'1 collection' if len(touched) == 1 else f'{len(touched)} collections'}: {', '.join(sorted(touched))}"
    assert (listed in preview.out.replace("\n", " ")) == glob
    said = call(adopted.root, "fix", "delete", pattern, *DELETE)
    assert said.code == 0, said.text
    assert tuple(counts(adopted).values()) == left


#: A verb with a name, behind whatever has to be done first, and the code that it ends with.
VERBS = [
    ("check", "--only", "{}[eu]", 0),
    ("schema", "{}[eu]", 0),
    ("schema", "{}[eu]", "--recorded", 0),
    ("snapshot", "create", "{}[eu]", "--archive", 0),
    ("stamp", "0001", "--only", "{}[eu]", 0),
    ("fix", "sync", "{}[eu]", "--sql", "SELECT 1 AS id, 'x' AS text", "--field", "text", "--check", 4),
    ("fix", "orphans", "{}[eu]", "--sql", "SELECT 1 AS id", "--check", 4),
]


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: " ".join(verb[:2]))
def test_every_verb_means_the_name(adopted, verb, tmp_path):
    """A verb that takes names or globs is about the collection that has the name, and reports nothing of the others."""
    adopted.extra["databases"] = {"app": {"url": f"sqlite:///{tmp_path}/app.db"}}
    adopted.__post_init__()
    (tmp_path / "app.db").touch()
    *args, code = verb
    said = call(adopted.root, *(one.format(adopted.name) for one in args), "--json")
    assert said.code == code, said.text
    assert ends_in(adopted, said) == MEANT


def test_adopt_means_the_name(deployment):
    """Adopted by its exact name, the others stay as they are; the revision that is written means it alone, too."""
    make(deployment)
    said = call(deployment.root, "adopt", f"{deployment.name}[eu]", "--json")
    assert said.code == 0, said.text
    assert [row["name"] for row in said.json["data"]["rows"]] == [f"{deployment.name}[eu]"]
    assert call(deployment.root, "plan").code == 0
    managed = {row["name"] for row in call(deployment.root, "status", "--json").json["data"]["collections"] if row["revision"]}
    assert managed == {f"{deployment.name}[eu]"}


REVISION = """
def upgrade():
    return [op.AddVector("{name}[eu]", "b", VectorParams(size=16, distance=Distance.COSINE), values=Empty())]
"""
HELD = """
def upgrade():
    return [op.RenameVector("{name}*", "a", "b", cutover="hold")]
"""
GLOB = REVISION.replace('"{name}[eu]"', '"glob:{name}[eu]"')


@pytest.mark.parametrize(("body", "about"), [(REVISION, MEANT), (GLOB, OTHERS)], ids=["name", "glob"])
def test_a_revision_changes_what_its_name_says(adopted, body, about):
    """A revision is planned, applied, cleaned up and undone for the collection of that name alone."""
    adopted.last = "0001"
    adopted.revise("0002", body)
    plan = call(adopted.root, "plan", "--json")
    assert plan.code == 0, plan.text
    planned = [row["job"]["collection"] for row in plan.json["data"]["collections"]]
    assert planned == [f"{adopted.name}{end}" for end in about]
    assert any("means 2 collections" in note for note in plan.json["data"]["notes"]) == (about == OTHERS)
    done = call(adopted.root, "upgrade", "--allow-gap")
    assert done.code == 0, done.text
    assert call(adopted.root, "plan").code == 0
    at = {row["name"].removeprefix(adopted.name): row["revision"] for row in call(adopted.root, "status", "--json").json["data"]["collections"]}
    assert {end for end in EVERY if at[end] == "0002"} == set(about)
    back = call(adopted.root, "rollback", "0001")
    assert back.code == 0, back.text
    assert tuple(counts(adopted).values()) == (5, 5, 5)


def test_the_way_back_and_the_clean_up_mean_the_name(adopted):
    """Where all three were rebuilt, one goes back and its generation is removed; the others keep theirs."""
    adopted.last = "0001"
    adopted.revise("0002", HELD)
    assert call(adopted.root, "upgrade", "--allow-gap").code == 11
    cut = call(adopted.root, "cutover", f"{adopted.name}[eu]")
    assert cut.code == 0, cut.text
    aborted = call(adopted.root, "abort", f"glob:{adopted.name}[e]")
    assert aborted.code == 0, aborted.text
    rows = {row["name"].removeprefix(adopted.name): row for row in call(adopted.root, "status", "--json").json["data"]["collections"]}
    assert {end: (rows[end]["revision"], rows[end]["state"]) for end in EVERY} == {
        "[eu]": ("0002", "ready"),
        "e": ("0001", "pending"),
        "u": ("0001", "held"),
    }
    assert call(adopted.root, "cutover", "--all").code == 0
    assert call(adopted.root, "rollback", "0001", "--only", f"{adopted.name}[eu]").code == 0
    gone = call(adopted.root, "gc", f"{adopted.name}[eu]", "--now", "--dry-run", "--json")
    assert ends_in(adopted, gone) == MEANT, gone.text
    assert tuple(counts(adopted).values()) == (5, 5, 5)


def test_where_nothing_has_the_name_it_is_a_glob(deployment):
    """Without a collection of that name its text is a glob, as before."""
    make(deployment, OTHERS)
    assert call(deployment.root, "adopt", f"{deployment.name}[eu]").code == 0
    said = call(deployment.root, "fix", "delete", f"{deployment.name}[eu]", *DELETE)
    assert said.code == 0, said.text
    assert counts(deployment) == {"e": 4, "u": 4}


def test_a_name_that_is_not_under_management_is_still_a_name(deployment):
    """The collection of that name isn't managed: a fix reports it, and touches none that the glob would match."""
    make(deployment)
    assert call(deployment.root, "adopt", f"glob:{deployment.name}[eu]").code == 0
    said = call(deployment.root, "fix", "delete", f"{deployment.name}[eu]", *DELETE)
    assert said.code == 10, said.text
    assert "is not under management" in said.text
    deployment.last = "0001"
    deployment.revise("0002", REVISION)
    refused = call(deployment.root, "upgrade")
    assert refused.code == 10, refused.text
    assert set(counts(deployment).values()) == {5}
