"""Operations on one vector of a collection: add, alter, quantize, embed again, drop, rename. They make no value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Final, Literal, get_args

from qmigrate.model.schema import CollectionSchema, JsonObject
from qmigrate.model.transform import Filling, PointTransform
from qmigrate.operations.base import Cutover, Key, Wish, assign, plain_object
from qmigrate.operations.checks import effective, is_sparse, shown, vector_problem
from qmigrate.operations.client_types import AnyVector
from qmigrate.operations.quality import Gate
from qmigrate.operations.values import Compute, CopyOf, Embed, Value
from qmigrate.operations.vector_common import (
    VectorOperation,
    converted,
    filled,
    params_of,
    replaced,
    scaled,
    vector_words,
    with_vector,
    without,
)


@dataclass(frozen=True, slots=True, init=False)
class AddVector(VectorOperation):
    """Give every point a further vector. Existing readers and writers continue with their vectors.

    Args:
        collection: logical name or glob.
        vector: name of the new vector.
        params: ``VectorParams`` or ``SparseVectorParams``.
        values: what fills it: ``Embed``, ``Compute``, ``CopyOf`` or ``Empty()``.
        quality: what search by it must find before the name moves: ``Recall(at_least=0.95)`` of what an exact
            search finds, or ``Compare(…)`` with search by the old vector.
        strategy: ``in_place`` adds an empty vector to the live collection (server 1.18 or newer); by default
            that is done next to it: as a clone when nothing fills it, else as a copy.
    """

    collection: str
    vector: str
    params: JsonObject
    values: Value
    wish: Wish
    quality: Gate | None

    def __init__(
        self,
        collection: str,
        vector: str,
        params: AnyVector,
        *,
        values: Value,
        quality: Gate | None = None,
        strategy: Wish = None,
    ) -> None:
        assign(self, collection=collection, vector=vector, values=values, wish=strategy, quality=quality)
        assign(self, params=plain_object(params, f"{self.label()}: params") or {})

    def check_schema(self, schema: CollectionSchema) -> None:
        """See the base class."""
        self.check_new_name(schema, self.vector, sparse=is_sparse(self.params))
        problem = vector_problem(self.params)
        if problem:
            raise self.error(problem)
        self.check_values(self.values, get_args(Value))
        self.check_quality(self.quality, self.params)
        if isinstance(self.values, CopyOf):
            old = self.require(schema, self.values.vector)
            self.check_carried(old, self.params, self.values.vector, explicit=self.values)

    def apply(self, schema: CollectionSchema | None) -> CollectionSchema | None:
        """See the base class."""
        return with_vector(schema, self.vector, self.params) if schema else None

    def transform(self, schema: CollectionSchema) -> PointTransform:
        """See the base class."""
        carried = {name: name for name in sorted(schema.vector_names())}
        if isinstance(self.values, CopyOf):
            source = self.values.vector
            return PointTransform(
                vectors={**carried, self.vector: source},
                converted=converted(schema, source, self.vector, self.params),
                scaled=scaled(self.values, self.vector),
            )
        return PointTransform(vectors=carried, values={self.vector: self.values})

    def filled(self) -> dict[str, Filling]:
        """See the base class."""
        return filled(self.vector, self.values)

    def gates(self) -> dict[str, Gate]:
        """See the base class."""
        return {self.vector: self.quality} if self.quality is not None else {}

    def describe(self) -> str:
        """See the base class."""
        return f"add vector {vector_words(self.vector, self.params)} ← {self.values.describe()}{self.gated()}"


@dataclass(frozen=True, slots=True, init=False)
class AlterVector(VectorOperation):
    """Give a vector other parameters, and other values where the old ones don't fit.

    Args:
        collection: logical name or glob.
        vector: its name; ``""`` is the unnamed one.
        params: the new parameters as a whole: what they leave out is the server's default again.
        values: what fills it. By default the stored values are carried, which needs the same size, and no
            change from cosine to another distance: ``CopyOf(vector, allow_normalised=True)`` allows that one.
        cutover: when old readers and writers have to be gone; needed where size, distance, multivector or
            values change. ``immediate`` is at the end of the run; ``hold`` builds and proves it, and waits for
            ``qmigrate cutover``.
        quality: what search by it must find before the name moves: ``Recall(at_least=0.95)`` of what an exact
            search finds, or ``Compare(…)`` with search by the old vector.
        strategy: ``in_place`` for what a server can change on the live collection (HNSW, quantization,
            storage).
    """

    collection: str
    vector: str
    params: JsonObject
    values: Value | None
    cutover: Cutover
    wish: Wish
    quality: Gate | None

    def __init__(
        self,
        collection: str,
        vector: str,
        params: AnyVector,
        *,
        values: Value | None = None,
        cutover: Cutover = None,
        quality: Gate | None = None,
        strategy: Wish = None,
    ) -> None:
        assign(self, collection=collection, vector=vector, values=values, cutover=cutover, wish=strategy)
        assign(self, quality=quality)
        assign(self, params=plain_object(params, f"{self.label()}: params") or {})

    @property
    def _source(self) -> str | None:
        """The vector whose values are carried, or None when they are recomputed."""
        if self.values is None:
            return self.vector
        return self.values.vector if isinstance(self.values, CopyOf) else None

    def check_schema(self, schema: CollectionSchema) -> None:
        """See the base class."""
        before = self.require(schema, self.vector)
        problem = vector_problem(self.params)
        if not problem and is_sparse(before) != is_sparse(self.params):
            kinds = ("sparse", "dense") if is_sparse(before) else ("dense", "sparse")
            problem = f"a {kinds[0]} vector can't become a {kinds[1]} one; add another one and drop this one later"
        if problem:
            raise self.error(problem)
        if self.values is not None:
            self.check_values(self.values, get_args(Value))
        self.check_quality(self.quality, self.params)
        if self._source is not None:
            old = self.require(schema, self._source)
            explicit = self.values if isinstance(self.values, CopyOf) else None
            self.check_carried(old, self.params, self._source, explicit=explicit)

    def apply(self, schema: CollectionSchema | None) -> CollectionSchema | None:
        """See the base class."""
        return with_vector(schema, self.vector, self.params) if schema else None

    def transform(self, schema: CollectionSchema) -> PointTransform:
        """See the base class."""
        carried = {name: name for name in sorted(schema.vector_names())}
        source = self._source
        if source is None:
            return replaced(schema, self.vector, self.values)
        return PointTransform(
            vectors={**carried, self.vector: source},
            converted=converted(schema, source, self.vector, self.params),
            lossless=source == self.vector,
            drops=source != self.vector,
            scaled=scaled(self.values, self.vector),
        )

    def incompatible(self, schema: CollectionSchema) -> str | None:
        """See the base class."""
        before, after = effective(params_of(schema, self.vector) or {}), effective(self.params)
        name = shown(self.vector)
        for key in ("size", "distance"):
            if before.get(key) != after.get(key):
                return f"{key} of vector {name} goes from {before.get(key)} to {after.get(key)}"
        if bool(before.get("multivector_config")) != bool(after.get("multivector_config")):
            verb = "becomes" if after.get("multivector_config") else "is no longer"
            return f"vector {name} {verb} a multivector"
        if isinstance(self.values, CopyOf) and self.values.scale is not None:
            return f"values of vector {name} are {self.values.scale.describe()}: queries have to be scaled as well"
        if self._source != self.vector:
            return f"vector {name} {'gets other' if self.values and self.values.fills else 'loses its'} values"
        return None

    def filled(self) -> dict[str, Filling]:
        """See the base class."""
        return filled(self.vector, self.values)

    def gates(self) -> dict[str, Gate]:
        """See the base class."""
        return {self.vector: self.quality} if self.quality is not None else {}

    def describe(self) -> str:
        """See the base class."""
        words = f"alter vector {vector_words(self.vector, self.params)}"
        return (f"{words} ← {self.values.describe()}" if self.values is not None else words) + self.gated()


Form = Literal["int8", "binary", "product"]
#: What a vector can be quantized to, and what the server gets: searched in memory, wherever the originals are.
QUANTIZED: Final[Mapping[str, JsonObject]] = {
    "int8": {"scalar": {"type": "int8", "always_ram": True}},
    "binary": {"binary": {"always_ram": True}},
    "product": {"product": {"compression": "x16", "always_ram": True}},
}


@dataclass(frozen=True, slots=True, init=False)
class Quantize(VectorOperation):
    """Search by a smaller form of a vector, kept in memory; the originals stay. Readers and writers continue.

    Args:
        collection: logical name or glob.
        vector: its name; ``""`` is the unnamed one.
        to: ``int8``: a quarter of float32. ``binary``: a thirty-second, for vectors of about 1,000 values and more.
            ``product``: a sixteenth, which is slower to build and to search.
        on_disk: whether the originals lie on disk, from where they are read to rank the best results again; by
            default they are where they were.
        quality: what search by it must find before the name moves: ``Compare(…)`` with search by the originals, or
            ``Recall(at_least=0.95)`` of what an exact search finds.
        strategy: ``in_place`` has the server do it on the live collection, which leaves no place for `quality`.
    """

    collection: str
    vector: str
    to: Form
    on_disk: bool | None
    wish: Wish
    quality: Gate | None

    def __init__(
        self,
        collection: str,
        vector: str,
        to: Form,
        *,
        on_disk: bool | None = None,
        quality: Gate | None = None,
        strategy: Wish = None,
    ) -> None:
        assign(self, collection=collection, vector=vector, to=to, on_disk=on_disk, quality=quality, wish=strategy)

    def check_schema(self, schema: CollectionSchema) -> None:
        """See the base class."""
        params = self.require(schema, self.vector)
        if self.to not in QUANTIZED:
            raise self.error(f"expected one of {', '.join(QUANTIZED)}, got {self.to!r:.60}")
        if self.on_disk not in (None, True, False):
            raise self.error(f"on_disk must be True, False or None, not {self.on_disk!r:.60}")
        if is_sparse(params):
            raise self.error("a sparse vector can't be quantized")
        self.check_quality(self.quality, params)

    def apply(self, schema: CollectionSchema | None) -> CollectionSchema | None:
        """See the base class."""
        params = params_of(schema, self.vector) if schema else None
        if schema is None or params is None:
            return schema
        # `memory` is the newer word for the same: of both the server takes it.
        placed = {} if self.on_disk is None else {"on_disk": self.on_disk}
        kept = {key: value for key, value in params.items() if key != "memory" or not placed}
        return with_vector(schema, self.vector, {**kept, **placed, "quantization_config": QUANTIZED[self.to]})

    def gates(self) -> dict[str, Gate]:
        """See the base class."""
        return {self.vector: self.quality} if self.quality is not None else {}

    def describe(self) -> str:
        """See the base class."""
        placed = {None: "", True: ", the originals on disk", False: ", the originals in memory"}[self.on_disk]
        return f"quantize vector {shown(self.vector)} to {self.to}{placed}{self.gated()}"


@dataclass(frozen=True, slots=True)
class Reembed(VectorOperation):
    """Refill a vector, with the same parameters: another model, or another field.

    Args:
        collection: logical name or glob.
        vector: its name; ``""`` is the unnamed one.
        values: ``Embed`` or ``Compute``.
        cutover: when old readers, who ask with the old model, have to be gone; must be given. ``immediate`` is
            at the end of the run, ``hold`` waits for ``qmigrate cutover``. To avoid the moment: ``AddVector``
            next to it, and ``DropVector`` later.
        quality: what search by it must find before the name moves: ``Recall(at_least=0.95)`` of what an exact
            search finds, or ``Compare(…)`` with search by the old vector.
    """

    collection: str
    vector: str
    _: KW_ONLY
    values: Embed | Compute
    cutover: Cutover = None
    quality: Gate | None = None

    def check_schema(self, schema: CollectionSchema) -> None:
        """See the base class."""
        params = self.require(schema, self.vector)
        self.check_values(self.values, (Embed, Compute))
        self.check_quality(self.quality, params)

    def transform(self, schema: CollectionSchema) -> PointTransform:
        """See the base class."""
        return replaced(schema, self.vector, self.values)

    def incompatible(self, schema: CollectionSchema) -> str:  # noqa: ARG002
        """See the base class."""
        return f"vector {shown(self.vector)} gets values of another model"

    def filled(self) -> dict[str, Filling]:
        """See the base class."""
        return filled(self.vector, self.values)

    def gates(self) -> dict[str, Gate]:
        """See the base class."""
        return {self.vector: self.quality} if self.quality is not None else {}

    def describe(self) -> str:
        """See the base class."""
        return f"fill vector {shown(self.vector)} again ← {self.values.describe()}{self.gated()}"


@dataclass(frozen=True, slots=True, init=False)
class DropVector(VectorOperation):
    """Take a vector away. Its values stay in the old generation until ``gc``.

    Args:
        collection: logical name or glob.
        vector: its name; ``""`` is the unnamed one.
        cutover: when readers and writers of the vector have to be gone; must be given. ``immediate`` is at the
            end of the run, ``hold`` waits for ``qmigrate cutover``.
        strategy: ``in_place`` drops it from the live collection (server 1.18 or newer), with no way back; by default
            it is dropped from a clone that the server makes, or left out of a copy where it can't.
    """

    collection: str
    vector: str
    cutover: Cutover
    wish: Wish

    def __init__(self, collection: str, vector: str, *, cutover: Cutover = None, strategy: Wish = None) -> None:
        assign(self, collection=collection, vector=vector, cutover=cutover, wish=strategy)

    def check_schema(self, schema: CollectionSchema) -> None:
        """See the base class."""
        self.require(schema, self.vector)

    def apply(self, schema: CollectionSchema | None) -> CollectionSchema | None:
        """See the base class."""
        return without(schema, self.vector) if schema else None

    def transform(self, schema: CollectionSchema) -> PointTransform:
        """See the base class."""
        carried = {name: name for name in sorted(schema.vector_names()) if name != self.vector}
        return PointTransform(vectors=carried, lossless=False, drops=True)

    def incompatible(self, schema: CollectionSchema) -> str:  # noqa: ARG002
        """See the base class."""
        return f"vector {shown(self.vector)} is dropped"

    def describe(self) -> str:
        """See the base class."""
        return f"drop vector {shown(self.vector)}"


@dataclass(frozen=True, slots=True)
class RenameVector(VectorOperation):
    """Give a vector another name; parameters and values stay.

    Args:
        collection: logical name or glob.
        vector: its name; ``""`` is the unnamed one.
        new_name: the name it gets.
        cutover: when those who use the old name have to be gone; must be given. ``immediate`` is at the end of
            the run, ``hold`` waits for ``qmigrate cutover``.
    """

    collection: str
    vector: str
    new_name: str
    _: KW_ONLY
    cutover: Cutover = None

    def check_words(self) -> None:
        """See the base class."""
        VectorOperation.check_words(self)
        if not isinstance(self.new_name, str):
            raise self.error(f"new_name must be a text, not {self.new_name!r:.60}")

    def check_schema(self, schema: CollectionSchema) -> None:
        """See the base class."""
        params = self.require(schema, self.vector)
        if self.vector == self.new_name:
            raise self.error("it already has that name")
        self.check_new_name(without(schema, self.vector), self.new_name, sparse=is_sparse(params))

    def apply(self, schema: CollectionSchema | None) -> CollectionSchema | None:
        """See the base class."""
        params = params_of(schema, self.vector) if schema else None
        if schema is None or params is None:
            return schema
        return with_vector(without(schema, self.vector), self.new_name, params)

    def transform(self, schema: CollectionSchema) -> PointTransform:
        """See the base class."""
        names = sorted(schema.vector_names())
        return PointTransform(vectors={self.new_name if name == self.vector else name: name for name in names})

    def incompatible(self, schema: CollectionSchema) -> str:  # noqa: ARG002
        """See the base class."""
        return f"vector {shown(self.vector)} is renamed to {shown(self.new_name)}"

    def describe(self) -> str:
        """See the base class."""
        return f"rename vector {shown(self.vector)} to {shown(self.new_name)}"

    def touched(self) -> frozenset[Key]:
        """See the base class."""
        return frozenset({("vector", self.vector), ("vector", self.new_name)})
