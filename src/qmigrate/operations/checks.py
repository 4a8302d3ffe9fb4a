"""Names and parameters judged by the catalogue of parameters: the first problem in words, or None. No errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qmigrate.model.names import OWN_ALIAS, PROBE_PREFIX, is_made
from qmigrate.model.schema import DISABLED, FIXED_CONFIG, Change, CollectionSchema, JsonObject
from qmigrate.model.state import Capabilities
from qmigrate.parameters.catalogue import catalogue, installed, what_has_more
from qmigrate.parameters.kinds import Each, Fields, Listed, Number, Whole, Words
from qmigrate.parameters.own import DEFAULTS, DENSE, SPARSE
from qmigrate.text import counted, did_you_mean

#: Characters that Qdrant takes in no name.
FORBIDDEN = frozenset('<>:"/\\|?*')
#: Bytes of a vector's name.
LONGEST_NAME = 200


def name_problem(name: str, what: str) -> str | None:
    """Why Qdrant would not take this name of a vector."""
    wrong = sorted({sign for sign in name if sign in FORBIDDEN or ord(sign) < 32})
    if wrong:
        return f'{what} {name!r} contains {wrong[0]!r}; names contain none of <>:"/\\|?* and no control characters'
    size = len(name.encode())
    if size > LONGEST_NAME:
        return f"{what} is {size} bytes long; at most {LONGEST_NAME} are allowed"
    return None


def logical_name_problem(name: str, what: str) -> str | None:
    """Why no collection or alias can have this name: Qdrant's rules, and the names that qmigrate makes."""
    if not name.strip():
        return f"{what} is empty"
    if is_made(name) or OWN_ALIAS.match(name) or name.startswith(PROBE_PREFIX):
        return f"{what} {name!r} has the form of qmigrate's own names (…__g0007, …__e12, …__r0001, {PROBE_PREFIX}…)"
    return name_problem(name, what)


def value_problem(value: Any, kind: Any, where: str) -> str | None:
    """Why a plain value is not of a kind of the catalogue."""
    if kind is Any:
        return None
    if isinstance(kind, Fields):
        return _fields_problem(value, kind, where)
    if isinstance(kind, tuple):
        return _choice_problem(value, kind, where)
    if isinstance(kind, Words):
        if isinstance(value, str) and value in kind.members:
            return None
        words = kind.members
        return f"{where} must be one of {', '.join(sorted(words))}, not {value!r}{did_you_mean(value, words)}"
    if isinstance(kind, Each | Listed):
        return _items_problem(value, kind, where)
    if isinstance(kind, Whole | Number):
        return _number_problem(value, kind, where)
    if not isinstance(value, kind):
        plain: dict[Any, str] = {bool: "True or False", str: "a string"}
        return f"{where} must be {plain.get(kind, kind.__name__)}, not {value!r}"
    return None


def _fields_problem(value: Any, kind: Fields, where: str) -> str | None:
    if not isinstance(value, Mapping):
        return f"{where} must be an object, not {value!r}"
    for key, item in value.items():
        if key not in kind.known:
            return _no_field(key, kind, where)
        found = value_problem(item, kind.known[key], key)
        if found:
            return found
    missing = [key for key in kind.required if key not in value]
    if missing:
        return f"{where} has no {missing[0]}"
    if kind.exclusive and len(value) != 1:
        return f"{where} must name one method ({', '.join(kind.known)}), not {len(value)}"
    return None


def _no_field(key: str, kind: Fields, where: str) -> str:
    if key in kind.unchecked:
        return f"{where} has a field {key!r} that this version of qmigrate can't check yet"
    problem = f"{where} has no field {key!r}"
    close = did_you_mean(key, kind.known)
    if close:
        return problem + close
    # The fields are those of the installed client; which one that is says why a field of the documentation is missing.
    client = f" ({what_has_more(installed())})" if kind.model or kind.choices else ""
    return f"{problem}; known: {', '.join(kind.known)}{client}"


