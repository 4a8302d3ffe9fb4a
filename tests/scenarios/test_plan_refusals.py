"""A plan reports what an upgrade would refuse before its first write: the same class, words and exit code."""

from __future__ import annotations

import ast
import inspect
import sqlite3
from dataclasses import replace

import pytest
import yaml
from tests.harness import ADD, CREATE, INDEX, Deployment, by_hand, make_point, write
from tests.scenarios.cli import call, left

from qmigrate.commands import session as sessions
from qmigrate.commands import upgrade
from qmigrate.engine import inplace
from qmigrate.engine.build import preflight
from qmigrate.errors import QmigrateError, StoreError
from qmigrate.ledger import Ledger
from qmigrate.planner import guard
from qmigrate.store.local.local import LocalStore

COMPUTE = """
def made(point):
    return {result}

def upgrade():
    return [op.AddVector("{{name}}", "b", VectorParams(size=4, distance=Distance.COSINE), values=Compute(made))]
"""
WRITE_BACK = ADD.replace('text="text"', 'text="text", write_back=WriteBack("rows", "DELETE FROM t WHERE id = :nothing")')
DELETE = """
def upgrade():
    return [op.DeletePoints("{name}", filter={{"must": [{{"key": "kind", "match": {{"value": "odd"}}}}]}}, reason="r", max_share=0.1)]
"""


def configure(made: Deployment, **sections) -> None:
    """Other sections of the settings."""
    config = yaml.safe_load(made.config.read_text())
    made.config.write_text(yaml.safe_dump({**config, **sections}))


def body(text: str):
    """A case that is only a revision."""
    return lambda made, _: made.revise("0002", text)


def embedder(**entry):
    """A revision that embeds, and another embedder."""

    def spoil(made: Deployment, _) -> None:
        made.revise("0002", ADD)
        configure(made, embedders={"words": entry})

    return spoil


def seen(**values):
    """The server reports something else of the collection."""

    def spoil(made: Deployment, patch) -> None:
        made.revise("0002", ADD)
        describe, describe_all = LocalStore.describe, LocalStore.describe_all

        def altered(found):
            return found and replace(found, **values)

        patch.setattr(LocalStore, "describe", lambda self, name: altered(describe(self, name)))
        patch.setattr(
            LocalStore,
            "describe_all",
            lambda self, *given: {key: altered(one) for key, one in describe_all(self, *given).items()},
        )

    return spoil


def lacking(made: Deployment, _) -> None:
    """Points without the field, and none may be left out."""
    made.revise("0002", ADD.replace('text="text"', 'text="kind"'))
    point = make_point(50)
    store = made.store()
    write(store, made.name, [replace(point, payload={"n": 50})])
    store.close()


def few_allowed(made: Deployment, _) -> None:
    """The same where some may, but not as many."""
    lacking(made, _)
    made.revise("0002", ADD.replace('text="text"', 'text="kind", on_failure="keep_without_vector"'), down="0001")
    configure(made, limits={"max_quarantine": 0})


def interrupted(edit):
    """An upgrade that stopped in its copy; its file has changed since, or not."""

    def spoil(made: Deployment, patch) -> None:
        path = made.revise("0002", ADD)
        with patch.context() as within:
            within.setattr(LocalStore, "upsert", lambda *_, **__: (_ for _ in ()).throw(StoreError("out of order")))
            with pytest.raises(StoreError):
                upgrade.upgrade(made.settings())
        path.write_text(edit(path.read_text()))

    return spoil


def at_work(made: Deployment, patch) -> None:
    """Another process has the lease, in the middle of its run."""
    interrupted(str)(made, patch)
    held(made, patch)


def held(made: Deployment, patch) -> None:
    """Another process has the lease, and has not begun a run."""
    if made.last == "0001":
        made.revise("0002", ADD)
    configure(made, limits={"lock_timeout": "100ms"})
    ledger = Ledger.open(made.ledger_url)
    lease = ledger.hold(made.name, timeout=5, ttl=60)
    lease.__enter__()
    patch.setattr(made, "leases", [lease, ledger], raising=False)


def moved(made: Deployment, _) -> None:
    """Another client has taken the name away."""
    made.revise("0002", INDEX)
    store = made.store()
    store.drop_alias(made.name)
    store.close()


def lost(made: Deployment, _) -> None:
    """The collection itself is gone."""
    made.revise("0002", ADD)
    store = made.store()
    store.drop_collection(by_hand(f"{made.name}__g0001"))
    store.close()


def heads(made: Deployment, _) -> None:
    """Two revisions follow the same one."""
    made.revise("0002", INDEX, down="0001")
    made.revise("0003", INDEX, down="0001")


