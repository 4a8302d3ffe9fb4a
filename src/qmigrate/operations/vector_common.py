"""What operations on one vector share: looking it up, whether its values may be carried. No operation."""

from __future__ import annotations

from qmigrate.errors import PlanError
from qmigrate.model.schema import CollectionSchema, JsonObject
from qmigrate.model.transform import Filling, PointTransform, Scale
from qmigrate.operations.base import Key, Operation
from qmigrate.operations.checks import is_sparse, name_problem, shown
from qmigrate.operations.quality import Gate, Recall
from qmigrate.operations.values import Compute, CopyOf, Embed, Empty, FillMe, Value
from qmigrate.text import did_you_mean

#: Datatypes that keep a value by a rule of the server's own, and how many bits of it.
_FEWER_BITS = {"turbo4": "four", "turbo8": "eight", "turbo16": "sixteen"}


class VectorOperation(Operation):
    """What operations on one vector share."""

    __slots__ = ()
    named_by = ("collection", "vector")

    vector: str

    def touched(self) -> frozenset[Key]:
        """The vector."""
        return frozenset({("vector", self.vector)})

    def require(self, schema: CollectionSchema, name: str) -> JsonObject:
        """Parameters of a vector that must be there.

        Raises:
            PlanError: it isn't; names the closest one.
        """
        found = params_of(schema, name)
        if found is None:
            present = ", ".join(shown(one) for one in sorted(schema.vector_names())) or "none"
            raise self.error(
                f"there is no vector {shown(name)}{did_you_mean(name, schema.vector_names())} (vectors: {present})"
            )
        return found

    def check_new_name(self, schema: CollectionSchema, name: str, *, sparse: bool) -> None:
        """A name that a vector is to get.

        Raises:
            PlanError: it is taken, or Qdrant would not take it.
        """
        problem = name_problem(name, "the name") if isinstance(name, str) else f"{name!r} is not a name"
        if not problem and name in schema.vector_names():
            problem = f"vector {shown(name)} exists already"
        if not problem and name == "" and sparse:
            problem = "a sparse vector needs a name"
        if not problem and name == "" and schema.vectors:
            problem = 'a vector needs a name here: "" is the unnamed one, which has to be the only one'
        if problem:
            raise self.error(problem)

    def check_values(self, values: object, allowed: tuple[type, ...]) -> None:
        """What fills a vector must be one of the kinds that make sense.

        Raises:
            PlanError: it isn't.
        """
        if isinstance(values, FillMe):
            raise self.error(
                f"values=FILL_ME: what fills vector {shown(self.vector)} is not decided",
                hint="in the revision, write values=Embed(…), Compute(…), CopyOf(…) or Empty()",
            )
        if not isinstance(values, allowed):
            names = [f"{kind.__name__}(…)" for kind in allowed if kind is not Empty]
            names += ["Empty()"] if Empty in allowed else []
            raise self.error(f"values must be {', '.join(names)}, not {values!r:.80}")

    def check_quality(self, quality: object, params: JsonObject) -> None:
        """A gate must be one, and recall that of a vector that has an index to be measured.

        Raises:
            PlanError: it isn't.
        """
        if quality is None:
            return
        if not isinstance(quality, Gate):
            hint = 'Recall(at_least=0.95), or Compare("queries.jsonl", at_least=0.98)'
            raise self.error(f"quality must be Recall(…) or Compare(…), not {quality!r:.80}", hint=hint)
        if isinstance(quality, Recall) and (is_sparse(params) or params.get("multivector_config")):
            raise self.error("recall can only be measured on a dense vector: others are searched exactly, or by parts")

    def gated(self) -> str:
        """The gates, for people."""
        return "".join(f", {one.describe()}" for one in self.gates().values())

    def check_carried(self, old: JsonObject, new: JsonObject, source: str, *, explicit: CopyOf | None) -> None:
        """Whether stored values can go from a vector with parameters `old` to one with `new`.

        Raises:
            PlanError: they don't fit, or would lose more than was allowed.
        """
        if is_sparse(old) != is_sparse(new):
            kinds = ("sparse", "dense") if is_sparse(old) else ("dense", "sparse")
            raise self.error(f"vector {shown(source)} is {kinds[0]}, its values don't fit a {kinds[1]} one")
        hint = "values=Embed(…) or Compute(…) makes new ones"
        if old.get("size") != new.get("size"):
            sizes = f"{old.get('size')} to {new.get('size')}"
            raise self.error(f"the size goes from {sizes}, so the stored values don't fit", hint=hint)
        if bool(old.get("multivector_config")) != bool(new.get("multivector_config")):
            raise self.error("one is a multivector and the other is not, so the stored values don't fit", hint=hint)
        scaled = explicit is not None and explicit.scale is not None
        if explicit is not None and explicit.scale is not None:
            self._check_scale(explicit.scale, old, new)
        distances = old.get("distance"), new.get("distance")
        # Scaled vectors of length 1 rank by Euclid as they did by cosine.
        alike = scaled and distances[1] == "Euclid"
        if distances[0] == "Cosine" != distances[1] and not alike and not (explicit and explicit.allow_normalised):
            raise self.error(
                f"vector {shown(source)} is cosine: only directions are stored, so {distances[1]} would rank "
                "by vectors of length 1, not by the originals",
                hint=f"{hint}; values=CopyOf({source!r}, allow_normalised=True) accepts the loss",
            )
        if new.get("datatype") == "uint8" != old.get("datatype") and not scaled:
            self._check_whole(old, source, explicit)
        bits = _FEWER_BITS.get(str(new.get("datatype")))
        if bits is not None and new.get("datatype") != old.get("datatype"):
            raise self.error(
                f"{new['datatype']} keeps {bits} bits of a value, so the copy could not be proven equal to vector "
                f"{shown(source)}",
                hint=f"{hint}; or quantization_config, which keeps the originals: op.Quantize(…)",
            )

    def _check_scale(self, scale: Scale, old: JsonObject, new: JsonObject) -> None:
        """Whether a scale means something between these vectors, and keeps the order of what a search finds.

        Raises:
            PlanError: it doesn't.
        """
        if is_sparse(new) or new.get("datatype") != "uint8" or old.get("datatype") == "uint8":
            raise self.error(
                "scale= makes uint8 numbers of others, so the new vector must be uint8 and the old one must not be",
                hint="leave scale out, or give the new vector datatype=Datatype.UINT8",
            )
        if new.get("distance") in ("Cosine", "Dot") and scale.low != 0:
            raise self.error(
                f"{new.get('distance')} measures from 0, and scale= moves {scale.low:g} there: a search would find "
                "other points than before",
                hint="distance=Distance.EUCLID ranks vectors of one length as cosine does, wherever 0 is; or "
                "quantization_config, which keeps the originals: ScalarQuantization",
            )

    def _check_whole(self, old: JsonObject, source: str, explicit: CopyOf | None) -> None:
        """Whether values may become uint8: cosine ones can't be whole numbers, of others every one is checked later.

        Raises:
            PlanError: they may not.
        """
        source_scaled = f"CopyOf({source!r}, scale=Scale(low, high))"
        hint = f"values={source_scaled} scales and rounds them by a rule that the readers can use as well"
        if old.get("distance") == "Cosine":
            raise self.error(
                f"vector {shown(source)} is cosine, so its values are between -1 and 1, and uint8 keeps whole numbers "
                "from 0 to 255 only: nearly all of them would become 0",
                hint=hint,
            )
        if explicit is None:
            raise self.error(
                "uint8 keeps whole numbers from 0 to 255 only: other values would be cut off",
                hint=f"{hint}; values=CopyOf({source!r}) asserts that all values are such numbers, and checks it",
            )


