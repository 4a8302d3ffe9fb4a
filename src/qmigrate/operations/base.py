"""The interface of every operation, so that no caller checks for its type. It has no family and does no I/O."""

from __future__ import annotations

import copy
import enum
import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from qmigrate.errors import PlanError
from qmigrate.model import names
from qmigrate.model.schema import Change, CollectionSchema, JsonObject, changes
from qmigrate.model.state import Capabilities
from qmigrate.model.transform import Filling, PointTransform
from qmigrate.operations.checks import (
    FORBIDDEN,
    obstacle,
    shown,
    why_heavy,
    why_heavy_when_big,
    why_no_clone,
    why_unset,
)
from qmigrate.operations.quality import Gate
from qmigrate.operations.values import Embed

Wish = Literal["in_place", "clone", "copy"] | None
Cutover = Literal["immediate", "hold"] | None
#: Identity of something an operation changes, outermost part first: ``("vector", "l14")``.
Key = tuple[Any, ...]

#: Strategies, the lightest first.
RANKS = ("in_place", "clone", "copy")
#: Points from which on a live collection is spared what it would have to do to every one of them.
BIG = 100_000


@dataclass(frozen=True, slots=True)
class Strategy:
    """How an operation wants to be done.

    Attributes:
        rank: ``in_place``, ``clone`` or ``copy``; of several operations the later one in :data:`RANKS` wins.
        reason: why, for people.
    """

    rank: str
    reason: str

    def outranks(self, other: Strategy) -> bool:
        """Whether it wins over `other` where both are wished for: of two that are alike, the one that has a reason."""
        return RANKS.index(self.rank) > RANKS.index(other.rank) or (self.rank == other.rank and other == LIGHT)


#: What is done where nothing speaks for anything else.
LIGHT = Strategy("in_place", "light changes, made on the live collection")


