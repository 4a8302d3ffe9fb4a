"""Points, embedders and sources that can't be trusted: an error that names them, and a live collection as it was."""

from __future__ import annotations

import importlib
import math
import time
import uuid
from dataclasses import replace

import pytest
from tests.conftest import clean
from tests.harness import ADD, CREATE, Deployment, make_point, write
from tests.scenarios.cli import left

from qmigrate.commands import rollback as back
from qmigrate.commands import status, upgrade, verify
from qmigrate.errors import EmbedError, PlanError, QmigrateError, RefusedError, StoreError, VerificationError
from qmigrate.ledger import Ledger
from qmigrate.model.report import NAMED_IDS
from qmigrate.model.transform import Point
from qmigrate.store import records
from qmigrate.store.local.local import LocalStore
from qmigrate.store.server.server import ServerStore

MODULE = '''
import math

wrong = {}      # text -> what is returned, or an exception that is raised
drift = 0.0     # how much the numbers move from call to call
short = False   # a vector less than items
calls = 0


def embed(texts):
    global calls
    calls += 1
    return [vector(text) for text in texts][: len(texts) - short]


def vector(text):
    found = wrong.get(text)
    if isinstance(found, Exception):
        raise found
    if found is not None:
        return found
    seed = sum(map(ord, text))
    return [math.sin(seed * (place + 1) + calls * drift * (place + 1) ** 1.5) for place in range(16)]
'''
KEEP = ADD.replace('text="text"', 'text="text", on_failure="keep_without_vector"')
POINTS = 90
#: For what the store has no part in: once is enough.
on_local_mode = pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
#: A point that is checked before anything is written, and one that only the copy meets.
FIRST, LATE = 0, 70


@pytest.fixture
def words(tmp_path, monkeypatch):
    """A module with an embedder that goes wrong on demand."""
    name = f"words_{uuid.uuid4().hex[:8]}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module(name)


@pytest.fixture
def made(qdrant_config, tmp_path, words):
    """A deployment of 90 points whose embedder is the module's; the second revision embeds."""
    found = Deployment(
        tmp_path / "project",
        qdrant_config,
        f"sqlite:///{tmp_path}/ledger.db",
        extra={
            "embedders": {"words": {"type": "callable", "function": f"{words.__name__}:embed", "version": "1"}},
            "limits": {"settle": "200ms"},
        },
    )
    found.revise("0001", CREATE)
    upgrade.upgrade(found.settings())
    found.load(POINTS)
    yield found
    if "url" in qdrant_config:
        clean(found)


def put(made: Deployment, *points: Point) -> None:
    """Write points through the logical name."""
    store = made.store()
    try:
        write(store, made.name, points)
    finally:
        store.close()


def refuse(made: Deployment, code: int, *said: str) -> QmigrateError:
    """An upgrade fails before anything is made: no generation, no open run, no point changed."""
    before, contents = left(made), made.contents()
    with pytest.raises(QmigrateError) as caught:
        upgrade.upgrade(made.settings())
    check(caught.value, code, *said)
    assert left(made) == before
    assert made.contents() == contents
    return caught.value


def fail_and_abort(made: Deployment, code: int, *said: str) -> QmigrateError:
    """An upgrade fails on the way: the live collection is as it was, the shadow is there, and abort removes it."""
    before, contents = left(made), made.contents()
    with pytest.raises(QmigrateError) as caught:
        upgrade.upgrade(made.settings())
    check(caught.value, code, *said)
    broken = left(made)
    assert broken.history == before.history
    assert len(broken.open_runs) == 1
    assert f"{made.name}__g0002" in broken.names
    assert made.contents() == contents
    row = made.row()
    assert (row.state, row.revision, row.generation) == ("failed", "0001", "g0001")
    assert caught.value.message[:100] in row.detail
    back.abort(made.settings())
    after = left(made)
    assert (after.open_runs, after.history, after.names) == (before.open_runs, before.history, before.names)
    assert made.contents() == contents
    return caught.value


