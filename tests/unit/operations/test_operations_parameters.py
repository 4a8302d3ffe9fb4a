"""What is said about a wrong parameter: every message in full, and parameters as plain JSON."""

import enum
import json

import pytest
from qdrant_client import models

from qmigrate.errors import PlanError
from qmigrate.operations.base import leaves, merged, plain
from qmigrate.operations.checks import effective, index_problem, is_sparse, value_problem
from qmigrate.parameters.catalogue import catalogue, installed, what_has_more
from qmigrate.parameters.kinds import Fields


def kind_of(place):
    """The kind of a parameter of the create call, or of another object of the catalogue."""
    found = catalogue()
    other = {
        "params": found.params,
        "vector": found.vector,
        "vector_diff": found.vector_diff,
        "sparse": found.sparse,
        "update.quantization_config": found.update.known["quantization_config"],
    }
    return other[place] if place in other else found.create.known[place]


def problem_of(place, value):
    """What is wrong with a parameter, or with the parameters of a payload index."""
    return index_problem(value) if place == "index" else value_problem(value, kind_of(place), place)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (models.HnswConfigDiff(m=16, on_disk=True), "hnsw_config"),
        (models.OptimizersConfigDiff(deleted_threshold=0.3, max_optimization_threads=2), "optimizers_config"),
        (
            models.OptimizersConfigDiff(max_optimization_threads=models.MaxOptimizationThreadsSetting.AUTO),
            "optimizers_config",
        ),
        (
            models.ScalarQuantization(
                scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99)
            ),
            "quantization_config",
        ),
        (models.Disabled.DISABLED, "update.quantization_config"),
        (
            models.VectorParams(
                size=4,
                distance=models.Distance.DOT,
                datatype=models.Datatype.FLOAT16,
                multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
            ),
            "vector",
        ),
        (
            models.TextIndexParams(
                type=models.TextIndexType.TEXT,
                tokenizer=models.TokenizerType.WORD,
                stopwords=models.StopwordsSet(languages=[models.Language.ENGLISH], custom=["qdrant"]),
                stemmer=models.SnowballParams(type=models.Snowball.SNOWBALL, language=models.SnowballLanguage.ENGLISH),
            ),
            "index",
        ),
        (
            models.StrictModeConfig(enabled=True, sparse_config={"s": models.StrictModeSparse(max_length=9)}),
            "strict_mode_config",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_objects_of_the_client_become_plain_json_without_problem(value, place):
    """What the client's models let through is plain JSON afterwards, and passes the tables."""
    found = plain(value)
    assert json.loads(json.dumps(found)) == found
    assert problem_of(place, found) is None


def test_mixed_plain_values_and_enums():
    """Enums and models may stand inside plain containers; what is None is left out, unless it is asked for."""
    given = {"distance": models.Distance.COSINE, "hnsw": [models.HnswConfigDiff(m=1)], "off": None, "n": (1, 2.5)}
    assert plain(given) == {"distance": "Cosine", "hnsw": [{"m": 1}], "n": [1, 2.5]}
    assert plain({"off": None}, keep_none=True) == {"off": None}


@pytest.mark.parametrize("value", [object(), {1, 2}, {1: "x"}, models.VectorParams, b"x", [object()]])
def test_other_values_are_refused(value):
    """What isn't JSON is refused with a message that names what is expected."""
    with pytest.raises(PlanError, match=r"the thing: expected an object of qdrant_client\.models or plain JSON"):
        plain(value, "the thing")


def test_enum_keys_become_text():
    """An enum as a key of a plain object becomes its value."""

    class Name(enum.Enum):
        A = "a"

    assert plain({Name.A: 1}) == {"a": 1}


#: Where `{client}` stands, the message names the client whose fields are listed.
SAID = [
    ("hnsw_config", {"mm": 1}, "hnsw_config has no field 'mm'; did you mean \"m\"?"),
    ("hnsw_config", {"nothing_like_it": 1}, "hnsw_config has no field 'nothing_like_it'; known: m, ef_construct, full_scan_threshold, max_indexing_threads, on_disk, memory, payload_m, inline_storage{client}"),
    ("hnsw_config", {"m": -1}, "m must be 0 or more, not -1"),
    ("hnsw_config", {"m": 1.5}, "m must be a whole number, not 1.5"),
    ("hnsw_config", {"m": True}, "m must be a whole number, not True"),
    ("hnsw_config", {"m": "16"}, "m must be a whole number, not '16'"),
    ("hnsw_config", {"on_disk": 1}, "on_disk must be True or False, not 1"),
    ("hnsw_config", {"memory": "hot"}, "memory must be one of cached, cold, pinned, not 'hot'"),
    ("hnsw_config", {"m": None}, "m must be a whole number, not None"),
    ("hnsw_config", [], "hnsw_config must be an object, not []"),
    ("hnsw_config", {"inline_storage": "yes"}, "inline_storage must be True or False, not 'yes'"),
    ("optimizers_config", {"deleted_threshold": 2}, "deleted_threshold must be between 0 and 1, not 2"),
    ("optimizers_config", {"deleted_threshold": "x"}, "deleted_threshold must be a number, not 'x'"),
    ("optimizers_config", {"deleted_treshold": 0.2}, "optimizers_config has no field 'deleted_treshold'; did you mean \"deleted_threshold\"?"),
    ("optimizers_config", {"max_optimization_threads": "all"}, "max_optimization_threads must be a whole number, not 'all'"),
    ("optimizers_config", {"max_optimization_threads": -2}, "max_optimization_threads must be 0 or more, not -2"),
    ("optimizers_config", {"flush_interval_sec": -1}, "flush_interval_sec must be 0 or more, not -1"),
    ("optimizers_config", {"vacuum": 1}, "optimizers_config has no field 'vacuum'; known: deleted_threshold, vacuum_min_vector_number, default_segment_number, max_segment_size, memmap_threshold, indexing_threshold, flush_interval_sec, max_optimization_threads, prevent_unoptimized{client}"),
    ("optimizers_config", {"prevent_unoptimized": "on"}, "prevent_unoptimized must be True or False, not 'on'"),
    ("wal_config", {"wal_capacity_mb": 0}, "wal_capacity_mb must be 1 or more, not 0"),
    ("wal_config", {"wal_segments": 1}, "wal_config has no field 'wal_segments'; did you mean \"wal_segments_ahead\"?"),
    ("wal_config", {"wal_retain_closed": -1}, "wal_retain_closed must be 0 or more, not -1"),
    ("strict_mode_config", {"max_resident_memory_percent": 101}, "max_resident_memory_percent must be between 0 and 100, not 101"),
    ("strict_mode_config", {"search_max_oversampling": -0.5}, "search_max_oversampling must be 0 or more, not -0.5"),
    ("strict_mode_config", {"sparse_config": {"s": {"max": 1}}}, "sparse_config.s has no field 'max'; known: max_length{client}"),
    ("strict_mode_config", {"sparse_config": 3}, "sparse_config must be an object, not 3"),
    ("strict_mode_config", {"multivector_config": {"v": {"max_vectors": -1}}}, "max_vectors must be 0 or more, not -1"),
    ("strict_mode_config", {"enabled": 1}, "enabled must be True or False, not 1"),
    ("strict_mode_config", {"max_query_limits": 1}, "strict_mode_config has no field 'max_query_limits'; did you mean \"max_query_limit\"?"),
    ("quantization_config", {"scalar": {"type": "int8"}, "binary": {}}, "quantization_config must name one method (scalar, product, binary, turbo), not 2"),
    ("quantization_config", {}, "quantization_config must name one method (scalar, product, binary, turbo), not 0"),
    ("quantization_config", {"scalar": {}}, "scalar has no type"),
    ("quantization_config", {"scaler": {"type": "int8"}}, "quantization_config has no field 'scaler'; did you mean \"scalar\"?"),
    ("quantization_config", {"scalar": {"type": "int4"}}, "type must be one of int8, not 'int4'; did you mean \"int8\"?"),
    ("quantization_config", {"scalar": {"type": "int8", "quantile": 1.5}}, "quantile must be between 0 and 1, not 1.5"),
    ("quantization_config", {"product": {}}, "product has no compression"),
    ("quantization_config", {"product": {"compression": "x128"}}, "compression must be one of x16, x32, x4, x64, x8, not 'x128'; did you mean \"x8\"?"),
    ("quantization_config", {"binary": {"encoding": "three_bits"}}, "encoding must be one of one_and_half_bits, one_bit, two_bits, not 'three_bits'; did you mean \"two_bits\"?"),
    ("quantization_config", {"binary": {"query_encoding": "scalar"}}, "query_encoding must be one of binary, default, scalar4bits, scalar8bits, not 'scalar'; did you mean \"scalar8bits\"?"),
    ("quantization_config", {"turbo": {"bits": "bits3"}}, "bits must be one of bits1, bits1_5, bits2, bits4, bits8, not 'bits3'; did you mean \"bits8\"?"),
    ("quantization_config", {"turbo": {"always_rom": True}}, "turbo has no field 'always_rom'; did you mean \"always_ram\"?"),
    ("quantization_config", "Disabled", "quantization_config must be an object, not 'Disabled'"),
    ("shard_number", 0, "shard_number must be 1 or more, not 0"),
    ("shard_number", 1.0, "shard_number must be a whole number, not 1.0"),
    ("sharding_method", "automatic", "sharding_method must be one of auto, custom, not 'automatic'; did you mean \"auto\"?"),
    ("replication_factor", 0, "replication_factor must be 1 or more, not 0"),
    ("write_consistency_factor", 0, "write_consistency_factor must be 1 or more, not 0"),
    ("on_disk_payload", "yes", "on_disk_payload must be True or False, not 'yes'"),
    ("metadata", 3, "metadata must be an object, not 3"),
    ("update.quantization_config", {"scaler": {"type": "int8"}}, "update.quantization_config has no field 'scaler'; did you mean \"scalar\"?"),
    ("update.quantization_config", "disabled", "update.quantization_config must be one of Disabled, not 'disabled'; did you mean \"Disabled\"?"),
    ("update.quantization_config", 3, "update.quantization_config must be one of Disabled, not 3"),
    ("params", {"replication_factor": 0}, "replication_factor must be 1 or more, not 0"),
    ("params", {"read_fan_out_delay_ms": -1}, "read_fan_out_delay_ms must be 0 or more, not -1"),
    ("params", {"payload": {"memory": "cold"}}, "params has no field 'payload'; did you mean \"on_disk_payload\"?"),
    ("params", {"id_tracker": {"memory": "cold"}}, "params has no field 'id_tracker'; known: replication_factor, write_consistency_factor, read_fan_out_factor, read_fan_out_delay_ms, on_disk_payload{client}"),
    ("params", {"shard_number": 2}, "params has no field 'shard_number'; known: replication_factor, write_consistency_factor, read_fan_out_factor, read_fan_out_delay_ms, on_disk_payload{client}"),
    ("params", {"write_consistency": 2}, "params has no field 'write_consistency'; did you mean \"write_consistency_factor\"?"),
    ("vector", {"size": 4, "distance": "cosine"}, "distance must be one of Cosine, Dot, Euclid, Manhattan, not 'cosine'; did you mean \"Cosine\"?"),
    ("vector", {"size": 4}, "vector has no distance"),
    ("vector", {"distance": "Dot"}, "vector has no size"),
    ("vector", {"size": 70000, "distance": "Dot"}, "size must be between 1 and 65536, not 70000"),
    ("vector", {"size": 0, "distance": "Dot"}, "size must be between 1 and 65536, not 0"),
    ("vector", {"size": 4, "distance": "Dot", "datatype": "float8"}, "datatype must be one of float16, float32, turbo16, turbo4, turbo8, uint8, not 'float8'; did you mean \"float32\"?"),
    ("vector", {"size": 4, "distance": "Dot", "datatype": "Float16"}, "datatype must be one of float16, float32, turbo16, turbo4, turbo8, uint8, not 'Float16'; did you mean \"float16\"?"),
    ("vector", {"size": 4, "distance": "Dot", "multivector_config": {}}, "multivector_config has no comparator"),
    ("vector", {"size": 4, "distance": "Dot", "multivector_config": {"comparator": "max"}}, "comparator must be one of max_sim, not 'max'; did you mean \"max_sim\"?"),
    ("vector", {"size": 4, "distance": "Dot", "hnsw_config": {"ef": 1}}, "hnsw_config has no field 'ef'; known: m, ef_construct, full_scan_threshold, max_indexing_threads, on_disk, memory, payload_m, inline_storage{client}"),
    ("vector", {"size": 4, "distance": "Dot", "dimension": 4}, "vector has no field 'dimension'; known: size, distance, hnsw_config, quantization_config, on_disk, memory, datatype, multivector_config{client}"),
    ("vector", {"size": 4, "distance": "Dot", "memory": "disk"}, "memory must be one of cached, cold, pinned, not 'disk'"),
    ("vector_diff", {"size": 4}, "vector_diff has no field 'size'; known: hnsw_config, quantization_config, on_disk, memory{client}"),
    ("vector_diff", {"quantization_config": "disabled"}, "quantization_config must be one of Disabled, not 'disabled'; did you mean \"Disabled\"?"),
    ("vector_diff", {"on_disk": None}, "on_disk must be True or False, not None"),
    ("vector_diff", {"datatype": "uint8"}, "vector_diff has no field 'datatype'; known: hnsw_config, quantization_config, on_disk, memory{client}"),
    ("sparse", {"modifier": "bm25"}, "modifier must be one of idf, none, not 'bm25'"),
    ("sparse", {"index": {"datatype": "int8"}}, "datatype must be one of float16, float32, turbo16, turbo4, turbo8, uint8, not 'int8'; did you mean \"uint8\"?"),
    ("sparse", {"index": {"full_scan_threshold": -5}}, "full_scan_threshold must be 0 or more, not -5"),
    ("sparse", {"index": 3}, "index must be an object, not 3"),
    ("sparse", {"modifer": "idf"}, "sparse has no field 'modifer'; did you mean \"modifier\"?"),
    ("index", {}, "the index has no type; types are keyword, integer, float, geo, text, bool, datetime, uuid"),
    ("index", {"type": "keywords"}, "unknown index type 'keywords'; types are keyword, integer, float, geo, text, bool, datetime, uuid; did you mean \"keyword\"?"),
    ("index", {"type": 3}, "unknown index type 3; types are keyword, integer, float, geo, text, bool, datetime, uuid"),
    ("index", {"type": "keyword", "is_tenent": True}, "a keyword index has no field 'is_tenent'; did you mean \"is_tenant\"?"),
    ("index", {"type": "keyword", "lookup": True}, "a keyword index has no field 'lookup'; known: type, is_tenant, on_disk, memory, enable_hnsw, prefix, nested{client}"),
    ("index", {"type": "keyword", "is_tenant": 1}, "is_tenant must be True or False, not 1"),
    ("index", {"type": "integer", "range": "yes"}, "range must be True or False, not 'yes'"),
    ("index", {"type": "integer", "nested": 3}, "nested must be a string, not 3"),
    ("index", {"type": "uuid", "is_principal": True}, "a uuid index has no field 'is_principal'; known: type, is_tenant, on_disk, memory, enable_hnsw, nested{client}"),
    ("index", {"type": "geo", "memory": "warm"}, "memory must be one of cached, cold, pinned, not 'warm'"),
    ("index", {"type": "text", "tokenizer": "words"}, "tokenizer must be one of code, multilingual, prefix, whitespace, word, not 'words'; did you mean \"word\"?"),
    ("index", {"type": "text", "min_token_len": -1}, "min_token_len must be 0 or more, not -1"),
    ("index", {"type": "text", "stopwords": {"languages": ["klingon"]}}, "languages must be one of arabic, azerbaijani, basque, bengali, catalan, chinese, danish, dutch, english, finnish, french, german, greek, hebrew, hinglish, hungarian, indonesian, italian, japanese, kazakh, nepali, norwegian, portuguese, romanian, russian, slovene, spanish, swedish, tajik, turkish, not 'klingon'"),
    ("index", {"type": "text", "stopwords": {"languages": "english"}}, "languages must be a list, not 'english'"),
    ("index", {"type": "text", "stopwords": {"custom": [1]}}, "custom must be a string, not 1"),
    ("index", {"type": "text", "stopwords": "klingon"}, "stopwords must be one of arabic, azerbaijani, basque, bengali, catalan, chinese, danish, dutch, english, finnish, french, german, greek, hebrew, hinglish, hungarian, indonesian, italian, japanese, kazakh, nepali, norwegian, portuguese, romanian, russian, slovene, spanish, swedish, tajik, turkish, not 'klingon'"),
    ("index", {"type": "text", "stopwords": {"words": []}}, "stopwords has no field 'words'; known: languages, custom{client}"),
    ("index", {"type": "text", "stemmer": {"type": "snowball", "language": "enlish"}}, "language must be one of arabic, armenian, danish, dutch, english, finnish, french, german, greek, hungarian, italian, norwegian, portuguese, romanian, russian, spanish, swedish, tamil, turkish, not 'enlish'; did you mean \"english\"?"),
    ("index", {"type": "text", "stemmer": {"language": "english"}}, "stemmer has no type"),
    ("index", {"type": "text", "stemmer": {"type": "porter"}}, "type must be one of none, snowball, not 'porter'"),
    ("index", {"type": "text", "scoring": "yes"}, "scoring must be True or False, not 'yes'"),
    ("index", {"type": "text", "scoring": {"kind": "bm25"}}, "scoring has no field 'kind'; known: type{client}"),
]


@pytest.mark.parametrize(("place", "value", "words"), SAID)
def test_problems_are_named(place, value, words):
    """A wrong parameter is named with what is possible, and with the closest word."""
    assert problem_of(place, value) == words.replace("{client}", f" ({what_has_more(installed())})")


@pytest.mark.parametrize(
    ("client", "words"),
    [
        ("1.20.0", "those of qdrant-client 1.20.0; a newer one may have more"),
        ("1.20", "those of qdrant-client 1.20; a newer one may have more"),
        ("2.0.0rc1", "those of qdrant-client 2.0.0rc1; a newer one may have more"),
        ("1.19.1", "qdrant-client 1.19.1 is installed, and qmigrate needs qdrant-client ≥ 1.20"),
    ],
)
def test_the_client_is_named_whose_fields_are_meant(client, words):
    """A field of a newer client is missing for a reason that the message has to say."""
    assert what_has_more(client) == words


def test_a_field_that_can_not_be_checked_is_not_called_unknown():
    """It is the client's, but of a kind that has no rule here: that is said, and nothing else is proposed."""
    kind = Fields({"m": int}, model="HnswConfigDiff", unchecked=("mm",))
    assert value_problem({"mm": 1}, kind, "it") == "it has a field 'mm' that this version of qmigrate can't check yet"


def test_effective_leaves_out_what_says_nothing():
    """Unset values and defaults don't count; a zero and a False against the default do."""
    params = {
        "on_disk": False,
        "range": False,
        "lookup": True,
        "m": 0,
        "memory": None,
        "quantization_config": "Disabled",
    }
    assert effective(params) == {"range": False, "m": 0}


def test_sparse_parameters_are_told_by_their_fields():
    """Empty parameters are a sparse vector's; one field of a dense vector makes them dense."""
    assert is_sparse({})
    assert is_sparse({"modifier": "idf", "index": {}})
    assert not is_sparse({"distance": "Dot"})
    assert not is_sparse({"sice": 4})


def test_merging_goes_deep_but_for_quantization():
    """Settings are merged field by field; a quantization takes the place of the old one."""
    before = {"hnsw_config": {"m": 1, "ef_construct": 2}, "quantization_config": {"scalar": {"type": "int8"}}}
    diff = {"hnsw_config": {"m": 9}, "quantization_config": {"binary": {}}, "fresh": {"a": {"b": 1}}}
    assert merged(before, diff) == {
        "hnsw_config": {"m": 9, "ef_construct": 2},
        "quantization_config": {"binary": {}},
        "fresh": {"a": {"b": 1}},
    }
    assert before["hnsw_config"] == {"m": 1, "ef_construct": 2}
    assert merged(None, {"a": 1}) == {"a": 1}


def test_leaves_are_the_innermost_keys():
    """Each leaf of nested objects has one key, and an empty object is a leaf."""
    assert set(leaves(("s",), {"a": {"b": 1, "c": {}}, "d": 2})) == {("s", "a", "b"), ("s", "a", "c"), ("s", "d")}
