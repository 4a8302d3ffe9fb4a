"""Doctor on real deployments: each thing that can be wrong, made so, is found with its next command; and repaired."""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from sqlalchemy import update
from tests.conftest import clean
from tests.conftest_qdrant import free_port, serving
from tests.harness import ADD, CREATE, INDEX, Deployment, by_hand
from tests.scenarios.cli import call

from qmigrate.commands import doctor as command
from qmigrate.commands import repair, rollback, upgrade
from qmigrate.commands.results import Check
from qmigrate.errors import LeaseHeldError
from qmigrate.ledger import Ledger, tables
from qmigrate.model.names import PROBE_PREFIX
from qmigrate.model.schema import CollectionSchema

#: A probe that was begun in 2023.
PROBE = f"{PROBE_PREFIX}655a0000_0123456789ab_"
PLAIN = CollectionSchema(vectors={"a": {"size": 8, "distance": "Cosine"}})


@pytest.fixture(scope="module")
def qdrant_server():
    """A server of this module's own: doctor judges everything that is on it, also what other tests have left."""
    yield from serving()


def checks(made: Deployment) -> dict[str, Check]:
    """What doctor finds, by name."""
    return {check.name: check for check in command.doctor(made.settings()).checks}


def failed(made: Deployment) -> list[str]:
    """Names of the checks that fail."""
    return [check.name for check in command.doctor(made.settings()).checks if check.ok is False]


def upgraded(made: Deployment) -> Deployment:
    """With points, at a second revision that was a copy: g0001 is kept, g0002 serves."""
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(12)
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())
    return made


def with_store(made: Deployment, change: Callable) -> None:
    """Do something to Qdrant behind qmigrate's back."""
    store = made.store()
    try:
        change(store)
    finally:
        store.close()


def in_ledger(made: Deployment, statement) -> None:
    """The same to the ledger."""
    ledger = Ledger.open(made.ledger_url)
    try:
        with ledger.database.writing() as connection:
            connection.execute(statement)
    finally:
        ledger.close()


def test_all_is_well(deployment):
    """After an upgrade nothing fails or warns; what the application must know is named."""
    made = upgraded(deployment)
    found = command.doctor(made.settings())
    mine = [check for check in found.checks if made.name in check.detail + check.name]
    assert [check.name for check in mine if check.level in ("fail", "warn")] == []
    names = next(check for check in found.checks if check.name == "aliases")
    assert made.name in names.facts["names"]
    assert "qmigrate.ensure" in names.hint
    models = next(check for check in found.checks if check.name == "models")
    assert (models.ok, models.detail) == (True, "1 vector filled by the models that are configured")


@dataclass(frozen=True)
class Wrong:
    """Something made wrong, and what doctor must say of it.

    Attributes:
        make: gets the deployment.
        check: name of the finding, with the deployment's name in the place of ``NAME``.
        level: of the finding.
        says: part of its detail.
        hint: part of its hint.
        code: doctor's exit code.
        server: only a server can be made so.
    """

    make: Callable[[Deployment], None]
    check: str
    level: str
    says: str
    hint: str
    code: int = 0
    server: bool = False


def _alias(name: str, target: str) -> Callable[[Deployment], None]:
    return lambda made: with_store(
        made, lambda store: store.create_alias(name.replace("NAME", made.name), target.replace("NAME", made.name))
    )


def _collection(name: str, seal=None) -> Callable[[Deployment], None]:
    return lambda made: with_store(
        made, lambda store: store.create_collection(name.replace("NAME", made.name), PLAIN, seal=seal)
    )


def _drop(name: str) -> Callable[[Deployment], None]:
    return lambda made: with_store(made, lambda store: store.drop_collection(by_hand(name.replace("NAME", made.name))))


def _own_shadow(made: Deployment) -> None:
    ledger = Ledger.open(made.ledger_url)
    _collection("NAME__g0009", {"ledger": ledger.identity(), "generation": 9})(made)
    ledger.close()


def _past_holdover(made: Deployment) -> None:
    rows = tables.generations
    past = datetime.now(UTC) - timedelta(days=1)
    in_ledger(made, update(rows).where(rows.c.state == "retired").values(held_until=past))


