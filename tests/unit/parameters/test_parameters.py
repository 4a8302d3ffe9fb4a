"""The parameter tables, compared with the client library's own models, and parameters as plain JSON."""

import enum
import json
from typing import get_args

import pytest
from qdrant_client import models

from qmigrate.errors import PlanError
from qmigrate.operations.base import leaves, merged, plain
from qmigrate.operations.checks import effective, is_sparse, value_problem
from qmigrate.parameters import own as known

#: Fields that newer clients offer and that qmigrate does not take yet.
NOT_TAKEN = {"CreateCollection": {"payload", "id_tracker"}, "CollectionParamsDiff": {"payload", "id_tracker"}}

FIELD_SETS = [
    ("HnswConfigDiff", known.HNSW),
    ("OptimizersConfigDiff", known.OPTIMIZERS),
    ("WalConfigDiff", known.WAL),
    ("StrictModeConfig", known.STRICT_MODE),
    ("VectorParams", known.VECTOR),
    ("VectorParamsDiff", known.VECTOR_DIFF),
    ("SparseVectorParams", known.SPARSE),
    ("SparseIndexParams", known.SPARSE.known["index"]),
    ("CollectionParamsDiff", known.COLLECTION_PARAMS),
    ("ScalarQuantizationConfig", known.QUANTIZATION_METHODS["scalar"]),
    ("ProductQuantizationConfig", known.QUANTIZATION_METHODS["product"]),
    ("BinaryQuantizationConfig", known.QUANTIZATION_METHODS["binary"]),
    ("TurboQuantQuantizationConfig", known.QUANTIZATION_METHODS["turbo"]),
    *((f"{kind.title()}IndexParams", fields) for kind, fields in known.INDEXES.items()),
]


@pytest.mark.parametrize(("model", "fields"), FIELD_SETS, ids=[row[0] for row in FIELD_SETS])
def test_tables_have_the_fields_of_the_client(model, fields):
    """Every field of the client's model is known here, and no other."""
    wanted = set(getattr(models, model).model_fields) - NOT_TAKEN.get(model, set())
    assert set(fields.known) == wanted


def test_create_call_is_known_whole():
    """The settings of a create call are those of the client, the vectors aside."""
    wanted = set(models.CreateCollection.model_fields) - {"vectors", "sparse_vectors"}
    assert set(known.CREATE_CONFIG.known) == wanted - NOT_TAKEN["CreateCollection"]


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
                wanted = next((one for one in choices if isinstance(one, known.Fields | known.Each)), None)
                if wanted is not None and (fields := wanted.of if isinstance(wanted, known.Each) else wanted) is not None:
                    # One model per method of quantization, one table for all of them.
                    check(nested, fields, f"{path}.{name}")

    missing: list[str] = []
    check(models.CollectionConfig, known.INFO, "config")
    for kind, table in known.INDEX_INFO.items():
        assert set(table.known) == set(models.PayloadIndexInfo.model_fields), kind
    assert missing == []


def objects_of(annotation):
    """The models inside an annotation."""
    if isinstance(annotation, type) and hasattr(annotation, "model_fields"):
        return [annotation]
    return [found for part in get_args(annotation) for found in objects_of(part)]


