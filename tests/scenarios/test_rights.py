"""Which key and which SQL user each verb needs: what doctor says, what docs/rights.md says, and what really happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import click
import psycopg
import pytest
from psycopg import sql
from qdrant_client import QdrantClient
from qdrant_client.models import DeleteAlias, DeleteAliasOperation
from sqlalchemy import make_url
from tests.harness import ADD, CREATE, INDEX, Deployment
from tests.scenarios.cli import Answer, call
from tests.scenarios.keys import ENV, KEY, READ_KEY, limited, token

from qmigrate.cli.app import root
from qmigrate.commands import upgrade
from qmigrate.commands.doctor.server import ANSWERS, NEEDS, verbs_of
from qmigrate.model.health import KeyRights
from qmigrate.store import ConnectionSettings, connect

PAGE = (Path(__file__).parents[2] / "docs" / "rights.md").read_text(encoding="utf-8")
#: How a refusal for want of rights reads.
DENIED = re.compile(r"denied access|refused a write")


def blocks(language: str) -> list[str]:
    """The code blocks of the page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_shows_the_table_of_the_code():
    """docs/rights.md and doctor give the same answers, verb by verb, for each of the three kinds of key."""
    rows = re.findall(r"^\| `([a-z -]+)` \| (\w+) \| (\w+) \| (\w+) \|$", PAGE, re.MULTILINE)
    assert {row[0]: row[1:] for row in rows} == {
        verb: tuple(ANSWERS[level][need] for level in ("manage", "read", "limited")) for verb, need in NEEDS.items()
    }


#: Options that make a verb need no other right than in its row: they choose what is shown, or go with another option.
#: An option that makes its verb write belongs into the table instead.
SAME_RIGHT = {
    "init": {"--agents"},
    "completion": {"--install"},
    **{verb: set() for verb in ("heads", "branches", "show", "edit")},
    "revision": {
        *("--message", "--merge", "--only", "--rev-id", "--op"),
        # Without a server.
        *("--autogenerate", "--rename", "--different", "--drops", "--dry-run"),
    },
    "squash": {"--message", "--elide-data", "--keep-data", "--rev-id", "--dry-run"},
    "plan": {"--only", "--out", "--html", "--trial"},
    "status": {"--exit-code", "--count-writes"},
    "history": {"--all", "--limit", "--deletions", "--since", "--type", "--target", "--csv", "--carried"},
    "verify": {"--html"},
    "try-models": {
        *("--html", "--same-value", "--by"),
        "--embedder", "--text", "--image", "--sample", "--queries", "--sql", "--database", "--known-item", "--sentence",
        "--results", "--at-least",
    },
    "evaluate": {
        "--html",
        "--queries", "--sql", "--database", "--known-item", "--sentence", "--same-value", "--by", "--count", "--results",
        "--at-least", "--measure", "--confidence", "--embedder-a", "--embedder-b",
    },
    "doctor": {"--timeout", "--vectors", "--only", "--all", "--embed"},
    "wait": {"--timeout"},
    "check": {"--strict", "--only", "--no-models", "--format", "--declared"},
    "schema": {"--live", "--recorded", "--revision", "--format", "--changelog", "--settings", "--declaration"},
    "metrics": {"--textfile"},
    "serve": {"--host", "--port", "--no-worker"},
    "jobs": {"--cancel", "--state", "--limit"},
    "requests list": {"--state", "--collection", "--limit"},
    "requests show": set(),
    "approve": {"--reason", "--yes"},
    "reject": {"--reason"},
    "repair": {"--reason", "--changed-meaning", "--yes"},
    "export show": {"--ids", "--vectors", "--limit"},
    "fix stats": {"--folders", "--depth", "--prefix", "--by", "--sql", "--key", "--database", "--top"},
    "fix quarantine": {"--reason", "--max-rate", "--lock-timeout"},
    "snapshot list": {"--in"},
    "snapshot create": {"--all", "--to"},
    "snapshot delete": {"--of", "--keep", "--older-than", "--in", "--dry-run", "--yes"},
}