def _fenced(recorded: bool) -> Callable[[Deployment], None]:
    def make(made: Deployment) -> None:
        physical = f"{made.name}__g0002"
        with_store(made, lambda store: store.fence(physical))
        rows = tables.generations
        if recorded:
            in_ledger(made, update(rows).where(rows.c.physical == physical).values(fence={}))

    return make


def _interrupted(made: Deployment) -> None:
    made.revise("0003", ADD.replace('"b"', '"c"').replace('text="text"', 'text="nothing"'))
    assert call(made.root, "upgrade").code == 2
    in_ledger(made, update(tables.runs).where(tables.runs.c.state == "unchanged").values(state="running"))


def _another_model(made: Deployment) -> None:
    made.extra["embedders"] = {"words": {"type": "callable", "function": "tests.harness:flat", "size": 16}}
    made.__post_init__()


def _another_size(made: Deployment) -> None:
    made.extra["embedders"] = {"words": {"type": "hashing", "size": 8}}
    made.__post_init__()


def _no_model(made: Deployment) -> None:
    text = made.config.read_text().replace("words:", "other:")
    made.config.write_text(text)


def _bad_override(made: Deployment) -> None:
    made.extra["collections"] = {made.name + "x": {"rebuild": {"workers": 2}}}
    made.__post_init__()


def _two_heads(made: Deployment) -> None:
    made.revise("0003", INDEX)
    made.revise("0004", INDEX.replace("kind", "n"), down="0002")


def _strict(**limits: int) -> Callable[[Deployment], None]:
    def make(made: Deployment) -> None:
        body = {"strict_mode_config": {"enabled": True, **limits}}
        url = f"{made.qdrant['url']}/collections/{made.name}__g0002"
        assert httpx.patch(url, json=body, timeout=10).status_code == 200

    return make


def _shadowed(made: Deployment) -> None:
    def change(store) -> None:
        store.create_collection(f"{made.name}p", PLAIN, seal=None)
        store.create_alias(f"{made.name}tmp", f"{made.name}__g0001")
        store.rename_aliases([(f"{made.name}tmp", f"{made.name}p")])

    with_store(made, change)


REPAIR = "qmigrate repair --leftovers"
WRONG = {
    "own alias left": Wrong(
        _alias("NAME__g0001__e1", "NAME__g0001"), "own aliases", "warn", "NAME__g0001__e1", REPAIR
    ),
    "own alias of a swap": Wrong(
        _alias("NAME__g0002__e2__0", "NAME__g0002"), "own aliases", "warn", "NAME__g0002__e2__0", REPAIR
    ),
    "alias of another ledger": Wrong(
        _alias("NAME__g0001__e99", "NAME__g0001"), "foreign aliases", "info", "no lease of this ledger", "leave them"
    ),
    "probe collection": Wrong(_collection(f"{PROBE}a"), "probes", "warn", f"{PROBE}a", REPAIR),
    "probe alias": Wrong(_alias(f"{PROBE}c", "NAME__g0001"), "probes", "warn", f"{PROBE}c", REPAIR),
    "alias moved by hand": Wrong(
        _alias("NAME", "NAME__g0001"), "collection NAME", "fail", "another client moved it", "qmigrate repair --name NAME", 7
    ),
    "foreign seal": Wrong(
        lambda made: with_store(made, lambda store: store.write_seal(f"{made.name}__g0002", {"ledger": "abc"})),
        *("collection NAME", "fail", "sealed by another ledger (abc", "ledger.url", 7),
    ),
    "shadow of no ledger": Wrong(_collection("NAME__g0009"), "shadow NAME__g0009", "info", "without a seal", "owner"),
    "shadow of another ledger": Wrong(
        _collection("NAME__g0009", {"ledger": "abc"}), "shadow NAME__g0009", "warn", "another ledger (abc)", "ledger.url"
    ),
    "shadow of ours": Wrong(_own_shadow, "shadow NAME__g0009", "warn", "neither a run nor a row", "backup"),
    "parent gone": Wrong(_drop("NAME__g0001"), "generation NAME__g0001", "warn", "not in Qdrant any more", "snapshot"),
    "live one gone": Wrong(_drop("NAME__g0002"), "collection NAME", "fail", "Qdrant has no such name", "this report shows both", 7),
    "past the holdover": Wrong(_past_holdover, "holdover", "info", "NAME__g0001", "qmigrate gc"),
    "interrupted": Wrong(_interrupted, "run of NAME", "warn", "was interrupted in preflight", "qmigrate abort NAME"),
    "another model": Wrong(_another_model, "model of NAME.b", "fail", "words is not the model", "op.Reembed", 4),
    "another size": Wrong(_another_size, "model of NAME.b", "fail", "makes 8 values, and the vector", "agree", 2),
    "model gone": Wrong(_no_model, "model of NAME.b", "warn", "don't have any more", "add words under embedders"),
    "override": Wrong(_bad_override, "override NAMEx", "warn", "did you mean", "qmigrate.yaml"),
    "two heads": Wrong(_two_heads, "heads", "warn", "there are 2 heads: 0003 (0003_rev.py), 0004 (0004_rev.py)", "qmigrate revision --merge"),
    "fenced": Wrong(_fenced(True), "fence of NAME", "fail", "qmigrate has fenced it", "qmigrate upgrade lifts", 7, True),
    "limited": Wrong(_fenced(False), "fence of NAME", "fail", "another client has limited it", "write_rate_limit", 7, True),
    "small batches": Wrong(
        _strict(upsert_max_batchsize=0),
        *("strict mode upsert_max_batchsize", "warn", "refuses every one: NAME__g0002", "UpdateCollection", 0, True),
    ),
    "few reads": Wrong(
        _strict(read_rate_limit=60),
        *("strict mode read_rate_limit", "warn", "at most 60 reads a minute", "read_rate_limit", 0, True),
    ),
    "shadowed": Wrong(
        _shadowed, "shadowed names", "warn", "NAMEp",
        "before you upgrade Qdrant itself: qmigrate gc NAMEp --now --generation NAMEp", server=True,
    ),
}


