"""All that is known of a collection, from SQL and from Qdrant, as one value. It reads nothing itself."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from qmigrate.model.facts.phases import F, Hold
from qmigrate.model.facts.stored import lenient, loaded
from qmigrate.model.plan import GoLive, Job
from qmigrate.model.schema import CollectionSchema, JsonObject

#: The oldest server that keeps collection metadata, where the seal lives.
MINIMUM_SERVER = (1, 16, 0)
#: Strategies that make another generation, as the history has them.
REBUILT = ("copy", "clone", "create", "restore", "undo", "reset")
#: The phase in which a go-live waits for its cut-over, as the journal has it.
HOLD = Hold.phase
#: State of a generation that was never closed, in the ledger and in its seal.
BUILDING = "building"
#: State of the one that serves, in both; in a seal also that of one that has served.
LIVE = "live"
#: State of a generation whose deletion has begun: the request may be on its way, so it can only be finished.
DELETING = "deleting"
#: Telemetry shows the operation id of every local shard from here on.
OPERATION_IDS_SINCE = (1, 17, 0)
#: Text indexes rank by BM25 (``scoring``) from here on; older servers ignore that without a word.
SCORED_TEXTS_SINCE = (1, 20, 0)


def version_of(told: object) -> tuple[int, int, int] | None:
    """A server's version as numbers: ``1.19.0-dev`` is ``(1, 19, 0)``; None where it is none."""
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", told) if isinstance(told, str) else None
    return None if found is None else (int(found[1]), int(found[2]), int(found[3]))


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the connected Qdrant can do.

    Attributes:
        local: the embedded local mode of the client library.
        version: of the oldest node, as a tuple; (0, 0, 0) in local mode.
        label: for people, e.g. ``Qdrant 1.18.3 at qdrant:6333``.
        snapshots: server-side snapshots are available.
        payload_indexes: payload indexes are enforced (not only declared).
        vector_names: named vectors can be added to and dropped from a live collection.
        barrier: operation ids per shard can be read, so that late writes are seen.
        nodes: number of nodes that are watched.
        peers: number of nodes that the server reports, 1 without cluster mode; 0 where it doesn't report it.
        prefixes: filters may ask for texts that begin with something, by an index that is made for it.
        silent: why nodes that were named gave no answer, one line each; only what reads goes on without them.
        shared: in local mode, the application has lent its own open client, and may go on writing by it.
        versions: each point has the number of the operation that last wrote it.
    """

    local: bool
    version: tuple[int, int, int]
    label: str
    snapshots: bool
    payload_indexes: bool
    vector_names: bool
    barrier: bool
    nodes: int = 1
    peers: int = 1
    prefixes: bool = False
    silent: tuple[str, ...] = ()
    shared: bool = False
    versions: bool = False

    @property
    def scores_texts(self) -> bool:
        """Whether a text index ranks by BM25: local mode does, and so may a server of unknown version."""
        return not (0, 0, 0) < self.version < SCORED_TEXTS_SINCE

    @property
    def alone(self) -> bool:
        """Whether no other process can write: the lock of the folder sees to that, unless its client is lent."""
        return self.local and not self.shared

    @property
    def several(self) -> bool:
        """Whether there is more than one node: they resolve the names of requests that are passed on again.

        So a collection that an alias of its name hides can't be distinguished from the new one: see ``docs/safety.md``.
        """
        return not self.local and (self.peers > 1 or self.nodes > 1)

    @property
    def may_be_several(self) -> bool:
        """The same, also where the server doesn't report it: nothing that was not hidden yet is hidden then."""
        return self.several or (not self.local and self.peers == 0)

    @property
    def peers_words(self) -> str:
        """How many nodes there are, for people."""
        return f"{max(self.peers, self.nodes)} nodes" if self.several else "an unknown number of nodes"