class Operation(ABC):
    """One change that a revision makes to the collections that its pattern matches.

    `schema` is always the schema as it stands before the operation, recorded or live (with every server
    default filled in); None where the collection doesn't exist.
    """

    __slots__ = ()

    #: Makes a collection that doesn't exist yet.
    creates: ClassVar[bool] = False
    #: Takes the collection away.
    drops: ClassVar[bool] = False
    #: Changes payloads, so that what embeds them has to come later.
    rewrites_payload: ClassVar[bool] = False
    #: Gives points other ids, so that both generations have to be distinguished by more than the id.
    rekeys: ClassVar[bool] = False
    #: The attributes that name it in messages; the first one is the pattern.
    named_by: ClassVar[tuple[str, ...]] = ("collection",)
    #: Whether the pattern is one name and never a glob.
    exact: ClassVar[bool] = False

    @property
    def pattern(self) -> str:
        """The logical name or glob of the collections it is about."""
        return names.text_of(self.written)

    @property
    def written(self) -> str:
        """The pattern as the revision has it, or marked as a name by :meth:`bound`."""
        written = getattr(self, self.named_by[0])
        return written if isinstance(written, str) else str(written)

    @property
    def holds(self) -> bool:
        """Whether it has ``cutover="hold"``: built and proven, then it waits for `qmigrate cutover`."""
        return getattr(self, "cutover", None) == "hold"

    @property
    def is_glob(self) -> bool:
        """Whether the pattern may match several names."""
        return not self.exact and names.has_signs(self.written)

    def bound(self, known: Collection[str]) -> Self:
        """The same operation where these names exist: a pattern that is one of them is that name, and no glob."""
        written = self.written
        if not self.is_glob or names.is_forced(written) or written not in known:
            return self
        made = copy.copy(self)
        assign(made, **{self.named_by[0]: names.bound(written, known)})
        return made

    def matches(self, name: str) -> bool:
        """Whether it is about the collection of this logical name; case counts."""
        return names.fits(name, self.written) if self.is_glob else name == self.pattern

    def label(self) -> str:
        """How messages name it: ``AddVector("image_assets", "l14")``."""
        words = ", ".join(json.dumps(getattr(self, name), ensure_ascii=False, default=str) for name in self.named_by)
        return f"{type(self).__name__}({words})"

    def error(self, problem: str, *, hint: str | None = None) -> PlanError:
        """A :class:`PlanError` that begins with the label."""
        return PlanError(f"{self.label()}: {problem}", hint=hint)

    def check(self, schema: CollectionSchema | None) -> None:
        """Find out whether it can be done here.

        Raises:
            PlanError: it can't; the message begins with the label and names what is wrong.
        """
        self.check_words()
        if schema is None:
            raise self.error(f"there is no collection {self.pattern}", hint="create it in an earlier operation")
        self.check_schema(schema)
        trouble = self.incompatible(schema)
        if trouble and getattr(self, "cutover", None) is None:
            raise self.error(
                f"existing readers and writers will fail: {trouble}; choose when it goes live",
                hint='cutover="immediate": at the end of the run, deploy the readers together with it; '
                'cutover="hold": it is built and proven, and goes live with qmigrate cutover',
            )

    def check_words(self) -> None:
        """What needs no schema: pattern, `cutover` and `strategy`."""
        pattern = self.pattern
        if not isinstance(getattr(self, self.named_by[0]), str) or not pattern.strip():
            raise self.error("the collection must be a name or a glob")
        for part in self.named_by[1:]:
            if not isinstance(getattr(self, part), str):
                raise self.error(f"{part} must be a text, not {getattr(self, part)!r:.60}")
        forbidden = FORBIDDEN - names.SIGNS
        wrong = sorted({sign for sign in pattern if sign in forbidden or ord(sign) < 32})
        if wrong:
            raise self.error(f"the name of a collection can't contain {wrong[0]!r}")
        cutover = getattr(self, "cutover", None)
        if cutover not in (None, "immediate", "hold"):
            raise self.error(f'cutover must be "immediate" or "hold", not {cutover!r}')
        wish = getattr(self, "wish", None)
        if self.holds and wish == "in_place":
            raise self.error(
                'strategy="in_place" changes the live collection at once, so there is no cut-over to hold',
                hint='leave strategy out: cutover="hold" builds the change next to the live collection',
            )
        if wish is not None and wish not in RANKS:
            raise self.error(f'strategy must be "in_place", "clone", "copy" or None, not {wish!r}')

    def check_schema(self, schema: CollectionSchema) -> None:  # noqa: B027  most that touch points alone have none
        """The part of :meth:`check` that is the operation's own; by default nothing."""

    def apply(self, schema: CollectionSchema | None) -> CollectionSchema | None:
        """The schema afterwards, by default the same; None when the collection is dropped."""
        return schema

    def transform(self, schema: CollectionSchema) -> PointTransform:
        """What happens to each point; by default nothing."""
        return PointTransform.identity(schema.vector_names())

    def incompatible(self, schema: CollectionSchema) -> str | None:  # noqa: ARG002
        """What makes existing readers or writers fail afterwards, or None."""
        return None

    def shows(self) -> str | None:
        """What existing readers see otherwise afterwards, though nothing has to fail by it; None for nothing."""
        return None

    def filled(self) -> dict[str, Filling]:
        """Target vector -> what computes its values; carried, copied and empty ones are left out."""
        return {}

    def gates(self) -> dict[str, Gate]:
        """Vector -> what search by it must find before the name moves."""
        return {}

    def embeds(self) -> dict[str, Embed]:
        """Those of :meth:`filled` that need an embedder."""
        return {name: value for name, value in self.filled().items() if isinstance(value, Embed)}

    def check_server(self, capabilities: Capabilities) -> None:  # noqa: B027  most need nothing that is new
        """Find out whether the connected Qdrant knows what it declares, and would not just leave it out.

        Raises:
            PlanError: it doesn't.
        """

    def edit(self) -> JsonObject | None:
        """What it does to points of the live collection, as JSON with its ``kind``; None for a change of schema."""
        return None

    def strategy(self, schema: CollectionSchema, capabilities: Capabilities, points: int = 0) -> Strategy:
        """How to do it: in place when that is light, or wished for and possible; else next to the live collection.

        Next to it, the server clones where no point's values change and it can; otherwise the points are copied.

        Args:
            schema: the live schema before it.
            capabilities: of the connected Qdrant.
            points: of the live collection, approximately: a big one is spared what a small one takes at once.

        Raises:
            PlanError: ``strategy="in_place"`` was asked for and is not possible; the message has the reason.
        """
        after = self.apply(schema)
        if after is None or self.creates:
            return Strategy("in_place", "only the name changes")
        wish = getattr(self, "wish", None)
        must = self._why_copy(schema, after)
        found = changes(schema, after)
        if wish == "copy":
            return Strategy("copy", 'asked for with strategy="copy"')
        if wish == "in_place":
            gated = "quality= compares with search by the old one, so both have to be there" if self.gates() else None
            trouble = gated or must or obstacle(schema, found, capabilities)
            if trouble:
                raise self.error(
                    f'strategy="in_place" is not possible: {trouble}',
                    hint="leave strategy out: it becomes a clone or a copy",
                )
            return Strategy("in_place", 'asked for with strategy="in_place"')
        if must:
            return Strategy("copy", must)
        return _beside_or_in_place(schema, found, capabilities, points=points, wish=wish)

    def _why_copy(self, schema: CollectionSchema, after: CollectionSchema) -> str | None:
        """Why the points have to be rewritten, whatever was asked for; None when they need not."""
        transform = self.transform(schema)
        if transform.rekeys:
            return "every point gets another id"
        if transform.payload:
            return "the payload of every point changes"
        replaced = [name for name in transform.values if name in schema.vector_names()]
        if transform.filled or replaced:
            return "values change for every point"
        moved = [target for target, source in sorted(transform.vectors.items()) if target != source]
        if moved:
            return f"vector {shown(moved[0])} is written into every point"
        if transform.converted:
            return f"the stored form of vector {shown(min(transform.converted))} changes"
        return why_unset(schema, after)

    def irreversible_reason(self, schema: CollectionSchema) -> str | None:
        """Why only the generation before it leads back, or None when the change can be reversed."""
        after = self.apply(schema)
        if after is None:
            return "the points stay only in the generation that is kept until gc"
        if self.creates:
            return None
        transform = self.transform(schema)
        lost = sorted(schema.vector_names() - set(transform.vectors.values()))
        if lost:
            return f"the old values of vector {shown(lost[0])} stay only in the previous generation"
        if transform.converted:
            name = min(transform.converted)
            return f"vector {shown(name)} is stored in another form, and rounded values can't be restored"
        if transform.rekeys:
            return "the old ids can't be derived from the new ones"
        if transform.inverse is None:
            return "the payload function has no inverse"
        settings = [change for change in changes(schema, after) if change.kind.endswith((".set", ".alter"))]
        stuck = [change for change in settings if not change.undoable()]
        if stuck:
            return f"{stuck[0].describe()}: a server setting can't be unset once it is set"
        return None

    @abstractmethod
    def describe(self) -> str:
        """One line for people, without the collection."""

    @abstractmethod
    def touched(self) -> frozenset[Key]:
        """Keys of everything it changes; a key that begins another one covers it."""


