"""QM5: payload indexes and server settings that are known to hurt."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from qmigrate.lint.change_rules import each_operation
from qmigrate.lint.project import Project, Use
from qmigrate.lint.rule import ERROR, WARNING, Hit, Rule
from qmigrate.model.schema import CollectionSchema, changes
from qmigrate.operations.checks import shown
from qmigrate.operations.index import DropPayloadIndex

_NUMERIC = frozenset({"integer", "float", "datetime"})
_NUMBER_NAME = re.compile(
    r"(^|[._])(count|year|age|price|score|rank|timestamp|size|width|height|length)$|_(at|count|ms)$"
)
#: Below it, one bit per value leaves too little to rank by.
_SHORT = 512
#: More links per point cost memory and build time without better results.
_MANY_LINKS = 128


def _settings(use: Use) -> Iterator[tuple[str, Any]]:
    """(path, value) of every object of settings that an operation sets, of the collection and of its vectors."""
    operation: Any = use.operation
    config = getattr(operation, "config", None)
    if isinstance(config, Mapping):
        yield from ((key, value) for key, value in config.items() if value is not None)
    vectors = getattr(operation, "vectors", None) or getattr(operation, "vectors_config", None) or {}
    if getattr(operation, "params", None) and hasattr(operation, "vector"):
        vectors = {operation.vector: operation.params}
    for name, params in vectors.items():
        if isinstance(params, Mapping):
            yield f"vector {shown(name)}", params
            yield from ((key, value) for key, value in params.items() if key in ("hnsw_config", "quantization_config"))


def _objects(use: Use, key: str) -> Iterator[Mapping[str, Any]]:
    for name, value in _settings(use):
        if name == key and isinstance(value, Mapping):
            yield value


def _indexes(use: Use) -> dict[str, Mapping[str, Any]]:
    """Payload indexes that an operation makes."""
    made = getattr(use.operation, "payload_indexes", None)
    if isinstance(made, Mapping):
        return dict(made)
    field, schema = getattr(use.operation, "field", None), getattr(use.operation, "schema", None)
    return {field: schema} if isinstance(field, str) and isinstance(schema, Mapping) else {}


def _keyword_on_numbers(project: Project) -> Iterator[Hit]:
    for use in each_operation(project):
        for field, params in sorted(_indexes(use).items()):
            if params.get("type") != "keyword":
                continue
            before = (use.before.indexes.get(field) or {}).get("type") if use.before else None
            if before in _NUMERIC:
                said = f"{field} was indexed as {before}: those values are in no keyword index"
                yield Hit(use.source, use.span, said)
            elif _NUMBER_NAME.search(field):
                yield Hit(use.source, use.span, f"{field} sounds like a number or a time, which is in no keyword index")


def _strict(schema: CollectionSchema | None) -> bool:
    mode = (schema.config.get("strict_mode_config") if schema else None) or {}
    return bool(mode.get("enabled")) and False in (
        mode.get("unindexed_filtering_retrieve"),
        mode.get("unindexed_filtering_update"),
    )


def _index_dropped(project: Project) -> Iterator[Hit]:
    for use in each_operation(project):
        if isinstance(use.operation, DropPayloadIndex) and not _strict(use.before):
            yield Hit(use.source, use.span, f"filters on {use.operation.field} read every point from then on")


def _index_needed(project: Project) -> Iterator[Hit]:
    for use in each_operation(project):
        if isinstance(use.operation, DropPayloadIndex) and _strict(use.before):
            yield Hit(use.source, use.span, f"strict mode of {use.name} refuses filters on {use.operation.field} then")


def _heavy_in_place(project: Project) -> Iterator[Hit]:
    for use in each_operation(project):
        if getattr(use.operation, "wish", None) != "in_place" or use.before is None:
            continue
        after = use.after()
        heavy = [one for one in changes(use.before, after) if not one.light()] if after else []
        if heavy:
            yield Hit(use.source, use.span, f"{heavy[0].describe()} on the live collection")


def _hnsw(project: Project) -> Iterator[Hit]:
    for use in each_operation(project):
        for hnsw in _objects(use, "hnsw_config"):
            links, payload_links, width = hnsw.get("m"), hnsw.get("payload_m"), hnsw.get("ef_construct")
            if links == 0 and not payload_links:
                yield Hit(use.source, use.span, "m=0 without payload_m: every search reads every point")
            elif isinstance(links, int) and links > _MANY_LINKS:
                yield Hit(use.source, use.span, f"m={links}: the graph needs more memory than short vectors do")
            if isinstance(links, int) and isinstance(width, int) and 0 < width < links:
                yield Hit(use.source, use.span, f"ef_construct={width} is below m={links}: links are left empty")
            if payload_links and not _has_tenant(use):
                yield Hit(use.source, use.span, f"payload_m={payload_links}, but no payload index is_tenant")


def _has_tenant(use: Use) -> bool:
    schema = use.after() or use.before
    indexes = [*(schema.indexes.values() if schema else ()), *_indexes(use).values()]
    later = [params for other in use.revision.operations for params in _made(other)]
    return any(params.get("is_tenant") or params.get("is_principal") for params in (*indexes, *later))


def _made(operation: Any) -> list[Mapping[str, Any]]:
    schema = getattr(operation, "schema", None)
    return [schema] if isinstance(schema, Mapping) else []


def _binary(project: Project) -> Iterator[Hit]:
    for use in each_operation(project):
        schema = use.after()
        for _ in [one for one in _objects(use, "quantization_config") if "binary" in one]:
            short = [
                f"{shown(name)} ({params['size']})"
                for name, params in sorted((schema.vectors if schema else {}).items())
                if isinstance(params.get("size"), int) and params["size"] < _SHORT
            ]
            if short:
                yield Hit(use.source, use.span, f"binary quantization of short vectors: {', '.join(short)}")
                break


def _uint8(project: Project) -> Iterator[Hit]:
    for use in each_operation(project):
        schema = use.after()
        whole = bool(list(_objects(use, "quantization_config")))
        for name, params in sorted((schema.vectors if schema and whole else {}).items()):
            if params.get("datatype") == "uint8":
                yield Hit(use.source, use.span, f"vector {shown(name)} is stored in one byte per value already")


def _on_disk(project: Project) -> Iterator[Hit]:
    for use in each_operation(project):
        schema = use.after()
        if schema is None:
            continue
        for name, params in sorted(schema.vectors.items()):
            mine = params.get("quantization_config")
            found = mine or schema.config.get("quantization_config")
            touched = list(_objects(use, "quantization_config")) or any(
                isinstance(value, Mapping) and "on_disk" in value for _, value in _settings(use)
            )
            methods = list(found.values()) if isinstance(found, Mapping) else []
            if touched and params.get("on_disk") and methods and not (methods[0] or {}).get("always_ram"):
                yield Hit(use.source, use.span, f"vector {shown(name)} is on disk, and so is what it is quantized to")


def _indexing_off(project: Project) -> Iterator[Hit]:
    for use in each_operation(project):
        for optimizers in _objects(use, "optimizers_config"):
            if optimizers.get("indexing_threshold") == 0:
                yield Hit(use.source, use.span, "indexing_threshold=0 turns the HNSW index off")


def _hidden(project: Project) -> Iterator[Hit]:
    for use in each_operation(project):
        for optimizers in _objects(use, "optimizers_config"):
            if optimizers.get("prevent_unoptimized"):
                yield Hit(use.source, use.span, "prevent_unoptimized hides points until they are indexed")


def _no_writes(project: Project) -> Iterator[Hit]:
    closed = {"write_rate_limit": 1, "upsert_max_batchsize": 0, "read_rate_limit": 0, "max_points_count": 0}
    for use in each_operation(project):
        for mode in _objects(use, "strict_mode_config"):
            for key, most in closed.items():
                if isinstance(mode.get(key), int) and mode[key] <= most:
                    yield Hit(use.source, use.span, f"{key}={mode[key]} refuses nearly every request")


RULES = (
    Rule(
        "QM501",
        "keyword-on-numbers",
        WARNING,
        "keyword index on numbers or times",
        "Integers and times are not in a keyword index: a filter on them finds nothing, without an error.",
        "use an integer, float or datetime index; ignore it where the payload holds texts",
        _keyword_on_numbers,
    ),
    Rule(
        "QM502",
        "index-dropped",
        WARNING,
        "payload index dropped",
        "Filters on the field still work, by reading every point.",
        "make sure that no client filters by it, and say so in the ignore",
        _index_dropped,
    ),
    Rule(
        "QM503",
        "index-needed",
        ERROR,
        "index dropped that strict mode asks for",
        "The collection refuses filters on a field without an index, of readers and of deletions.",
        "keep the index, or change strict mode in an earlier revision",
        _index_needed,
    ),
    Rule(
        "QM504",
        "heavy-in-place",
        WARNING,
        'strategy="in_place" for a change that rebuilds segments',
        "The live collection is rebuilt under its readers, and there is no generation to go back to.",
        "leave strategy out: it is built next to the live collection; ignore it for a small collection",
        _heavy_in_place,
    ),
    Rule(
        "QM505",
        "hnsw",
        WARNING,
        "HNSW settings that don't work together",
        "Searches get slow or miss neighbours, and nothing reports an error.",
        "leave the setting out, or set both of the pair",
        _hnsw,
    ),
    Rule(
        "QM506",
        "short-binary",
        WARNING,
        "binary quantization of short vectors",
        "One bit per value ranks well from about a thousand values on.",
        "use scalar quantization",
        _binary,
    ),
    Rule(
        "QM507",
        "indexing-off",
        ERROR,
        "indexing turned off for good",
        "qmigrate puts indexing off by itself while it fills a collection; declared, it stays off.",
        "leave indexing_threshold out",
        _indexing_off,
    ),
    Rule(
        "QM508",
        "hidden-points",
        WARNING,
        "points hidden until they are indexed",
        "A copy would miss hidden points, so the next rebuild is refused until the setting is off again.",
        "leave prevent_unoptimized out",
        _hidden,
    ),
    Rule(
        "QM509",
        "closed",
        ERROR,
        "strict mode that refuses nearly everything",
        "These values close a collection: qmigrate fences old generations with them.",
        "write the limit that you mean",
        _no_writes,
    ),
    Rule(
        "QM510",
        "quantized-on-disk",
        WARNING,
        "quantized vectors on disk",
        "The small copy is there to be in memory: on disk it costs a read more.",
        "always_ram=True in the quantization",
        _on_disk,
    ),
    Rule(
        "QM511",
        "quantized-bytes",
        WARNING,
        "quantization of uint8 vectors",
        "It saves nothing: they have one byte per value already.",
        "leave the quantization out",
        _uint8,
    ),
)