def check(error: QmigrateError, code: int, *said: str) -> None:
    """Exit code and words of an error, which is one of ours."""
    assert error.exit_code == code, repr(error)
    for words in said:
        assert words in f"{error.message} → {error.hint}"


LACKING = ({}, {"text": None}, {"text": []})
NO_TEXT = ({"text": ""}, {"text": " \n"}, {"text": {"a": "b"}})


def odd_points(payloads) -> list[Point]:
    """A point with id 1000 and above for each payload."""
    return [Point(1000 + place, payload, make_point(place).vectors) for place, payload in enumerate(payloads)]


def test_points_without_the_field_are_counted_and_named_first(made):
    """Points that lack the embedded field are exit 2 before anything is written: how many, which, and what to do."""
    made.revise("0002", ADD)
    put(made, *odd_points([*LACKING, *LACKING]))
    said = ("6 of 96 points", "have no 'text'", "1000, 1001, 1002, 1003, 1004", 'on_failure="keep_without_vector"')
    refuse(made, 2, *said)


@on_local_mode
@pytest.mark.parametrize("payload", NO_TEXT, ids=["empty", "blank", "an object"])
def test_points_whose_field_holds_no_text_are_named(made, payload):
    """A field that is there but holds nothing to embed stops the copy at that point, by its id."""
    made.revise("0002", ADD)
    put(made, *odd_points([payload]))
    with pytest.raises(EmbedError, match=r"1000") as caught:
        upgrade.upgrade(made.settings())
    check(caught.value, 2, "keep_without_vector")
    assert made.row().revision == "0001"


def test_points_may_be_kept_without_the_vector(made):
    """With on_failure="keep_without_vector" such points are carried, listed and counted, and proven like the others."""
    made.revise("0002", KEEP)
    odd = odd_points([*LACKING, *NO_TEXT])
    put(made, *odd)
    before = made.contents()
    result = upgrade.upgrade(made.settings())
    after = made.contents()
    assert {key: (payload, {"a": vectors["a"]}) for key, (payload, vectors) in after.items()} == before
    without = {key for key, (_, vectors) in after.items() if "b" not in vectors}
    assert without == {point.id for point in odd}
    report = next(facts["report"] for facts in result.outcomes[0].report.values() if "report" in facts)
    assert (report["points"], report["proven"], report["embedded"]) == (POINTS + len(odd), POINTS + len(odd), POINTS)
    assert report["without_vector"] == len(odd)
    stored = status.history(made.settings()).rows[0].report["verification"]
    assert stored["without_vector"] == len(odd)
    ledger = Ledger.open(made.ledger_url)
    with ledger.database.reading() as connection:
        rows = connection.exec_driver_sql("SELECT point_id, message FROM qdrant_quarantine").all()
    ledger.close()
    assert {int(str(row[0]).strip('"')) for row in rows} == without
    assert all("missing, empty or not text" in row[1] for row in rows)


WRONG = {
    "too short": ([1.0] * 15, "has 15 values instead of 16"),
    "not a number": ([math.nan] + [1.0] * 15, "has a value that is not finite"),
    "infinite": ([math.inf] + [1.0] * 15, "has a value that is not finite"),
    "beyond float32": ([1e300] + [1.0] * 15, "has a value that is not finite"),
    "zero": ([0.0] * 16, "is all zeros"),
    "no vector": ("a text", "is not a list of numbers"),
    "raises": (RuntimeError("the model fell over"), "RuntimeError: the model fell over"),
}