def changed(made: Deployment, _) -> None:
    """An applied file is another one."""
    path = made.root / "qdrant_migrations" / "versions" / "0001_rev.py"
    path.write_text(path.read_text() + "# more\n")


def refused_statement(made: Deployment, _) -> None:
    """The application's database refuses what is to be written back."""
    path = made.root / "rows.db"
    sqlite3.connect(path).close()
    made.revise("0002", WRITE_BACK)
    configure(made, databases={"rows": {"url": f"sqlite:///{path}"}})


CASES = {
    "unknown embedder": body(ADD.replace('"words"', '"wrods"')),
    "size by the settings": embedder(type="hashing", size=8),
    "not loadable": embedder(type="callable", function="no_such_module:embed", size=16),
    "missing field": lacking,
    "too many to leave out": few_allowed,
    "function fails": body(COMPUTE.format(result="1 / 0")),
    "function of a wrong size": body(COMPUTE.format(result="[1.0]")),
    "statement": refused_statement,
    "red": seen(status="red"),
    "optimizer failed": seen(problem="out of memory"),
    "custom sharding": seen(custom_sharding=True),
    "unknown settings": seen(unknown=("config.future",)),
    "hidden points": seen(hidden=3),
    "inactive replica": seen(inactive=("shard 1 on peer 2: Dead",)),
    "no such vector": body('def upgrade():\n    return [op.DropVector("{name}", "z")]\n'),
    "not under management": body('def upgrade():\n    return [op.DropVector("elsewhere", "a")]\n'),
    "cap of a data fix": body(DELETE),
    "changed while under way": interrupted(lambda text: text + "# more\n"),
    "another process": at_work,
    "another process that begins": held,
    "name is gone": moved,
    "collection is gone": lost,
    "two heads": heads,
    "changed file": changed,
    "syntax error": body("def (:\n"),
}


@pytest.fixture
def made(tmp_path):
    """Points at 0001, in local mode."""
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db", "docs")
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(12)
    yield made
    for lease in getattr(made, "leases", ())[:1]:
        lease.__exit__(None, None, None)
        made.leases[1].close()


def planned(made: Deployment) -> tuple[list[tuple[str, int, str]], tuple[str, ...]]:
    """What a plan refuses or reports as refused, and its notes."""
    try:
        found = upgrade.plan(made.settings())
    except QmigrateError as error:
        return [(type(error).__name__, error.exit_code, error.message)], ()
    return [(one.type, one.exit_code, one.message) for one in found.refusals], found.notes


@pytest.mark.parametrize("case", sorted(CASES))
def test_a_plan_says_what_an_upgrade_refuses(made, case, monkeypatch):
    """The class, the exit code and the words of the upgrade; or, of what depends on where it runs, a note with both."""
    CASES[case](made, monkeypatch)
    before = left(made)
    found, notes = planned(made)
    assert left(made) == before, "a plan writes nothing"
    with pytest.raises(QmigrateError) as raised:
        upgrade.upgrade(made.settings())
    error = raised.value
    alike = (type(error).__name__, error.exit_code, error.message) in found
    noted = [note for note in notes if f"refused ({error.exit_code})" in note or f"exits with {error.exit_code}" in note]
    assert alike or noted, (error, found, notes)
    if case not in ("changed while under way", "another process", "another process that begins"):
        assert left(made) == before, "it was refused before the first write"


#: Where an upgrade raises before its first write -> why no case above comes there, or the one that does.
SITES = {
    ("preflight", "check_build", "RepairNeededError"): "collection is gone",
    ("preflight", "check_source", "PlanError"): "unknown settings",
    ("preflight", "check_source", "RefusedError"): "custom sharding",
    ("preflight", "check_source", "StoreError"): "red",
    ("preflight", "check_rounding", "PlanError"): "only a server rounds; the same phase of the plan calls it",
    ("preflight", "_wait_until_green", "RefusedError"): "a note: see test_what_is_waited_for_is_a_note",
    ("preflight", "check_size", "EmbedError"): "size by the settings",
    ("preflight", "check_kind", "EmbedError"): "the same phase of the plan calls it",
    ("preflight", "_check_server", "EmbedError"): "the same phase of the plan calls it",
    ("preflight", "_check_field", "EmbedError"): "missing field",
    ("preflight", "_check_field", "QuarantineError"): "too many to leave out",
    ("inplace", "preflight", "RepairNeededError"): "name is gone",
    ("inplace", "preflight", "RefusedError"): "the same phase of the plan calls it",
    ("inplace", "_refuse_filled", "RefusedError"): "of an abort",
    ("inplace", "_refuse_filled_since", "?"): "of a rollback",
    ("guard", "check_checksums", "?"): "changed file",
    ("guard", "check_not_given_up", "RepairNeededError"): "the plan calls it for each run that is interrupted",
    ("guard", "check_open_run", "DriftError"): "changed while under way",
    ("upgrade", "_check_target", "UsageError"): "the plan calls it first",
    ("upgrade", "_refuse_unmanaged", "?"): "the plan calls it first",
    ("session", "operation", "?"): "syntax error",
    ("session", "operation", "RevisionError"): "the file has changed since it was planned",
    ("session", "configured_embedder", "EmbedError"): "unknown embedder",
    ("session", "session", "?"): "an unknown name, with where it was looked for where nothing is",
}
#: Functions of these modules that run later, or that no upgrade calls.
LATER = {("inplace", name) for name in ("change", "_apply", "_refusal", "place_replicas", "verify", "close")}