def leaves(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every verb that can be called, with the words before it."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def own_options(command: click.Command) -> set[str]:
    """The long name of every option that is not one of all verbs."""
    shared = {option for parameter in root.params for option in parameter.opts}
    named = {max(one.opts, key=len) for one in command.params if isinstance(one, click.Option)}
    return named - shared - {"--help"}


@pytest.mark.parametrize(("verb", "command"), list(leaves(root)), ids=lambda one: one if isinstance(one, str) else "")
def test_every_verb_and_every_option_that_needs_more_has_its_row(verb, command):
    """A verb has a row of its own or one per action, and no option of a verb below *manage* is unaccounted for."""
    rows = {row.removeprefix(f"{verb} ") for row in NEEDS if row.startswith(f"{verb} --")}
    assert verb in NEEDS or rows
    assert rows <= own_options(command)
    if NEEDS.get(verb) != "manage":
        assert own_options(command) == rows | SAME_RIGHT[verb]


def test_no_row_is_of_a_verb_that_is_gone():
    """Every row begins with a verb of the command line."""
    assert {row.partition(" --")[0] for row in NEEDS} == {verb for verb, _ in leaves(root)}


def test_points_only_is_enough_for_nothing():
    """With a token for points only, not even status works; with reading alone, no snapshot can be made."""
    points = verbs_of(KeyRights(sent=True, accepted=True, collections={"c": "prw"}))
    assert {answer for verb, answer in points.items() if NEEDS[verb] in ("read", "rw", "manage")} == {"no"}
    reads = verbs_of(KeyRights(sent=True, accepted=True, collections={"c": "r"}))
    assert (reads["status"], reads["snapshot create"]) == ("partly", "no")


@pytest.fixture
def guarded(qdrant_with, tmp_path, monkeypatch):
    """A deployment at its second of three revisions, on a server that asks for keys and accepts tokens."""
    server = qdrant_with(ENV)
    monkeypatch.setenv("KEY_OF_THE_TEST", KEY)
    qdrant = {"url": server.url, "grpc_port": server.grpc_port, "timeout": 2, "api_key_env": "KEY_OF_THE_TEST"}
    made = Deployment(tmp_path / "project", qdrant, f"sqlite:///{tmp_path}/ledger.db")
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(10)
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())
    made.revise("0003", INDEX)
    return made


def real_verbs(name: str) -> dict[str, tuple[str, ...]]:
    """Verbs that can be run one after the other and leave everything as it was, with their arguments."""
    return {
        "wait": ("wait", "--timeout", "0s"),
        "history": ("history",),
        "status": ("status",),
        "plan": ("plan",),
        "check": ("check",),
        "metrics": ("metrics",),
        "fix stats": ("fix", "stats", name),
        "schema": ("schema", name),
        "verify": ("verify", name, name),
        "snapshot list": ("snapshot", "list", name),
        "snapshot create": ("snapshot", "create", name),
        "upgrade": ("upgrade",),
        "rollback": ("rollback", "-1"),
        "repair --leftovers": ("repair", "--leftovers"),
        "gc": ("gc", name, "--now", "--yes"),
    }


#: Exit codes of what works, where they aren't 0: a revision is pending all the time.
WORKS = {"check": 3}


def keys_of(name: str) -> dict[str, tuple[str | None, str]]:
    """Every kind of key, with the level that doctor must see."""
    whole = (name, f"{name}__g0001", f"{name}__g0002", f"{name}__g0002__e1")
    return {
        "read_only_api_key": (READ_KEY, "read"),
        "token r": (token("r"), "read"),
        "token rw of the collection": (limited("rw", *whole), "limited"),
        "token r of the collection": (limited("r", *whole), "limited"),
        "token prw of the collection": (limited("prw", *whole), "limited"),
        "expired token": (token("m", hours=-3), "none"),
        "wrong key": ("no-such-key", "none"),
        "no key": (None, "none"),
        # Last, since they take away what the others are refused to.
        "token m": (token("m"), "manage"),
        "api_key": (KEY, "manage"),
    }


