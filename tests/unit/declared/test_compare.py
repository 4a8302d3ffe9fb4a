"""Declared against replayed, case by case: what differs, what only seems to, and what has to be decided by a person."""

from __future__ import annotations

import functools

import pytest

from qmigrate import FILL_ME, Collection, Compute, CopyOf, Embed, Empty, op, variable
from qmigrate.declared.compare import Stage, compare
from qmigrate.declared.outline import Answers, State, outline, undecided
from qmigrate.declared.replay import Replayed
from qmigrate.errors import PlanError, RefusedError, UsageError
from qmigrate.model.schema import DISABLED, CollectionSchema

A = {"size": 4, "distance": "Cosine"}
B = {"size": 8, "distance": "Cosine"}
T = {"type": "text"}


def replayed(*operations, name: str = "docs") -> Replayed:
    """What operations leave."""
    found = None
    for operation in operations:
        found = (found or Replayed(CollectionSchema())).after(operation)
    return found


def made(before: dict, after: dict, *, drops: bool = True, renames: dict | None = None, more=()) -> list[str]:
    """The operations between two collections, in words with their stage."""
    there = replayed(op.CreateCollection("docs", **{"vectors": {"a": A}, **before}), *more)
    found = compare(Collection("docs", **{"vectors": {"a": A}, **after}).wanted(), there, renames or {}, drops=drops)
    return [f"{one.stage.name} {one.operation.describe()}" for one in found.pieces]


