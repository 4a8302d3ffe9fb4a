"""Pairs of schemas as applications have them, before and after an edit, and what it means that two are the same."""

from __future__ import annotations

import ast
import math
from pathlib import Path

from hypothesis import strategies as st

from qmigrate.declared.collection import Collection, Wanted
from qmigrate.declared.drafts import drafts
from qmigrate.declared.outline import Answers, Outline, State, outline, undecided
from qmigrate.operations.values import Empty
from qmigrate.parameters.own import SERVER_DEFAULTS
from qmigrate.revisions.graph import Revisions
from qmigrate.revisions.new import compose, write_new
from qmigrate.settings.load import Settings

PLACES = st.sampled_from(["cold", "cached"])
HNSW = st.fixed_dictionaries(
    {},
    optional={
        "m": st.sampled_from([8, 16, 32]),
        "ef_construct": st.sampled_from([64, 100]),
        "full_scan_threshold": st.sampled_from([10000, 20000]),
        "on_disk": st.booleans(),
        "payload_m": st.sampled_from([8, 16]),
    },
)
QUANTIZATIONS = st.sampled_from(
    [
        {"scalar": {"type": "int8"}},
        {"scalar": {"type": "int8", "quantile": 0.99, "always_ram": True}},
        {"binary": {}},
        {"binary": {"always_ram": True}},
    ]
)
VECTOR = st.fixed_dictionaries(
    {"size": st.sampled_from([4, 8]), "distance": st.sampled_from(["Cosine", "Dot", "Euclid"])},
    optional={
        "on_disk": st.booleans(),
        "datatype": st.sampled_from(["float32", "float16"]),
        "multivector_config": st.just({"comparator": "max_sim"}),
        "hnsw_config": HNSW.filter(bool),
        "quantization_config": QUANTIZATIONS,
    },
)
SPARSE = st.fixed_dictionaries(
    {},
    optional={
        "modifier": st.sampled_from(["none", "idf"]),
        "index": st.fixed_dictionaries({}, optional={"on_disk": st.booleans(), "full_scan_threshold": st.just(5000)}),
    },
)
INDEX = st.one_of(
    st.fixed_dictionaries({"type": st.just("keyword")}, optional={"is_tenant": st.booleans(), "on_disk": st.booleans()}),
    st.fixed_dictionaries({"type": st.just("integer"), "lookup": st.just(True), "range": st.booleans()}),
    st.fixed_dictionaries(
        {"type": st.just("text")},
        optional={"tokenizer": st.sampled_from(["word", "prefix"]), "lowercase": st.booleans()},
    ),
    st.just({"type": "datetime"}),
)
CONFIG = st.fixed_dictionaries(
    {},
    optional={
        "hnsw_config": HNSW.filter(bool),
        "optimizers_config": st.fixed_dictionaries({}, optional={"indexing_threshold": st.sampled_from([10000, 15000]), "flush_interval_sec": st.sampled_from([5, 7])}),
        "quantization_config": QUANTIZATIONS,
        "on_disk_payload": st.booleans(),
        "strict_mode_config": st.fixed_dictionaries({"enabled": st.booleans()}, optional={"max_query_limit": st.sampled_from([100, 200])}),
        "metadata": st.dictionaries(st.sampled_from(["owner", "team"]), st.sampled_from(["a", 1, 2.5, {"x": True}]), max_size=2),
        "shard_number": st.sampled_from([1, 2]),
    },
)


@st.composite
def schemas(draw, name: str = "things") -> Collection:
    """One collection; half of them have one unnamed vector."""
    vectors = draw(st.one_of(st.fixed_dictionaries({"": VECTOR}), st.dictionaries(st.sampled_from("abc"), VECTOR, min_size=1, max_size=2)))
    names = [one for one in "stc" if one not in vectors]
    sparse = draw(st.dictionaries(st.sampled_from(names), SPARSE, max_size=2))
    indexes = draw(st.dictionaries(st.sampled_from(["kind", "year", "body"]), INDEX, max_size=2))
    values = {vector: Empty() for vector in (*vectors, *sparse)}
    return Collection(name, vectors, sparse, indexes, values=values, **draw(CONFIG))