def with_key(made: Deployment, key: str | None, *args: str) -> Answer:
    """Run a command with a key, or without one: an empty variable would be an error of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("KEY_OF_THE_TEST")
        return call(made.root, *args, env={"KEY_OF_THE_TEST": key} if key else {})


@pytest.mark.server
def test_what_doctor_says_of_a_key_is_what_happens(guarded):
    """For ten kinds of key, every verb that doctor allows works, and every verb that it denies is refused, exit 9."""
    made = guarded
    for label, (key, level) in keys_of(made.name).items():
        checks = {check["name"]: check for check in with_key(made, key, "doctor", "--json").json["data"]["checks"]}
        facts = checks["rights"]["facts"]
        assert facts["level"] == level, label
        assert checks["qdrant"]["ok"] is (level != "none"), label
        store = connect(ConnectionSettings(**made.settings().connection()))
        # So that repair --leftovers has something to do.
        store.create_alias(f"{made.name}__g0002__e1", f"{made.name}__g0002")
        store.close()
        for verb, args in real_verbs(made.name).items():
            said = with_key(made, key, *args)
            if facts["verbs"][verb] == "no":
                assert said.code == 9, f"{label}: {verb}: {said.text}"
                assert DENIED.search(said.text), f"{label}: {verb}: {said.text}"
            else:
                assert said.code == WORKS.get(verb, 0), f"{label}: {verb}: {said.text}"
    assert (made.row().state, made.row().revision) == ("pending", "0002")


#: What was changed by hand, by the row of the table that is about it; the arguments come with it.
BY_HAND: dict[str, tuple[Callable[[str], tuple[str, ...]], Callable[[QdrantClient, str], object]]] = {
    "repair --name": (
        lambda name: ("repair", "--name", name, "--yes"),
        lambda client, name: client.update_collection_aliases(
            [DeleteAliasOperation(delete_alias=DeleteAlias(alias_name=name))]
        ),
    ),
    "repair --schema": (
        lambda name: ("repair", "--schema", name, "--yes"),
        lambda client, name: client.create_payload_index(name, "by_hand", "keyword"),
    ),
    "repair --vanished": (
        lambda name: ("repair", "--vanished", f"{name}__g0001"),
        lambda client, name: client.delete_collection(f"{name}__g0001"),
    ),
    "revision --from-drift": (
        lambda _: ("revision", "--from-drift"),
        lambda client, name: client.create_payload_index(name, "by_hand", "keyword"),
    ),
    "revision --from-live": (
        lambda name: ("revision", "--from-live", name),
        lambda client, name: client.create_payload_index(name, "by_hand", "keyword"),
    ),
    "snapshot create --archive": (lambda name: ("snapshot", "create", name, "--archive"), lambda *_: None),
}


@pytest.mark.server
@pytest.mark.parametrize("row", BY_HAND)
def test_what_the_table_says_of_an_option_is_what_happens(guarded, row):
    """With a key that only reads, the action works where the table says so; else it is refused, exit 9, and a managing key does it."""
    made = guarded
    upgrade.upgrade(made.settings())
    args, change = BY_HAND[row]
    with closing(QdrantClient(made.qdrant["url"], api_key=KEY, check_compatibility=False)) as client:
        change(client, made.name)
    said = with_key(made, READ_KEY, *args(made.name))
    if ANSWERS["read"][NEEDS[row]] == "no":
        assert (said.code, bool(DENIED.search(said.text))) == (9, True), said.text
        said = with_key(made, KEY, *args(made.name))
    assert said.code == 0, said.text


@pytest.mark.server
def test_a_limited_key_is_named_with_what_it_sees(guarded):
    """The finding names the collections of the key, with their rights, and that the rest looks as if it were gone."""
    made = guarded
    env = {"KEY_OF_THE_TEST": limited("rw", made.name, f"{made.name}__g0002")}
    said = call(made.root, "doctor", "--json", env=env)
    found = next(check for check in said.json["data"]["checks"] if check["name"] == "rights")
    assert found["level"] == "warn"
    assert found["facts"]["collections"] == {f"{made.name}__g0002": "rw"}
    assert f"{made.name}__g0002 (rw)" in found["detail"]
    assert "docs/rights.md" in found["hint"]


@pytest.mark.server
def test_a_limited_key_can_not_be_mistaken_for_a_lost_collection(guarded):
    """With a token for another collection, doctor fails with the reason: it is the key, not the collection."""
    made = guarded
    said = call(made.root, "doctor", env={"KEY_OF_THE_TEST": limited("rw", "another")})
    assert said.code == 7
    assert "the key is limited to some collections: it sees no collection" in " ".join(said.out.split())


@pytest.mark.server
def test_rights_are_tried_without_a_trace(guarded, monkeypatch):
    """Operation ids, aliases, snapshots and points are the same after doctor, for a managing and for a limited key."""
    made = guarded
    store = connect(ConnectionSettings(**made.settings().connection()))

    def trace():
        names = store.physical_names()
        ids = {name: store.operation_ids(name) for name in names}
        return names, store.aliases(), ids, {name: store.list_snapshots(name) for name in names}, made.contents()

    try:
        before = trace()
        for access in ("rw", "prw", "r"):
            key = limited(access, *before[0], made.name)
            assert call(made.root, "doctor", env={"KEY_OF_THE_TEST": key}).code in (0, 9)
        assert call(made.root, "doctor").code == 0
        assert trace() == before
    finally:
        store.close()


@pytest.mark.server
def test_the_token_of_the_page_works(guarded, tmp_path):
    """The script on the page makes a token that reads, and is refused to write."""
    made = guarded
    script = tmp_path / "token.py"
    script.write_text(blocks("python")[0])
    environment = {**os.environ, "QDRANT_API_KEY": KEY}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True, env=environment)
    env = {"KEY_OF_THE_TEST": done.stdout.strip()}
    assert call(made.root, "plan", env=env).code == 0
    assert call(made.root, "rollback", "0001", env=env).code == 9


@pytest.fixture
def roles(postgres_database):
    """Two SQL users with the rights of the page; the deployment's user owns the schema."""
    names = {role: f"{role}_{uuid.uuid4().hex[:8]}" for role in ("deploy", "ci", "other")}
    server = make_url(postgres_database).set(drivername="postgresql")
    with psycopg.connect(server.render_as_string(hide_password=False), autocommit=True) as connection:
        for name in names.values():
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))

        def grant(block: str) -> None:
            connection.execute(re.sub(r"\b(deploy|ci|other)\b", lambda found: names[found[0]], block))

        grant(blocks("sql")[0])
        try:
            yield {role: str(make_url(postgres_database).set(username=name)) for role, name in names.items()}, grant
        finally:
            for name in names.values():
                connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
                connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.mark.postgres