NOTHING: list[str] = []


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        # on_disk and memory are twins.
        ({"vectors": {"a": {**A, "on_disk": True}}}, {"vectors": {"a": {**A, "memory": "cold"}}}, NOTHING),
        ({"vectors": {"a": {**A, "on_disk": False}}}, {"vectors": {"a": A}}, NOTHING),
        ({"vectors": {"a": {**A, "memory": "cached"}}}, {"vectors": {"a": A}}, NOTHING),
        ({"vectors": {"a": {**A, "memory": "cold", "on_disk": False}}}, {"vectors": {"a": {**A, "on_disk": True}}}, NOTHING),
        ({"vectors": {"a": A}}, {"vectors": {"a": {**A, "memory": "cold"}}}, ["ADD alter vector a 4 cosine"]),
        ({"vectors": {"a": {**A, "on_disk": True}}}, {"vectors": {"a": A}}, ["ADD alter vector a 4 cosine"]),
        ({"payload_indexes": {"k": {"type": "keyword", "on_disk": True}}}, {"payload_indexes": {"k": {"type": "keyword", "memory": "cold"}}}, NOTHING),
        ({"payload_indexes": {"k": {"type": "keyword", "memory": "pinned"}}}, {"payload_indexes": {"k": "keyword"}}, NOTHING),
        ({"payload_indexes": {"k": {"type": "keyword", "memory": "cached"}}}, {"payload_indexes": {"k": "keyword"}}, ["ADD add payload index k keyword"]),
        ({"hnsw_config": {"on_disk": True}}, {"hnsw_config": {"memory": "cold"}}, NOTHING),
        ({"sparse_vectors": {"s": {"index": {"on_disk": True}}}}, {"sparse_vectors": {"s": {"index": {"memory": "cold"}}}}, NOTHING),
        # HNSW settings are inherited.
        ({"vectors": {"a": {**A, "hnsw_config": {"m": 16}}}}, {"vectors": {"a": A}}, NOTHING),
        ({"hnsw_config": {"m": 32}, "vectors": {"a": {**A, "hnsw_config": {"m": 32}}}}, {"hnsw_config": {"m": 32}, "vectors": {"a": A}}, NOTHING),
        (
            {"hnsw_config": {"m": 32}, "vectors": {"a": {**A, "hnsw_config": {"m": 16}}}},
            {"hnsw_config": {"m": 32}, "vectors": {"a": A}},
            ["ADD alter vector a 4 cosine"],
        ),
        # What inherited until now keeps what it had by declaring it.
        (
            {"vectors": {"a": A}},
            {"hnsw_config": {"m": 32}, "vectors": {"a": {**A, "hnsw_config": {"m": 16}}}},
            ["ADD alter vector a 4 cosine", "ADD update settings: hnsw_config"],
        ),
        # scoring: true is its object with the defaults.
        ({"payload_indexes": {"b": {**T, "scoring": True}}}, {"payload_indexes": {"b": {**T, "scoring": {"type": "bm25"}}}}, NOTHING),
        ({"payload_indexes": {"b": {**T, "scoring": False}}}, {"payload_indexes": {"b": T}}, NOTHING),
        ({"payload_indexes": {"b": T}}, {"payload_indexes": {"b": {**T, "scoring": True}}}, ["ADD add payload index b text scoring=True"]),
        # The order of stop words, and a language alone.
        (
            {"payload_indexes": {"b": {**T, "stopwords": {"custom": ["x", "y"]}}}},
            {"payload_indexes": {"b": {**T, "stopwords": {"custom": ["y", "x"], "languages": []}}}},
            NOTHING,
        ),
        ({"payload_indexes": {"b": {**T, "stopwords": "english"}}}, {"payload_indexes": {"b": {**T, "stopwords": {"languages": ["english"]}}}}, NOTHING),
        # The unnamed vector.
        ({"vectors": A}, {"vectors": {"": A}}, NOTHING),
        ({"vectors": {"a": A}}, {"vectors": A}, ["ROOM drop vector a", "ADD add vector (unnamed) 4 cosine ← FILL_ME: what fills it is not decided"]),
        ({"vectors": A}, {"vectors": {"a": A}}, ["DROP drop vector (unnamed)", "ADD add vector a 4 cosine ← FILL_ME: what fills it is not decided"]),
        # What a server fills in by itself.
        ({}, {"hnsw_config": {"m": 16, "ef_construct": 100, "on_disk": False}, "on_disk_payload": True, "replication_factor": 1}, NOTHING),
        ({}, {"optimizers_config": {"flush_interval_sec": 5}, "wal_config": {"wal_capacity_mb": 32}, "shard_number": 1}, NOTHING),
        ({"on_disk_payload": False}, {"on_disk_payload": True}, ["ADD update settings: on_disk_payload"]),
        ({}, {"on_disk_payload": False}, ["ADD update settings: on_disk_payload"]),
        ({"shard_number": 2}, {"shard_number": 1}, ["ADD reshard: shard_number 1"]),
        ({"quantization_config": {"scalar": {"type": "int8", "quantile": 0.99}}}, {"quantization_config": {"scalar": {"type": "int8", "quantile": 0.9900000095367432}}}, NOTHING),
        ({"quantization_config": {"binary": {}}}, {"quantization_config": {"binary": {"always_ram": False}}}, NOTHING),
        ({"quantization_config": {"binary": {"always_ram": True}}}, {"quantization_config": {"binary": {"memory": "pinned"}}}, NOTHING),
        ({"quantization_config": {"binary": {}}}, {"quantization_config": {"scalar": {"type": "int8"}}}, ["ADD update settings: quantization_config"]),
        ({"quantization_config": {"binary": {"always_ram": True}}}, {"quantization_config": {"binary": {"always_ram": False}}}, ["ADD update settings: quantization_config"]),
        # What is left out of the same method says nothing: no server unsets it.
        ({"quantization_config": {"scalar": {"type": "int8", "quantile": 0.99}}}, {"quantization_config": {"scalar": {"type": "int8"}}}, NOTHING),
        (
            {"vectors": {"a": {**A, "quantization_config": {"binary": {}}}}},
            {"vectors": {"a": A}},
            ["ADD alter vector a 4 cosine"],
        ),
        # A datatype or a multivector is never changed in place.
        ({"vectors": {"a": A}}, {"vectors": {"a": {**A, "datatype": "float32"}}}, NOTHING),
        ({"vectors": {"a": A}}, {"vectors": {"a": {**A, "datatype": "float16"}}}, ["ADD alter vector a 4 cosine float16"]),
        (
            {"vectors": {"a": A}},
            {"vectors": {"a": {**A, "datatype": "uint8"}}},
            ["SWITCH alter vector a 4 cosine uint8 ← FILL_ME: what fills it is not decided"],
        ),
        (
            {"vectors": {"a": A}},
            {"vectors": {"a": {**A, "multivector_config": {"comparator": "max_sim"}}}},
            ["SWITCH alter vector a 4 cosine multi ← FILL_ME: what fills it is not decided"],
        ),
        ({"vectors": {"a": A}}, {"vectors": {"a": B}}, ["SWITCH alter vector a 8 cosine ← FILL_ME: what fills it is not decided"]),
        # Parameters of an index come with the complete object: nothing of an index is changed.
        ({"payload_indexes": {"k": {"type": "keyword", "is_tenant": True}}}, {"payload_indexes": {"k": "keyword"}}, ["ADD add payload index k keyword"]),
        ({"payload_indexes": {"k": "keyword"}}, {"payload_indexes": {"k": "integer"}}, ["ADD add payload index k integer"]),
        ({"payload_indexes": {"n": {"type": "integer", "lookup": True, "range": True}}}, {"payload_indexes": {"n": "integer"}}, NOTHING),
        ({"payload_indexes": {"k": "keyword"}}, {"payload_indexes": {"k": {"type": "keyword", "enable_hnsw": True, "is_tenant": False}}}, NOTHING),
        ({"payload_indexes": {"b": T}}, {"payload_indexes": {"b": {**T, "lowercase": False}}}, ["ADD add payload index b text lowercase=False"]),
        # Strict mode: what isn't set says nothing, and off without limits is nothing.
        ({}, {"strict_mode_config": {"enabled": False}}, NOTHING),
        ({"strict_mode_config": {"enabled": True, "max_query_limit": 9}}, {"strict_mode_config": {"enabled": True, "max_timeout": None}}, NOTHING),
        ({"strict_mode_config": {"enabled": True}}, {"strict_mode_config": {"enabled": True, "max_query_limit": 9}}, ["ADD update settings: strict_mode_config"]),
        ({"strict_mode_config": {"enabled": True}}, {"strict_mode_config": {"enabled": False}}, ["ADD update settings: strict_mode_config"]),
        # Metadata is JSON of the user's own, by its first level.
        ({"metadata": {"a": 1}}, {"metadata": {"a": 1.0}}, NOTHING),
        ({"metadata": {"a": 1, "b": {}}}, {"metadata": {"a": 2, "b": {}}}, ["ADD update settings: metadata"]),
        # A whole number is that number, whatever it was written as.
        ({"optimizers_config": {"deleted_threshold": 1}}, {"optimizers_config": {"deleted_threshold": 1.0}}, NOTHING),
        # Dense to sparse under one name makes room first.
        (
            {"vectors": {"a": A, "s": A}},
            {"sparse_vectors": {"s": {}}},
            ["ROOM drop vector s", "ADD add vector s sparse ← FILL_ME: what fills it is not decided"],
        ),
        ({"sparse_vectors": {"s": {}}}, {"sparse_vectors": {"s": {"modifier": "none"}}}, NOTHING),
    ],
    ids=str,
)
def test_what_differs(before, after, wanted):
    """Only what has another effect becomes an operation, and that in the revision where it belongs."""
    assert made(before, after) == wanted


