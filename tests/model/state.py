"""What one state of the model holds: two collections, writers, a server, a holder that may die, and its journal.

Values are small tuples, so that states can be compared and kept by the million. Nothing here decides anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

#: A point: its pure part, and the vector that the new schema replaces. None where there is none.
Value = tuple[int, int] | None
Values = tuple[Value, ...]
#: An operation of a writer: ("put", key, part), ("del", key), ("del where", part), ("vector", key, vector).
Op = tuple[str | int, ...]

#: Stages of a writer.
NEW, RESOLVED, CHECKED, QUEUED, TAKEN, DONE, REFUSED = range(7)
#: In the queue of the source: a barrier instead of a writer's number. As what was taken from it: nothing.
BARRIER, NOTHING = -1, -2
#: In the base: the pass that redoes this point has not ended.
DIRTY: Value = (-1, -1)
#: Where a logical name leads, or None in a gap.
SOURCE, TARGET = "source", "target"
#: How the source refuses writes: not at all, behind the swap, before it.
OPEN, FENCED, FROZEN = range(3)
#: Flaws that show in a state itself.
UNPROVEN, OLD_PROOF, NO_BASE, SERVES_NOTHING = 1, 2, 4, 8


class Request(NamedTuple):
    """What a holder sends.

    Attributes:
        kind: ``write``, ``swap``, ``fence``, ``freeze``, ``lift`` or ``delete``.
        key: of a write, as are the others.
        value: what is written; None deletes.
        fresh: only where the target has no such point.
    """

    kind: str
    key: int = 0
    value: Value = None
    fresh: bool = False


class Carry(NamedTuple):
    """One row of the journal of carries.

    Attributes:
        source: what the old side held.
        done: whether it was written, and that recorded.
        target: what the new side held before.
    """

    source: Value
    done: bool
    target: Value


class State(NamedTuple):
    """One state. Numbers that are compared only with each other start at 0."""

    source: Values
    target: Values
    stages: tuple[int, ...]
    sides: tuple[str, ...]
    #: Bits of writers: acknowledged, answered with an error; of pairs (a, b): a was acknowledged before b began.
    acked: int = 0
    failed: int = 0
    order: int = 0
    #: Of the source: what waits, what was taken from it and is not visible, how many are done, and how many accepted.
    queue: tuple[int, ...] = ()
    taken: int = NOTHING
    done: int = 0
    accepted: int = 0
    #: Writes of others to the target.
    foreign: int = 0
    #: Where the name leads, on the first node and on the second.
    alias: str | None = SOURCE
    alias_b: str | None = SOURCE
    fence: int = OPEN
    token: int = 0
    target_fenced: bool = False
    #: A request of a holder that died or stands still, and whether it was sent.
    straggler: tuple[Request, bool] | None = None
    minutes: int = 0
    gone: bool = False
    #: The holder: its place, and registers that die with it.
    pc: str = "fill read"
    key: int = 0
    read: Value = None
    mark: int = 0
    start: int = 0
    floor: int = -1
    view: tuple[tuple[Value, Value], ...] = ()
    mode: str = ""
    #: What the ledger keeps: the phase, the base of the passes, the base of the proof, the carries.
    epoch: int = 0
    phase: str = "fill"
    seen: Values = ()
    base_source: Values | None = None
    base_target: Values | None = None
    base_epoch: int = 0
    base_start: int = 0
    base_foreign: int = 0
    carries: tuple[Carry | None, ...] = ()
    #: Bits of keys that the report lists; of those that it names for requests by a filter only; bits of flaws.
    listed: int = 0
    missed: int = 0
    flaws: int = 0
    #: Versions, as bits of keys: written since the listing that the ledger has; since that of this round; of the
    #: target, written by others since the proof or our own last write. ``todo`` is what a round has to read,
    #: ``lacked`` what its listing lacks although it is there. ``since`` is what was written to either side since the
    #: listing that is kept with the base, which ``kept`` has.
    written: int = 0
    fresh: int = 0
    touched: int = 0
    todo: int = 0
    lacked: int = 0
    since: int = 0
    kept: Values = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """What happens in a variant, and which rules hold in it: each ``True`` of the second part is one rule kept.

    Attributes:
        computes: the new vector is computed from the one that it replaces; else it is embedded from the pure part.
        nodes: 1 or 2: the name changes on one after the other.
        waits: writers wait for their writes (``wait=true``).
        policy: ``converge``, ``freeze`` or ``refuse``.
        crashes: how often the holder may die, at any place.
        pauses: a holder may also stand still right before a request, and send it later.
        only: of a dead holder's requests only those of this kind arrive late.
        refills: how often a minute passes, and the limiter of the source lets one more write through.
        backwards: a rollback that carries writes: the target was left, and is fenced.
        at_once: a rollback that flips first, on the base of the way forward.
        gap: a plain collection is deleted before its name is an alias.
        retires: the source is deleted in the end.
        goes_back: behind a crash another holder may point the name back to the source, where that may still serve.
        fenced_before: a freeze of milliseconds around the swap.
        any_order: a write through a node that is behind counts as older than one through a node ahead.
        versions: changes are known by point versions, not by contents.
        lacking: a listing of versions may lack points that are there.
        recorded: a rollback reads only what was written since the listing that is kept with the base.
        narrow: a sweep lists only what the versions of the new side leave open; what a request by a filter may not
            have met is named as that. Behind a death contents are compared, and each carry next to others is listed.
        identity: f changes nothing and computes nothing: all of a point can be compared, so the fill leaves no base, and
            no pass over the source alone comes before the proof unless an earlier proof has left one.
        goes_on: before the swap a holder works while a write of the dead may still land; its proof counts once that is
            over, and a listing of versions behind it shows that nothing has landed since the one before the pass.
    """

    computes: bool = True
    nodes: int = 1
    waits: bool = True
    policy: str = "converge"
    crashes: int = 0
    pauses: bool = True
    only: str | None = None
    refills: int = 0
    backwards: bool = False
    at_once: bool = False
    gap: bool = False
    retires: bool = False
    goes_back: bool = False
    fenced_before: bool = False
    any_order: bool = False
    versions: bool = False
    lacking: bool = False
    recorded: bool = False
    narrow: bool = False
    goes_on: bool = False
    identity: bool = False
    # 1, 13
    redoes_changed: bool = True
    marks_dirty: bool = True
    # 1, identity
    compares_all: bool = True
    # 2, 14
    own_aliases: bool = True
    waits_for_dead: bool = True
    # 3, 4
    barriers: bool = True
    fence: str = "atomic"
    fences_once: bool = True
    # 5
    sweeps_again: bool = True
    # 6
    base_first: bool = True
    lists_doubt: str = "any"
    journals_carries: bool = True
    # 7
    proves_again: bool = True
    base_before_swap: bool = True
    # 8
    closes_freeze: bool = True
    looks_before_lifting: bool = True
    # 9
    checks_retired: bool = True
    # 10
    keeps_base: bool = True
    # 11
    versions_first: bool = True
    asks_by_id: bool = True
    knows_own: bool = True
    commits_round_last: bool = True
    # 6, narrow
    asks_versions: bool = True
    marks_first: bool = True
    lists_race: bool = True
    lists_absent: bool = True
    names_missed: bool = True
    # 12
    records_deletion: bool = True
    # 15
    record_first: bool = True
    # 14, goes_on
    lists_behind: bool = True


#: An action that is possible in a state: what is said of it, and the state behind it.
Step = tuple[str, State]


class Case(NamedTuple):
    """A variant with what the writers do to what is there."""

    rules: Rules
    initial: Values
    ops: tuple[Op, ...]


def made(value: Value, rules: Rules) -> Value:
    """f: what the new generation holds of a point."""
    if value is None or rules.computes:
        return value
    return value[0], value[0]


def pure(value: Value) -> int | None:
    """The part that can be compared between the two."""
    return None if value is None else value[0]


def alike(here: Value, source: Value, rules: Rules) -> bool:
    """Whether a point of the new side looks like f of one of the old side, by all of it that can be compared."""
    wanted = made(source, rules)
    return here == wanted if rules.identity and rules.compares_all else pure(here) == pure(wanted)


def put(values: Values, key: int, value: Value) -> Values:
    """The same with another value of one key."""
    return (*values[:key], value, *values[key + 1 :])


def applied(op: Op, values: Values) -> Values:
    """An operation on a collection."""
    kind, which = op[0], int(op[1])
    if kind == "put":
        return put(values, which, (int(op[2]), int(op[2])))
    if kind == "del":
        return put(values, which, None)
    if kind == "del where":
        return tuple(None if pure(value) == which else value for value in values)
    old = values[which]
    return values if old is None else put(values, which, (old[0], int(op[2])))


def stamped(op: Op, values: Values) -> int:
    """Bits of the keys whose version an operation changes: what it writes, and what is gone by it."""
    if op[0] == "put":
        return 1 << int(op[1])
    if op[0] == "del where":
        return sum(1 << key for key, value in enumerate(values) if pure(value) == op[1])
    return 1 << int(op[1]) if values[int(op[1])] is not None else 0


def fails(op: Op, values: Values) -> bool:
    """Whether a server answers that there is no such point."""
    return op[0] == "vector" and values[int(op[1])] is None