def _beside_or_in_place(
    schema: CollectionSchema, found: Sequence[Change], capabilities: Capabilities, *, points: int, wish: Wish
) -> Strategy:
    """A clone where the change is heavy and the server can make one; else in place, or a copy where it must be."""
    heavy = next((why_heavy(change) for change in found if not change.light()), None)
    big = None
    if points >= BIG:
        big = next((why_heavy_when_big(change, points) for change in found if change.heavy_when_big()), None)
    wished = 'asked for with strategy="clone"' if wish == "clone" else None
    reason = wished or heavy or big
    if reason is None:
        return LIGHT
    no_clone = why_no_clone(schema, capabilities) or obstacle(schema, found, capabilities)
    if no_clone is None:
        return Strategy("clone", reason)
    if heavy or wished:
        return Strategy("copy", f"{reason}; not cloned by the server: {no_clone}")
    return Strategy("in_place", f"made on the live collection, though {reason}: {no_clone}")


def check_contradictions(ops: Sequence[Operation]) -> None:
    """Refuse operations of one revision, on one collection, that can't both be meant.

    Raises:
        PlanError: two of them change the same thing, or one embeds a payload that a later one rewrites.
    """
    for position, first in enumerate(ops):
        for second in ops[position + 1 :]:
            common = _overlap(first, second)
            if common is not None:
                what = f"the {' '.join(shown(part) for part in common)}" if common else "the whole collection"
                raise PlanError(
                    f"{first.label()} and {second.label()} contradict each other: both change {what}",
                    hint="keep one of them, or put them into two revisions",
                )
            if second.rewrites_payload and first.filled():
                raise PlanError(
                    f"{first.label()} embeds the payload, and {second.label()} rewrites it afterwards",
                    hint="list the operation that rewrites the payload first, or put them into two revisions",
                )