@pytest.mark.parametrize(
    ("before", "after", "set_"),
    [
        ({"memory": "cached"}, {"on_disk": True}, {"memory": "cold"}),
        ({"on_disk": False}, {"on_disk": True}, {"on_disk": True}),
        ({}, {"memory": "cold"}, {"memory": "cold"}),
        ({"memory": "cold"}, {"on_disk": False}, {"memory": "cached"}),
    ],
    ids=str,
)
def test_the_twin_that_is_written_has_an_effect(before, after, set_):
    """`memory` overrides `on_disk`: where it is set already, nothing but `memory` changes anything."""
    there = replayed(op.CreateCollection("docs", {"a": A}, hnsw_config=before))
    found = compare(Collection("docs", {"a": A}, hnsw_config=after).wanted(), there, {}, drops=False)
    assert [one.operation.config for one in found.pieces] == [{"hnsw_config": set_}]
    then = there.after(found.pieces[0].operation)
    assert compare(Collection("docs", {"a": A}, hnsw_config=after).wanted(), then, {}, drops=False).pieces == ()


def test_settings_that_no_operation_can_say():
    """What only a new collection can have is named; what is set and not declared stays, and is named as well."""
    there = replayed(op.CreateCollection("docs", {"a": A}, hnsw_config={"m": 32, "ef_construct": 64}, quantization_config={"binary": {}}))
    found = compare(Collection("docs", {"a": A}, wal_config={"wal_capacity_mb": 64}, hnsw_config={"m": 32}).wanted(), there, {}, drops=True)
    assert found.pieces == ()
    assert found.unsaid == ("wal_config = {'wal_capacity_mb': 64}, which only a new collection can have",)
    assert found.silent == ("hnsw_config.ef_construct = 64", "quantization_config = {'binary': {}}")