def test_the_grants_of_the_page_are_enough_and_no_more(roles, tmp_path):
    """With the grants of the page, deploy upgrades, ci plans and can't upgrade, and other can once it is granted."""
    urls, grant = roles
    made = Deployment(
        tmp_path / "project", {"path": str(tmp_path / "q")}, urls["deploy"], extra={"ledger": {"schema": "qmigrate"}}
    )

    def rights(role: str) -> dict:
        said = call(made.root, "doctor", "--json", "--ledger-url", urls[role])
        return next(one for one in said.json["data"]["checks"] if one["name"] == "ledger rights")

    made.revise("0001", CREATE)
    assert rights("deploy")["level"] == "ok"
    assert "may not make them" in rights("ci")["detail"]
    assert call(made.root, "upgrade", "--ledger-url", urls["ci"]).code == 9
    assert call(made.root, "upgrade").code == 0
    made.revise("0002", ADD)
    for verb in ("plan", "status", "history"):
        assert call(made.root, verb, "--ledger-url", urls["ci"]).code == 0
    found = rights("ci")
    assert (found["level"], found["facts"]["creates"]) == ("warn", False)
    assert "INSERT on qdrant_migration_runs" in found["facts"]["lacking"]
    assert "SELECT on qdrant_migration_runs" not in found["facts"]["lacking"]
    assert call(made.root, "upgrade", "--ledger-url", urls["ci"]).code == 9
    grant(blocks("sql")[1])
    assert (rights("other")["level"], rights("other")["facts"]["lacking"]) == ("ok", [])
    assert call(made.root, "upgrade", "--ledger-url", urls["other"]).code == 0


@pytest.mark.postgres
def test_a_sequence_without_a_grant_is_missed(roles, tmp_path):
    """A user who may write every row but not number them gets that reported, before an upgrade fails."""
    urls, grant = roles
    made = Deployment(
        tmp_path / "project", {"path": str(tmp_path / "q")}, urls["deploy"], extra={"ledger": {"schema": "qmigrate"}}
    )
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    grant("\n".join(blocks("sql")[1].splitlines()[:2]))
    said = call(made.root, "doctor", "--json", "--ledger-url", urls["other"])
    found = next(one for one in said.json["data"]["checks"] if one["name"] == "ledger rights")
    made.revise("0002", ADD)
    code = call(made.root, "upgrade", "--ledger-url", urls["other"]).code
    lacking = [right for right in found["facts"]["lacking"] if right.startswith("USAGE")]
    assert bool(lacking) == (code == 9), (found, code)


@pytest.mark.postgres
def test_a_read_only_database_is_told_as_such(postgres_database, tmp_path):
    """Where the database makes every transaction read-only, plan works and doctor reports that upgrade won't."""
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "q")}, postgres_database)
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    url = make_url(postgres_database).update_query_dict({"options": "-c default_transaction_read_only=on"})
    plain = url.render_as_string(hide_password=False)
    said = call(made.root, "doctor", "--json", "--ledger-url", plain)
    found = next(one for one in said.json["data"]["checks"] if one["name"] == "ledger rights")
    assert found["level"] == "warn"
    assert "read-only" in found["detail"]
    assert call(made.root, "plan", "--ledger-url", plain).code == 0
