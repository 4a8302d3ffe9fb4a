"""The one catalogue of Qdrant's parameters, made of the models of the installed client when it is first asked for."""

from __future__ import annotations

import math
import re
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from qmigrate.errors import ConfigError
from qmigrate.parameters import own
from qmigrate.parameters.kinds import Each, Fields, Listed, Number, Whole, Words

#: An annotation that is none of the kinds.
UNCHECKED = object()


def object_of(model: Any) -> Fields:
    """The fields of a model, with the bounds of `own`."""
    known: dict[str, Any] = {}
    required: list[str] = []
    unchecked: list[str] = []
    for name, field in model.model_fields.items():
        place = (model.__name__, name)
        kind = kind_of(field.annotation, field.metadata)
        if kind is UNCHECKED:
            unchecked.append(name)
            continue
        known[name] = _narrowed(kind, own.BOUNDS.get(place))
        if field.is_required():
            required.append(name)
    return Fields(known, tuple(required), model.__name__, unchecked=tuple(unchecked))


def kind_of(annotation: Any, bounds: Iterable[Any] = ()) -> Any:
    """The kind of an annotation, or :data:`UNCHECKED`.

    Args:
        bounds: metadata of the annotation; what is none of ``ge``, ``gt``, ``le``, ``lt`` is left out.
    """
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        # A pydantic Field holds them one level deeper.
        held = [bound for one in annotation.__metadata__ for bound in getattr(one, "metadata", (one,))]
        return kind_of(inner[0], (*bounds, *held))
    if origin in (Union, types.UnionType):
        return _choice([one for one in inner if one is not types.NoneType], bounds)
    if origin is Literal:
        return Words({word: word for word in inner}) if all(isinstance(one, str) for one in inner) else UNCHECKED
    if origin is dict or origin is list:
        of = kind_of(inner[-1])
        return of if of is UNCHECKED else (Each if origin is dict else Listed)(of)
    if annotation in (Any, bool, str):
        return annotation
    if annotation is int or annotation is float:
        return _number(annotation, bounds)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _words(annotation)
    return object_of(annotation) if hasattr(annotation, "model_fields") else UNCHECKED


def _choice(options: list[Any], bounds: Iterable[Any]) -> Any:
    """Several models are one object; several kinds are a choice in the order of the annotation."""
    kinds = [kind_of(one, bounds) for one in options]
    if any(kind is UNCHECKED for kind in kinds):
        return UNCHECKED
    objects = [kind for kind in kinds if isinstance(kind, Fields)]
    if len(objects) > 1:
        first = kinds.index(objects[0])
        kinds = [kind for kind in kinds if not isinstance(kind, Fields)]
        kinds.insert(first, _merged(objects))
    return kinds[0] if len(kinds) == 1 else tuple(kinds)


def _merged(objects: list[Fields]) -> Fields:
    known: dict[str, Any] = {}
    for one in objects:
        for name, kind in one.known.items():
            known[name] = _either(known[name], kind) if name in known else kind
    return Fields(
        known,
        required=tuple(name for name in known if all(name in one.required for one in objects)),
        choices=tuple(objects),
        exclusive=all(len(one.known) == 1 and len(one.required) == 1 for one in objects),
        unchecked=tuple(name for one in objects for name in one.unchecked if name not in known),
    )


def _either(one: Any, other: Any) -> Any:
    if one == other:
        return one
    if isinstance(one, Words) and isinstance(other, Words):
        return Words({**one.members, **other.members})
    return (*(one if isinstance(one, tuple) else (one,)), *(other if isinstance(other, tuple) else (other,)))


def _words(enumeration: type[Enum]) -> Any:
    members = {str(member.value): member.name for member in enumeration if isinstance(member.value, str)}
    if len(members) != len(enumeration):
        return UNCHECKED
    taken = own.WORDS.get(enumeration.__name__)
    kept = {word: name for word, name in members.items() if taken is None or word in taken}
    return Words(kept, enumeration.__name__)


def _number(annotation: Any, bounds: Iterable[Any]) -> Whole | Number:
    """Whole numbers of Qdrant are unsigned, which the models don't say: without a bound of the model they begin at 0.

    A number that must be more than a bound may be that here: the server refuses it.
    """
    low: list[float] = []
    high: list[float] = []
    whole = annotation is int
    for bound in bounds:
        # A gt of 1.5 leaves the whole numbers from 2 on.
        for name, ends, end in (
            ("ge", low, math.ceil),
            ("gt", low, lambda value: math.floor(value) + 1),
            ("le", high, math.floor),
            ("lt", high, lambda value: math.ceil(value) - 1),
        ):
            value = getattr(bound, name, None)
            if value is not None:
                ends.append(end(value) if whole else value)
    if whole:
        return Whole(int(max(low, default=0)), int(min(high)) if high else None)
    return Number(max(low, default=None), min(high, default=None))