@pytest.mark.parametrize(
    ("values", "enumeration"),
    [
        (known.DISTANCES, models.Distance),
        (known.DATATYPES, models.Datatype),
        (known.MEMORY, models.Memory),
        (known.LANGUAGES, models.Language),
        (known.STEMMED, models.SnowballLanguage),
        (set(known.INDEXES), models.PayloadSchemaType),
        (known.INDEXES["text"].known["tokenizer"], models.TokenizerType),
        (known.SPARSE.known["modifier"], models.Modifier),
        (known.QUANTIZATION_METHODS["turbo"].known["bits"], models.TurboQuantBitSize),
        (known.QUANTIZATION_METHODS["product"].known["compression"], models.CompressionRatio),
        (known.QUANTIZATION_METHODS["binary"].known["encoding"], models.BinaryQuantizationEncoding),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_tables_have_the_words_of_the_client(values, enumeration):
    """Every word of the client's enumerations is known here, and no other."""
    assert set(values) == {member.value for member in enumeration}


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (models.HnswConfigDiff(m=16, on_disk=True), known.HNSW),
        (models.OptimizersConfigDiff(deleted_threshold=0.3, max_optimization_threads=2), known.OPTIMIZERS),
        (
            models.OptimizersConfigDiff(max_optimization_threads=models.MaxOptimizationThreadsSetting.AUTO),
            known.OPTIMIZERS,
        ),
        (
            models.ScalarQuantization(
                scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99)
            ),
            known.QUANTIZATION,
        ),
        (models.Disabled.DISABLED, known.QUANTIZATION_DIFF),
        (
            models.VectorParams(
                size=4,
                distance=models.Distance.DOT,
                datatype=models.Datatype.FLOAT16,
                multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
            ),
            known.VECTOR,
        ),
        (
            models.TextIndexParams(
                type=models.TextIndexType.TEXT,
                tokenizer=models.TokenizerType.WORD,
                stopwords=models.StopwordsSet(languages=[models.Language.ENGLISH], custom=["qdrant"]),
                stemmer=models.SnowballParams(type=models.Snowball.SNOWBALL, language=models.SnowballLanguage.ENGLISH),
            ),
            known.INDEXES["text"],
        ),
        (
            models.StrictModeConfig(enabled=True, sparse_config={"s": models.StrictModeSparse(max_length=9)}),
            known.STRICT_MODE,
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_objects_of_the_client_become_plain_json_without_problem(value, kind):
    """What the client's models let through is plain JSON afterwards, and passes the tables."""
    found = plain(value)
    assert json.loads(json.dumps(found)) == found
    assert value_problem(found, kind, "it") is None


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


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        ({"mm": 1}, known.HNSW, "it has no field 'mm', did you mean 'm'?"),
        ({"nothing_like_it": 1}, known.HNSW, "known: m, ef_construct"),
        ({"m": -1}, known.HNSW, "m must be 0 or more, not -1"),
        ({"m": 1.5}, known.HNSW, "m must be a whole number, not 1.5"),
        ({"m": True}, known.HNSW, "m must be a whole number, not True"),
        ({"on_disk": 1}, known.HNSW, "on_disk must be True or False, not 1"),
        ({"deleted_threshold": 2}, known.OPTIMIZERS, "deleted_threshold must be between 0 and 1, not 2"),
        ({"deleted_threshold": "x"}, known.OPTIMIZERS, "deleted_threshold must be a number, not 'x'"),
        ({"max_optimization_threads": "all"}, known.OPTIMIZERS, "max_optimization_threads must be"),
        ({"scalar": {"type": "int8"}, "binary": {}}, known.QUANTIZATION, "must name one method"),
        ({"scalar": {}}, known.QUANTIZATION, "scalar has no type"),
        ({"scaler": {"type": "int8"}}, known.QUANTIZATION, "did you mean 'scalar'?"),
        ({"scaler": {"type": "int8"}}, known.QUANTIZATION_DIFF, "did you mean 'scalar'?"),
        ("disabled", known.QUANTIZATION_DIFF, "did you mean 'Disabled'?"),
        ({"size": 4, "distance": "cosine"}, known.VECTOR, "did you mean 'Cosine'?"),
        ({"size": 4}, known.VECTOR, "it has no distance"),
        ({"size": 70000, "distance": "Dot"}, known.VECTOR, "size must be between 1 and 65536, not 70000"),
        ({"size": 4, "distance": "Dot", "datatype": "float8"}, known.VECTOR, "datatype must be one of"),
        ({"stopwords": {"languages": ["klingon"]}}, known.INDEXES["text"], "languages must be one of"),
        ({"stopwords": {"languages": "english"}}, known.INDEXES["text"], "languages must be a list"),
        ({"sparse_config": {"s": {"max": 1}}}, known.STRICT_MODE, "sparse_config.s has no field 'max'"),
        ({"sparse_config": 3}, known.STRICT_MODE, "sparse_config must be an object"),
        ([], known.HNSW, "it must be an object"),
        ({"stemmer": {"type": "snowball", "language": "enlish"}}, known.INDEXES["text"], "did you mean 'english'?"),
        ({"scoring": "yes"}, known.INDEXES["text"], "scoring must be True or False"),
    ],
)
def test_problems_are_named(value, kind, words):
    """A wrong parameter is named with what is possible, and with the closest word."""
    assert words in (value_problem(value, kind, "it") or "")


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