def test_nothing_is_dropped_unasked():
    """What left the declaration stays, and is named; also where a vector of another kind would need the room."""
    there = replayed(op.CreateCollection("docs", {"a": A, "b": B, "s": A}, payload_indexes={"k": "keyword"}))
    wanted = Collection("docs", {"a": A}, {"s": {}}).wanted()
    found = compare(wanted, there, {}, drops=False)
    assert found.pieces == ()
    assert found.kept == ("vector b", "vector s", "payload index k")
    unnamed = compare(Collection("docs", A).wanted(), replayed(op.CreateCollection("docs", {"a": A})), {}, drops=False)
    assert unnamed.pieces == ()


def words_of(payload):  # noqa: D103
    return payload["title"]


def other_words_of(payload):  # noqa: D103
    return payload["body"]


def same_words_elsewhere(payload):  # noqa: D103
    return payload["title"]


@pytest.mark.parametrize(
    ("known", "declared", "again"),
    [
        (Embed("words", text="body"), Embed("words", text="body"), False),
        (Embed("words", text="body"), Embed("larger", text="body"), True),
        (Embed("words", text="body"), Embed("words", text="title"), True),
        (Embed("words", text="body"), Embed("words", image="body"), True),
        (Embed("words", text="body"), "embed words(body)", False),
        (Embed("words", text="body"), "embed words(body), fingerprint 0123456789ab", False),
        (Embed("words", text="body"), "embed larger(body), fingerprint 0123456789ab", True),
        (Embed("words", text=words_of), Embed("words", text=same_words_elsewhere), False),
        (Embed("words", text=words_of), Embed("words", text=other_words_of), True),
        (Embed("words", text=words_of), Embed("words", text=lambda payload: payload["title"]), False),
        (Embed("words", text=words_of), Embed("words", text=functools.partial(words_of)), True),
        (Compute(words_of), Compute(same_words_elsewhere), False),
        (Compute(words_of), Compute(other_words_of), True),
        (Embed("words", text="body"), Empty(), False),
        (Embed("words", text="body"), CopyOf("a"), False),
    ],
    ids=map(str, range(15)),
)
def test_another_filler_fills_again(known, declared, again):
    """A function is what it does, in whichever file it stands; what is left to the application doesn't count."""
    there = replayed(op.CreateCollection("docs", {"a": A}), op.AddVector("docs", "b", B, values=known))
    found = compare(Collection("docs", {"a": A, "b": B}, values={"b": declared}).wanted(), there, {}, drops=True)
    assert [(one.stage, one.operation.describe().split(" ←")[0]) for one in found.pieces] == ([(Stage.SWITCH, "fill vector b again")] if again else [])


