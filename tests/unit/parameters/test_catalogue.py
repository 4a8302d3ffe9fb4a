"""The catalogue of parameters: what the installed client has, and what a newer or an older one changes."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from enum import Enum
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import create_model
from qdrant_client import models

from qmigrate import op
from qmigrate.errors import ConfigError, PlanError
from qmigrate.model import schema as schemas
from qmigrate.operations.checks import value_problem
from qmigrate.operations.collection import CreateCollection
from qmigrate.operations.text.source import create_source
from qmigrate.parameters import own
from qmigrate.parameters.catalogue import catalogue, derived, installed
from qmigrate.parameters.kinds import Each, Fields, Listed, Whole, Words
from qmigrate.store.shapes import create_body, described

ROOT = Path(__file__).parents[3]

#: Model of the installed client -> its fields.
OBJECTS = {
    "BinaryQuantization": "binary",
    "BinaryQuantizationConfig": "always_ram memory encoding query_encoding",
    "BoolIndexParams": "type on_disk memory enable_hnsw nested",
    "CollectionParamsDiff": "replication_factor write_consistency_factor read_fan_out_factor read_fan_out_delay_ms on_disk_payload",
    "CreateCollection": "shard_number sharding_method replication_factor write_consistency_factor on_disk_payload payload id_tracker hnsw_config wal_config optimizers_config quantization_config strict_mode_config metadata",
    "DatetimeIndexParams": "type is_principal on_disk memory enable_hnsw nested",
    "DisabledStemmerParams": "type",
    "FloatIndexParams": "type is_principal on_disk memory enable_hnsw nested",
    "GeoIndexParams": "type on_disk memory enable_hnsw nested",
    "HnswConfigDiff": "m ef_construct full_scan_threshold max_indexing_threads on_disk memory payload_m inline_storage",
    "IdTrackerParams": "memory",
    "IntegerIndexParams": "type lookup range is_principal on_disk memory enable_hnsw nested",
    "KeywordIndexParams": "type is_tenant on_disk memory enable_hnsw prefix nested",
    "MultiVectorConfig": "comparator",
    "OptimizersConfigDiff": "deleted_threshold vacuum_min_vector_number default_segment_number max_segment_size memmap_threshold indexing_threshold flush_interval_sec max_optimization_threads prevent_unoptimized",
    "PayloadStorageParams": "memory",
    "ProductQuantization": "product",
    "ProductQuantizationConfig": "compression always_ram memory",
    "ScalarQuantization": "scalar",
    "ScalarQuantizationConfig": "type quantile always_ram memory",
    "SnowballParams": "type language",
    "SparseIndexParams": "full_scan_threshold on_disk memory datatype",
    "SparseVectorParams": "index modifier",
    "StopwordsSet": "languages custom",
    "StrictModeConfig": "enabled max_query_limit max_timeout unindexed_filtering_retrieve unindexed_filtering_update search_max_hnsw_ef search_allow_exact search_max_oversampling upsert_max_batchsize search_max_batchsize max_collection_vector_size_bytes read_rate_limit write_rate_limit max_collection_payload_size_bytes max_points_count filter_max_conditions condition_max_size multivector_config sparse_config max_payload_index_count max_resident_memory_percent",
    "StrictModeMultivector": "max_vectors",
    "StrictModeSparse": "max_length",
    "TextIndexParams": "type tokenizer min_token_len max_token_len lowercase ascii_folding phrase_matching stopwords on_disk memory stemmer enable_hnsw scoring nested",
    "TextScoringParams": "type",
    "TurboQuantQuantizationConfig": "always_ram memory bits",
    "TurboQuantization": "turbo",
    "UpdateCollection": "optimizers_config hnsw_config quantization_config strict_mode_config metadata",
    "UuidIndexParams": "type is_tenant on_disk memory enable_hnsw nested",
    "VectorParams": "size distance hnsw_config quantization_config on_disk memory datatype multivector_config",
    "VectorParamsDiff": "hnsw_config quantization_config on_disk memory",
    "WalConfigDiff": "wal_capacity_mb wal_segments_ahead wal_retain_closed",
}
#: Enumeration of the installed client -> its words.
ENUMERATIONS = {
    "BinaryQuantizationEncoding": "one_bit two_bits one_and_half_bits",
    "BinaryQuantizationQueryEncoding": "default binary scalar4bits scalar8bits",
    "BoolIndexType": "bool",
    "CompressionRatio": "x4 x8 x16 x32 x64",
    "Datatype": "float32 uint8 float16 turbo4 turbo8 turbo16",
    "DatetimeIndexType": "datetime",
    "Disabled": "Disabled",
    "Distance": "Cosine Euclid Dot Manhattan",
    "FloatIndexType": "float",
    "GeoIndexType": "geo",
    "IntegerIndexType": "integer",
    "KeywordIndexType": "keyword",
    "Language": "arabic azerbaijani basque bengali catalan chinese danish dutch english finnish french german greek hebrew hinglish hungarian indonesian italian japanese kazakh nepali norwegian portuguese romanian russian slovene spanish swedish tajik turkish",
    "MaxOptimizationThreadsSetting": "auto",
    "Memory": "cold cached pinned",
    "Modifier": "none idf",
    "MultiVectorComparator": "max_sim",
    "NoStemmer": "none",
    "PayloadSchemaType": "keyword integer float geo text bool datetime uuid",
    "ScalarType": "int8",
    "ShardingMethod": "auto custom",
    "Snowball": "snowball",
    "SnowballLanguage": "arabic armenian danish dutch english finnish french german greek hungarian italian norwegian portuguese romanian russian spanish swedish tamil turkish",
    "TextIndexType": "text",
    "TextScoringType": "bm25",
    "TokenizerType": "prefix whitespace word multilingual code",
    "TurboQuantBitSize": "bits1 bits1_5 bits2 bits4 bits8",
    "UuidIndexType": "uuid",
}
#: What the fields of the client are that the catalogue leaves out: vectors have objects of their own.
LEFT_OUT = {
    "CreateCollection": {"vectors", "sparse_vectors"},
    "UpdateCollection": {"vectors", "sparse_vectors", "params"},
    "CollectionParamsDiff": set(own.NOT_IN_PARAMS),
}
ADVICE = (
    "It is accepted as it is. Before you add it to OBJECTS or ENUMERATIONS of tests/unit/parameters/test_catalogue.py: "
    "a bound, or a word that decides stored values, belongs into src/qmigrate/parameters/own.py; a setting that a live "
    "collection can't take at once, or that decides stored values, into the tables of src/qmigrate/model/schema.py; a "
    "field of the create call becomes an argument of op.CreateCollection (operations/collection.py)"
)


def everything(kind: Any, objects: dict[str, Fields], words: dict[str, Words]) -> None:
    """Collect the objects and enumerations inside a kind."""
    if isinstance(kind, Fields):
        inner = (*kind.choices, *kind.known.values())
        if kind.model:
            objects[kind.model] = kind
    elif isinstance(kind, Words):
        inner = ()
        if kind.model:
            words[kind.model] = kind
    else:
        inner = kind if isinstance(kind, tuple) else (kind.of,) if isinstance(kind, Each | Listed) else ()
    for one in inner:
        everything(one, objects, words)


def found_in(parts) -> tuple[dict[str, Fields], dict[str, Words]]:
    """All objects and enumerations of a catalogue, by the names of their models."""
    objects: dict[str, Fields] = {}
    words: dict[str, Words] = {}
    kinds = (parts.vector, parts.vector_diff, parts.sparse, parts.create, parts.update, parts.info, parts.params)
    for kind in (*kinds, *parts.indexes.values(), parts.index_types):
        everything(kind, objects, words)
    return objects, words


def new_ones(listed: dict[str, str], there: dict[str, set[str]]) -> str:
    """Differences, with what is to be done about them; empty where there are none."""
    tables = {name: set(line.split()) for name, line in listed.items()}
    more = [f"{name}.{one}" for name in there for one in sorted(there[name] - tables.get(name, set()))]
    less = [f"{name}.{one}" for name in tables for one in sorted(tables[name] - there.get(name, set()))]
    lines = [f"qdrant-client {installed()} has {', '.join(more)}. {ADVICE}"] if more else []
    return "\n".join([*lines, *([f"qdrant-client {installed()} hasn't {', '.join(less)} any more"] if less else [])])


def test_the_fields_of_the_installed_client_are_those_of_the_table():
    """A client that adds a field to any object makes this fail, and the message says what to check."""
    objects, _ = found_in(catalogue())
    differing = new_ones(OBJECTS, {name: {*one.known, *one.unchecked} for name, one in objects.items()})
    assert not differing, differing


def test_the_words_of_the_installed_client_are_those_of_the_table():
    """The same of enumerations: of the client's, before own tables leave any out."""
    _, words = found_in(catalogue())
    differing = new_ones(ENUMERATIONS, {name: {one.value for one in getattr(models, name)} for name in words})
    assert not differing, differing