def raised_in(module) -> set[tuple[str, str, str]]:
    """Every (module, function, class) of a ``raise`` in it; ``?`` where the class isn't written there."""
    found = set()
    for function in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Raise) and node.exc is not None:
                    call = node.exc if isinstance(node.exc, ast.Call) else None
                    name = call.func.id if call is not None and isinstance(call.func, ast.Name) else "?"
                    found.add((module.__name__.rpartition(".")[2], function.name, name if name.endswith("Error") else "?"))
    return found


def test_every_refusal_is_known():
    """A new ``raise`` before the first write fails here until a case shows that the plan reports it."""
    found = set.union(*map(raised_in, (preflight, inplace, guard, upgrade, sessions)))
    found = {one for one in found if one[:2] not in LATER}
    assert found == set(SITES)
    assert {why for why in SITES.values() if why in CASES} <= set(CASES)


def test_the_first_phase_of_a_plan_is_that_of_a_run(made, monkeypatch):
    """Whatever it raises is in the plan: a condition that comes later needs no second place."""

    def refuse(*_, **__):
        raise StoreError("a condition of next year")

    made.revise("0002", ADD)
    monkeypatch.setattr(preflight, "check_source", refuse)
    assert planned(made)[0] == [("StoreError", 9, "a condition of next year")]


def test_what_is_waited_for_is_a_note(made, monkeypatch):
    """An upgrade waits for optimizers: the plan says for how long, and doesn't wait."""
    seen(status="yellow")(made, monkeypatch)
    configure(made, limits={"settle": "1h"})
    found, notes = planned(made)
    assert not found
    assert any("waits for that, and refuses (10) where nothing moves for 1 h" in note for note in notes)


def test_an_empty_revision_is_named(made):
    """What `qmigrate revision` has made, not filled in yet; one that joins branches is meant so."""
    made.revise("0002", "def upgrade():\n    return []\n")
    found, notes = planned(made)
    assert (found, [note for note in notes if "empty" in note]) == (
        [], ["revision 0002 (0002_rev.py) is empty: its upgrade() returns no operation"]
    )  # fmt: skip
    # An upgrade that has nothing else to do says the same.
    assert [note for note in upgrade.upgrade(made.settings()).plan.notes if "is empty" in note]
    made.revise("0003", INDEX)
    upgrade.upgrade(made.settings())
    assert not [note for note in planned(made)[1] if "empty" in note]


def test_an_operation_that_is_not_returned_is_named(made):
    """Made outside upgrade(), or in it as a statement: nothing would do it, so a plan says so."""
    made.revise("0002", "op.DropVector('docs', 'a')\n\ndef upgrade():\n    op.DropVector('docs', 'b')\n    return []\n")
    notes = [note for note in planned(made)[1] if "is made" in note]
    assert len(notes) == 2
    assert all("op.DropVector(…) is made, but upgrade() doesn't return it" in note for note in notes)


def test_an_interrupted_run_is_finished_first(made, monkeypatch):
    """The plan names it, its phase and how far it is."""
    interrupted(str)(made, monkeypatch)
    found, notes = planned(made)
    assert not found
    assert any("docs: the upgrade of" in note and "was interrupted in fill" in note for note in notes)


def test_the_command_exits_as_the_upgrade_would(made):
    """All of the plan is shown, what is refused last, with its way on; JSON has it as a list."""
    made.revise("0002", ADD)
    configure(made, embedders={"other": {"type": "hashing", "size": 16}})
    said = call(made.root, "plan")
    assert said.code == 2
    assert "add vector b" in said.out
    assert "upgrade would refuse (2): embedder 'words' is not configured" in said.out
    assert "→ add it under embedders" in said.out
    found = call(made.root, "plan", "--json")
    assert found.code == 2
    (one,) = found.json["data"]["refusals"]
    assert (one["type"], one["collection"], one["exit_code"]) == ("EmbedError", "docs", 2)
    assert call(made.root, "upgrade", "--dry-run").code == 2
    assert call(made.root, "plan", "--out", "plan.json").code == 2