def _choice_problem(value: Any, kinds: tuple[Any, ...], where: str) -> str | None:
    problems = [value_problem(value, kind, where) for kind in kinds]
    if None in problems:
        return None
    # For an object the message about its fields is the useful one.
    objects = [
        problem
        for problem, kind in zip(problems, kinds, strict=True)
        if isinstance(value, Mapping) == isinstance(kind, Fields)
    ]
    return (objects or problems)[0]


def _items_problem(value: Any, kind: Each | Listed, where: str) -> str | None:
    if isinstance(kind, Each):
        if not isinstance(value, Mapping):
            return f"{where} must be an object, not {value!r}"
        pairs = [(f"{where}.{key}", item) for key, item in value.items()]
    elif isinstance(value, list):
        pairs = [(where, item) for item in value]
    else:
        return f"{where} must be a list, not {value!r}"
    problems = (value_problem(item, kind.of, label) for label, item in pairs)
    return next((problem for problem in problems if problem), None)


def _number_problem(value: Any, kind: Whole | Number, where: str) -> str | None:
    whole = isinstance(kind, Whole)
    if isinstance(value, bool) or not isinstance(value, int | float) or (whole and isinstance(value, float)):
        return f"{where} must be a {'whole ' if whole else ''}number, not {value!r}"
    low: float | None = kind.least
    high: float | None = kind.most
    if (low is not None and value < low) or (high is not None and value > high):
        if low is not None and high is not None:
            return f"{where} must be between {low} and {high}, not {value}"
        return f"{where} must be {low} or more, not {value}" if high is None else f"{where} must be {high} or less"
    return None


def is_sparse(params: JsonObject) -> bool:
    """Whether parameters are a sparse vector's: no field of a dense one is there."""
    if not DENSE.isdisjoint(params):
        return False
    return SPARSE.issuperset(params) or params.keys() <= catalogue().sparse.known.keys()


def vector_problem(params: JsonObject, where: str = "params") -> str | None:
    """Why these are not parameters of a dense or sparse vector."""
    return value_problem(params, catalogue().sparse if is_sparse(params) else catalogue().vector, where)


def index_problem(params: JsonObject) -> str | None:
    """Why these are not parameters of a payload index."""
    kind = params.get("type")
    indexes = catalogue().indexes
    if kind is None:
        return f"the index has no type; types are {', '.join(indexes)}"
    if not isinstance(kind, str) or kind not in indexes:
        return f"unknown index type {kind!r}; types are {', '.join(indexes)}{did_you_mean(kind, indexes)}"
    return value_problem(params, indexes[kind], f"a {kind} index")


def metadata_problem(metadata: Mapping[str, Any] | None) -> str | None:
    """Why a collection can't have this metadata."""
    if metadata is None:
        return None
    own = [key for key in metadata if key == "qmigrate" or key.startswith("qmigrate_")]
    if own:
        return f'the metadata key "{own[0]}" is reserved: qmigrate keeps its seal there'
    empty = [key for key, value in metadata.items() if value is None]
    if empty:
        return f"metadata {empty[0]!r} is None, which Qdrant treats as a removal; removing keys is not supported"
    return None


def effective(params: Mapping[str, Any]) -> JsonObject:
    """Parameters without those that have no effect: unset ones, and those that equal the server's default."""
    return {key: value for key, value in params.items() if not _is_default(key, value)}


def _is_default(key: str, value: Any) -> bool:
    if value is None or value in ({}, DISABLED):
        return True
    default = DEFAULTS.get(key, False)
    return value is False if default is False else bool(value == default)


#: What a vector may hold, for people.
KINDS = {"dense": "dense vectors", "sparse": "sparse vectors", "rows": "a vector for each token"}


def kind_of(params: JsonObject) -> str:
    """``dense``, ``sparse``, or ``rows`` of a multivector."""
    if is_sparse(params):
        return "sparse"
    return "rows" if params.get("multivector_config") else "dense"


