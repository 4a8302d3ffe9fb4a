"""What gc may collect, as a table; rehearsals and estimates as pure functions."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from qmigrate.model.plan import Build, CollectionPlan, GoLive, InPlace, Job, Retire
from qmigrate.model.schema import Change, CollectionSchema
from qmigrate.model.state import CollectionState, Generation, Holding, KeptSnapshot, LiveCollection, OpenRun
from qmigrate.planner import estimate
from qmigrate.planner.estimate import (
    ASSUMED,
    MEASURED,
    TRIED,
    Copy,
    Speed,
    Trial,
    parts_of_copy,
    plan_rehearsal,
    projected,
    seconds_of_changes,
    seconds_of_clone,
    seconds_of_copy,
    steps_of,
)
from qmigrate.planner.gc import GcWish, judge, plan_gc
from qmigrate.settings.sections import EstimateSettings

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SCHEMA = CollectionSchema(vectors={"a": {"size": 500, "distance": "Dot"}}, aliases=("also",))
OURS = {"ledger": "L"}
LATE = {"ledger": "L", "state": "building", "generation": 4}
PAST, COMING = NOW - timedelta(seconds=1), NOW + timedelta(days=1)


def row(number: int, state: str = "retired", held: datetime | None = PAST, physical: str | None = None) -> Generation:
    """A record of the ledger."""
    return Generation(number, physical or f"c__g{number:04d}", None, ("0001",), SCHEMA, state, held_until=held)


#: The seal of what a snapshot of the second generation was made of; a number that was given up before it had a revision.
COPY = {"ledger": "L", "collection": "c", "state": "live", "generation": 2}
UNBORN = Generation(4, "c__g0004", 2, (), SCHEMA, "gone")


def holding(entry: Generation | None, **parts) -> Holding:
    """What stands in Qdrant under it; ours unless given otherwise."""
    physical = parts.pop("physical", entry.physical if entry else "c__g0009")
    return Holding(physical, entry, **{"seal": OURS, "points": 3, "size": 30, **parts})


def state(**parts) -> CollectionState:
    """A collection that g0002 serves, made from g0001."""
    live = LiveCollection("c__g0002", SCHEMA)
    rows = (row(1), Generation(2, "c__g0002", 1, ("0001", "0002"), SCHEMA, "live"))
    return CollectionState(**{"name": "c", "kind": "alias", "managed": True, "live": live, "generations": rows, **parts})


def running() -> OpenRun:
    """A user's unfinished upgrade."""
    job = Job("c", "", (GoLive((), None, "c__g0003", ("c",)),))
    return OpenRun(7, "upgrade", "failed", job, {}, "a", "h", NOW, None, ())


#: What serves has lost its only vector.
LACKING = {"live": LiveCollection("c__g0002", CollectionSchema()), "declared": SCHEMA}
SNAPSHOT = KeptSnapshot("made-by-hand", 5, None, own=False)


