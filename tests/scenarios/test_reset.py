"""Resets: an empty generation takes the name, what served is kept and comes back complete; killed, it ends the same."""

from __future__ import annotations

import signal

import pytest
from tests.conftest import clean
from tests.conftest_postgres import fresh_database
from tests.faults import forked
from tests.faults.stride import thinned
from tests.faults.test_kill import points_of
from tests.harness import ADD, CREATE, INDEX, Deployment, audit, make_point, write
from tests.scenarios.cli import call, left
from tests.scenarios.plain_names import plain

from qmigrate import fix as program
from qmigrate.commands import fix, gc, reset, upgrade
from qmigrate.commands import rollback as back
from qmigrate.engine.golive import golive
from qmigrate.errors import PlanError, RefusedError

POINTS = 12


def put(made: Deployment, *numbers: int, name: str | None = None) -> None:
    """Write points as the application does, or past its name."""
    store = made.store()
    write(store, name or made.name, [make_point(number) for number in numbers])
    store.close()


def schema(made: Deployment):
    """What serves is made of."""
    store = made.store()
    try:
        return store.describe(made.name).schema
    finally:
        store.close()


def prepare(made: Deployment) -> dict:
    """A collection with an index and points; what it holds."""
    made.revise("0001", CREATE)
    made.revise("0002", INDEX)
    upgrade.upgrade(made.settings())
    made.load(POINTS)
    return made.contents()


@pytest.fixture
def kept(deployment: Deployment, request):
    """Local mode with SQLite, a server with PostgreSQL."""
    if "url" not in deployment.qdrant:
        yield deployment
        return
    with fresh_database(request.getfixturevalue("postgres_url")) as url:
        deployment.ledger_url = url
        deployment.__post_init__()
        yield deployment


def test_a_reset_leaves_every_point_behind_and_brings_it_back(kept, monkeypatch):
    """Empty with the same schema; late writes stay behind and are counted; undone unless something was written since."""
    made, before = kept, prepare(kept)
    settings, old = made.settings(), schema(made)
    original = golive.moves

    def late(step, work):
        store = made.store() if "url" in made.qdrant else work.store
        write(store, made.name, [make_point(90)])
        if store is not work.store:
            store.close()
        return original(step, work)

    with monkeypatch.context() as patched:
        patched.setattr(golive, "moves", late)
        done = reset.reset(settings, made.name, reason="a new start", expect=POINTS, confirm=reset.PHRASE)
    assert (made.contents(), done.left, done.late) == ({}, POINTS + 1, 1)
    row = audit(made)[0]
    assert (row.id, row.kind, row.count, row.reason) == (done.log, "FULL_RESET", POINTS + 1, "a new start")
    assert schema(made) == old
    assert old.indexes.keys() == ({"kind"} if "url" in made.qdrant else set())
    assert (made.row().state, made.row().revision) == ("ready", "0002")
    put(made, 1, 2, 3)
    with pytest.raises(RefusedError, match=r"3 points were written to .* since") as caught:
        fix.undo_review(settings, done.log)
    with pytest.raises(RefusedError, match="3 points added"):
        fix.undo(settings, done.log)
    assert "--overwrite" in caught.value.hint
    (undone,) = fix.undo(settings, done.log, overwrite=True).done
    assert (undone.changed, undone.log) == (POINTS + 1, audit(made)[0].id)
    # No command that can't do it is named.
    assert not undone.undo
    with pytest.raises(RefusedError, match="has kept nothing to restore the points from"):
        fix.undo(settings, undone.log)
    assert {one: value for one, value in made.contents().items() if one != 91} == before
    assert audit(made)[0].facts["undoes"] == done.log
    with pytest.raises(RefusedError, match="undone already"):
        fix.undo(settings, done.log)
    put(made, 70)
    assert len(made.contents()) == POINTS + 2
    # What was left is an old generation like any other: gc takes it, and the next reset begins from here.
    assert {one.generation for one in gc.gc(settings, made.name, now=True, discard_writes=True).collected} == {done.generation}
    again = program.reset(made.name, reason="again", expect=POINTS + 2, confirm=reset.PHRASE, settings=settings)
    assert gc.gc(settings, made.name, now=True).collected[0].generation == again.left_in
    with pytest.raises(RefusedError, match="not kept any more"):
        fix.undo(settings, again.log)
    assert made.contents() == {}


