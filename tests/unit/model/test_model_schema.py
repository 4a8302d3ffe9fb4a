"""Schemas and their differences."""

import pytest

from qmigrate.model.schema import DISABLED, Change, CollectionSchema, changes, declared_differs

A = {"size": 8, "distance": "Cosine"}
B = {"size": 16, "distance": "Dot"}
KEYWORD = {"type": "keyword"}
SCALAR = {"scalar": {"type": "int8"}}
EMPTY = CollectionSchema()


def schema(**parts):
    """A schema of the given parts."""
    return CollectionSchema(**parts)


TABLE = [
    ("nothing", schema(vectors={"a": A}), schema(vectors={"a": A}), []),
    ("vector added", schema(vectors={"a": A}), schema(vectors={"a": A, "b": B}), ["vector.add b"]),
    ("vector dropped", schema(vectors={"a": A, "b": B}), schema(vectors={"a": A}), ["vector.drop b"]),
    ("vector altered", schema(vectors={"a": A}), schema(vectors={"a": B}), ["vector.alter a"]),
    ("unnamed altered", schema(vectors={"": A}), schema(vectors={"": B}), ["vector.alter "]),
    ("sparse added", EMPTY, schema(sparse={"s": {}}), ["sparse.add s"]),
    ("sparse altered", schema(sparse={"s": {}}), schema(sparse={"s": {"modifier": "idf"}}), ["sparse.alter s"]),
    ("index added", EMPTY, schema(indexes={"f": KEYWORD}), ["index.add f"]),
    ("index dropped", schema(indexes={"f": KEYWORD}), EMPTY, ["index.drop f"]),
    ("index retyped", schema(indexes={"f": KEYWORD}), schema(indexes={"f": {"type": "uuid"}}), ["index.alter f"]),
    (
        "setting",
        schema(config={"hnsw_config": {"m": 16, "ef_construct": 100}}),
        schema(config={"hnsw_config": {"m": 32}}),
        ["config.set hnsw_config"],
    ),
    ("setting left out", schema(config={"shard_number": 2}), EMPTY, []),
    ("setting unset", schema(config={"shard_number": 2}), schema(config={"shard_number": None}), []),
    ("alias moved", schema(aliases=("x",)), schema(aliases=("y",)), ["alias.drop x", "alias.add y"]),
    (
        "order",
        schema(vectors={"a": A}, aliases=("x",)),
        schema(vectors={"b": A}, indexes={"f": KEYWORD}, config={"shard_number": 1}, aliases=("y",)),
        ["alias.drop x", "vector.drop a", "vector.add b", "index.add f", "config.set shard_number", "alias.add y"],
    ),
    (
        "quantization off",
        schema(config={"quantization_config": SCALAR}),
        schema(config={"quantization_config": DISABLED}),
        ["config.set quantization_config"],
    ),
    ("quantization off already", EMPTY, schema(config={"quantization_config": DISABLED}), []),
    (
        "quantization of a vector off already",
        schema(vectors={"a": A}),
        schema(vectors={"a": {**A, "quantization_config": DISABLED}}),
        [],
    ),
    (
        "metadata may hold any word",
        schema(config={"metadata": {}}),
        schema(config={"metadata": {"state": DISABLED}}),
        ["config.set metadata"],
    ),
]