@pytest.mark.parametrize(
    ("found", "choice", "parts", "goes", "words"),
    [
        (holding(row(1)), {}, {}, True, "its holdover has ended"),
        (holding(row(1, held=NOW)), {}, {}, True, "its holdover has ended"),
        (holding(row(1, held=COMING)), {}, {}, False, "the way back to 0001"),
        (holding(row(1, held=COMING)), {"ignore_holdover": True}, {}, True, "its holdover is ignored"),
        (holding(row(1, held=None)), {}, {}, False, "without an end"),
        (holding(row(1), present=False, seal=None, points=None), {}, {}, True, "not in Qdrant any more"),
        (holding(row(2, "live", None)), {"ignore_holdover": True}, {}, False, "it serves"),
        (holding(row(5, "live", None)), {"ignore_holdover": True}, {}, False, "it serves"),
        (holding(row(2)), {"ignore_holdover": True}, {}, False, "it serves"),
        (holding(row(3, "building", None)), {}, {}, True, "never finished"),
        (holding(row(1)), {"ignore_holdover": True}, {"open_run": running()}, False, "run 7 is not finished"),
        (holding(row(3, "building", None)), {}, {"open_run": running()}, False, "run 7 is not finished"),
        (holding(row(1, "deleting", COMING)), {}, {}, True, "deletion has begun"),
        (holding(row(1, "deleting", COMING)), {"automatic": True}, {}, True, "deletion has begun"),
        (holding(row(0, "deleting", physical="other")), {"automatic": True}, {}, True, "deletion has begun"),
        (holding(row(1, "deleting"), names=("app",)), {}, {}, False, "app points to it"),
        (holding(None, physical="c__g0004", seal=LATE), {}, {"generations": (row(4, "gone"),)}, True, "was paused"),
        (holding(None, physical="c__g0004", seal=LATE), {}, {"generations": (row(4),)}, False, "not in the ledger"),
        (holding(None, physical="c__g0004", seal=COPY), {}, {"generations": (UNBORN,)}, True, "was paused"),
        (holding(None, physical="c__g0004", seal=COPY), {"automatic": True}, {"generations": (UNBORN,)}, False, "decide with"),
        (holding(None, physical="c__g0004", seal=COPY, names=("app",)), {}, {"generations": (UNBORN,)}, False, "app points"),
        (holding(None, physical="c__g0004", seal=COPY), {}, {"generations": (row(4, "gone"),)}, False, "not in the ledger"),
        (holding(None, physical="c__g0004", seal=COPY | {"ledger": "M"}), {}, {"generations": (UNBORN,)}, False, "not in"),
        (holding(None, physical="c__g0004", seal=COPY | {"generation": 4}), {}, {"generations": (UNBORN,)}, False, "not in"),
        (holding(None, physical="c__g0004"), {}, {"generations": (row(4, "gone"),)}, False, "not in the ledger"),
        (holding(row(1), names=("app",)), {"ignore_holdover": True}, {}, False, "app points to it"),
        (holding(row(1), seal=None), {"ignore_holdover": True}, {}, False, "no seal"),
        (holding(row(1), seal={"ledger": "M"}), {"ignore_holdover": True}, {}, False, "another ledger"),
        (holding(None), {"ignore_holdover": True}, {}, False, "not in the ledger"),
        (holding(None, physical="c__r0001"), {}, {}, True, "left by a rehearsal"),
        (holding(None, physical="c__r0001", seal=None), {}, {}, False, "not in the ledger"),
        (holding(None, physical="c__r0001", seal={"ledger": "M"}), {}, {}, False, "not in the ledger"),
        (holding(row(0, physical="c")), {"ignore_holdover": True}, {}, False, "no alias has its name"),
        (holding(row(0, physical="c"), hidden=True), {}, {}, True, "its holdover has ended"),
        (holding(row(0, physical="c"), hidden=True, seal=None), {}, {}, False, "nothing else leads to it"),
        (holding(row(0, physical="other")), {}, {}, True, "its holdover has ended"),
        (holding(row(0, physical="other")), {"automatic": True}, {}, False, "may still use the name other"),
        (holding(row(1), snapshots=(SNAPSHOT,)), {}, {}, True, "its holdover has ended"),
        (holding(row(1), snapshots=(SNAPSHOT,)), {"automatic": True}, {}, False, "made-by-hand"),
        (holding(row(1), snapshots=(SNAPSHOT,)), {"automatic": True, "keep_snapshots": True}, {}, True, "has ended"),
        (holding(row(1)), {}, LACKING, False, "it has vector 'a', which what serves has lost"),
        (holding(row(1)), {"automatic": True}, LACKING, False, "it has vector 'a', which what serves has lost"),
        (holding(row(1)), {"ignore_holdover": True}, LACKING, True, "its holdover has ended"),
        (holding(row(1)), {"only": frozenset({"c__g0001"})}, LACKING, True, "its holdover has ended"),
        (holding(row(1), present=False, seal=None, points=None), {}, LACKING, True, "not in Qdrant any more"),
        (holding(row(3, "building", None)), {}, LACKING, True, "never finished"),
        (holding(row(1)), {}, {**LACKING, "declared": CollectionSchema()}, True, "its holdover has ended"),
        (holding(row(1)), {"shown": frozenset({"c__g0001"})}, {}, True, "its holdover has ended"),
        (holding(row(1)), {"shown": frozenset()}, {}, False, "not in the list that was shown"),
    ],
)
def test_what_goes_and_what_stays(found, choice, parts, goes, words):
    """Every rule, with the reason that a person reads."""
    [verdict] = judge(state(**parts), [found], "L", GcWish(now=NOW, **choice))
    assert (verdict.goes, words in verdict.reason) == (goes, True), verdict.reason