def test_a_function_is_not_quoted():
    """A revision must hold what it does itself, so a function of the declaration is left to a person."""
    found = compare(Collection("docs", {"a": A, "b": B}, values={"b": Embed("words", text=words_of)}).wanted(), replayed(op.CreateCollection("docs", {"a": A})), {}, drops=True)
    (piece,) = found.pieces
    assert piece.operation.values is FILL_ME
    assert "words_of, which a revision has to hold itself" in piece.comments[0]


def test_what_fills_a_vector_follows_it():
    """A rename and a copy keep what has filled a vector, a drop forgets it."""
    found = replayed(
        op.CreateCollection("docs", {"a": A}),
        op.AddVector("docs", "b", B, values=Embed("words", text="body")),
        op.RenameVector("docs", "b", "c", cutover="hold"),
        op.AddVector("docs", "d", B, values=CopyOf("c")),
    )
    assert {name: one.describe() for name, one in found.filled.items()} == {"c": "embed words(body)", "d": "embed words(body)"}
    assert found.after(op.DropVector("docs", "c", cutover="hold")).filled.keys() == {"d"}


def state(before: list, after: list) -> State:
    """Collections of revisions, and declared ones."""
    names = [one.pattern for one in before if one.creates]
    found = {name: functools.reduce(lambda now, one: now.after(one), [one for one in before if one.matches(name)], Replayed(CollectionSchema())) for name in names}
    return State({one.name: one.wanted() for one in after}, found)


RENAMED = ([op.CreateCollection("docs", {"old": A, "x": B})], [Collection("docs", {"new": A, "x": B}, values={"new": Embed("words", text="body")})])


def test_a_rename_is_never_guessed():
    """A vector that is gone and a new one that it would fit is a question; each answer is one option."""
    found = state(*RENAMED)
    assert [one.written for one in undecided(found, Answers())] == ["docs:old=new"]
    with pytest.raises(RefusedError) as caught:
        outline(found, Answers())
    assert caught.value.exit_code == 10
    assert "--rename docs:old=new" in caught.value.hint
    assert "--different docs:old=new" in caught.value.hint
    assert "renamed_from" in caught.value.hint
    with pytest.raises(RefusedError):
        outline(found, Answers(drops=True))


@pytest.mark.parametrize(
    ("answers", "wanted"),
    [
        ({"renames": ["old=new"]}, {Stage.SWITCH: ["rename vector old to new"]}),
        ({"renames": ["docs:old=new"], "drops": True}, {Stage.SWITCH: ["rename vector old to new"]}),
        ({"different": ["old=new"]}, {Stage.ADD: ["add vector new 4 cosine ← embed words(body)"]}),
        (
            {"different": ["docs:old=new"], "drops": True},
            {Stage.ADD: ["add vector new 4 cosine ← embed words(body)"], Stage.DROP: ["drop vector old"]},
        ),
    ],
    ids=str,
)
def test_each_answer_to_a_rename(answers, wanted):
    """Renamed: no point is embedded. Another one: it is added, and the old one goes only with drops."""
    found = state(*RENAMED)
    given = Answers(
        found.parsed(answers.get("renames", ()), "--rename"),
        found.parsed(answers.get("different", ()), "--different"),
        answers.get("drops", False),
    )
    made = outline(found, given)
    assert {stage: [one.operation.describe() for one in pieces] for stage, pieces in made.stages.items()} == wanted