def _narrowed(kind: Any, bound: Whole | Number | None) -> Any:
    """The narrower of both; what is not a number any more has no use for a bound."""
    if bound is None or type(bound) is not type(kind):
        return kind
    lows = [end for end in (kind.least, bound.least) if end is not None]
    highs = [end for end in (kind.most, bound.most) if end is not None]
    ends: dict[str, Any] = {"least": max(lows, default=None), "most": min(highs, default=None)}
    return type(bound)(**ends)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What each of Qdrant's parameter objects may hold.

    Attributes:
        vector: a dense vector.
        vector_diff: what an update of one may have.
        sparse: a sparse vector; an update may have the same.
        create: the create call, besides its vectors.
        update: the fields of the update call that are objects of their own in a schema's config.
        params: ``params`` of the update call, as far as a revision can say them.
        indexes: payload indexes by type.
        index_types: the types.
        info: ``config`` of the collection info, as a server returns it, as far as a create call or an update can make
            it so; ``vectors`` is one vector's or several's by name.
        index_info: one entry of ``payload_schema``, by the type of its index.
        carried: fields of the info's ``params`` that a create call or an update has by the same name.
        tunable: what an update takes under ``params``.
        blocks: blocks of the info's config, by the name that the create call has for each.
    """

    vector: Fields
    vector_diff: Fields
    sparse: Fields
    create: Fields
    update: Fields
    params: Fields
    indexes: Mapping[str, Fields]
    index_types: Words
    info: Fields
    index_info: Mapping[str, Fields]
    carried: frozenset[str]
    tunable: frozenset[str]
    blocks: Mapping[str, str]

    @property
    def after_creation(self) -> frozenset[str]:
        """What the create call doesn't know: it is set right afterwards."""
        return self.tunable - self.create.known.keys()

    @property
    def decisive(self) -> tuple[str, ...]:
        """Fields of a dense vector that decide its stored values: those that an update can't have."""
        return tuple(name for name in self.vector.known if name not in self.vector_diff.known)


@cache
def catalogue() -> Catalogue:
    """That of the installed client.

    Raises:
        ConfigError: the client is too old.
    """
    # Takes most of a second: only what checks a parameter imports the client.
    from qdrant_client import models

    return derived(models)


def derived(models: Any) -> Catalogue:
    """That of a module of models.

    Raises:
        ConfigError: there is no such model.
    """
    vector, sparse = _object(models, "VectorParams"), _object(models, "SparseVectorParams")
    create = _object(models, "CreateCollection").without("vectors", "sparse_vectors")
    params = _object(models, "CollectionParamsDiff")
    entry = _object(models, "PayloadIndexInfo")
    indexes = {next(iter(one.known["type"].members)): one for one in entry.known["params"].choices}
    settable = {**params.known, **create.known}
    carried = {name: settable[name] for name in _model(models, "CollectionParams").model_fields if name in settable}
    blocks = {
        name: own.OTHER_NAMES.get(name, name)
        for name in _model(models, "CollectionConfig").model_fields
        if own.OTHER_NAMES.get(name, name) in create.known and name != "metadata"
    }
    info = {
        "params": Fields({"vectors": Each(vector), "sparse_vectors": Each(sparse), **carried}),
        **{name: create.known[target] for name, target in blocks.items()},
        "metadata": Any,
    }
    return Catalogue(
        vector=vector,
        vector_diff=_object(models, "VectorParamsDiff"),
        sparse=sparse,
        create=create,
        update=_object(models, "UpdateCollection").without("vectors", "sparse_vectors", "params"),
        params=params.without(*own.NOT_IN_PARAMS),
        indexes=indexes,
        index_types=kind_of(_model(models, "PayloadSchemaType")),
        info=Fields(info),
        index_info={kind: Fields({**entry.known, "params": one}) for kind, one in indexes.items()},
        carried=frozenset(carried),
        tunable=frozenset(params.known),
        blocks=blocks,
    )


def _object(models: Any, name: str) -> Fields:
    return object_of(_model(models, name))


def _model(models: Any, name: str) -> Any:
    found = getattr(models, name, None)
    if found is None:
        raise ConfigError(
            f"qdrant-client {installed()} has no {name}: it is too old",
            hint=f"pip install 'qdrant-client>={_text(own.OLDEST_CLIENT)}'",
        )
    return found


def installed() -> str:
    """The version of the installed client."""
    # It takes longer to import than all of this room, and only messages need it.
    from importlib.metadata import version

    return version("qdrant-client")


def what_has_more(client: str) -> str:
    """For a field that a client's models don't have: which client may have it.

    Args:
        client: its version.
    """
    oldest = own.OLDEST_CLIENT
    if tuple(int(part) for part in re.findall(r"\d+", client)[: len(oldest)]) < oldest:
        return f"qdrant-client {client} is installed, and qmigrate needs qdrant-client ≥ {_text(oldest)}"
    return f"those of qdrant-client {client}; a newer one may have more"


def _text(number: tuple[int, ...]) -> str:
    return ".".join(map(str, number))
