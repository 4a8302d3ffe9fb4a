"""Schemas and changes written as operations: executing the text gives the schema back, and it reads like a person's."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from qdrant_client import models

from qmigrate import Checksum, Compare, CopyOf, Embed, KnownItem, Logged, Recall, SameValue, Scale, op
from qmigrate.errors import PlanError
from qmigrate.model.schema import DISABLED, Change, CollectionSchema, changed, changes
from qmigrate.operations.checks import index_problem, value_problem
from qmigrate.operations.collection import CreateCollection
from qmigrate.operations.text.operation import operation_of, operation_source, operation_text
from qmigrate.operations.text.source import WIDTH, CodeWriter, change_source, create_source, drop_source
from qmigrate.parameters.catalogue import catalogue
from qmigrate.parameters.kinds import Each, Fields, Listed, Number, Whole, Words
from qmigrate.parameters.own import SERVER_DEFAULTS

DENSE = {"size": 4, "distance": "Cosine"}


def executed(source: CodeWriter) -> list:
    """The operations that a revision file with this source returns."""
    names: dict = {}
    exec(f"{source.imports()}\n\ndef upgrade():\n    return {source.text()}\n", names)  # noqa: S102  # what a revision file is for
    return names["upgrade"]()


def folded(source: CodeWriter, schema: CollectionSchema | None = None) -> CollectionSchema | None:
    """The schema after all operations, each checked first."""
    for operation in executed(source):
        operation.check(schema)
        schema = operation.apply(schema)
    return schema


def values(kind):
    """Valid values of a kind of the catalogue."""
    if isinstance(kind, Fields):
        if kind.choices:
            return st.one_of(*(values(one) for one in kind.choices))
        required = {name: values(kind.known[name]) for name in kind.required}
        optional = {name: values(one) for name, one in kind.known.items() if name not in kind.required}
        return st.fixed_dictionaries(required, optional=optional)
    if isinstance(kind, tuple):
        return st.one_of(*(values(one) for one in kind))
    if isinstance(kind, Words):
        return st.sampled_from(sorted(kind.members))
    if isinstance(kind, Each):
        # An empty one inside other settings says nothing, and no text says that.
        return st.dictionaries(NAMES, values(kind.of), min_size=1, max_size=2)
    if isinstance(kind, Listed):
        return st.lists(values(kind.of), max_size=3)
    if isinstance(kind, Whole):
        return st.integers(kind.least, min(kind.most or 2**31, 2**31))
    if isinstance(kind, Number):
        return st.floats(kind.least, kind.most if kind.most is not None else 1e6, allow_nan=False)
    return {bool: st.booleans(), str: TEXTS}.get(kind, plain)


TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
NAMES = st.text(st.sampled_from('abcXYZ 0_-.é"\'\u4e2d'), min_size=1, max_size=8).filter(str.strip)
plain = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)
VECTORS = st.one_of(
    st.fixed_dictionaries({"": values(catalogue().vector)}),
    st.dictionaries(NAMES.filter(lambda name: '"' not in name), values(catalogue().vector), max_size=2),
)
INDEXES = st.one_of(*(values(one) for one in catalogue().indexes.values()))
CONFIG = st.fixed_dictionaries(
    {},
    optional={
        **{name: values(catalogue().create.known[name]) for name in CreateCollection.settings() if name != "metadata"},
        "sharding_method": st.just("auto"),
        "metadata": st.dictionaries(TEXTS.filter(lambda key: not key.startswith("qmigrate")), plain, max_size=3),
        "read_fan_out_factor": st.integers(1, 4),
        "read_fan_out_delay_ms": st.integers(1, 400),
    },
)
SCHEMAS = st.builds(
    lambda vectors, sparse, indexes, config, aliases: CollectionSchema(
        vectors, {name: one for name, one in sparse.items() if name not in vectors}, indexes, config, aliases
    ),
    VECTORS,
    st.dictionaries(NAMES.filter(lambda name: '"' not in name), values(catalogue().sparse), max_size=2),
    st.dictionaries(NAMES, INDEXES, max_size=3),
    CONFIG,
    st.sampled_from([(), ("other",), ("another", "one")]),
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(schema=SCHEMAS)
def test_a_schema_survives_as_text(schema):
    """Whatever Qdrant's create call can say comes back from the text, to the last value."""
    assert all(index_problem(params) is None for params in schema.indexes.values())
    source = create_source("things", schema, defaults={})
    found = folded(source)
    assert source.missing == ()
    assert found is not None
    nothing = (None, {}, {"enabled": False})
    wanted = {name: value for name, value in schema.config.items() if value not in nothing}
    got = {name: value for name, value in found.config.items() if value not in nothing}
    assert (found.vectors, found.sparse, found.indexes, found.aliases) == (
        schema.vectors,
        schema.sparse,
        schema.indexes,
        schema.aliases,
    )
    assert got == wanted


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(schema=SCHEMAS)
def test_leaving_defaults_out_is_never_a_difference(schema):
    """What is left out is what the server fills in: no declared field differs, and nothing else is gone."""
    found = folded(create_source("things", schema))
    assert found is not None
    filled = {**SERVER_DEFAULTS, **found.config}
    for name, value in SERVER_DEFAULTS.items():
        if isinstance(value, dict):
            filled[name] = {**value, **(found.config.get(name) or {})}
    assert changes(found.with_(config={"strict_mode_config": {"enabled": False}, **filled}), schema) == ()


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(before=SCHEMAS, after=SCHEMAS)
@example(
    before=CollectionSchema(vectors={}, config={"metadata": {"a\x00b": False}}),
    after=CollectionSchema(vectors={}, config={"metadata": {"a": False}}),
)
def test_changes_survive_as_text(before, after):
    """Operations made of differences lead to the same schema as the differences, but for what they name as lost."""
    found = changes(before, after)
    source = change_source("things", found, defaults={})
    schema = before
    for operation in executed(source):
        schema = operation.apply(schema)
    if not source.missing:
        assert changes(schema, changed(before, found)) == ()
    assert len(executed(source)) > 0 or source.missing or not found