@on_local_mode
@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("where", [FIRST, LATE], ids=["first point", "late point"])
def test_an_embedder_that_goes_wrong(made, words, where, kind):
    """A vector of a wrong size, NaN, zeros or an exception: exit 2 with the id, before the shadow where it can be."""
    made.revise("0002", ADD)
    point = make_point(where)
    words.wrong[point.payload["text"]], said = WRONG[kind]
    named = f"point {point.id} of {made.name} can't be given vector 'b'"
    if where == FIRST:
        refuse(made, 2, named, said)
    else:
        fail_and_abort(made, 2, named, said)
    words.wrong.clear()
    upgrade.upgrade(made.settings())
    assert made.row().revision == "0002"


def test_an_embedder_that_goes_wrong_on_any_store(made, words):
    """An embedder that fails in the middle of the copy leaves a shadow that abort removes."""
    made.revise("0002", ADD)
    words.wrong[make_point(LATE).payload["text"]] = RuntimeError("the model fell over")
    fail_and_abort(made, 2, "RuntimeError: the model fell over")


@on_local_mode
def test_an_embedder_that_loses_items(made, words):
    """An embedder that returns another number of vectors than of items is exit 2 before anything is written."""
    made.revise("0002", ADD)
    words.short = True
    refuse(made, 2, "the embedder returned 7 vectors for 8 items", "one vector per item")


def test_an_embedder_that_answers_differently_each_time(made, words):
    """The sample that is embedded a second time shows it: exit 5, at most 20 ids, nothing is swapped."""
    made.revise("0002", ADD)
    words.drift = 1.0
    said = ("computed a second time differs: cosine", "The live collection was not touched", "qmigrate abort")
    error = fail_and_abort(made, 5, *said)
    assert isinstance(error, VerificationError)
    check_named(error)
    words.drift = 0.0
    upgrade.upgrade(made.settings())
    assert made.row().revision == "0002"


def check_named(error: VerificationError) -> None:
    """All are counted, and no more than twenty are named."""
    failures = error.facts["report"]["failures"]
    assert failures["count"] == POINTS
    assert len(failures["named"]) == NAMED_IDS == 20
    assert f"{POINTS} of {POINTS} points" in error.message
    assert sum(f"{identifier} " in error.message for identifier, _ in failures["named"]) == NAMED_IDS
    assert error.message.count("; ") == NAMED_IDS - 1


@on_local_mode
def test_an_embedder_of_another_size(deployment):
    """An embedder that makes 16 values for a vector of 12 is exit 2 before anything is written."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(3)
    deployment.revise("0002", ADD.replace("size=16", "size=12"))
    said = ("embedder 'words' makes vectors of 16 values", "'b'", "declared with 12")
    refuse(deployment, 2, *said)
    # What the settings have needs no model, so the plan reports it, too.
    for look in (upgrade.plan, lambda settings: upgrade.upgrade(settings, dry_run=True)):
        with pytest.raises(EmbedError) as caught:
            look(deployment.settings())
        check(caught.value, 2, *said)


@on_local_mode
def test_a_size_that_no_setting_says_is_refused_before_anything_is_made(made, words):
    """Only its first vectors show the size: these are made before a generation, a snapshot or a run."""
    made.revise("0002", ADD.replace("size=16", "size=12"))
    assert upgrade.plan(made.settings()).collections
    refuse(made, 2, "12", "16")


TRANSFORM = """
count = [0]

def change(point):
    count[0] += 1
    BODY

def upgrade():
    return [op.TransformPoints("{name}", change)]