def test_the_way_back_is_named():
    """The parent of what serves is more than held: it is where a rollback returns to."""
    kept = state(generations=(row(1, held=COMING), Generation(2, "c__g0002", 1, (), SCHEMA, "live")))
    [verdict] = judge(kept, [holding(row(1, held=COMING))], "L", GcWish(now=NOW))
    assert verdict.reason == "the way back to 0001"


def test_the_plan_is_one_job_of_what_goes():
    """Oldest first, each sparing instead of stopping, with the snapshots that were seen; nothing to resume from."""
    choice = GcWish(now=NOW, writes="discard", keep_snapshots=True)
    found = [holding(row(1), snapshots=(SNAPSHOT,)), holding(row(2, "live", None)), holding(row(3))]
    [item] = plan_gc(state(), judge(state(), found, "L", choice), choice).collections
    assert item.job.steps == (
        Retire("c__g0001", "its holdover has ended", "discard", ("made-by-hand",), keep_snapshots=True, spare=True),
        Retire("c__g0003", "its holdover has ended", "discard", (), keep_snapshots=True, spare=True),
    )
    assert item.job.repeatable
    assert Job.from_json(item.job.to_json()) == item.job
    assert plan_gc(state(), judge(state(), found[1:2], "L", choice), choice).collections == ()


def test_a_rehearsal_stands_in_for_every_generation():
    """Each build has the throwaway of the one before as its source; names, aliases and go-lives are left out."""
    steps = (
        InPlace((), "c__g0002", (Change("index.add", "f", {"type": "integer"}), Change("alias.add", "x", True)), "r"),
        Build((), "c__g0002", "c__g0003", 3, SCHEMA, "clone", "r"),
        GoLive((), "c__g0002", "c__g0003", ("c",)),
        Build((), "c__g0003", "c__g0004", 4, SCHEMA, "copy", "r"),
        GoLive((), "c__g0003", "c__g0004", ("c",)),
    )
    item = CollectionPlan(Job("c", "basis", steps), (), ())
    [made] = plan_rehearsal(state(), item, 50).collections
    sample, change, first, second, *gone = made.job.steps
    assert (sample.source, sample.target, sample.fill, sample.sample) == ("c__g0002", "c__r0001", "sample", 50)
    assert (change.target, [one.kind for one in change.changes]) == ("c__r0001", ["index.add"])
    assert (first.source, first.target, first.fill) == ("c__r0001", "c__r0002", "copy")
    assert (second.source, second.target, second.number) == ("c__r0002", "c__r0003", -3)
    assert [step.target for step in gone] == ["c__r0003", "c__r0002", "c__r0001"]
    assert all(step.schema.aliases == () for step in (sample, first, second))
    assert made.job.throwaway
    assert not made.job.repeatable
    assert Job.from_json(made.job.to_json()) == made.job
    dropped = CollectionPlan(Job("c", "basis", (GoLive((), "c__g0002", None, ("c",)),)), (), ())
    assert plan_rehearsal(state(), dropped, 50).collections == ()


RATES = EstimateSettings(copy=1e6, index=1e4, embed=10, local=100, step=2)
WIDTH = SCHEMA.bytes_per_point()


def speed(collection="c", points=1000, embeds=0, width=WIDTH, models=()) -> Speed:
    """A run of ten seconds to fill, five to prove and five to index."""
    return Speed(points, 10.0, points, 5.0, 5.0, embeds, width, models=models, collection=collection)