@dataclass(frozen=True, slots=True)
class Seal:
    """What a collection has about itself in its metadata; None where it doesn't say, or not in a form of ours.

    Attributes:
        version: of its form.
        ledger: identity of the ledger that it belongs to.
        collection: the logical name.
        generation: its number.
        revision: the newest applied one.
        checksum: of that file.
        state: ``building | live``.
        embedders: vector -> model fingerprint.
        run: that has written it; the one of what serves is the highest of a logical name.
    """

    version: int | None = None
    ledger: str | None = None
    collection: str | None = None
    generation: int | None = None
    revision: str | None = None
    checksum: str | None = None
    state: str | None = None
    embedders: Mapping[str, Any] | None = None
    run: int | None = None

    @classmethod
    def of(cls, seal: JsonObject | None) -> Seal:
        """Of the value in the metadata, which another client may have written; no seal says nothing."""
        return lenient(Seal, seal or {})

    def is_of(self, ledger: str | None, generation: int | None) -> bool:
        """Whether it is that generation of that ledger."""
        return (self.ledger, self.generation) == (ledger, generation)


@dataclass(frozen=True, slots=True)
class LiveCollection:
    """A physical collection as Qdrant reports it.

    Attributes:
        physical: its own name.
        schema: with server defaults filled in; aliases are every alias that points to it.
        seal: the value of the metadata key ``qmigrate``, or None.
        status: ``green | yellow | grey | red``.
        problem: the optimizer's error text, or None.
        points: approximate count.
        hidden: points that reads don't show yet (deferred), 0 where unknown.
        prevents_unoptimized: whether the collection hides unoptimized points.
        inactive: replicas that are not Active, as ``shard N on peer M: state``.
        replicas: of the shard that has the fewest, whatever their states; None without a cluster.
        custom_sharding: whether shard keys are used.
        unread: why only its settings could be read, and neither points nor payload indexes: shards of it are on nodes
            that give no answer; None where all was read.
        unknown: config fields that this version of qmigrate doesn't know and so couldn't carry, as paths.
        unknown_values: their values, which a clone by the server has to show again.
    """

    physical: str
    schema: CollectionSchema
    seal: JsonObject | None = None
    status: str = "green"
    problem: str | None = None
    points: int = 0
    hidden: int = 0
    prevents_unoptimized: bool = False
    inactive: tuple[str, ...] = ()
    replicas: int | None = None
    custom_sharding: bool = False
    unread: str | None = None
    unknown: tuple[str, ...] = ()
    unknown_values: JsonObject = field(default_factory=dict)

    def foreign_owner(self, ledger_id: str) -> str | None:
        """The identity of the other ledger that has sealed it; None where no ledger has, or this one."""
        owner = Seal.of(self.seal).ledger
        return None if owner == ledger_id else owner


def marks_of(found: LiveCollection | None) -> Seal:
    """What the seal of a collection says; nothing of one that isn't there."""
    return Seal.of(found.seal if found is not None else None)


@dataclass(frozen=True, slots=True)
class Generation:
    """A row of ``qdrant_generations``.

    Attributes:
        state: ``building | live | retired | deleting | gone``; from :data:`DELETING` on it never serves again.
        parent: number of the generation that it was built from, or None.
        revisions: all revisions applied when it went live.
        schema: the recorded schema of that moment.
        fence: strict-mode values that were there before it was fenced, or None when it isn't.
        swept: nothing can arrive late any more.
        server: label of the server when this generation was recorded first; the ledger fills it in.
        changed_at: when the ledger last changed this row; None before it is stored.
        deletion: once its deletion has begun: ``state`` is what it was before, ``epoch`` that of who began it.
        settings: all settings as they were when something was last applied, see ``drift.undeclared``; None where an
            earlier qmigrate recorded none, and in local mode.
    """

    number: int
    physical: str
    parent: int | None
    revisions: tuple[str, ...]
    schema: CollectionSchema
    state: str
    held_until: datetime | None = None
    fence: JsonObject | None = None
    swept: bool = False
    server: str | None = None
    changed_at: datetime | None = field(default=None, compare=False)
    deletion: JsonObject | None = None
    settings: JsonObject | None = field(default=None, compare=False)

    @property
    def revision(self) -> str | None:
        """The newest revision of `revisions`; None of one that was before any."""
        return self.revisions[-1] if self.revisions else None

    @property
    def never_served(self) -> bool:
        """Whether it was being built, or built and held, until it was abandoned."""
        before = (self.deletion or {}).get("state", self.state) if self.state == DELETING else self.state
        return before in ("building", "held")