@pytest.mark.parametrize(
    ("change", "text", "missing"),
    [
        (Change("index.add", "kind", {"type": "keyword"}), 'op.CreatePayloadIndex("c", "kind", PayloadSchemaType.KEYWORD)', ()),
        (
            Change("index.alter", "kind", {"type": "keyword", "is_tenant": True}, {"type": "integer"}),
            'op.CreatePayloadIndex("c", "kind", KeywordIndexParams(type=KeywordIndexType.KEYWORD, is_tenant=True))',
            (),
        ),
        (Change("index.drop", "kind", before={"type": "keyword"}), 'op.DropPayloadIndex("c", "kind")', ()),
        (
            Change("vector.add", "b", {"size": 8, "distance": "Dot"}),
            'op.AddVector("c", "b", VectorParams(size=8, distance=Distance.DOT), values=Empty())',
            (),
        ),
        (Change("sparse.add", "s", {"modifier": "idf"}), 'op.AddVector("c", "s", SparseVectorParams(modifier=Modifier.IDF), values=Empty())', ()),
        (Change("vector.drop", "b", before=DENSE), 'op.DropVector("c", "b", cutover="immediate")', ()),
        (
            Change("vector.alter", "b", {**DENSE, "on_disk": True}, DENSE),
            'op.AlterVector("c", "b", VectorParams(size=4, distance=Distance.COSINE, on_disk=True))',
            (),
        ),
        (Change("alias.add", "x"), 'op.SetAlias("x", "c")', ()),
        (Change("alias.drop", "x"), None, ("the alias x is gone",)),
        (Change("config.set", "shard_number", 3, 1), 'op.Reshard("c", shard_number=3)', ()),
        (
            Change("config.set", "replication_factor", 2, 1),
            'op.UpdateCollection("c", params=CollectionParamsDiff(replication_factor=2))',
            (),
        ),
        (
            Change("config.set", "hnsw_config", {"m": 32, "ef_construct": 100, "on_disk": False}, {"m": 16}),
            'op.UpdateCollection("c", hnsw_config=HnswConfigDiff(m=32))',
            (),
        ),
        (
            Change("config.set", "quantization_config", DISABLED, {"binary": {}}),
            'op.UpdateCollection("c", quantization_config=Disabled.DISABLED)',
            (),
        ),
        (
            Change("config.set", "metadata", {"a": 1, "b": None}, {"a": 2}),
            'op.UpdateCollection("c", metadata={"a": 1})',
            (),
        ),
        (
            Change("config.set", "optimizers_config", {"indexing_threshold": 5}, {"max_segment_size": 9}),
            'op.UpdateCollection("c", optimizers_config=OptimizersConfigDiff(indexing_threshold=5))',
            ("optimizers_config.max_segment_size was 9 and is not set any more",),
        ),
        (
            Change("config.set", "wal_config", {"wal_capacity_mb": 64}, {"wal_capacity_mb": 32}),
            None,
            ("wal_config = {'wal_capacity_mb': 64}, which only a new collection can have",),
        ),
        (
            Change("vector.alter", "b", {"size": 8, "distance": "Cosine"}, DENSE),
            'op.AlterVector("c", "b", VectorParams(size=8, distance=Distance.COSINE), values=Empty(), cutover="immediate")',
            ("what fills vector b of another size: values=Embed(…) or Compute(…)",),
        ),
    ],
    ids=lambda value: value.kind + value.name if isinstance(value, Change) else None,
)
def test_each_change_has_its_operation(change, text, missing):
    """One difference becomes the operation that a person would write, and what can't be expressed is named."""
    source = change_source("c", [change])
    joined = " ".join(line.strip() for line in source.text().splitlines() if not line.strip().startswith("#"))
    joined = joined.replace("( ", "(").replace(", )", ")")
    assert source.missing == missing
    assert joined == (f"[ {text}, ]" if text else "[ ]")