@pytest.mark.parametrize(
    ("wanted", "speeds", "local", "seconds", "basis"),
    [
        (Copy("c", 1000, 0, SCHEMA, 1000, WIDTH), [], False, 2 + 2 * 1000 * WIDTH / 1e6 + 50, ASSUMED),
        (Copy("c", 1000, 1, SCHEMA, 1000, WIDTH), [], False, 2 + 2 * 1000 * WIDTH / 1e6 + 100 + 50, ASSUMED),
        (Copy("c", 1000, 0, SCHEMA, 1000, WIDTH), [], True, 12, ASSUMED),
        (Copy("c", 1000, 0, SCHEMA, 1000, WIDTH), [speed()], False, 22, MEASURED),
        (Copy("c", 2000, 0, SCHEMA, 2000, WIDTH), [speed(width=WIDTH * 2)], False, 22, MEASURED),
        (Copy("c", 2000, 1, SCHEMA, 2000, WIDTH), [speed(embeds=1, width=WIDTH * 2)], False, 2 + 20 + 10, MEASURED),
        (Copy("c", 0, 0, SCHEMA, 1000, WIDTH), [speed()], False, 12, MEASURED),
        (Copy("c", 1000, 0, SCHEMA, 1000, WIDTH), [speed("d", 500), speed("c")], False, 22, MEASURED),
        (Copy("c", 1000, 0, SCHEMA, 1000, WIDTH), [speed("d", 2000)], False, 12, MEASURED),
        (Copy("c", 1000, 1, SCHEMA, 1000, WIDTH), [speed()], True, 117, ASSUMED),
        (Copy("c", 1000, 1, SCHEMA, 1000, WIDTH, ("a",)), [speed(embeds=1, models=("a",))], False, 22, MEASURED),
        (Copy("c", 1000, 1, SCHEMA, 1000, WIDTH, ("a",)), [speed("d", embeds=1, models=("a",))], False, 22, MEASURED),
        (Copy("c", 1000, 1, SCHEMA, 1000, WIDTH, ("b",)), [speed(embeds=1, models=("a",))], True, 112, ASSUMED),
        (Copy("c", 1000, 1, SCHEMA, 1000, WIDTH, ("a",)), [speed(embeds=1)], False, 22, MEASURED),
        (Copy("c", 1000, 1, SCHEMA, 1000, WIDTH, ("a",)), [speed("d", embeds=1)], True, 112, ASSUMED),
        (Copy("c", 1000, 0, SCHEMA, 1000, WIDTH), [speed(points=estimate.FEWEST_POINTS - 1)], True, 12, ASSUMED),
    ],
)
def test_a_copy_is_estimated_from_the_nearest_run_or_from_rates(wanted, speeds, local, seconds, basis):
    """The own collection first, the same embedders always; bytes scale what the model doesn't cost."""
    found = seconds_of_copy(wanted, speeds, RATES, local=local)
    assert (pytest.approx(found[0]), found[1]) == (seconds, basis)


#: Of 768 values, of which a server makes graphs from some 3,300 points on.
LARGE = CollectionSchema(vectors={"a": {"size": 768, "distance": "Cosine"}})
#: Reading a point takes 1 ms, and a search of one segment 2 ms, by as many values.
TRIAL = Trial(read=0.001, weight=LARGE.bytes_per_point(), search=0.002, values=768)
MILLION = Copy("c", 1_000_000, 0, LARGE, 1_000_000, LARGE.bytes_per_point())


@pytest.mark.parametrize(
    ("change", "speeds", "trial", "seconds", "basis"),
    [
        ({}, [], TRIAL, 2 + 1e6 * 0.001 * 8 + 3 + 1e6 * 0.002 * 4, TRIED),
        # A point that is twice as heavy, and nothing known of a graph.
        ({"weight": 2 * MILLION.weight}, [], replace(TRIAL, search=None), 2 + 1e6 * 0.002 * 8 + 1e6 * 768 / 1e4, ASSUMED),
        # One run of any models shows the proof; one without models shows the copy; one that had a graph shows that.
        ({}, [speed("d", 100_000, 1, MILLION.weight, ("m",))], TRIAL, 2 + 4000 + 50 + 50, TRIED),
        ({}, [speed("d", 100_000, 0, MILLION.weight)], None, 2 + 100 + 50 + 50, MEASURED),
        ({}, [speed("d", 1000, 0, MILLION.weight)], TRIAL, 2 + 10_000 + 5000 + 8003, TRIED),
        # The embedder is measured, or tried, and everything else by other runs.
        ({"embeds": 1, "models": ("m",)}, [speed("d", 100_000, 0, MILLION.weight)], None, 2 + 100 + 1e5 + 50 + 50, ASSUMED),
        ({"embeds": 1, "models": ("t",)}, [speed("d", 100_000, 0, MILLION.weight)], None, 2 + 100 + 1e5 + 50 + 50, TRIED),
        # Too small for a graph: there is nothing of it to be measured.
        ({"points": 1000, "total": 1000}, [], TRIAL, 2 + 8 + 768 * 1000 / 1e4, TRIED),
        ({"schema": LARGE.with_(config={"hnsw_config": {"m": 0}})}, [], TRIAL, 2 + 8000, TRIED),
    ],
    ids=str,
)  # fmt: skip
def test_each_part_of_a_copy_is_measured_where_something_shows_it(change, speeds, trial, seconds, basis):
    """Runs before trials, and trials before what is assumed; a part that nothing shows makes the whole a guess."""
    found = seconds_of_copy(replace(MILLION, **change), speeds, RATES, local=False, trial=trial, tried={"t"})
    assert (pytest.approx(found[0], rel=0.01), found[1]) == (seconds, basis)


