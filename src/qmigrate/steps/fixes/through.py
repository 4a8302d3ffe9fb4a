"""Points of an earlier schema as the collection needs them now: f of the operations since. It sends no write.

The same code as that of a rebuild: its functions, its fillings, its judgement of what came out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qmigrate.archive import Archived
from qmigrate.errors import RefusedError
from qmigrate.model.report import VerificationReport
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.transform import PointId
from qmigrate.ports import Ready, Store, Stored
from qmigrate.steps.export import described
from qmigrate.steps.fixes.protocol import Place
from qmigrate.steps.judge import Judge
from qmigrate.steps.points import Maker, check_recorded, fill_inputs
from qmigrate.steps.work import Code, transform_of
from qmigrate.store import portable, records

if TYPE_CHECKING:
    from qmigrate.settings import Settings

#: Points that go through f together: what is embedded makes its own batches of them.
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class _Source:
    """Where f's code comes from."""

    collection: str
    store: Store
    code: Code
    settings: Settings


@dataclass(frozen=True, slots=True)
class Failed:
    """Points that can't be given every vector, where their revision lets them pass.

    Attributes:
        dropped: ids that they have now, of those that are left out.
        lacking: id that it has now -> vectors that it goes without.
    """

    dropped: frozenset[PointId]
    lacking: Mapping[PointId, Sequence[str]]


class Through:
    """Makes and recognises what an earlier point has become.

    Args:
        place: whose operations came since.
        before: the schema that the points had.
    """

    def __init__(self, place: Place, before: CollectionSchema) -> None:
        assert place.code is not None  # noqa: S101  what names operations brings their code
        self._ledger = place.ledger
        self._transform = transform_of(place.operations, before)
        schema = described(place.store, place.address).schema
        self._source = _Source(place.collection, place.store, place.code, place.settings)
        self._maker = Maker(self._source, self._transform, schema)
        self._known: dict[PointId, Sequence[str]] = {}
        lacking = lambda identifier, name: name in self._known.get(identifier, ())  # noqa: E731
        self._judge = Judge(self._maker, None, lacking=lacking)
        self._name = place.collection
        self._lacking = sorted(set(self._transform.vectors) - schema.vector_names())
        self.changes = not self._transform.is_identity()

    def check(self) -> None:
        """See that the operations lead to what serves now, and that its vectors are made by its own models.

        Raises:
            RefusedError: they don't.
            DriftError: a configured embedder is another one than the one that has filled the vector.
        """
        if self._lacking:
            raise RefusedError(
                f"the points would have the vector {self._lacking[0]!r}, which {self._name} no longer has, "
                "and no revision applied since accounts for that",
                hint="bring the collection to its revisions first: qmigrate check",
            )
        check_recorded(self._ledger, self._name, self._source.code, fill_inputs(self._transform))

    @property
    def rekeys(self) -> bool:
        """Whether points have other ids now."""
        return self._transform.rekeys

    def id_of(self, one: Archived) -> PointId:
        """The id that the point has now.

        Raises:
            VerificationError: it can't be given one.
        """
        return records.point_id(self._maker.renamed(one.stored)) if self.rekeys else one.id

    def ready(self, points: Sequence[Archived]) -> list[Ready]:
        """What is to be written.

        Raises:
            EmbedError: a vector can't be filled, and its operation requires it.
            PlanError: a payload function fails.
        """
        if not self.changes:
            return [portable.ready(one.stored) for one in points]
        made: list[Ready] = []
        for first in range(0, len(points), _AT_ONCE):
            made += self._maker.make([one.stored for one in points[first : first + _AT_ONCE]]).ready
        return made

    def failing(self, points: Sequence[Archived]) -> Failed:
        """Those that something can't be made of; nothing is asked where nothing is recomputed.

        Raises:
            EmbedError: a vector can't be filled, and its operation requires it.
        """
        if not self._transform.filled:
            return Failed(frozenset(), {})
        made = self._maker.make([one.stored for one in points])
        lacking: dict[PointId, list[str]] = {}
        for row in made.failed:
            if row.point_id not in made.dropped:
                lacking.setdefault(row.point_id, []).append(row.vector)
        self.know(lacking)
        return Failed(frozenset(made.dropped), lacking)

    def know(self, lacking: Mapping[PointId, Sequence[str]]) -> None:
        """These points may go without these vectors; earlier ones are forgotten."""
        self._known = dict(lacking)

    def is_it(self, one: Archived, stored: Stored) -> bool:
        """Whether a point that is there now is this one."""
        return self._judge.why_not(one.stored, stored, VerificationReport(source="", target="")) is None