"""
FAILED, RETURNED = "the payload function change failed", "can't be stored as payload"
FUNCTIONS = {
    "raises": ('raise KeyError("colour")', FAILED, "KeyError: 'colour'"),
    "no dict": ("return [1]", FAILED, "returned list, not a dict"),
    "nothing": ('point.payload["x"] = 1', FAILED, "returned NoneType, not a dict"),
    "no JSON": ('return {"when": object()}', RETURNED, "<object object"),
    "too large": ('return {"n": 2 ** 70}', RETURNED, "ValueError"),
    "no text as key": ("return {1: 2}", RETURNED, "TypeError"),
}


def transform(body: str) -> str:
    """A revision whose function has this body, as the harness needs it."""
    return TRANSFORM.replace("BODY", body.replace("{", "{{").replace("}", "}}"))


@on_local_mode
@pytest.mark.parametrize("kind", FUNCTIONS)
@pytest.mark.parametrize("where", [FIRST, LATE], ids=["first point", "late point"])
def test_a_payload_function_that_goes_wrong(made, where, kind):
    """A function that raises, or returns no payload, is exit 2 and names function and point."""
    body, *said = FUNCTIONS[kind]
    guard = f'if point.payload["n"] != {where}: return point.payload'
    made.revise("0002", transform(f"{guard}\n    {body}"))
    check_with = refuse if where == FIRST else fail_and_abort
    error = check_with(made, 2, f"for point {make_point(where).id} of {made.name}", *said)
    assert isinstance(error, PlanError)


def test_a_payload_function_that_answers_differently_each_time(made):
    """The proof applies it again and finds every payload different: exit 5, at most 20 ids, nothing is swapped."""
    made.revise("0002", transform('return {**point.payload, "count": count[0]}'))
    error = fail_and_abort(made, 5, "the payload differs", "The live collection was not touched")
    assert isinstance(error, VerificationError)
    check_named(error)


def test_a_payload_function_that_fails_only_when_it_is_applied_again(made):
    """A function with a memory of its own is named, not an unexpected error."""
    body = 'if count[0] > 150: raise RuntimeError("worn out")\n    return {**point.payload, "x": 1}'
    made.revise("0002", transform(body))
    fail_and_abort(made, 2, "the payload function change failed", "RuntimeError: worn out")


def raw(made: Deployment, name: str) -> dict:
    """Id -> vector -> its bytes as they are stored."""
    store = made.store()
    try:
        return {
            records.point_id(stored): {
                key: records.array_of(message).tobytes() for key, message in records.vector_messages(stored).items()
            }
            for page in store.scan(name)
            for stored in page
        }
    finally:
        store.close()


CREATE_TWO = """
def upgrade():
    return [op.CreateCollection("{name}", {{
        "a": VectorParams(size=4, distance=Distance.COSINE), "d": VectorParams(size=4, distance=Distance.DOT),
    }})]
"""
FINITE_VECTORS = {
    "zero": [0.0] * 4,
    "negative zero": [-0.0, 0.0, -0.0, 1.0],
    "tiny": [1e-40, 0.0, 0.0, 0.0],
    "huge": [3e38, 3e38, 3e38, 3e38],
}
NAN_VECTORS = {"nan": [math.nan, 1.0, 2.0, 3.0], "all nan": [math.nan] * 4}
INFINITE = [math.inf, 1.0, -math.inf, 0.0]
PLAIN = [1.0, 0.0, 0.0, 0.0]


def prepared(made: Deployment, *vectors: dict) -> dict:
    """Two vectors, points numbered from 1, and what the store made of them."""
    made.revise("0001", CREATE_TWO)
    upgrade.upgrade(made.settings())
    put(made, *(Point(number, {"text": f"text {number}"}, found) for number, found in enumerate(vectors, start=1)))
    return raw(made, made.name)


def test_odd_values_that_are_stored_are_carried_bit_by_bit(deployment):
    """NaN, infinity, zeros and denormals that a store took are the same bytes after the copy, and proven so."""
    made = deployment
    vectors = [{"a": value, "d": value} for value in FINITE_VECTORS.values()]
    if "url" in made.qdrant:  # local mode takes none of these
        vectors += [{"a": value, "d": value} for value in NAN_VECTORS.values()]
        vectors += [{"a": PLAIN, "d": INFINITE}]
    before = prepared(made, *vectors)
    made.revise("0002", ADD)
    result = upgrade.upgrade(made.settings())
    after = raw(made, made.name)
    assert {key: {name: found[name] for name in ("a", "d")} for key, found in after.items()} == before
    report = next(facts["report"] for facts in result.outcomes[0].report.values() if "report" in facts)
    assert (report["points"], report["proven"], report["holds"]) == (len(vectors), len(vectors), True)
    assert verify.verify(made.settings(), f"{made.name}__g0001", f"{made.name}__g0002").holds
    back.rollback(made.settings(), "0001")
    assert raw(made, made.name) == before


@pytest.mark.server
@pytest.mark.parametrize("qdrant_config", ["server"], indirect=True)
def test_infinity_in_a_cosine_vector_is_named(deployment):
    """A server makes something else of such a vector at every write: it can't be carried, and the error names that."""
    made = deployment
    before = prepared(made, {"a": PLAIN, "d": PLAIN}, {"a": INFINITE, "d": PLAIN})
    made.revise("0002", ADD)
    with pytest.raises(VerificationError, match=r"2 vector 'a' differs, since it holds values that are not finite"):
        upgrade.upgrade(made.settings())
    back.abort(made.settings())
    assert raw(made, made.name) == before