def _overlap(first: Operation, second: Operation) -> Key | None:
    for one in sorted(first.touched(), key=repr):
        for other in sorted(second.touched(), key=repr):
            shared = min(len(one), len(other))
            if one[:shared] == other[:shared]:
                return max(one, other, key=len) if shared else ()
    return None


def plain(value: Any, what: str = "a parameter", *, keep_none: bool = False) -> Any:
    """Parameters as plain JSON in REST shape, whatever they were given as.

    Args:
        value: an object of ``qdrant_client.models`` (or any pydantic model), an enum, a plain value, or
            containers of these.
        what: for the message.
        keep_none: keep None in objects (user's own JSON); by default it means *not given*, and is left out.

    Raises:
        PlanError: something else.
    """
    if isinstance(value, enum.Enum):
        return plain(value.value, what)
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return dump(mode="json", exclude_none=True, by_alias=True)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        pairs = ((plain(key, what), item) for key, item in value.items() if keep_none or item is not None)
        found = {key: plain(item, what, keep_none=keep_none) for key, item in pairs}
        if all(isinstance(key, str) for key in found):
            return found
    if isinstance(value, list | tuple):
        return [plain(item, what, keep_none=keep_none) for item in value]
    kind = value.__name__ if isinstance(value, type) else type(value).__name__
    wanted = "an object of qdrant_client.models or plain JSON"
    raise PlanError(f"{what}: expected {wanted}, got {kind}: {value!r:.80}")


def plain_object(value: Any, what: str) -> JsonObject | None:
    """:func:`plain` for what must be an object, or None."""
    found = plain(value, what)
    if found is not None and not isinstance(found, dict):
        raise PlanError(f"{what}: expected an object, got {value!r:.80}")
    return found


def merged(before: Any, diff: Mapping[str, Any]) -> JsonObject:
    """`before` with the fields of `diff` set as Qdrant does it: objects deeply, quantization as a whole."""
    result: JsonObject = dict(before) if isinstance(before, Mapping) else {}
    for key, value in diff.items():
        deep = isinstance(value, Mapping) and key != "quantization_config"
        result[key] = merged(result.get(key), value) if deep else value
    return result


def assign(operation: Operation, **values: Any) -> None:
    """Set attributes of a frozen operation while it is made."""
    for name, value in values.items():
        object.__setattr__(operation, name, value)


def leaves(prefix: Key, value: Any) -> Iterator[Key]:
    """Keys of every leaf of nested objects."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from leaves((*prefix, key), item)
    else:
        yield prefix