def test_every_field_of_the_client_is_taken():
    """Nothing is lost between the models and the catalogue but what has another place, and all of it can be checked."""
    objects, words = found_in(catalogue())
    for name, kind in objects.items():
        wanted = list(getattr(models, name).model_fields)
        assert list(kind.known) == [one for one in wanted if one not in LEFT_OUT.get(name, ())], name
        assert kind.unchecked == (), name
        required = [one for one, field in getattr(models, name).model_fields.items() if field.is_required()]
        assert list(kind.required) == [one for one in required if one not in LEFT_OUT.get(name, ())], name
    for name, kind in words.items():
        assert kind.members == {one.value: one.name for one in getattr(models, name)}, name


def test_the_message_about_a_new_field_names_it_and_the_files():
    """An update of the client shows what is new and where it belongs."""
    said = new_ones({"A": "a b", "C": "c"}, {"A": {"a", "new"}, "C": {"c"}})
    assert said.startswith(f"qdrant-client {installed()} has A.new. ")
    assert "src/qmigrate/parameters/own.py" in said
    assert said.endswith(f"qdrant-client {installed()} hasn't A.b any more")


def test_the_collection_info_is_known_whole():
    """Every field that the client's models of a collection's info have, down to the last one, is known here."""

    def check(model, kind, path):
        for name, found in model.model_fields.items():
            if name not in kind.known:
                missing.append(f"{path}.{name}")
                continue
            inner = kind.known[name]
            choices = inner if isinstance(inner, tuple) else (inner,)
            for nested in objects_of(found.annotation):
                wanted = next((one for one in choices if isinstance(one, Fields | Each)), None)
                if wanted is not None and (fields := wanted.of if isinstance(wanted, Each) else wanted) is not None:
                    # One model per method of quantization, one object for all of them.
                    check(nested, fields, f"{path}.{name}")

    missing: list[str] = []
    check(models.CollectionConfig, catalogue().info, "config")
    for kind, entry in catalogue().index_info.items():
        assert set(entry.known) == set(models.PayloadIndexInfo.model_fields), kind
        assert entry.known["params"] == catalogue().indexes[kind]
    assert missing == []