def test_a_declared_rename_is_no_question():
    """`renamed_from` decides it; once it is done, it says nothing any more; what was changed besides comes later."""
    after = Collection("docs", {"new": {**A, "on_disk": True}, "x": B}, renamed_from={"new": "old"})
    made = outline(state(RENAMED[0], [after]), Answers())
    assert {stage: [one.operation.describe() for one in pieces] for stage, pieces in made.stages.items()} == {
        Stage.SWITCH: ["rename vector old to new"],
        Stage.AFTER: ["alter vector new 4 cosine"],
    }
    assert made.after["docs"].schema.vectors == {"new": {**A, "on_disk": True}, "x": B}
    done = state([op.CreateCollection("docs", {"new": {**A, "on_disk": True}, "x": B})], [after])
    assert not outline(done, Answers()).differs


@pytest.mark.parametrize("params", [B, {**A, "distance": "Dot"}, {**A, "datatype": "float16"}], ids=str)
def test_what_does_not_fit_is_no_rename(params):
    """Values of another size, distance or datatype are other values: nothing is asked."""
    found = state([op.CreateCollection("docs", {"old": A})], [Collection("docs", {"new": params})])
    assert undecided(found, Answers()) == ()


def test_answers_that_mean_nothing():
    """A name that is neither gone nor new, or that several collections have."""
    found = state(*RENAMED)
    with pytest.raises(UsageError, match="nothing of these names is gone and new"):
        found.parsed(["old=other"], "--rename")
    two = state([*RENAMED[0], op.CreateCollection("more", {"old": A})], [*RENAMED[1], Collection("more", {"new": A})])
    with pytest.raises(UsageError, match="docs:old=new, more:old=new"):
        two.parsed(["old=new"], "--rename")
    assert len(two.parsed(["docs:old=new", "more:old=new"], "--rename")) == 2


def test_a_collection_under_another_name():
    """A new collection that the points of a gone one would fit is asked about; renamed, both names lead to it."""
    found = state([op.CreateCollection("docs", {"a": A})], [Collection("texts", {"a": A})])
    with pytest.raises(RefusedError, match="collection texts is new, and collection docs"):
        outline(found, Answers())
    answers = Answers(renames=found.parsed(["docs=texts"], "--rename"), drops=True)
    made = outline(found, answers)
    assert [one.operation.label() for one in made.stages[Stage.ADD]] == ['SetAlias("texts", "docs")']
    then = State(found.wanted, made.after)
    assert not outline(then, Answers(drops=True)).differs
    declared = state([op.CreateCollection("docs", {"a": A})], [Collection("texts", {"a": A}, renamed_from="docs")])
    assert [one.operation.label() for one in outline(declared, Answers()).stages[Stage.ADD]] == ['SetAlias("texts", "docs")']


def only(found: State, *names: str) -> State:
    """The same, of these declared collections alone: ``--only``."""
    chosen = {name: found.wanted[name] for name in names}
    others = {name: one for name, one in found.wanted.items() if name not in chosen}
    return State(chosen, found.replayed, others, restricted=True)


def test_what_is_not_named_stays():
    """A command that names one collection drops nothing else: neither what is declared, nor what nothing declares."""
    before = [op.CreateCollection(name, {"a": A, "b": B}) for name in ("docs", "faces", "logs", "old")]
    after = [Collection("docs", {"a": A}), Collection("faces", {"a": A}), Collection("new", {"a": A, "b": B}, renamed_from="old")]
    found = only(state(before, after), "docs")
    made = outline(found, Answers(drops=True))
    assert [one.operation.label() for pieces in made.stages.values() for one in pieces] == ['DropVector("docs", "b")']
    assert (made.alone, made.kept) == (("logs",), ())


def test_what_is_declared_is_no_earlier_name():
    """Of a new collection that is named alone another declared one is not asked about."""
    before, after = [op.CreateCollection("docs", {"a": A})], [Collection("docs", {"a": A}), Collection("texts", {"a": A})]
    found = only(state(before, after), "texts")
    assert not undecided(found, Answers())
    assert [one.operation.label() for one in outline(found, Answers(drops=True)).stages[Stage.ADD]] == ['CreateCollection("texts")']


