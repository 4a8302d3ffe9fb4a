"""Which generations know a point by the same id, and how ids are mapped across a Rekey. It only reads.

Generations that no Rekey lies between share an *id space*. It has the number of the generation that began it; 0 is the
space of the first ids. From one space to the next leads the function of the Rekey, asked for the points as they are in
the generation that it was applied to: nothing is written there any more (ADR 5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from qmigrate.engine.as_applied import changed
from qmigrate.engine.work import Code, transform_of
from qmigrate.errors import DriftError, QmigrateError, RefusedError, RevisionError
from qmigrate.ledger import Ledger, meaning
from qmigrate.model.origin import NOTHING, StoredOrigin
from qmigrate.model.plan import Build
from qmigrate.model.state import Generation
from qmigrate.model.transform import PointId, PointTransform
from qmigrate.ports import Store
from qmigrate.store import records
from qmigrate.text import quote

#: Ids by the space in which they are meant.
Ids = Mapping[int, set[PointId]]


@dataclass(frozen=True, slots=True)
class Hop:
    """One Rekey.

    Attributes:
        before: the space of the generation that it was applied to.
        after: the space that it began.
        sources: that generation, or those with the same ids where it is gone.
        exact: whether it is the very one: then a point that gets no new id never came over.
        transform: with the function of the ids.
    """

    before: int
    after: int
    sources: tuple[str, ...]
    exact: bool
    transform: PointTransform


def space_of(ledger: Ledger, code: Code | None, collection: str, physical: str) -> int | None:
    """The id space of a generation, present or not; None where that isn't known, so that any may be meant."""
    if code is None:
        return None
    # It must be known of all of them: where one is unknown, no ids count as those of its source.
    spaces = Spaces(ledger, code, collection, frozenset(row.physical for row in ledger.generations(collection)))
    try:
        return spaces.of(physical) if physical in spaces.rows else None
    except RefusedError:
        return None


def _restored_from(build: Build) -> str | None:
    """The generation whose points a restore brings back; None where it builds from what serves, or from nothing."""
    origin = StoredOrigin.of(build.origin)
    return str(origin.physical) if build.fill == "restore" and origin.kind != NOTHING else None