def test_a_reset_is_refused_and_asked_for(kept):
    """Without reason, phrase or the right number nothing happens; revisions that came since are undone first."""
    made, before = kept, prepare(kept)
    words = ["fix", "reset", made.name, "--reason", "why"]
    right = ["--yes", "--expect", str(POINTS), "--confirm", "DELETE ALL VECTORS"]
    for args, code, said in (
        (words, 10, "12 points would be left behind"),
        ([*words, "--yes"], 10, "nothing was changed"),
        ([*words, *right[:-1], "delete all vectors"], 10, "needs consent"),
        ([*words, "--yes", "--expect", "11", *right[3:]], 10, "12 points, and 11 were expected"),
        ([*words[:3], *right], 2, "a reason is required"),
        (["fix", "reset", "unknown", "--reason", "why", *right], 2, "no collection 'unknown'"),
    ):
        answer = call(made.root, *args)
        assert (answer.code, said in answer.err) == (code, True), answer.text
    shown = call(made.root, *words, "--dry-run", "--json").json["data"]
    assert (shown["points"], made.contents(), left(made).open_runs, audit(made)) == (POINTS, before, (), [])
    done = call(made.root, *words, *right)
    assert (done.code, "12 points in" in done.out, "qmigrate fix undo 1" in done.out) == (0, True, True), done.text
    made.revise("0003", ADD.replace("Embed(\"words\", text=\"text\")", "Empty()"))
    upgrade.upgrade(made.settings())
    with pytest.raises(RefusedError, match="rebuilt since|0003 was applied"):
        fix.undo(made.settings(), 1)
    back.rollback(made.settings(), "0002")
    # What a person has had erased since is erased in what was left behind, too.
    program.delete_points(made.name, ids=[1], erase=True, reason="asked", expect=1, settings=made.settings())
    del before[1]
    answer = call(made.root, "fix", "undo", "1", "--yes")
    assert (answer.code, "11 points restored" in answer.out, made.contents()) == (0, True, before), answer.text
    with pytest.raises(PlanError, match="a reason"):
        reset.review(made.settings(), made.name, reason=" ")


def test_a_rollback_over_a_reset_names_its_undo(deployment):
    """A reset lies between two rebuilds: the refusal says what to call, and calling that leads to the first generation."""
    made = deployment
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(POINTS)
    before = made.contents()
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings(), no_snapshot=True)
    done = reset.reset(made.settings(), made.name, reason="r", expect=POINTS, confirm=reset.PHRASE)
    made.revise("0003", ADD.replace('"b"', '"c"').replace("Embed(\"words\", text=\"text\")", "Empty()"))
    upgrade.upgrade(made.settings(), no_snapshot=True)
    for first in ([f"qmigrate rollback 0002 --only {made.name}"], []):
        for dry_run in (True, False):
            with pytest.raises(RefusedError, match=f"fix {done.log} has reset .* is in {made.name}__g0002") as refused:
                back.rollback(made.settings(), "0001", dry_run=dry_run)
            assert refused.value.hint.splitlines() == [*first, f"qmigrate fix undo {done.log}", "then the same command again"]
        if first:
            back.rollback(made.settings(), "0002")
    fix.undo(made.settings(), done.log)
    assert back.rollback(made.settings(), "0001").outcomes[-1].physical == f"{made.name}__g0001"
    assert made.contents() == before


def test_a_plain_collection_is_reset_and_comes_back(deployment):
    """Its name becomes an alias first, hidden or copied as the store can; the points come back under the same name."""
    made = deployment
    plain(made, 9)
    before = made.contents()
    done = reset.reset(made.settings(), made.name, reason="r", expect=9, confirm=reset.PHRASE)
    assert made.contents() == {}
    assert done.left_in == (made.name if "url" in made.qdrant else f"{made.name}__g0001")
    put(made, 400)
    fix.undo(made.settings(), done.log, overwrite=True)
    assert made.contents() == before
    put(made, 401)
    assert len(made.contents()) == 10


@pytest.mark.timeout(600)
@pytest.mark.parametrize("what", ["reset", "--undo"])
def test_a_killed_reset_ends_once(qdrant_config, tmp_path, what):
    """The same command finishes it, or an abort leaves no trace of it: one row in the audit at most."""

    def made_in(folder) -> tuple[Deployment, dict]:
        qdrant = {"path": str(folder / "qdrant")} if "path" in qdrant_config else {**qdrant_config, "timeout": 1}
        made = Deployment(folder / "project", qdrant, f"sqlite:///{folder}/ledger.db")
        before = prepare(made)
        if what == "--undo":
            command(made, "reset")
        return made, before

    def command(made: Deployment, verb: str) -> None:
        if verb == "reset":
            reset.reset(made.settings(), made.name, reason="test", expect=POINTS, confirm=reset.PHRASE)
        else:
            fix.undo(made.settings(), 1)

    def child(made: Deployment, kill_at="-", log="-"):
        points = str(POINTS) if what == "reset" else what
        return forked.run("tests.faults.child_reset", str(made.config), made.name, points, str(kill_at), str(log))

    probe, _ = made_in(tmp_path / "probe")
    log = tmp_path / "points"
    assert child(probe, log=log).returncode == 0
    numbers, labels = thinned(points_of(log)), log.read_text().splitlines()
    swapped = labels.index("after journal swap done") + 1
    numbers = numbers[1::4] if "path" in qdrant_config else numbers[len(what) % 2 :: 3]
    for place, number in enumerate(numbers):
        made, before = made_in(tmp_path / f"kill{number}")
        assert child(made, number).returncode == -signal.SIGKILL, labels[number - 1]
        begun = labels.index("after open_run") + 1 < number < swapped - 4
        if place % 2 and begun and what == "reset":
            back.abort(made.settings(), made.name)
            assert (made.contents(), audit(made)) == (before, []), labels[number - 1]
        else:
            command(made, what)
            kinds = [row.kind for row in audit(made)]
            assert kinds == (["FULL_RESET"] if what == "reset" else ["UNDO", "FULL_RESET"]), labels[number - 1]
            assert made.contents() == ({} if what == "reset" else before), labels[number - 1]
        assert left(made).open_runs == ()
        put(made, 500, 501)
        assert made.row().state == "ready"
        if "url" in qdrant_config:
            clean(made)
