"""The one catalogue of Qdrant's parameters, made of the models of the installed client when it is first asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from qmigrate.errors import ConfigError
from qmigrate.parameters import own
from qmigrate.parameters.derive import kind_of, object_of
from qmigrate.parameters.kinds import Each, Fields, Words


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