class Spaces:
    """The id spaces of one collection's generations.

    Args:
        code: of the revisions.
        present: physical names that are in Qdrant: only about these everything must be known.
    """

    def __init__(self, ledger: Ledger, code: Code, collection: str, present: frozenset[str]) -> None:
        self._ledger = ledger
        self._code = code
        self._collection = collection
        self._present = present
        self.rows: dict[str, Generation] = {row.physical: row for row in ledger.generations(collection)}
        self._builds = ledger.builds(collection)
        self._built_by = ledger.built_by(collection)
        self._known: dict[str, int] = {}

    def of(self, physical: str) -> int:
        """The space of a generation; of one that the ledger doesn't know the first.

        Raises:
            RefusedError: the revision that made it is not there any more.
        """
        if physical not in self._known:
            self._known[physical] = self._found(physical)
        return self._known[physical]

    def root(self, physical: str) -> str | None:
        """The generation in which the points of another began: one that began empty; None where that is unknown.

        Those of two roots have nothing in common but ids.
        """
        seen: set[str] = set()
        while physical in self._builds and physical not in seen:
            seen.add(physical)
            build = self._builds[physical]
            if build.source is None or StoredOrigin.of(build.origin).kind == NOTHING:
                return physical
            physical = _restored_from(build) or build.source
        return None

    def before(self, physical: str) -> int:
        """The space of what a generation was built from: its forward base is in that order."""
        build = self._builds.get(physical)
        begins = build is not None and build.source is not None and self.of(physical) == self._number(physical)
        return self.of(str(build.source)) if build is not None and begins and self._rekeys(build) else self.of(physical)

    def _found(self, physical: str) -> int:
        build = self._builds.get(physical)
        if build is None or physical not in self.rows:
            return 0
        restored = _restored_from(build)
        if restored is not None:
            return self.of(restored) if restored in self.rows and restored != physical else 0
        # What a reset leaves empty gets points by the ids that there were.
        if build.source is None:
            return self._anew(physical)
        return self._number(physical) if self._rekeys(build) else self.of(build.source)

    def _anew(self, physical: str) -> int:
        """The space of what was created: the first one, or behind a Rekey one of its own, since it may go on in any."""
        number = self._number(physical)
        earlier = [row.physical for row in self.rows.values() if row.number < number]
        return number if any(self.of(one) for one in earlier) else 0

    def _number(self, physical: str) -> int:
        row = self.rows.get(physical)
        return row.number if row is not None else 0

    def _rekeys(self, build: Build) -> bool:
        try:
            self._refuse_changed(build)
            return any(self._code.operation(ref).rekeys for ref in build.ops)
        except QmigrateError as error:
            if isinstance(error, RevisionError | DriftError) and self._kept_ids(build):
                return False
            there = next((one for one in sorted(self._present) if self._came_by(one, build.target)), None)
            if there is None:
                return False
            raise RefusedError(
                f"whether the points of {there} have other ids than those of {build.source} is unknown: "
                f"{error.message}",
                hint="bring the revision's file back, or remove what is kept of it first: "
                f"qmigrate gc {quote(self._collection)} --now --generation {quote(there)}",
            ) from error

    def _kept_ids(self, build: Build) -> bool:
        """Whether no operation of a build was a Rekey, by what is recorded of the files that it was made with."""
        checksums = self._built_by.get(build.target, {})
        for ref in build.ops:
            said = meaning(self._ledger, ref.revision, checksums.get(ref.revision, ""))
            then = said["operations"][ref.index : ref.index + 1] if said is not None else []
            if not then or str(then[0]["label"]).startswith("Rekey("):
                return False
        return True

    def _came_by(self, physical: str, build: str) -> bool:
        """Whether a generation is what a build made, or was built from that, be it by way of others that are gone."""
        seen: set[str] = set()
        while physical in self._builds and physical not in seen and physical != build:
            seen.add(physical)
            build_of = self._builds[physical]
            physical = _restored_from(build_of) or str(build_of.source)
        return physical == build

    def _refuse_changed(self, build: Build) -> None:
        """The file of a revision that gave other ids, or gives them now, must be the one that the points came by.

        Raises:
            RefusedError: it differs.
        """
        for ref, said in changed(self._code, build.ops, self._built_by.get(build.target, {})):
            gave = said.then is not None and str(said.then["label"]).startswith("Rekey(")
            if gave or self._code.operation(ref).rekeys:
                raise RefusedError(f"revision {ref.revision} differs from what was applied: {said.describe()}")

    @cached_property
    def hops(self) -> tuple[Hop, ...]:
        """Every Rekey that Qdrant still has points from before of, oldest first."""
        found = []
        for physical, build in self._builds.items():
            source = self.rows.get(str(build.source))
            if physical not in self.rows or source is None or build.fill == "restore":
                continue
            exact = source.physical in self._present
            alike = sorted(one for one in self._present if self.of(one) == self.of(source.physical))
            if (exact or alike) and self._rekeys(build):
                transform = transform_of([self._code.operation(ref) for ref in build.ops], source.schema)
                sources = (source.physical,) if exact else tuple(alike)
                found.append(Hop(self.of(source.physical), self._number(physical), sources, exact, transform))
        return tuple(sorted(found, key=lambda hop: hop.after))

    def check_connected(self, live: str) -> None:
        """Every generation that is there must be one whose ids can be mapped from today's.

        Raises:
            RefusedError: the generation that knew both is gone.
        """
        known = {self.of(live)}
        for _ in self.hops:
            for hop in self.hops:
                if known & {hop.before, hop.after}:
                    known |= {hop.before, hop.after}
        for physical in sorted(self._present):
            if self.of(physical) not in known:
                raise self._unknown(physical, "no generation is kept that knows theirs and those of today")

    def _unknown(self, physical: str, why: str) -> RefusedError:
        return RefusedError(
            f"which ids the points of {physical} have is unknown: {why}; nothing was erased",
            hint=f"remove it first: qmigrate gc {quote(self._collection)} --now --generation {quote(physical)}",
        )

    def spread(self, ids: dict[int, set[PointId]], store: Store, address: Callable[[str], str]) -> None:
        """Add the ids by which the same points are known in the other spaces, as far as Qdrant still has them.

        Args:
            ids: what is known so far; grows.
            address: by which name a generation is read.
        """
        grown = True
        while grown:
            grown = False
            for hop in (*reversed(self.hops), *self.hops):
                before = sum(map(len, ids.values()))
                if ids.get(hop.before) or ids.get(hop.after):
                    for source in hop.sources:
                        self._across(hop, ids, store, (source, address(source)))
                grown = grown or sum(map(len, ids.values())) > before

    def _across(self, hop: Hop, ids: dict[int, set[PointId]], store: Store, source: tuple[str, str]) -> None:
        """One reading of the source of a Rekey: who is known on one side is known on the other."""
        wanted = records.id_fields(hop.transform)
        here, there = ids.setdefault(hop.before, set()), ids.setdefault(hop.after, set())
        for page in store.scan(source[1], payload=wanted, vectors=False):
            for stored in page:
                old = records.point_id(stored)
                try:
                    new = records.new_id(stored, hop.transform)
                except ValueError as error:
                    if hop.exact:
                        continue
                    raise self._unknown(source[0], f"point {old} {error}") from error
                if old in here or new in there:
                    here.add(old)
                    there.add(new)