def test_which_part_of_a_copy_is_a_guess():
    """A trial has shown the copy and its proof, and there was no graph to be searched."""
    parts = parts_of_copy(MILLION, [], RATES, local=False, trial=replace(TRIAL, search=None))
    assert {name: basis for name, (_, basis) in parts.items()} == {"copy": TRIED, "proof": TRIED, "index": ASSUMED}


def test_a_step_takes_what_it_took():
    """The quickest of the newest runs counts: another one may have waited for its next attempt."""
    runs = [replace(speed(), around=around) for around in (300.0, None, 0.6, 90.0)]
    assert steps_of(runs, RATES).step == pytest.approx(0.3)
    assert steps_of([replace(speed(), around=0.0)], RATES).step == pytest.approx(0.2)
    assert steps_of([speed()], RATES) == RATES


def changing(*changes: Change, speeds=(), trial=None) -> tuple[float, str]:
    """What in-place work is estimated at."""
    return seconds_of_changes(changes, Copy("c", 1000, 0, SCHEMA, 1000, WIDTH), speeds, RATES, trial)


def test_in_place_work_costs_what_it_rebuilds():
    """Settings are at once, a payload index reads every point, a graph is rebuilt."""
    light, index = Change("config.set", "metadata", {}), Change("index.add", "f", {"type": "keyword"})
    heavy = Change("config.set", "hnsw_config", {"m": 8})
    assert changing(light) == (2, MEASURED)
    assert changing(index) == (7, ASSUMED)
    assert changing(index, trial=TRIAL) == (pytest.approx(2 + 1000 * 0.001 / 3), TRIED)
    assert changing(heavy)[0] == 52
    assert changing(heavy, speeds=[speed()]) == (7, MEASURED)


def test_a_clone_costs_no_copy_and_no_index_of_its_own():
    """What is moved and proven, and only what its changes rebuild; by runs, a trial, or assumed rates."""
    moved = 2 * 1000 * WIDTH / 1e6
    dropped, heavier = SCHEMA.with_(indexes={}), SCHEMA.with_(config={"hnsw_config": {"m": 8}})
    wanted = Copy("c", 1000, 0, dropped, 1000, WIDTH)
    assert seconds_of_clone(wanted, SCHEMA, [], RATES) == (pytest.approx(2 + moved), ASSUMED)
    assert seconds_of_clone(replace(wanted, schema=heavier), SCHEMA, [], RATES)[0] == pytest.approx(2 + moved + 50)
    trial = Trial(read=0.001, weight=WIDTH)
    assert seconds_of_clone(wanted, SCHEMA, [], RATES, trial) == (pytest.approx(2 + 1 + 4), TRIED)
    assert seconds_of_clone(wanted, SCHEMA, [speed()], RATES) == (pytest.approx(2 + 5 + 5), MEASURED)


def test_a_rehearsal_is_projected_by_its_own_speed():
    """Fill and proof scale with the points; the index is assumed, since few points get none."""
    wanted = Copy("c", 1000, 0, SCHEMA, 1000, WIDTH)
    assert projected(speed(points=100), wanted, [], RATES, local=True) == pytest.approx(2 + 150)
    assert projected(speed(points=100), wanted, [], RATES, local=False) == pytest.approx(2 + 150 + 50)
    assert projected(speed(points=100), wanted, [speed()], RATES, local=False) == pytest.approx(2 + 150 + 5)