def objects_of(annotation):
    """The models inside an annotation."""
    if isinstance(annotation, type) and hasattr(annotation, "model_fields"):
        return [annotation]
    return [found for part in get_args(annotation) for found in objects_of(part)]


# --- own tables ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("place", "bound"), own.BOUNDS.items(), ids=lambda value: ".".join(value) if isinstance(value, tuple) else "")
def test_an_own_bound_is_of_a_field_that_the_client_has_without_one(place, bound):
    """What the models know themselves, or don't have any more, has no line in the table."""
    model, name = place
    field = getattr(models, model).model_fields[name]
    assert not [one for one in field.metadata if any(hasattr(one, end) for end in ("ge", "gt", "le", "lt"))]
    objects, _ = found_in(catalogue())
    assert objects[model].known[name] == bound


@pytest.mark.parametrize(("name", "words"), own.WORDS.items(), ids=list(own.WORDS))
def test_own_words_are_words_of_the_client(name, words):
    """A word that no client has needs no line."""
    assert words <= {one.value for one in getattr(models, name)}


def test_the_fields_that_tell_a_vector_are_those_of_the_client():
    """Dense vectors require theirs, and no dense vector has one of a sparse one's."""
    assert set(catalogue().vector.required) == own.DENSE
    assert set(catalogue().sparse.known) >= own.SPARSE
    assert own.SPARSE.isdisjoint(catalogue().vector.known)