def shown(name: object) -> str:
    """A name for people; the unnamed vector has a word of its own."""
    return str(name) if name != "" else "(unnamed)"


def why_heavy(change: Change) -> str:
    """Why a change that is not light is made next to the live collection."""
    if change.kind == "config.set":
        reasons = {
            "hnsw_config": "rebuilds the HNSW graph of every segment: done next to the live collection",
            "quantization_config": "quantizes every segment again: done next to the live collection",
        }
        fixed = f"{change.name} can only be chosen when a collection is created"
        return reasons.get(change.name, fixed)
    name = shown(change.name)
    if change.kind == "index.alter":
        return f"field {name} has no index while it is rebuilt: done next to the live collection"
    if not change.possible_in_place():
        return f"the stored form of vector {name} changes"
    verb = change.kind.split(".")[1]
    reasons = {
        "add": f"vector {name} gets room in every segment: done next to the live collection",
        "drop": f"vector {name} is removed from every segment: done next to the live collection",
        "alter": f"rebuilds vector {name} in every segment: done next to the live collection",
    }
    return reasons[verb]


def why_heavy_when_big(change: Change, points: int) -> str:
    """Why a change that a small collection takes at once is made next to a big one."""
    what = {
        "index.add": f"the index {shown(change.name)} is built over {counted(points, 'point')} while writes wait",
        "config.set": f"{change.name} makes the server rewrite the segments of {counted(points, 'point')}",
    }
    return what[change.kind]


def why_no_clone(schema: CollectionSchema, capabilities: Capabilities) -> str | None:
    """Why this server can't clone this collection from a snapshot, or None when it can, as far as a plan can see."""
    if not capabilities.snapshots:
        return f"{capabilities.label} has no snapshots"
    if capabilities.peers != 1:
        nodes = f"{capabilities.peers} nodes" if capabilities.peers else "an unknown number of nodes"
        return f"{capabilities.label} has {nodes}, and a snapshot holds the shards of one"
    if schema.config.get("sharding_method") == "custom":
        return "the collection uses custom sharding, which a recovered snapshot loses"
    return None


def why_unset(before: CollectionSchema, after: CollectionSchema) -> str | None:
    """A parameter that is left out now: a server can't unset it, only a new collection is without it."""
    families = (
        ("vector", before.vectors, after.vectors),
        ("sparse vector", before.sparse, after.sparse),
        ("payload index", before.indexes, after.indexes),
    )
    for family, old, new in families:
        for name in sorted(set(old) & set(new)):
            if family == "payload index" and old[name].get("type") != new[name].get("type"):
                continue
            gone = _left_out(old[name], new[name])
            if gone:
                return f"{gone} of {family} {shown(name)} is removed, which takes a new collection"
    return None


def _left_out(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    for key, value in sorted(effective(old).items()):
        if new.get(key) is None:
            return key
        if isinstance(value, Mapping) and isinstance(new[key], Mapping) and key != "quantization_config":
            inner = _left_out(value, new[key])
            if inner:
                return f"{key}.{inner}"
    return None


def obstacle(schema: CollectionSchema, found: Sequence[Change], capabilities: Capabilities) -> str | None:
    """Why these changes can't be made on the live collection."""
    for change in found:
        if change.kind == "config.set" and change.name in FIXED_CONFIG:
            return why_heavy(change)
        if not change.possible_in_place():
            return f"the stored form of vector {shown(change.name)} changes"
        family, verb = change.kind.split(".")
        if family not in ("vector", "sparse") or verb == "alter":
            continue
        if not capabilities.vector_names:
            return f"{capabilities.label} can't {verb} a vector of a live collection (1.18 and newer can)"
        if family == "vector" and change.name == "":
            return f"a server can't {verb} the unnamed vector of a collection that is there"
        if family == "vector" and "" in schema.vectors:
            return "the collection has an unnamed vector: its clients would no longer understand the config"
    return None
