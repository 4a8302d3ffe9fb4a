"""In-place work: the difference of two schemas, applied to the live generation. Points are not touched."""

from __future__ import annotations

import time

from qmigrate.engine.build.index import enforced, wait_until_ready
from qmigrate.engine.closing import close_inplace
from qmigrate.engine.epoch_aliases import check_begun, nothing_of_ours, own, reach, refuse_hidden, release
from qmigrate.engine.further_names import give, names_of, refuse_taken, take
from qmigrate.engine.work import Phase, Work
from qmigrate.errors import OvertakenError, RefusedError, RepairNeededError, StoreError, UnchangedError
from qmigrate.model.facts.phases import Closed, InPlaceChange, InPlaceVerify, LivePreflight
from qmigrate.model.facts.stored import learned
from qmigrate.model.names import EpochAlias, is_own_alias
from qmigrate.model.plan import InPlace
from qmigrate.model.schema import Change, CollectionSchema, JsonObject, changes
from qmigrate.model.state import LiveCollection
from qmigrate.store.faults import RefusedRequestError
from qmigrate.text import quote

#: Changes that take values away.
DROPS = ("vector.drop", "sparse.drop")
#: The setting by which a server makes replicas of a new collection only.
REPLICAS = "replication_factor"


def preflight(step: InPlace, work: Work) -> LivePreflight:
    """Only reads: the generation is there and healthy."""
    live = work.store.describe(step.target)
    if live is None:
        raise RepairNeededError(f"{step.target}, which serves {work.collection}, is not in Qdrant any more")
    further = names_of(step)
    refuse_taken(work.store, work.lease.ledger, work.ledger_id, work.collection, further)
    if live.status == "red" or live.problem:
        raise RefusedError(
            f"{step.target} is unhealthy: {live.problem or 'status red'}", hint="repair the collection first"
        )
    refuse_hidden(work, further)
    if work.job.supersedes is not None:
        _refuse_filled(step, work)
    return LivePreflight(live.points, _filled(step, work))


def _filled(step: InPlace, work: Work) -> int | None:
    """How many points have a vector that the reverse of an earlier change drops; None where it drops none."""
    place = reach(work, step.target)
    there = _live_vectors(work, place)
    gone = [item.name for item in step.changes if item.kind in DROPS and item.name in there and not step.ops]
    if not gone:
        return None
    return sum(_points_with(work, place, name) for name in gone)


def _points_with(work: Work, place: str, vector: str) -> int:
    return work.store.count(place) - work.store.count(place, without_vector=vector)


def _live_vectors(work: Work, place: str) -> frozenset[str]:
    live = work.store.describe(place)
    return live.schema.vector_names() if live is not None else frozenset()


def _refuse_filled_since(step: InPlace, work: Work) -> None:
    """A way back drops no vector that nothing had when it was asked about: hours may lie between the two.

    Raises:
        OvertakenError: points have it now.
        RefusedError: the same, where a change before it is made already.
    """
    filled = _filled(step, work) if work.facts(LivePreflight).filled == 0 else 0
    if not filled:
        return
    live = work.store.describe(reach(work, step.target))
    begun = live is not None and any(_taken(live.schema, item) for item in enforced(step.changes, work))
    release(work, [step.target])
    raise (RefusedError if begun else OvertakenError)(
        f"{filled:,} points of {work.collection} have the vector {_named(step)!r} by now, which is dropped when its "
        "revision is undone",
        hint=f"qmigrate rollback … --only {quote(work.collection)} --discard-writes loses it",
    )


def _named(step: InPlace) -> str:
    return next(item.name for item in step.changes if item.kind in DROPS)


def _refuse_filled(step: InPlace, work: Work) -> None:
    """An abort drops no vector that another client has written to: the run had added it, and was interrupted.

    Raises:
        RefusedError: points have it.
    """
    for item in step.changes:
        if item.kind in DROPS:
            place = reach(work, step.target)
            filled = _points_with(work, place, item.name)
            if filled > 0:
                raise RefusedError(
                    f"{filled:,} points of {work.collection} have the vector {item.name!r} by now, which an abort "
                    "would drop",
                    hint="qmigrate upgrade finishes the run; then qmigrate rollback … --only "
                    f"{quote(work.collection)} --discard-writes loses it",
                )


def change(step: InPlace, work: Work) -> InPlaceChange:
    """Every change through an own alias, so that an earlier holder changes nothing; each may be repeated."""
    check_begun(work, step.target)
    if nothing_of_ours(work, step.target):
        return InPlaceChange()
    _refuse_filled_since(step, work)
    work.progress.begin(work.collection, "change", None)
    # Load-bearing: the live generation is changed through it, and a holder that was replaced must get 404.
    alias = own(work, step.target)
    # An attempt before this one may have changed something, whatever is seen now.
    before = work.store.describe(alias) if (work.step, work.phase) not in work.learned else None
    try:
        for item in step.changes:
            work.tick(0, item.describe())
            _apply(step, work, alias, item)
    except RefusedRequestError as error:
        raise _refusal(step, work, before, error) from error
    work.progress.end(", ".join(item.describe() for item in step.changes))
    return InPlaceChange(changes=len(step.changes))