def params_of(schema: CollectionSchema, name: str) -> JsonObject | None:
    """Parameters of a dense or sparse vector, or None."""
    found = schema.vectors.get(name)
    return found if found is not None else schema.sparse.get(name)


def with_vector(schema: CollectionSchema, name: str, params: JsonObject) -> CollectionSchema:
    """The schema with a vector added or replaced."""
    if is_sparse(params):
        return schema.with_(sparse={**schema.sparse, name: params})
    return schema.with_(vectors={**schema.vectors, name: params})


def stored_differently(old: JsonObject, new: JsonObject) -> bool:
    """Whether equal values are stored in another form: another datatype, or normalised for cosine."""
    if is_sparse(new):
        return False
    kinds = old.get("datatype") or "float32", new.get("datatype") or "float32"
    distances = old.get("distance"), new.get("distance")
    return kinds[0] != kinds[1] or (distances[0] != distances[1] and "Cosine" in distances)


def converted(schema: CollectionSchema, source: str, target: str, params: JsonObject) -> frozenset[str]:
    """`target` where values carried from `source` are stored in another form there, else nothing."""
    return frozenset({target} if stored_differently(params_of(schema, source) or {}, params) else ())


def scaled(values: Value | None, target: str) -> dict[str, Scale]:
    """`target` with the scale of what is copied into it, where there is one."""
    scale = values.scale if isinstance(values, CopyOf) else None
    return {} if scale is None else {target: scale}


def without(schema: CollectionSchema, vector: str) -> CollectionSchema:
    """The schema without a vector."""
    return schema.with_(
        vectors={name: params for name, params in schema.vectors.items() if name != vector},
        sparse={name: params for name, params in schema.sparse.items() if name != vector},
    )


def replaced(schema: CollectionSchema, vector: str, values: Value | None) -> PointTransform:
    """Every other vector carried; the old values of `vector` are lost."""
    if values is None:
        raise PlanError(f"vector {shown(vector)} has nothing to be filled with")
    return PointTransform(
        vectors={name: name for name in sorted(schema.vector_names()) if name != vector},
        values={vector: values},
        lossless=False,
        drops=True,
    )


def filled(vector: str, values: Value | None) -> dict[str, Filling]:
    """What :meth:`Operation.filled` answers for one vector."""
    return {vector: values} if isinstance(values, Embed | Compute) else {}


def vector_words(name: str, params: JsonObject) -> str:
    """A vector for people: ``l14 768 cosine``."""
    if is_sparse(params):
        return f"{shown(name)} sparse"
    words = [shown(name), str(params.get("size", "?")), str(params.get("distance", "?")).lower()]
    if params.get("multivector_config"):
        words.append("multi")
    if params.get("datatype", "float32") != "float32":
        words.append(str(params["datatype"]))
    return " ".join(words)