def test_unknown_fields_are_named_and_left_out():
    """A field of a newer server doesn't get into the file, and the file has a comment on it."""
    schema = CollectionSchema(
        vectors={"a": {**DENSE, "novel": 1, "hnsw_config": {"m": 8, "other": True}}},
        indexes={"f": {"type": "keyword", "odd": 1}, "g": {"type": "hologram"}},
        config={
            "hnsw_config": {"m": 8, "levels": 3},
            "payload": {"x": 1},
            "sharding_method": "custom",
            "metadata": {"mine": 1, "qmigrate_x": 2},
        },
    )
    source = create_source("c", schema)
    assert source.missing == (
        "vector a.novel = 1",
        "vector a.hnsw_config.other = True",
        "payload index f.odd = 1",
        "payload index g = {'type': 'hologram'}",
        "hnsw_config.levels = 3",
        "sharding_method = 'custom'",
        "metadata 'qmigrate_x' = 2",
        "payload = {'x': 1}",
    )
    for line in source.missing:
        assert f"# A revision can't express this: {line}" in source.text()
    found = folded(source)
    assert found is not None
    assert found.vectors == {"a": {**DENSE, "hnsw_config": {"m": 8}}}
    assert (found.indexes, found.config) == ({"f": {"type": "keyword"}}, {"hnsw_config": {"m": 8}, "metadata": {"mine": 1}})


@pytest.mark.parametrize("name", ["memory[1]", "plain", "odd \"name\""])
def test_a_name_with_brackets_means_itself(name):
    """Where an operation takes a glob, the text names the very collection."""
    schema = CollectionSchema(vectors={"a": DENSE}, config={"read_fan_out_factor": 2}, aliases=("x",))
    source = create_source(name, schema) + change_source(name, [Change("index.add", "f", {"type": "bool"})]) + drop_source(name)
    found = executed(source)
    assert len(found) == 5
    assert all(operation.matches(name) for operation in found)


FILLED = {
    **SERVER_DEFAULTS,
    "strict_mode_config": {"enabled": False},
}


def test_a_baseline_reads_like_a_person_wrote_it():
    """Of a server's full answer only what a user has chosen is written down."""
    schema = CollectionSchema(
        vectors={"": {"size": 512, "distance": "Cosine"}},
        indexes={"user_id": {"type": "keyword"}},
        config={**FILLED, "shard_number": 1, "optimizers_config": {**FILLED["optimizers_config"], "indexing_threshold": 20000}},
    )
    source = create_source("things", schema, defaults={**SERVER_DEFAULTS, "shard_number": 1})
    assert source.imports() == (
        "from qdrant_client.models import Distance, OptimizersConfigDiff, PayloadSchemaType, VectorParams\n"
        "from qmigrate import op"
    )
    assert source.text() == (
        "[\n"
        "        op.CreateCollection(\n"
        '            "things",\n'
        "            vectors=VectorParams(size=512, distance=Distance.COSINE),\n"
        '            payload_indexes={"user_id": PayloadSchemaType.KEYWORD},\n'
        "            optimizers_config=OptimizersConfigDiff(indexing_threshold=20000),\n"
        "        ),\n"
        "    ]"
    )