def _apply(step: InPlace, work: Work, alias: EpochAlias, item: Change) -> None:
    if item.kind == "alias.add":
        refuse_taken(work.store, work.lease.ledger, work.ledger_id, work.collection, [item.name])
        take(work, alias, item, step.target)
    elif item.kind == "alias.drop":
        give(work, alias, item, step.target)
    else:
        work.store.apply(alias, item)
        if item.kind == "config.set" and item.name == REPLICAS and item.after is not None:
            place_replicas(work, step.target, int(item.after))


def _settings(found: LiveCollection) -> tuple[CollectionSchema, JsonObject]:
    """Everything that a change in place can change; own aliases come and go."""
    further = tuple(alias for alias in found.schema.aliases if not is_own_alias(alias, found.physical))
    return found.schema.with_(aliases=further), found.unknown_values


def _refusal(step: InPlace, work: Work, before: LiveCollection | None, error: StoreError) -> StoreError:
    """What a refused change means: the run is over where nothing was changed, else it waits for a decision."""
    now = work.store.describe(step.target)
    same = before is not None and now is not None and _settings(now) == _settings(before)
    if same:
        release(work, [step.target])
        return UnchangedError(f"{error.message}; {work.collection} was not changed", hint=error.hint)
    back = f"qmigrate abort {quote(work.collection)} undoes what was changed"
    error.hint = f"{back}; qmigrate upgrade tries the rest again"
    return error


def place_replicas(work: Work, physical: str, factor: int) -> None:
    """Make or remove replicas until every shard has `factor`, as far as there are nodes; an interrupted run resumes.

    Raises:
        StoreError: nothing has moved for ``limits.ready_timeout``.
    """
    limit = work.settings.limits.ready_timeout
    before: tuple[str, ...] = ()
    deadline, pause = time.monotonic() + limit, 0.05
    alias = own(work, physical)
    while left := work.store.place_replicas(alias, factor):
        if left != before:
            before, deadline = left, time.monotonic() + limit
        if time.monotonic() > deadline:
            raise StoreError(
                f"the replicas of {physical} are not as declared after {limit:.0f} s: {'; '.join(left)}",
                hint="does every node answer? The same command continues to wait; limits.ready_timeout sets the "
                "limit",
            )
        work.tick(0, left[0])
        time.sleep(pause)
        pause = min(1.0, pause * 1.5)


def verify(step: InPlace, work: Work) -> InPlaceVerify:
    """Wait until the server is done, and read back what it took."""
    check_begun(work, step.target)
    if nothing_of_ours(work, step.target):
        return InPlaceVerify()
    if any(not item.light() or item.kind == "index.add" for item in step.changes):
        wait_until_ready(work, step.target, live=True)
    live = work.store.describe(step.target)
    if live is None:
        raise RepairNeededError(f"{step.target} disappeared during the run")
    declared = [item.describe() for item in step.changes if not enforced((item,), work)]
    # What an abort undoes only where another client hasn't moved it since may stay away.
    due = [item for item in step.changes if not (item.kind == "alias.add" and item.before is not None)]
    missing = [item for item in due if enforced((item,), work) and not _taken(live.schema, item)]
    if missing:
        raise StoreError(
            f"the server did not apply: {'; '.join(item.describe() for item in missing)}",
            hint=f"it may be too old for these settings: qmigrate doctor shows its version; qmigrate abort "
            f"{quote(work.collection)} undoes the change",
        )
    return InPlaceVerify(tuple(declared))


def _taken(live: CollectionSchema, item: Change) -> bool:
    family, verb = item.kind.split(".")
    if family == "config":
        probe = CollectionSchema(config={item.name: item.after})
        return not changes(CollectionSchema(config=live.config), probe)
    holder = {"vector": live.vectors, "sparse": live.sparse, "index": live.indexes}
    present = item.name in (live.aliases if family == "alias" else holder[family])
    return present != (verb == "drop")


def close(step: InPlace, work: Work) -> Closed:
    """Seal, and everything recorded in one transaction."""
    check_begun(work, step.target)
    close_inplace(work, step, {"verify": learned(work.facts(InPlaceVerify))})
    return Closed()


PHASES = (
    Phase(LivePreflight, preflight),
    Phase(InPlaceChange, change),
    Phase(InPlaceVerify, verify),
    Phase(Closed, close),
)