def test_what_params_may_not_have_is_a_field_of_the_client_and_has_a_reason():
    """An exclusion is about something."""
    assert set(own.NOT_IN_PARAMS) <= set(models.CollectionParamsDiff.model_fields)
    assert all(own.NOT_IN_PARAMS.values())


def test_the_tables_of_changes_are_about_fields_of_the_client():
    """Which settings a live collection takes is decided in `model`: what the client's updates can't have is not among it.

    The tables stay own ones: an update of the client must not make a change that decides stored values a light one.
    """
    found = catalogue()
    assert found.vector_diff.known.keys() == schemas.TUNABLE_VECTOR_FIELDS
    assert found.sparse.known.keys() > schemas.TUNABLE_SPARSE_FIELDS
    assert found.create.known.keys() - found.update.known.keys() - found.tunable == schemas.FIXED_CONFIG
    assert found.update.known.keys() > schemas.HEAVY_CONFIG
    assert found.create.known["optimizers_config"].known.keys() > schemas.RESHAPING_OPTIMIZERS


def test_defaults_are_those_of_known_fields():
    """A default of a field that is misspelt would never count."""
    objects, _ = found_in(catalogue())
    names = {name for one in objects.values() for name in one.known}
    assert own.DEFAULTS.keys() <= names
    for name, value in own.SERVER_DEFAULTS.items():
        assert value_problem(value, catalogue().create.known[name], name) is None


def test_arguments_of_operations_are_settings_of_the_client():
    """Each setting of a create call is one of the client's; those that have no argument are carried over all the same."""
    found = catalogue()
    assert found.create.known.keys() - set(CreateCollection.settings()) == {"payload", "id_tracker"}
    assert set(CreateCollection.settings()) <= found.create.known.keys()
    assert found.carried >= {"payload", "id_tracker"}


def test_the_oldest_client_is_that_of_the_package():
    """The refusal names the version that is asked for at installation."""
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    assert f"qdrant-client>={'.'.join(map(str, own.OLDEST_CLIENT))}" in needed


@pytest.mark.parametrize(
    "program",
    ["import qmigrate, qmigrate.fix", "import qmigrate.cli.app", "import qmigrate.parameters.catalogue, qmigrate.commands.lint"],
)
def test_an_import_loads_no_client(program):
    """The models cost most of a second, so only what checks a parameter loads them."""
    code = f"{program}, sys; sys.exit('qdrant_client' in sys.modules or 'pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- another client ------------------------------------------------------------------------------------------------


@pytest.fixture
def client(monkeypatch):
    """Replace models of the client, as another version of it would have them."""

    def replaced(**changed):
        for name, model in changed.items():
            monkeypatch.setattr(models, name, model, raising=False)
        catalogue.cache_clear()

    yield replaced
    monkeypatch.undo()
    catalogue.cache_clear()