@pytest.mark.parametrize(("before", "after", "wanted"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_changes(before, after, wanted):
    """The difference of two schemas is found, each piece once and in a safe order."""
    assert [f"{change.kind} {change.name}" for change in changes(before, after)] == wanted


def redo(start, found):
    """Apply changes to a schema, as a server would."""
    parts = {"vector": dict(start.vectors), "sparse": dict(start.sparse), "index": dict(start.indexes)}
    parts["config"], parts["alias"] = dict(start.config), dict.fromkeys(start.aliases)
    for change in found:
        family, verb = change.kind.split(".")
        if verb == "drop":
            parts[family].pop(change.name)
        else:
            parts[family][change.name] = change.after
    return CollectionSchema(
        parts["vector"], parts["sparse"], parts["index"], parts["config"], tuple(sorted(parts["alias"]))
    )


@pytest.mark.parametrize(("before", "after", "wanted"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_reversed_changes_lead_back(before, after, wanted):
    """What the changes do is undone by their reverses in reverse order."""
    found = changes(before, after)
    there = redo(before, found)
    assert changes(there, after) == ()
    back = redo(there, [change.reverse() for change in reversed(found)])
    assert changes(back, before) == ()
    assert [change.reverse().reverse() for change in found] == list(found)


def test_server_defaults_are_no_drift():
    """A live collection with every default filled in doesn't differ from what was declared, tuned parts included."""
    live = schema(
        vectors={"a": {**A, "on_disk": False, "hnsw_config": {"m": 16, "ef_construct": 100}}},
        indexes={"f": {"type": "keyword", "on_disk": False, "is_tenant": False}},
        config={
            "shard_number": 1,
            "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000},
            "optimizers_config": {"deleted_threshold": 0.20000000298, "indexing_threshold": 10000},
        },
    )
    declared = schema(
        vectors={"a": {**A, "hnsw_config": {"m": 16}}},
        indexes={"f": KEYWORD},
        config={"optimizers_config": {"deleted_threshold": 0.2}, "quantization_config": DISABLED},
    )
    assert changes(live, declared) == ()


@pytest.mark.parametrize(
    ("found", "declared", "differs"),
    [
        (None, None, False),
        (5, None, False),
        (None, 5, True),
        (0.1, 0.1 + 1e-9, False),
        (0.1, 0.2, True),
        (None, 0.5, True),
        ({}, {"m": 1}, True),
        (None, {}, False),
        (None, {"m": 1}, True),
        ({"m": 1, "ef": 2}, {"m": 1}, False),
    ],
)
def test_declared_differs(found, declared, differs):
    """Only what is declared counts, floats with room for rounding."""
    assert declared_differs(found, declared) is differs


@pytest.mark.parametrize(
    ("change", "light", "in_place", "undoable"),
    [
        (Change("index.add", "f", after=KEYWORD), True, True, True),
        (Change("index.alter", "f", after={"type": "uuid"}, before=KEYWORD), False, True, True),
        (Change("alias.add", "x", after={}), True, True, True),
        (Change("config.set", "metadata", after={"k": 1}), True, True, True),
        (Change("config.set", "optimizers_config", after={"indexing_threshold": 1}), True, True, False),
        (Change("config.set", "replication_factor", after=2, before=1), True, True, True),
        (Change("config.set", "hnsw_config", after={"m": 4}, before={"m": 8}), False, True, True),
        (Change("config.set", "quantization_config", after=SCALAR), False, True, True),
        (Change("config.set", "shard_number", after=2, before=1), False, False, True),
        (Change("vector.add", "b", after=B), False, True, True),
        (Change("vector.drop", "b", before=B), False, True, False),
        (Change("vector.alter", "a", after={**A, "on_disk": True}, before={**A, "on_disk": False}), False, True, True),
        (Change("vector.alter", "a", after={**A, "hnsw_config": {"m": 4}}, before=A), False, True, False),
        (Change("vector.alter", "a", after=B, before=A), False, False, True),
        (Change("sparse.alter", "s", after={"modifier": "idf"}, before={"modifier": "none"}), False, False, True),
    ],
    ids=lambda value: value.describe() if isinstance(value, Change) else None,
)
def test_what_a_change_costs(change, light, in_place, undoable):
    """Each kind of change has whether it is light, possible on the live collection, and can be undone."""
    assert (change.light(), change.possible_in_place(), change.undoable()) == (light, in_place, undoable)


def test_create_request_leaves_disabled_quantization_out():
    """A new collection can't be asked for the absence of quantization: the field is left out, also inside vectors."""
    made = schema(
        vectors={"a": {**A, "quantization_config": DISABLED}, "b": {**B, "quantization_config": SCALAR}},
        config={"quantization_config": DISABLED, "shard_number": 2},
    ).create_request()
    assert made == {"vectors": {"a": A, "b": {**B, "quantization_config": SCALAR}}, "shard_number": 2}


def test_create_request_of_the_unnamed_vector():
    """A collection with nothing but the unnamed vector is asked for in the short form."""
    assert schema(vectors={"": A}).create_request() == {"vectors": A}
    assert schema(vectors={"": A, "b": B}).create_request() == {"vectors": {"": A, "b": B}}
    assert schema(sparse={"s": {}}).create_request() == {"vectors": {}, "sparse_vectors": {"s": {}}}


def test_json_round_trip():
    """Schemas and changes come back equal from JSON."""
    full = schema(
        vectors={"a": A}, sparse={"s": {}}, indexes={"f": KEYWORD}, config={"shard_number": 1}, aliases=("x", "y")
    )
    assert CollectionSchema.from_json(full.to_json()) == full
    for change in changes(EMPTY, full):
        assert Change.from_json(change.to_json()) == change