def check_found(made: Deployment, wrong: Wrong) -> None:
    """Make it wrong, and look whether doctor finds it."""
    wrong.make(upgraded(made))

    def named(text: str) -> str:
        return text.replace("NAME", made.name)

    result = command.doctor(made.settings())
    found = {check.name: check for check in result.checks}
    assert named(wrong.check) in found, sorted(found)
    check = found[named(wrong.check)]
    assert check.level == wrong.level, check
    assert named(wrong.says) in check.detail
    assert named(wrong.hint) in (check.hint or "")
    if wrong.code:
        assert result.exit_code == wrong.code, [one for one in result.checks if one.ok is False]


@pytest.mark.parametrize("kind", [kind for kind, wrong in WRONG.items() if not wrong.server])
def test_what_is_wrong_is_found(deployment, kind):
    """Each thing that is wrong has a finding of its level that names it and the next command, and its exit code."""
    check_found(deployment, WRONG[kind])
    with_store(deployment, lambda store: store.drop_collection(by_hand(f"{PROBE}a")))


@pytest.mark.server
@pytest.mark.parametrize("kind", [kind for kind, wrong in WRONG.items() if wrong.server])
def test_what_is_wrong_on_a_server_is_found(own_server, kind):
    """The same for what local mode doesn't have: strict mode, fences, shadowed names."""
    check_found(own_server, WRONG[kind])


@pytest.fixture
def own_server(qdrant_server, tmp_path):
    """A deployment on the shared server."""
    qdrant = {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "timeout": 2}
    made = Deployment(tmp_path / "project", qdrant, f"sqlite:///{tmp_path}/ledger.db")
    yield made
    clean(made)


def test_a_closed_port_for_points_is_asked_once(own_server, monkeypatch):
    """It is reported, and no other check tries for long to read points through it: sizes are those declared."""
    made = upgraded(own_server)
    made.load(5)
    asked = []
    monkeypatch.setattr("qmigrate.store.server.server.ServerStore.fetch", lambda *_, **__: asked.append("points") or [])
    settings = replace(made.settings(), qdrant=replace(made.settings().qdrant, grpc_port=free_port()))
    found = {check.name: check for check in command.doctor(settings).checks}
    assert (found["points"].ok, "can't be reached" in found["points"].detail) == (False, True)
    assert asked == []
    assert {check.name for check in command.doctor(made.settings()).checks if check.ok is False} == set()
    assert asked