def grown(name: str, **fields: Any) -> Any:
    """A model with further optional fields."""
    return create_model(name, __base__=getattr(models, name), **{one: (kind | None, None) for one, kind in fields.items()})


def shrunk(name: str, *gone: str) -> Any:
    """A model without some of its fields."""
    left = {one: (field.annotation, field) for one, field in getattr(models, name).model_fields.items() if one not in gone}
    return create_model(name, **left)


def with_hnsw(hnsw: Any) -> dict[str, Any]:
    """The models that have HNSW settings, with others."""
    return {name: grown(name, hnsw_config=hnsw) for name in ("CreateCollection", "UpdateCollection", "VectorParams", "VectorParamsDiff")}


VECTORS = {"v": {"size": 4, "distance": "Dot"}}


def test_a_field_that_a_newer_client_adds_is_accepted_checked_carried_and_written(client):
    """Nothing has to be edited for it: a revision may say it, a live one is carried over, adopt writes it."""
    hnsw = grown("HnswConfigDiff", graph_seed=int)
    client(HnswConfigDiff=hnsw, **with_hnsw(hnsw))
    made = op.CreateCollection("docs", vectors=VECTORS, hnsw_config={"graph_seed": 7})
    made.check(None)
    schema = made.apply(None)
    assert create_body(schema, None)[0]["hnsw_config"] == {"graph_seed": 7}
    op.UpdateCollection("docs", hnsw_config={"graph_seed": 8}).check(schema)
    op.UpdateCollection("docs", vectors_config={"v": {"hnsw_config": {"graph_seed": 8}}}).check(schema)
    with pytest.raises(PlanError, match="graph_seed must be 0 or more, not -1"):
        op.CreateCollection("docs", vectors=VECTORS, hnsw_config={"graph_seed": -1}).check(None)
    live = described({"params": {"vectors": VECTORS}, "hnsw_config": {"graph_seed": 7}}, {})
    assert (live.unknown, live.schema.config) == ((), {"hnsw_config": {"graph_seed": 7}})
    assert "HnswConfigDiff(graph_seed=7)" in create_source("docs", live.schema).text()


def test_a_new_field_of_params_is_carried_by_an_update(client):
    """The create call doesn't know it, so it is set right afterwards."""
    client(CollectionParamsDiff=grown("CollectionParamsDiff", read_quorum=int), CollectionParams=grown("CollectionParams", read_quorum=int))
    live = described({"params": {"vectors": VECTORS, "read_quorum": 2}}, {})
    assert (live.unknown, live.schema.config) == ((), {"read_quorum": 2})
    assert create_body(live.schema, None)[1] == {"read_quorum": 2}
    op.UpdateCollection("docs", params={"read_quorum": 2}).check(live.schema)


def test_what_only_the_info_has_stays_unknown(client):
    """No create call and no update can make it so, which a copy has to refuse."""
    client(CollectionParams=grown("CollectionParams", tiering=str), CollectionConfig=grown("CollectionConfig", replicator_config=dict[str, Any]))
    live = described({"params": {"vectors": VECTORS, "tiering": "hot"}, "replicator_config": {"a": 1}}, {})
    assert live.unknown == ("params.tiering", "replicator_config")


def test_a_new_block_of_create_call_and_info_is_carried(client):
    """Without an argument for it: a copy keeps it, and adopt says what a revision can't express."""
    block = create_model("TieringConfig", after=(int | None, None))
    client(CreateCollection=grown("CreateCollection", tiering_config=block), CollectionConfig=grown("CollectionConfig", tiering_config=block))
    live = described({"params": {"vectors": VECTORS}, "tiering_config": {"after": 3}}, {})
    assert live.unknown == ()
    assert create_body(live.schema, None)[0]["tiering_config"] == {"after": 3}
    source = create_source("docs", live.schema)
    assert source.missing == ("tiering_config = {'after': 3}",)
    assert described({"params": {"vectors": VECTORS}, "tiering_config": {"later": 3}}, {}).unknown == ("tiering_config.later",)