@st.composite
def pairs(draw) -> tuple[Collection, Collection]:
    """Before and after: another schema, or the same with some of its parts taken from another one."""
    before, other = draw(schemas()), draw(schemas())
    if draw(st.booleans()):
        return before, other
    parts = {name: getattr(before, name) for name in Collection.__dataclass_fields__ if name not in ("name", "_")}
    for name in draw(st.sets(st.sampled_from(sorted(parts.keys() - {"values", "vectors", "sparse_vectors"})))):
        parts[name] = getattr(other, name)
    if draw(st.booleans()):
        parts |= {"vectors": other.vectors, "sparse_vectors": other.sparse_vectors, "values": other.values}
    return before, Collection("things", **parts)


def generate(scripts: Path, declared: list[Wanted], message: str) -> Outline:
    """What ``revision --autogenerate --drops`` writes, where nothing is a rename."""
    state = State.read(declared, Revisions.load(scripts))
    made = outline(state, Answers(different=frozenset(undecided(state, Answers())), drops=True))
    after = None
    for draft in drafts(made, message):
        after = compose(scripts, draft.message, source=draft.source, downgrade=draft.downgrade, after=after)
        write_new(after)
    return made


def decide(scripts: Path) -> None:
    """What a person adds to generated revisions after the first one: when what readers notice goes live."""
    for path in sorted((scripts / "versions").glob("*.py"))[1:]:
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                given = {one.arg for one in node.keywords}
                if node.func.attr in ("DropVector", "AlterVector", "RenameVector", "Reembed") and "cutover" not in given:
                    node.keywords.append(ast.keyword("cutover", ast.Constant("immediate")))
        path.write_text(ast.unparse(tree))


def plainly(found, config: dict) -> dict:
    """A schema as it is in effect, worked out apart from the code under test.

    Args:
        found: the schema.
        config: settings that its vectors inherit.
    """
    return {
        "vectors": {name: _vector(params, config) for name, params in found.vectors.items()},
        "sparse": {name: _sparse(params) for name, params in found.sparse.items()},
        "indexes": {name: _index(params) for name, params in found.indexes.items()},
    }


def _vector(params: dict, config: dict) -> dict:
    graph = {**SERVER_DEFAULTS["hnsw_config"], **(config.get("hnsw_config") or {}), **(params.get("hnsw_config") or {})}
    return {
        "size": params["size"],
        "distance": params["distance"],
        "multi": params.get("multivector_config"),
        "type": params.get("datatype") or "float32",
        "cold": bool(params.get("on_disk")),
        "graph": graph,
        "quantized": sorted(params.get("quantization_config") or {}),
    }


def unquantized(where: str, has: dict | None, wanted: dict | None) -> list[str]:
    """Declared fields of a quantization that are not there; what is left out says nothing."""
    if not wanted:
        return []
    ((method, given),) = wanted.items()
    there = (has or {}).get(method)
    if there is None:
        return [where]
    return [f"{where}.{key}" for key, one in given.items() if (there.get(key) or False) != one]


def _sparse(params: dict) -> dict:
    index = params.get("index") or {}
    return {"modifier": params.get("modifier") or "none", "cold": bool(index.get("on_disk")), "full": index.get("full_scan_threshold")}


def _index(params: dict) -> dict:
    usual = {"lookup": True, "range": True, "lowercase": True, "tokenizer": "word", "enable_hnsw": True}
    return {key: one for key, one in params.items() if one not in (None, False) or key in usual} | {
        key: one for key, one in usual.items() if key not in params
    }


def missing_settings(config: dict, declared: dict) -> list[str]:
    """Declared settings that a collection doesn't have, neither set nor by the server's defaults."""
    found = []
    for key, value in declared.items():
        has = config.get(key)
        if key == "quantization_config":
            found += unquantized(key, has, value)
        elif isinstance(value, dict):
            usual = SERVER_DEFAULTS.get(key) or {}
            for name, one in value.items():
                there = (has or {}).get(name, usual.get(name, False))
                if there != one and not (isinstance(one, float) and math.isclose(there, one, rel_tol=1e-6)):
                    found.append(f"{key}.{name}")
        elif (has if has is not None else SERVER_DEFAULTS.get(key, 1)) != value:
            found.append(key)
    return found


def settings_at(folder: Path) -> Settings:
    """Of a folder with revisions in ``versions/``."""
    return Settings(scripts=folder, folder=folder)