def test_leftovers_are_removed_and_nothing_else(deployment):
    """Leftovers: dead holders' aliases and empty probes are removed; what is used, foreign or filled stays."""
    made = upgraded(deployment)
    stem = f"{PROBE_PREFIX}655a0001_{uuid.uuid4().hex[:12]}_"
    running = f"{PROBE_PREFIX}{int(time.time()):x}_{uuid.uuid4().hex[:12]}_a"
    other = Deployment(made.root.parent / "other", made.qdrant, made.ledger_url, name=f"{stem}b")
    for name in (f"{stem}a", f"{stem}b", running):
        _collection(name)(made)
    other.load(11)
    for name in ("__g0001__e1", "__g0002__e2__0", "__g0001__e99"):
        _alias(f"NAME{name}", f"NAME{name[:7]}")(made)
    _alias(f"{stem}c", "NAME__g0001")(made)
    _alias("NAMEmodel__e5", "NAME__g0001")(made)
    said = call(made.root, "repair", "--leftovers", "--json").json["data"]
    expected = {f"{made.name}__g0001__e1", f"{made.name}__g0002__e2__0", f"{stem}a", f"{stem}c"}
    assert set(said["subject"].split(", ")) >= expected
    assert {f"{stem}b", running} <= set(said["detail"].partition("left unchanged: ")[2].split(", "))
    store = made.store()
    try:
        kept = {made.name, f"{made.name}__g0001__e99", f"{made.name}model__e5"}
        assert {name for name in store.aliases() if made.name in name or stem in name} == kept
        kept = {f"{made.name}__g0001", f"{made.name}__g0002", f"{stem}b", running}
        assert {name for name in store.physical_names() if name in kept or made.name in name or stem in name} == kept
    finally:
        for name in (f"{stem}b", running):
            store.drop_collection(by_hand(name))
        store.close()
    assert repair.leftovers(made.settings()).subject == ""
    assert failed(made) == []


def test_leftovers_of_a_living_holder_and_of_an_open_run_stay(deployment):
    """An alias whose lease is held is not touched, nor is one that an interrupted run resumes from."""
    made = upgraded(deployment)
    _alias("NAME__g0002__e1", "NAME__g0002")(made)
    ledger = Ledger.open(made.ledger_url)
    try:
        with ledger.hold(made.name, timeout=5, ttl=30):
            assert "own aliases" not in checks(made)
            assert repair.leftovers(made.settings()).subject == ""
    finally:
        ledger.close()
    assert "own aliases" in checks(made)
    _interrupted(made)
    found = checks(made)
    assert "own aliases" not in found
    assert f"run of {made.name}" in found
    assert repair.leftovers(made.settings()).subject == ""


def test_leftovers_wait_for_the_lease(deployment, monkeypatch):
    """Taken over by another process after it was checked, the collection's aliases stay: exit 6."""
    made = upgraded(deployment)
    made.extra["limits"] = {"lock_timeout": "0s"}
    made.__post_init__()
    _alias("NAME__g0002__e1", "NAME__g0002")(made)
    ledger = Ledger.open(made.ledger_url)
    left = repair._left
    held = []

    def looked(opened):
        found = left(opened)
        held.append(ledger.hold(made.name, timeout=5, ttl=30))
        held[0].__enter__()
        return found

    monkeypatch.setattr(repair, "_left", looked)
    try:
        with pytest.raises(LeaseHeldError):
            repair.leftovers(made.settings())
    finally:
        held[0].__exit__(None, None, None)
        ledger.close()
    store = made.store()
    assert f"{made.name}__g0002__e1" in store.aliases()
    store.close()


def test_a_broken_ledger_hides_nothing_of_qdrant(deployment):
    """With SQL down, the health of every collection and the disk space are still reported; what needs SQL is named."""
    made = upgraded(deployment)
    made.ledger_url = f"postgresql://app@127.0.0.1:{free_port()}/app"
    made.__post_init__()
    found = checks(made)
    assert [name for name, check in found.items() if check.ok is False] == ["ledger"]
    assert found["qdrant"].ok
    assert found["health"].ok
    assert "disk" in found
    assert "leases" in found["not checked"].detail
    assert found["embedder words"].ok