def test_a_new_method_of_quantization_is_one_more(client):
    """It is taken by its own key, still one at a time."""
    config = create_model("LatticeConfig", cells=(int, ...))
    lattice = create_model("Lattice", lattice=(config, ...))
    union = models.ScalarQuantization | models.BinaryQuantization | lattice
    client(CreateCollection=grown("CreateCollection", quantization_config=union))
    op.CreateCollection("docs", quantization_config={"lattice": {"cells": 3}}).check(None)
    with pytest.raises(PlanError, match=r"must name one method \(scalar, binary, lattice\), not 2"):
        op.CreateCollection("docs", quantization_config={"lattice": {"cells": 3}, "binary": {}}).check(None)
    with pytest.raises(PlanError, match="lattice has no cells"):
        op.CreateCollection("docs", quantization_config={"lattice": {}}).check(None)


@pytest.mark.parametrize(("name", "field"), [("Datatype", "datatype"), ("Distance", "distance")])
def test_a_new_word_that_decides_stored_values_is_refused(client, name, field):
    """The proof of a rebuild doesn't know what it does to them."""
    members = {one.name: one.value for one in getattr(models, name)}
    wider = Enum(name, {**members, "FLOAT8": "float8"}, type=str)
    client(VectorParams=grown("VectorParams", **{field: wider}))
    with pytest.raises(PlanError, match=f"{field} must be one of .*, not 'float8'"):
        op.CreateCollection("docs", vectors={"v": {**VECTORS["v"], field: "float8"}}).check(None)


def test_a_field_of_a_kind_that_has_no_rule_is_refused_in_words(client):
    """It can't be checked, so it is not passed on; live, it is unknown."""
    hnsw = grown("HnswConfigDiff", salt=bytes)
    client(HnswConfigDiff=hnsw, **with_hnsw(hnsw))
    with pytest.raises(PlanError, match="hnsw_config has a field 'salt' that this version of qmigrate can't check yet"):
        op.CreateCollection("docs", hnsw_config={"salt": "x"}).check(None)
    assert described({"params": {}, "hnsw_config": {"salt": "x"}}, {}).unknown == ("hnsw_config.salt",)


def test_a_field_that_an_older_client_lacks_is_refused_with_the_version(client, monkeypatch):
    """As any unknown field, and the message says which client is needed."""
    hnsw = shrunk("HnswConfigDiff", "memory", "payload_m")
    client(HnswConfigDiff=hnsw, **with_hnsw(hnsw))
    monkeypatch.setattr("qmigrate.operations.checks.installed", lambda: "1.15.1")
    with pytest.raises(PlanError) as refused:
        op.CreateCollection("docs", hnsw_config={"memory": "cold"}).check(None)
    assert refused.value.message.endswith(
        "hnsw_config has no field 'memory'; known: m, ef_construct, full_scan_threshold, max_indexing_threads, on_disk, "
        "inline_storage (qdrant-client 1.15.1 is installed, and qmigrate needs qdrant-client ≥ 1.20)"
    )
    with pytest.raises(PlanError, match="has no field 'ef_constuct'; did you mean \"ef_construct\""):
        op.CreateCollection("docs", hnsw_config={"ef_constuct": 3}).check(None)


def test_a_client_without_a_model_is_too_old():
    """A readable error, not a missing attribute."""

    class Older:
        VectorParams = models.VectorParams

    with pytest.raises(ConfigError, match=rf"qdrant-client {installed()} has no SparseVectorParams: it is too old") as refused:
        derived(Older)
    assert refused.value.hint == "pip install 'qdrant-client>=1.20'"


def test_a_whole_number_of_the_client_is_unsigned():
    """Qdrant has no negative settings; the models say only that it is a whole number."""
    assert catalogue().create.known["hnsw_config"].known["m"] == Whole(0)