def test_a_glob_that_is_named_changes_no_other_declared_collection():
    """One that is declared by its name is as that says, although the glob means it, too."""
    before = [op.CreateCollection("memory_*", {"a": A}), op.CreateCollection("memory_x", {"a": A})]
    after = [Collection("memory_*", {"a": A}, payload_indexes={"kind": "keyword"}), Collection("memory_x", {"a": A})]
    with pytest.raises(RefusedError, match="memory_x is not among those that were named"):
        outline(only(state(before, after), "memory_*"), Answers())


def test_collections_that_are_not_declared():
    """They are left alone; only with drops they go, in the last revision."""
    found = state([op.CreateCollection("docs", {"a": A}), op.CreateCollection("faces", {"f": B})], [Collection("docs", {"a": A})])
    left = outline(found, Answers())
    assert (left.differs, left.alone) == (False, ("faces",))
    dropped = outline(found, Answers(drops=True))
    assert [(stage, [one.operation.label() for one in pieces]) for stage, pieces in dropped.stages.items()] == [(Stage.DROP, ['DropCollection("faces")'])]


FAMILY = op.CreateCollection("memory_*", {"a": A})


def test_a_glob_is_one_declaration_for_many():
    """One operation for all of them, also for those that a revision names; those that differ are refused, not averaged."""
    same = op.CreateCollection("memory_1", {"a": A})
    wanted = Collection("memory_*", {"a": A, "b": B}, values={"b": Empty()})
    made = outline(state([FAMILY, same], [wanted]), Answers())
    assert [one.operation.label() for one in made.stages[Stage.ADD]] == ['AddVector("memory_*", "b")']
    assert made.after["memory_1"].schema.vectors == {"a": A, "b": B}
    other = op.CreateCollection("memory_2", {"a": A, "b": A})
    with pytest.raises(RefusedError, match="memory_2"):
        outline(state([FAMILY, other], [wanted]), Answers())
    apart = Collection("memory_3", {"a": A})
    with pytest.raises(RefusedError, match="memory_3"):
        outline(state([FAMILY, op.CreateCollection("memory_3", {"a": A})], [wanted, apart]), Answers())


def test_a_name_with_brackets_means_itself():
    """A declared name that looks like a glob is written so that it is none."""
    made = outline(state([op.CreateCollection("m[1]", {"a": A})], [Collection("m[1]", {"a": A, "b": B}, values={"b": Empty()})]), Answers())
    (piece,) = made.stages[Stage.ADD]
    assert piece.operation.matches("m[1]")
    assert not piece.operation.matches("m1")


def test_numbers_that_differ_by_environment(monkeypatch):
    """A variable is compared with the same variable: what an environment has never becomes a revision by itself."""
    monkeypatch.setenv("SHARDS", "6")
    there = replayed(op.CreateCollection("docs", {"a": A}, shard_number=variable("SHARDS", 1)))
    assert there.schema.config["shard_number"] == 6
    assert compare(Collection("docs", {"a": A}, shard_number=variable("SHARDS", 1)).wanted(), there, {}, drops=True).pieces == ()
    monkeypatch.setenv("SHARDS", "many")
    with pytest.raises(PlanError, match="SHARDS must hold a whole number"):
        variable("SHARDS", 1)


def test_quantization_is_turned_off_by_its_word():
    """Disabled is declared; leaving the setting out says nothing."""
    there = replayed(op.CreateCollection("docs", {"a": A}, quantization_config={"binary": {}}))
    off = there.after(op.UpdateCollection("docs", quantization_config=DISABLED))
    assert compare(Collection("docs", {"a": A}).wanted(), there, {}, drops=True).pieces == ()
    assert compare(Collection("docs", {"a": A}).wanted(), off, {}, drops=True).silent == ()
