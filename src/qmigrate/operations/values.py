"""What fills a vector: an embedder, a function, another vector, or nothing. It describes, and makes none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from string import Formatter
from typing import Any, Final

from qmigrate.errors import PlanError
from qmigrate.model.transform import Point, Scale
from qmigrate.operations.app_sql import Checksum, WriteBack

ON_FAILURE = ("stop", "keep_without_vector", "drop")


@dataclass(frozen=True, slots=True)
class Embed:
    """Vectors made by an embedder of the settings, from the payload that the new generation will have.

    Args:
        embedder: its name under ``embedders`` in the settings.
        text: what it embeds as text: a payload field (``content``), a key inside one (``meta.title``), or a
            template (``{title} {body}``, without an index). Or a function that gets the payload and returns the text,
            or None.
        image: the same for an image: its path, a URL or base64, as the embedder's settings allow; a function may
            also return the bytes of the file. Exactly one of `text` and `image`.
        on_failure: what becomes of a point that can't be embedded. ``stop``: the run ends there.
            ``keep_without_vector``: the point is carried and listed, and stays without this vector. ``drop``: it is
            listed, exported and not carried. None for ``rebuild.on_failure`` of the settings, which is ``stop``
            by default.
        checksum: what the application's SQL has about the input; a point whose input is another one fails.
        write_back: what is written to the application's SQL for each point, once the vector serves.

    Raises:
        PlanError: not exactly one of `text` and `image`, a malformed template, or an unknown `on_failure`.
    """

    embedder: str
    _: KW_ONLY
    text: str | Callable[[Mapping[str, Any]], str | None] | None = None
    image: str | Callable[[Mapping[str, Any]], str | bytes | None] | None = None
    on_failure: str | None = None
    checksum: Checksum | None = None
    write_back: WriteBack | None = None

    def __post_init__(self) -> None:
        label = f"Embed({self.embedder!r})"
        if not isinstance(self.embedder, str) or not self.embedder.strip():
            raise PlanError(f"{label}: the first argument is the name of an embedder in qmigrate.yaml")
        if (self.text is None) == (self.image is None):
            raise PlanError(
                f"{label}: give what to embed, either text= or image=",
                hint=f'for example Embed({self.embedder!r}, text="content")',
            )
        if self.on_failure is not None and self.on_failure not in ON_FAILURE:
            raise PlanError(f"{label}: on_failure must be one of {', '.join(ON_FAILURE)}, not {self.on_failure!r}")
        for name, kind in (("checksum", Checksum), ("write_back", WriteBack)):
            given = getattr(self, name)
            if given is not None and not isinstance(given, kind):
                raise PlanError(f"{label}: {name} must be {kind.__name__}(…), not {given!r:.80}")
        if callable(self.spec):
            return
        if not isinstance(self.spec, str) or not self.spec.strip():
            raise PlanError(f"{label}: expected a payload field, a template or a function, got {self.spec!r}")
        _template_fields(self.spec, label)

    @property
    def spec(self) -> Any:
        """What is embedded: a field, a template, or a function of the payload."""
        return self.image if self.text is None else self.text

    @property
    def fills(self) -> bool:
        """Always: every point gets a value, or the run stops, or the point is listed."""
        return True

    def fields(self) -> frozenset[str]:
        """Payload fields that it reads; none that are known where a function reads them."""
        return frozenset() if callable(self.spec) else _template_fields(self.spec, f"Embed({self.embedder!r})")

    def describe(self) -> str:
        """A few words for people."""
        shown = function_name(self.spec) if callable(self.spec) else self.spec
        dropping = ", dropping what can't be embedded" if self.on_failure == "drop" else ""
        beside = "".join(f", {one.describe()}" for one in (self.checksum, self.write_back) if one is not None)
        return f"embed {self.embedder}({shown}){dropping}{beside}"


@dataclass(frozen=True, slots=True)
class Compute:
    """Vectors made by a function of the revision: one call per point.

    Args:
        function: gets a :class:`~qmigrate.model.transform.Point` (the old vectors, the new payload) and
            returns a list of floats, rows of them for a multivector, or ``{"indices": …, "values": …}``. It
            must give the same for the same point. For a uint8 vector these must be whole numbers from 0 to 255.

    Raises:
        PlanError: it can't be called.
    """

    function: Callable[[Point], Any]

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise PlanError(f"Compute: expected a function of a point, got {self.function!r}")

    @property
    def fills(self) -> bool:
        """Always."""
        return True

    def fields(self) -> frozenset[str]:
        """None that are known: the function may read any."""
        return frozenset()

    def describe(self) -> str:
        """A few words for people."""
        return f"compute {function_name(self.function)}"


@dataclass(frozen=True, slots=True)
class Shorten:
    """The first values of a vector, made length 1 again, for :class:`Compute`: of models that are trained for it.

    ``Compute(Shorten("text", 1024))`` makes 1024 of the 3072 values of OpenAI's text-embedding-3-large, as the model
    itself would, without asking it. Of other models the first values are not the most important ones: measure it.

    Args:
        vector: its name; ``""`` is the unnamed one.
        size: how many values stay.

    Raises:
        PlanError: the name is not a text, or the size is none.
    """

    vector: str
    size: int

    def __post_init__(self) -> None:
        if not isinstance(self.vector, str):
            raise PlanError(f"Shorten: expected the name of a vector, got {self.vector!r}")
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise PlanError(f"Shorten: size must be a whole number above 0, not {self.size!r}")

    def __call__(self, point: Point) -> Any:
        """The shortened vector, or the shortened rows of a multivector; as :class:`Compute` calls it.

        Raises:
            ValueError: the point has no such vector, it is shorter, sparse, or nothing is left of it.
        """
        import numpy as np

        value = point.vectors.get(self.vector)
        rows = np.atleast_2d(np.asarray(value, dtype=np.float64)) if isinstance(value, list) else None
        if rows is None or rows.shape[1] < self.size:
            raise ValueError(f"it has no dense vector {self.vector!r} of at least {self.size:,} values")
        rows = rows[:, : self.size]
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        if not lengths.all():
            raise ValueError(f"the first {self.size:,} values of vector {self.vector!r} are all 0")
        shortened = (rows / lengths).tolist()
        return shortened if isinstance(value, list) and isinstance(value[0], list) else shortened[0]

    def __str__(self) -> str:
        return f"the first {self.size:,} values of {self.vector or '(unnamed)'}"


@dataclass(frozen=True, slots=True)
class CopyOf:
    """The values of another vector of the same point, as they are stored.

    Into a uint8 vector only whole numbers from 0 to 255 can be copied, or what a `scale` makes such numbers of: every
    value is checked before anything is made.

    Args:
        vector: its name; ``""`` is the unnamed one.
        allow_normalised: copy out of a cosine vector into another distance, although a cosine vector keeps only
            directions: the lengths of the originals are lost. Off by default.
        scale: the rule by which numbers become those that a uint8 vector keeps: ``Scale(-0.2, 0.2)``. Readers have to
            scale their queries by the same one.

    Raises:
        PlanError: the name is not a text, or the scale is none.
    """

    vector: str
    allow_normalised: bool = False
    scale: Scale | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.vector, str):
            raise PlanError(f"CopyOf: expected the name of a vector, got {self.vector!r}")
        if self.scale is not None and not isinstance(self.scale, Scale):
            raise PlanError(f"CopyOf: scale must be Scale(low, high), not {self.scale!r:.80}")

    @property
    def fills(self) -> bool:
        """Always: with what the other vector has."""
        return True

    def fields(self) -> frozenset[str]:
        """None: it reads no payload."""
        return frozenset()

    def describe(self) -> str:
        """A few words for people."""
        scaled = f", {self.scale.describe()}" if self.scale is not None else ""
        return f"copy of {self.vector or '(unnamed)'}{scaled}"


@dataclass(frozen=True, slots=True)
class Empty:
    """No values: points stay without the vector until the application writes it."""

    @property
    def fills(self) -> bool:
        """Never."""
        return False

    def fields(self) -> frozenset[str]:
        """None: it reads no payload."""
        return frozenset()

    def describe(self) -> str:
        """A few words for people."""
        return "left empty"


Value = Embed | Compute | CopyOf | Empty


@dataclass(frozen=True, slots=True)
class FillMe:
    """In a revision that was written for you: nothing says what fills the vector. Lint and every plan refuse it."""

    @property
    def fills(self) -> bool:
        """Unknown; a plan that needs it is refused before."""
        return True

    def fields(self) -> frozenset[str]:
        """None that are known."""
        return frozenset()

    def describe(self) -> str:
        """A few words for people."""
        return "FILL_ME: what fills it is not decided"


#: Stands in the place of ``values=`` until a person has decided what fills the vector.
FILL_ME: Final[Any] = FillMe()


def function_name(function: object) -> str:
    """How people know a function."""
    if isinstance(function, Shorten):
        return str(function)
    return str(getattr(function, "__name__", type(function).__name__))


def _template_fields(spec: str, label: str) -> frozenset[str]:
    if "{" not in spec and "}" not in spec:
        return frozenset({spec})
    try:
        parts = [(name, form or conversion) for _, name, form, conversion in Formatter().parse(spec)]
    except ValueError as error:
        raise PlanError(
            f"{label}: the template {spec!r} can't be read: {error}",
            hint="write {{ and }} for literal braces",
        ) from error
    named = [(name.strip(), extra) for name, extra in parts if name is not None]
    if not named or any(not name or extra for name, extra in named):
        raise PlanError(
            f"{label}: the template {spec!r} must name payload fields without format specifiers",
            hint='for example "{title} {body}"',
        )
    odd = [name for name, _ in named if not _is_path(name)]
    if odd:
        # No point has such a key, so its part of the text would be left out of every vector silently.
        raise PlanError(
            f"{label}: {odd[0]!r} is not a payload field, in the template {spec!r}",
            hint="write a field, or a key inside one with dots: {meta.title}; a list is joined as a whole; for "
            "anything else inside one use a function: text=lambda payload: …",
        )
    return frozenset(name for name, _ in named)


def _is_path(name: str) -> bool:
    """Whether a part of a template is a field, or keys behind dots: no index, and nothing in quotes."""
    keys = name.split(".")
    return not set("[]") & set(name) and all(key and not {key[0], key[-1]} & set("'\"") for key in keys)