@on_local_mode
def test_local_mode_takes_no_nan(deployment):
    """The store itself refuses it, readably."""
    with pytest.raises(StoreError, match="NaN"):
        prepared(deployment, {"a": NAN_VECTORS["nan"], "d": PLAIN})


SOURCES = {
    "yellow": ({"status": "yellow"}, 10, ("is yellow: still optimizing", "limits.settle")),
    "hidden": ({"hidden": 12}, 10, ("hides points that are not optimized yet (12 now)", "prevent_unoptimized")),
    "prevents": ({"prevents_unoptimized": True}, 10, ("hides points", "prevent_unoptimized")),
    "inactive": ({"inactive": ("shard 0 on peer 7: Dead",)}, 10, ("shard 0 on peer 7: Dead", "has recovered")),
    "custom sharding": ({"custom_sharding": True}, 10, ("custom sharding",)),
    "unknown setting": ({"unknown": ("params.new_thing",)}, 2, ("params.new_thing", "update qmigrate")),
    "red": ({"status": "red"}, 9, ("status red", "qmigrate doctor")),
    "optimizer error": ({"problem": "out of disk"}, 9, ("out of disk",)),
}


@on_local_mode
@pytest.mark.parametrize("kind", SOURCES)
def test_a_source_that_can_not_be_copied_safely(deployment, monkeypatch, kind):
    """A source that is still optimizing, hides points, lacks replicas or has unknown settings is left alone."""
    made = deployment
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(3)
    made.extra["limits"] = {"settle": "200ms"}
    made.__post_init__()
    made.revise("0002", ADD)
    seen, code, said = SOURCES[kind]
    for store in (LocalStore, ServerStore):
        describe = store.describe

        def described(self, name, _describe=describe):
            found = _describe(self, name)
            return replace(found, **seen) if found is not None else None

        monkeypatch.setattr(store, "describe", described)
    started = time.monotonic()
    error = refuse(made, code, f"{made.name}__g0001", *said)
    assert isinstance(error, RefusedError | PlanError | StoreError)
    assert time.monotonic() - started >= (0.2 if kind == "yellow" else 0)
    monkeypatch.undo()
    upgrade.upgrade(made.settings())
    assert made.row().revision == "0002"


def test_a_yellow_source_is_waited_for(deployment, monkeypatch):
    """A source that becomes green within limits.settle is copied without a word."""
    made = deployment
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(3)
    made.revise("0002", ADD)
    seen = iter(["yellow"] * 4)
    for store in (LocalStore, ServerStore):
        describe = store.describe

        def described(self, name, _describe=describe):
            found = _describe(self, name)
            return replace(found, status=next(seen, "green")) if found is not None else None

        monkeypatch.setattr(store, "describe", described)
    upgrade.upgrade(made.settings())
    assert made.row().revision == "0002"