RUFF = Path(sys.executable).with_name("ruff")


@pytest.mark.skipif(not (RUFF.exists() or shutil.which("ruff")), reason="ruff is not installed")
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(schema=SCHEMAS)
def test_the_formatter_has_nothing_to_change(schema):
    """The file looks as ruff would have made it, imports sorted."""
    source = create_source("things", schema) + change_source("things", changes(schema, CollectionSchema(vectors={"b": DENSE})))
    text = f'"""Text."""\n\n{source.imports()}\n\n\ndef upgrade():\n    return {source.text()}\n'
    ruff = [str(RUFF) if RUFF.exists() else "ruff"]
    for command in (["format"], ["check", "--select", "I", "--fix"]):
        # Not in this repository, where qmigrate would be first-party.
        ended = subprocess.run([*ruff, *command, "--isolated", "--config", f"line-length={WIDTH}", "-"], input=text, capture_output=True, text=True, check=False, cwd="/")
        assert ended.stdout == text, ended.stderr


def test_every_table_is_covered():
    """The strategies of this file make values that operations take, so the round trips mean something."""
    assert value_problem({"m": 4}, catalogue().create.known["hnsw_config"], "x") is None
    assert set(CreateCollection.settings()) >= set(SERVER_DEFAULTS)


@pytest.mark.parametrize(
    "operation",
    [
        op.AlterVector("c", "a", models.VectorParams(size=4, distance=models.Distance.EUCLID, datatype=models.Datatype.UINT8), values=CopyOf("a", scale=Scale(-0.2, 0.2, tolerance=0.1)), quality=Compare(SameValue("n"), measure="overlap"), cutover="hold"),
        op.Reembed("c", "a", values=Embed("m", text="t", checksum=Checksum("SELECT id, s FROM a", column="s", kind="python-floats", embedder="o")), quality=Compare(Logged("SELECT query FROM log", database="other"), old_vector="")),
        op.AddVector("c", "a", models.VectorParams(size=4, distance=models.Distance.DOT), values=CopyOf("", allow_normalised=True), quality=Recall(at_least=0.9, k=5)),
        op.Quantize("c", "", "binary", on_disk=True, quality=Compare(SameValue("n"), measure="overlap")),
        op.Quantize("c", "a", "int8", strategy="in_place"),
        op.Reembed("c", "a", values=Embed("m", image="i"), quality=Compare(KnownItem("title"), by="language", at_least=1.02)),
    ],
    ids=lambda one: one.describe()[:40],
)
def test_what_fills_a_vector_and_what_it_must_find_are_written(operation):
    """Scales, checksums and gates with every argument: executing the text gives the same operation, on one line too."""
    assert executed(operation_source(operation)) == [operation]
    assert operation_of(operation_text(operation)) == operation


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("__import__('os').system('x')", "can't hold"),
        ("__import__('os')", "is not an operation"),
        ("op.__class__", "can't hold"),
        ("op.Reembed('c', 'a', values=lambda point: 1)", "can't hold"),
        ("[op.DropVector('c', 'a') for one in (1,)]", "can't hold"),
        ("op.Reembd('c', 'a')", "did you mean"),
        ("op.DropVector('c')", "missing 1 required positional argument"),
        ("op.DropVector('c', 'a'", "is not an operation"),
        ("Distance.COSINE", "is not an operation"),
        ("Nothing()", "there is no Nothing"),
        ("op.text.operation.importlib.import_module('os').getcwd()", "can't hold"),
        ("op.DropVector('c', op.base.sys.platform)", "can't hold"),
        ("op.text.operation", "can't hold"),
        ("op.text('c')", "is not an operation"),
        ("VectorParams.model_construct()", "can't hold"),
        ("op." + "a." * 3000 + "b", "is not an operation"),
        ("", "is not an operation"),
        ("op.AddVector('c', 'a', VectorParams(sise=3), values=Empty())", "sise"),
    ],
)
def test_what_is_no_operation_is_refused(text, words):
    """The text of an operation holds names, calls and plain values; nothing else of it is run."""
    with pytest.raises(PlanError, match=re.escape(words)):
        operation_of(text)
