"""Which id a point of an earlier generation has now: every Rekey since is asked, as it was then. It only reads.

A generation that a Rekey was applied to is written to no more (ADR 5): as long as it is kept it has each point as the
Rekey has seen it, and the function of the revision gives the very id.
"""

from __future__ import annotations

from collections.abc import Sequence

from qmigrate.engine.export import described
from qmigrate.engine.fixes.erase.selection import generations_there
from qmigrate.engine.fixes.protocol import FixSource
from qmigrate.engine.points.id_spaces import Hop, Spaces
from qmigrate.errors import RefusedError
from qmigrate.model.transform import PointId
from qmigrate.store import records

#: Points of one look-up.
_AT_ONCE = 2000


class OtherIds:
    """The way of ids from one generation to what serves.

    Args:
        place: where it looks.
        generation: that the ids are of; None for what serves.
        log: the fix that is undone, for messages.

    Raises:
        RefusedError: the way leads over a generation that is gone, or back over a Rekey.
    """

    def __init__(self, place: FixSource, generation: str | None, log: object) -> None:
        self._place = place
        self._way: tuple[Hop, ...] = ()
        self._read: dict[str, str] = {}
        live = described(place.store, place.address).physical
        if generation in (None, live) or place.code is None:
            return
        there = generations_there(place, live)
        spaces = Spaces(place.ledger, place.code, place.collection, frozenset(there))
        then, now = spaces.of(str(generation)), spaces.of(live)
        if then != now:
            self._way = _way(spaces, (then, now), (str(generation), place.collection, log))
            self._read = there

    def of(self, ids: Sequence[PointId]) -> dict[PointId, PointId]:
        """Id of then -> id of now; a point that did not come over has none."""
        found = {one: one for one in ids}
        for hop in self._way:
            become = self._across(hop, list(found.values()))
            found = {then: become[now] for then, now in found.items() if now in become}
        return found

    def _across(self, hop: Hop, ids: Sequence[PointId]) -> dict[PointId, PointId]:
        wanted = records.id_fields(hop.transform)
        (source,) = hop.sources
        found: dict[PointId, PointId] = {}
        for first in range(0, len(ids), _AT_ONCE):
            part = ids[first : first + _AT_ONCE]
            for stored in self._place.store.fetch(self._read[source], part, payload=wanted, vectors=False):
                try:
                    found[records.point_id(stored)] = records.new_id(stored, hop.transform)
                except ValueError:
                    # It came over by no id, so it is one of those that the revision left alone.
                    continue
        return found


def _way(spaces: Spaces, between: tuple[int, int], about: tuple[str, str, object]) -> tuple[Hop, ...]:
    """The Rekeys from one id space to a later one, oldest first. Each space was begun by one of them.

    Args:
        about: the generation, the collection and the fix, for messages.
    """
    then, now = between
    generation, collection, log = about
    born = {hop.after: hop for hop in spaces.hops if hop.exact}
    way: list[Hop] = []
    while now != then and now in born:
        way.insert(0, born[now])
        now = born[now].before
    if now == then:
        return tuple(way)
    told = f"the points of {collection} have other ids than in {generation}, which fix {log} has changed"
    why = (
        "the revision that had given them was undone since"
        if then in born
        else "the generation that knows both ids is not kept any more"
    )
    raise RefusedError(
        f"{told}: {why}", hint="write the values by hand, or restore a snapshot: qmigrate snapshot list"
    )
