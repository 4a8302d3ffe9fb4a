"""What every verb prints with --json has exactly the keys of its schema in docs/reference, in a deployment's life."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest
from qdrant_client import QdrantClient, models
from tests.harness import ADD, CREATE, Deployment, make_point, write
from tests.scenarios import json_schemas
from tests.scenarios.cli import call

from qmigrate.commands.reset import PHRASE
from qmigrate.ledger import Ledger
from qmigrate.ledger.approvals import Requests
from qmigrate.model.approval import Person, Wanted
from qmigrate.operations import DeletePoints

#: In this order; NAME is the collection. What is refused has an error, whose form is part of each schema.
COMMANDS = """
    heads
    branches
    show 0001
    squash : --dry-run
    edit 0001
    completion bash
    jobs
    worker --once
    plan
    upgrade --dry-run
    upgrade --rehearse 5
    upgrade
    upgrade
    rollback --dry-run
    rollback
    upgrade
    stamp 0002 --only NAME --dry-run
    stamp 0002 --only NAME
    adopt other --dry-run
    adopt other
    status
    history
    check
    check --offline
    doctor
    wait --timeout 0s
    schema NAME
    metrics
    snapshot create NAME
    snapshot list
    snapshot delete * --dry-run
    snapshot restore NAME --latest --dry-run
    snapshot restore NAME --latest --yes
    snapshot restore NAME --undo
    verify NAME NAME__g0001
    try-models NAME --embedder words --text text --known-item text --sample 20
    evaluate NAME__g0001 NAME/a --same-value kind --measure overlap
    fix stats NAME --by kind
    fix sync NAME --sql QUERY --field kind --check
    fix sync NAME --sql QUERY --field kind --yes --max-share 1
    fix delete NAME --id 3 --reason why --dry-run
    fix delete NAME --id 3 --reason why --yes --expect 1
    export show 2
    fix undo 2 --yes
    fix delete NAME --id 4 --reason why --yes --expect 1 --soft
    fix orphans NAME --sql QUERY --check
    fix orphans NAME --sql QUERY --reason why --yes --expect 6 --max-share 1 --grace 0
    fix quarantine NAME
    history --deletions
    history --carried 0002
    fix reset NAME --reason why --yes --expect 14 --confirm PHRASE
    gc --dry-run
    gc NAME --now --yes
    abort
    cutover NAME
    repair --accept 0001 --reason why
    requests
    requests show 1
    approve 1 --yes
    requests run 1 --yes
    reject 2 --reason why
    revision -m later
    init
"""


@pytest.fixture
def made(tmp_path):
    """A collection with points in local mode, a revision to come, and a table of the application."""
    app = f"sqlite:///{tmp_path}/app.db"
    found = Deployment(
        tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db",
        extra={"databases": {"app": {"url": app}}, "fixes": {"approval": {"above": "1000 points"}}},
    )  # fmt: skip
    found.revise("0001", CREATE)
    assert call(found.root, "upgrade").code == 0
    store = found.store()
    write(store, found.name, [make_point(number) for number in range(20)])
    store.close()
    client = QdrantClient(path=found.qdrant["path"])
    client.create_collection("other", vectors_config=models.VectorParams(size=4, distance=models.Distance.DOT))
    client.close()
    found.revise("0002", ADD)
    with contextlib.closing(Ledger.open(found.ledger_url)) as ledger:
        for number in (100, 101):
            edit = DeletePoints(found.name, ids=[number], reason="why").edit()
            wish = Wanted(found.name, "delete", {"edit": edit}, "why", 1, 20)
            Requests(ledger).ask(wish, "a point", Person("kim", "console"), above="0", tolerance=1.0, expires=600.0)
    with contextlib.closing(sqlite3.connect(tmp_path / "app.db")) as connection:
        connection.execute("CREATE TABLE rows (id INTEGER, kind TEXT)")
        connection.executemany("INSERT INTO rows VALUES (?, ?)", [(number, "b") for number in range(15)])
        connection.commit()
    return found


def test_every_answer_has_the_keys_of_its_schema(made):
    """No key more and none less, of the types that the schema says; each verb that needs no preset answers with data."""
    words = {"NAME": made.name, "QUERY": "SELECT id, kind FROM rows", "PHRASE": PHRASE}
    empty = made.root.parent / "empty"
    empty.mkdir()
    answered = set()
    for line in COMMANDS.strip().splitlines():
        args = [words.get(one, one.replace("NAME", made.name)) for one in line.split()]
        said = call(empty if args == ["init"] else made.root, *args, "--json")
        json_schemas.check(said.json)
        if said.json["ok"]:
            answered.add(said.json["schema"])
    files = {file.stem.replace("-1", "/1") for file in json_schemas.SCHEMAS.glob("*.json")}
    assert sorted(files - answered) == ["qmigrate.fix.retrain/1"]