@dataclass(frozen=True, slots=True)
class Record:
    """A row of the journal: `facts` are only what was learned, never what can be looked up."""

    step: int
    phase: str
    state: str
    facts: JsonObject = field(default_factory=dict)
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that is not finished: being worked on, interrupted, or failed.

    Attributes:
        leased: whether a process may be working on it.
        is_dead: whether the process that worked on it died on this machine, for certain.
    """

    id: int
    verb: str
    state: str
    job: Job
    checksums: Mapping[str, str]
    actor: str
    host: str
    started_at: datetime
    error: str | None
    records: tuple[Record, ...]
    done_points: int = 0
    total_points: int = 0
    leased: bool = False
    is_dead: bool = False

    def record(self, step: int, phase: str) -> Record | None:
        """The journal's last word on a phase."""
        found = [record for record in self.records if (record.step, record.phase) == (step, phase)]
        return found[-1] if found else None

    def facts(self, of: type[F], step: int) -> F:
        """What a phase of a step has learned; defaults where nothing."""
        record = self.record(step, of.phase)
        return loaded(of, record.facts if record is not None else {})

    def waiting(self) -> int | None:
        """Position of the go-live that has reached its hold and was not released; None when none waits."""
        for position, step in enumerate(self.job.steps):
            record = self.record(position, HOLD)
            if isinstance(step, GoLive) and step.hold and record is not None and record.state != "done":
                return position
        return None

    def let_on(self) -> bool:
        """Whether the cut-over of a held go-live was begun and is not recorded yet: it is finished like any run."""
        for position, step in enumerate(self.job.steps):
            passed, closed = self.record(position, HOLD), self.record(position, "close")
            begun = isinstance(step, GoLive) and step.hold and passed is not None and passed.state == "done"
            if begun and (closed is None or closed.state != "done"):
                return True
        return False


@dataclass(frozen=True, slots=True)
class Applied:
    """How a revision came to be applied to a collection.

    Attributes:
        revision: its id.
        checksum: of the file at that time.
        physical: the generation that served afterwards.
        strategy: ``copy | clone | in_place | edit | create | drop``, ``adopt`` where only the record was made,
            ``restore`` and ``undo`` where points of another time brought it along.
        prior: the recorded schema before it.
        changes: the in-place work, as JSON of changes.
        run: id of the run that applied it; None where that isn't known.
        names: those that moved, or were removed, with it.
        earlier: further name that it took -> where that led before, None for nowhere.
        left: the generation that served before it; None where there was none, or that isn't known.
    """

    revision: str
    checksum: str
    physical: str | None
    strategy: str
    prior: CollectionSchema | None
    changes: tuple[JsonObject, ...] = ()
    run: int | None = None
    names: tuple[str, ...] = ()
    earlier: Mapping[str, str | None] = field(default_factory=dict)
    left: str | None = None

    @property
    def rebuilt(self) -> bool:
        """Whether another generation went live with it."""
        return self.strategy in REBUILT

    @property
    def stayed(self) -> bool:
        """Whether the generation that served stayed, changed itself."""
        return self.strategy in ("in_place", "edit")

    def fused_with(self, other: Applied) -> bool:
        """Whether both went live in the same rebuild: then the name can only go back over both."""
        if self.revision == other.revision:
            return True
        same = (self.run, self.physical) == (other.run, other.physical)
        return same and self.run is not None and self.rebuilt and other.rebuilt