def test_a_broken_qdrant_hides_nothing_of_the_ledger(tmp_path, ledger_url):
    """With Qdrant down, the ledger's rights, clock and unfinished runs are still reported, on both databases."""
    made = Deployment(tmp_path / "project", {"url": f"http://127.0.0.1:{free_port()}", "timeout": 0.2}, ledger_url)
    made.revise("0001", CREATE)
    found = checks(made)
    assert [name for name, check in found.items() if check.ok is False] == ["qdrant"]
    assert found["ledger"].ok
    assert found["ledger rights"].ok
    assert found["revisions"].ok
    assert "health" in found["not checked"].detail


def test_broken_revisions_hide_nothing_else(deployment):
    """A revision file that can't be read is one failure; collections, names and embedders are still checked."""
    made = upgraded(deployment)
    made.revise("0003", "def upgrade(:\n")
    found = checks(made)
    assert [name for name, check in found.items() if check.ok is False] == ["revisions"]
    assert made.name in found["aliases"].detail
    assert found["models"].ok


def test_a_check_that_breaks_hides_no_other(deployment, monkeypatch):
    """A fault of one check is a failure of that check, exit 1, with the others made."""
    from qmigrate.commands import doctor
    from qmigrate.commands.doctor import Row

    def broken(_patient):
        yield Check("before", True, "seen")
        raise ZeroDivisionError("in the check")

    rows = (Row("project", "broken", broken), *doctor.TABLE)
    monkeypatch.setattr(command, "TABLE", rows)
    found = command.doctor(upgraded(deployment).settings())
    assert [(check.name, check.exit_code) for check in found.checks if check.ok is False] == [("broken", 1)]
    assert {"before", "health", "models"} <= {check.name for check in found.checks}


def test_no_check_is_begun_after_the_time(deployment):
    """With no time at all, everything is named as not checked, and nothing fails."""
    found = command.doctor(upgraded(deployment).settings(), budget=0).checks
    assert [(check.name, check.level) for check in found] == [("not checked", "warn")]
    assert "revisions" in found[0].detail
    assert "--timeout" in found[0].hint


def test_an_embedder_that_hangs_is_not_waited_for(deployment, monkeypatch):
    """A model that takes forever to load is reported as still loading when the time is up."""
    made = upgraded(deployment)
    made.extra["embedders"] = {"slow": {"type": "callable", "function": "tests.scenarios.slow_embedder:embed", "size": 4}}
    made.__post_init__()
    found = {check.name: check for check in command.doctor(made.settings(), budget=4).checks}
    assert found["embedder slow"].level == "warn"
    assert "still loading" in found["embedder slow"].detail


def test_a_ledger_that_somebody_writes_all_the_time(deployment):
    """A SQLite file that another writer keeps locked is reported as busy, not broken, and is not waited for."""
    made = upgraded(deployment)
    path = made.ledger_url.removeprefix("sqlite:///")
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    try:
        started = time.monotonic()
        found = checks(made)["ledger rights"]
        assert time.monotonic() - started < 50
    finally:
        writer.execute("ROLLBACK")
        writer.close()
    assert found.level == "info"
    assert "another process was writing" in found.detail


def test_people_and_programs_see_the_same(deployment):
    """Every finding of --json is on the terminal, with its hint, in 80 columns but for names that are longer."""
    made = upgraded(deployment)
    _alias("NAME__g0001__e1", "NAME__g0001")(made)
    found = call(made.root, "doctor", "--json").json["data"]
    people = call(made.root, "doctor").out
    flat = " ".join(people.replace("→", "").split())
    for check in found["checks"]:
        assert check["name"] in flat
        if check["hint"]:
            assert " ".join(check["hint"].split()) in flat
    assert {"name", "group", "level", "ok", "detail", "hint", "exit_code", "facts"} == set(found["checks"][0])
    assert [line for line in people.splitlines() if len(line) > 80 and len(line.split()) > 2] == []
    assert found["warned"] >= 1


def test_a_rollback_leaves_nothing_for_doctor(deployment):
    """After going back, no leftover fence, alias or generation is found."""
    made = upgraded(deployment)
    rollback.rollback(made.settings(), "0001", writes="discard")
    found = command.doctor(made.settings())
    mine = [c for c in found.checks if c.level in ("fail", "warn") and made.name in c.name + c.detail]
    assert mine == []
