"""The operation that gives points other ids, and what makes an id from a point. It reads no point itself."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from string import Formatter
from typing import Any, ClassVar

from qmigrate.errors import PlanError
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.transform import Payload, Point, PointId, PointTransform
from qmigrate.operations.base import Cutover, Key, Operation
from qmigrate.operations.values import function_name


@dataclass(frozen=True, slots=True)
class Uuid5:
    """An id that is a function of payload fields: ``uuid5(namespace, template)``.

    Args:
        namespace: a UUID, as the application uses it.
        template: the name that is hashed: ``{org_id}:{asset_id}:{segment_id}:{model}:{model_ver}``. Every field must
            be there in every point, as text that is not empty or as a whole number; ``{meta.page}`` is a key inside
            an object.

    Raises:
        PlanError: no UUID, no field, or fields that nothing separates.
    """

    namespace: str | uuid.UUID
    template: str

    def __post_init__(self) -> None:
        try:
            # As text: a revision without a file is kept as JSON.
            object.__setattr__(self, "namespace", str(uuid.UUID(str(self.namespace))))
        except ValueError as error:
            raise PlanError(
                f"Uuid5: the namespace must be a UUID, not {self.namespace!r}", hint="for example uuid.NAMESPACE_URL"
            ) from error
        self.fields()

    def fields(self) -> tuple[str, ...]:
        """Payload fields that it reads, in the order of the template."""
        parts = self._parts()
        named = [(name, extra) for _, name, extra in parts if name is not None]
        if not named or any(not name or extra for name, extra in named):
            raise PlanError(
                f"Uuid5: the template {self.template!r} must name payload fields without format specifiers",
                hint='for example "{org_id}:{asset_id}"',
            )
        for place, (text, name, _) in enumerate(parts):
            if place and name is not None and not text:
                raise PlanError(
                    f"Uuid5: nothing separates two fields of {self.template!r}, so different points could have "
                    "the same name",
                    hint='separate them, for example "{org_id}:{asset_id}"',
                )
        return tuple(name for name, _ in named)

    def reads(self) -> frozenset[str]:
        """Keys at the top of a payload that it may read, so that the others needn't be decoded."""
        names = self.fields()
        return frozenset({*names, *(name.split(".")[0] for name in names)})

    def _parts(self) -> tuple[tuple[str, str | None, str], ...]:
        if not isinstance(self.template, str):
            raise PlanError(f"Uuid5: the template must be a string, not {self.template!r}")
        try:
            return _parsed(self.template)
        except ValueError as error:
            raise PlanError(
                f"Uuid5: the template {self.template!r} can't be read: {error}",
                hint="write {{ and }} for literal braces",
            ) from error

    def __call__(self, point: Point) -> PointId:
        """The new id of a point.

        Raises:
            ValueError: fields are missing, or have a value without a unique spelling; names them.
        """
        values = {name: _value(point.payload, name) for name in self.fields()}
        missing = [name for name, value in values.items() if value is None or value == ""]
        if missing:
            raise ValueError(f"has no {', '.join(map(repr, missing))}")
        odd = [name for name, value in values.items() if isinstance(value, bool) or not isinstance(value, str | int)]
        if odd:
            raise ValueError(f"has neither a string nor a whole number in {', '.join(map(repr, odd))}")
        name = "".join(text + ("" if key is None else str(values[key])) for text, key, _ in self._parts())
        return str(uuid.uuid5(uuid.UUID(str(self.namespace)), name))

    def describe(self) -> str:
        """A few words for people."""
        return f"uuid5 of {self.template}"


@lru_cache(maxsize=64)
def _parsed(template: str) -> tuple[tuple[str, str | None, str], ...]:
    """Text, the field behind it or None, and its format specifier."""
    return tuple((text, name, f"{form or ''}{how or ''}") for text, name, form, how in Formatter().parse(template))


def _value(payload: Payload, path: str) -> Any:
    """A field of this very name, or the key inside objects that the dots lead to."""
    if path in payload:
        return payload[path]
    value: Any = payload
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


@dataclass(frozen=True, slots=True)
class Rekey(Operation):
    """Give every point another id; nothing else of it changes, and nothing else may change in the same revision.

    The points are copied next to the live collection. Two points that would get the same id are found and listed before
    anything is written, and again before the name moves. On a server, writes are refused (429) from the last reading
    until the name has moved, at most ``limits.freeze``. Writes made since can't be carried back by a rollback.

    Args:
        collection: logical name or glob.
        id: :class:`Uuid5`, or a function that gets a :class:`~qmigrate.model.transform.Point` (id and payload, no
            vectors) and returns an unsigned integer or a UUID. It must give the same for the same point.
        tenant: the payload field that holds the tenant: ids must depend on it. A payload index with ``is_tenant``
            has the same result.
        cutover: clients that keep writing under the old ids write every point a second time, so it has to be set
            when it goes live: ``immediate`` or ``hold``.
    """

    rekeys: ClassVar[bool] = True

    collection: str
    id: Uuid5 | Callable[[Point], PointId]
    tenant: str | None = None
    cutover: Cutover = None

    def check_schema(self, schema: CollectionSchema) -> None:
        """See the base class."""
        if not callable(self.id):
            raise self.error(f"id must be Uuid5(…) or a function of a point, not {self.id!r}")
        if self.tenant is not None and (not isinstance(self.tenant, str) or not self.tenant):
            raise self.error(f"tenant must be the name of a payload field, not {self.tenant!r}")
        tenants = {name for name, index in schema.indexes.items() if index.get("is_tenant")}
        tenants |= {self.tenant} if self.tenant else set()
        if not tenants:
            return
        named = ", ".join(map(repr, sorted(tenants)))
        if not isinstance(self.id, Uuid5):
            raise self.error(
                f"{named} tells tenants apart, and a function doesn't show whether its ids depend on it",
                hint="use Uuid5(namespace, template), so that two tenants can't get the same id",
            )
        lacking = sorted(tenants - set(self.id.fields()))
        if lacking:
            raise self.error(
                f"{', '.join(map(repr, lacking))} tells tenants apart, but the ids don't depend on it: points of two "
                "tenants could get the same id",
                hint=f'put it into the template: "{{{lacking[0]}}}:{self.id.template}"',
            )

    def transform(self, schema: CollectionSchema) -> PointTransform:
        """See the base class."""
        return replace(PointTransform.identity(schema.vector_names()), new_id=self.id)

    def incompatible(self, schema: CollectionSchema) -> str | None:  # noqa: ARG002
        """See the base class."""
        return "every point gets another id: clients that use the old ids miss points, or write them twice"

    def describe(self) -> str:
        """See the base class."""
        made = self.id.describe() if isinstance(self.id, Uuid5) else f"by {function_name(self.id)}"
        return f"give every point another id: {made}; a server refuses writes while the name moves"

    def touched(self) -> frozenset[Key]:
        """One set of ids at a time."""
        return frozenset({("ids",)})