@dataclass(frozen=True, slots=True)
class Moment:
    """What was applied to a collection after one entry of its history.

    Attributes:
        physical: the generation that served from then on.
        applied: (revision, checksum, recorded schema right after it), oldest first.
        declared: the recorded schema.
        direction: of the entry.
        strategy: of the entry.
    """

    created_at: datetime
    physical: str | None
    applied: tuple[tuple[str, str, CollectionSchema | None], ...]
    declared: CollectionSchema | None
    direction: str
    strategy: str


def moments_of(
    moments: Sequence[Moment], generations: Sequence[Generation], physical: str
) -> tuple[Moment, ...]:
    """The moments of one generation.

    One that the history doesn't name took the place of a plain collection as its identical copy, and nothing was
    applied with it: it stands where its parent stood.
    """
    found = tuple(moment for moment in moments if moment.physical == physical)
    row = next((one for one in generations if one.physical == physical), None)
    parent = next((one for one in generations if row is not None and one.number == row.parent), None)
    return found or (moments_of(moments, generations, parent.physical) if parent is not None else ())


@dataclass(frozen=True, slots=True)
class CollectionState:
    """All that is known of one logical name.

    Attributes:
        name: the logical name.
        kind: ``alias`` (under management or not), ``plain`` (a collection of that very name), ``absent``.
        managed: whether it is in the ledger.
        applied: revisions in the order they were applied, without those undone.
        declared: the recorded schema.
        live: the collection that serves now.
        generations: every one in the ledger, oldest first.
        open_run: an unfinished run, or None.
        embedders: vector -> model fingerprint.
        next_number: one above every generation number that ledger, names or seals know.
        hides: the alias hides a plain collection of the same name.
        left: what the ledger has as serving, where the name leads elsewhere.
        passed: squashed revisions that are recorded as passed: it had all that they replace.
    """

    name: str
    kind: str
    managed: bool
    applied: tuple[Applied, ...] = ()
    declared: CollectionSchema | None = None
    live: LiveCollection | None = None
    generations: tuple[Generation, ...] = ()
    open_run: OpenRun | None = None
    embedders: Mapping[str, Any] = field(default_factory=dict)
    next_number: int = 1
    hides: bool = False
    left: LiveCollection | None = None
    passed: frozenset[str] = frozenset()

    @property
    def held(self) -> bool:
        """Whether its next generation is built and proven and waits for `qmigrate cutover`."""
        return self.open_run is not None and self.open_run.state == "held"

    @property
    def taken_away(self) -> bool:
        """Whether it is recorded that nothing has the name any more: it was dropped, or its loss was recorded."""
        return bool(self.applied) and self.declared is None

    @property
    def in_hand(self) -> bool:
        """Whether what has the name is under management: not what another client has recreated of one taken away."""
        return self.managed and not (self.taken_away and self.live is not None)

    @property
    def lost(self) -> bool:
        """Whether nothing has the name since its loss was recorded (``repair --vanished``)."""
        return self.taken_away and bool(self.generations) and self.applied[-1].strategy != "drop"

    @property
    def physical(self) -> str | None:
        """Physical name of the collection that serves."""
        return self.live.physical if self.live else None

    @property
    def adopted_as(self) -> str:
        """The name to adopt it by: of a plain collection its alias, if it has one: it was made to be used."""
        aliases = self.live.schema.aliases if self.kind == "plain" and self.live else ()
        return aliases[0] if aliases else self.name

    def generation(self, physical: str | None) -> Generation | None:
        """The ledger's row for a physical name."""
        return next((found for found in self.generations if found.physical == physical), None)

    def may_be_elsewhere(self, present: Set[str]) -> bool:
        """Whether what the ledger has as serving isn't there: this may be another Qdrant, and then nothing is gone."""
        return any(row.state == "live" and row.physical not in present for row in self.generations)

    def applied_revisions(self) -> tuple[str, ...]:
        """Ids of the applied revisions, oldest first."""
        return tuple(entry.revision for entry in self.applied)

    def parent(self) -> Generation | None:
        """The generation that a rollback would return to, while it is kept."""
        current = self.generation(self.physical)
        if current is None or current.parent is None:
            return None
        found = next((entry for entry in self.generations if entry.number == current.parent), None)
        return found if found and found.state == "retired" else None

    def basis(self, *, journal: bool = False) -> str:
        """A digest of everything that a plan for this collection depends on.

        Args:
            journal: the plan is about the unfinished run, so it depends on how far that has come, too.
        """
        seen: dict[str, object] = {
            "kind": self.kind,
            "applied": self.applied_revisions(),
            "physical": self.physical,
            "schema": self.live.schema.to_json() if self.live else None,
            "generations": [(entry.physical, entry.state) for entry in self.generations],
            "open": self.open_run.id if self.open_run else None,
            "next": self.next_number,
            "hides": self.hides,
        }
        if journal and self.open_run is not None:
            seen["journal"] = [self.open_run.state, *map(asdict, self.open_run.records)]
        return hashlib.sha256(json.dumps(seen, sort_keys=True, default=str).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class World:
    """The planner's complete input besides the revisions.

    Attributes:
        ledger_id: identity of the ledger, as written into seals.
        capabilities: of the connected Qdrant.
        collections: by logical name.
        hiding: whether an alias may take the name of a collection; None while it wasn't tried.
        names: every logical name that there is, also of those that were not read.
        physical: names of all physical collections; None where they were not read.
    """

    ledger_id: str
    capabilities: Capabilities
    collections: Mapping[str, CollectionState]
    hiding: bool | None = None
    names: frozenset[str] = frozenset()
    physical: frozenset[str] | None = None

    @property
    def known(self) -> Set[str]:
        """Every logical name that there is, as far as it was asked."""
        return self.names | self.collections.keys()

    def applied(self) -> frozenset[str]:
        """Every revision that is applied to one of the collections."""
        return frozenset(one for state in self.collections.values() for one in state.applied_revisions())

    def vanished(self, state: CollectionState) -> tuple[Generation, ...]:
        """Generations that the ledger keeps as ways back, and that are not in Qdrant any more."""
        if self.physical is None or state.may_be_elsewhere(self.physical):
            return ()
        return tuple(row for row in state.generations if row.state == "retired" and row.physical not in self.physical)

    def is_foreign(self, name: str) -> bool:
        """Whether another ledger has sealed what serves a name that this one doesn't have under management."""
        state = self.collections.get(name)
        if state is None or state.live is None or state.managed or state.open_run is not None:
            return False
        return state.live.foreign_owner(self.ledger_id) is not None


@dataclass(frozen=True, slots=True)
class KeptSnapshot:
    """A server-side snapshot of a generation; `size` in bytes.

    Attributes:
        own: whether a run of this ledger made it; else a user wanted it.
    """

    name: str
    size: int
    created_at: datetime | None
    own: bool


@dataclass(frozen=True, slots=True)
class Holding:
    """A physical collection of one logical name, or the record of one.

    Attributes:
        physical: its name.
        row: the ledger's record; None when the ledger doesn't know it.
        present: whether it is in Qdrant.
        seal: the seal in its metadata.
        points: approximate count.
        size: estimated bytes of its points.
        names: aliases that point to it, without those that are qmigrate's own business.
        hidden: an alias of its very name leads elsewhere, so only a further alias reaches it.
        snapshots: server-side, oldest first.
    """

    physical: str
    row: Generation | None
    present: bool = True
    seal: JsonObject | None = None
    points: int | None = None
    size: int | None = None
    names: tuple[str, ...] = ()
    hidden: bool = False
    snapshots: tuple[KeptSnapshot, ...] = ()
