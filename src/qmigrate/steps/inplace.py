"""In-place work: the difference of two schemas, applied to the live generation. Points are not touched."""

from __future__ import annotations

import time

from qmigrate.errors import RefusedError, RepairNeededError, StoreError
from qmigrate.model.plan import InPlace
from qmigrate.model.schema import Change, CollectionSchema, changes
from qmigrate.steps.build import enforced, wait_until_ready
from qmigrate.steps.closing import close_inplace
from qmigrate.steps.owned import own, release
from qmigrate.steps.work import Facts, Phase, Work

#: The setting by which a server makes replicas of a new collection only.
REPLICAS = "replication_factor"


def preflight(step: InPlace, work: Work) -> Facts:
    """Only reads: the generation is there and healthy."""
    live = work.store.describe(step.target)
    if live is None:
        raise RepairNeededError(f"{step.target}, which serves {work.collection}, is not in Qdrant any more")
    if live.status == "red" or live.problem:
        raise RefusedError(
            f"{step.target} is in trouble: {live.problem or 'status red'}", hint="mend the collection first"
        )
    return {"points": live.points}


def change(step: InPlace, work: Work) -> Facts:
    """Every change through an own alias, so that a holder of the past changes nothing; each may be repeated."""
    work.progress.begin(work.collection, "change", None)
    alias = own(work, step.target)
    for item in step.changes:
        work.tick(0, item.describe())
        # An alias can't point to an alias, so those changes name the collection itself.
        work.store.apply(step.target if item.kind.startswith("alias.") else alias, item)
        if item.kind == "config.set" and item.name == REPLICAS and item.after is not None:
            place_replicas(work, step.target, int(item.after))
    work.progress.end(", ".join(item.describe() for item in step.changes))
    return {"changes": len(step.changes)}


def place_replicas(work: Work, physical: str, factor: int) -> None:
    """Make or remove replicas until every shard has `factor`, as far as there are nodes; an interrupted run goes on.

    Raises:
        StoreError: nothing has moved for ``limits.ready_timeout``.
    """
    limit = work.settings.limits.ready_timeout
    before: tuple[str, ...] = ()
    deadline, pause = time.monotonic() + limit, 0.05
    while left := work.store.place_replicas(physical, factor):
        if left != before:
            before, deadline = left, time.monotonic() + limit
        if time.monotonic() > deadline:
            raise StoreError(
                f"the replicas of {physical} are not as declared after {limit:.0f} s: {'; '.join(left)}",
                hint="does every node answer? the same command again goes on waiting; limits.ready_timeout sets the "
                "limit",
            )
        work.tick(0, left[0])
        time.sleep(pause)
        pause = min(1.0, pause * 1.5)


def verify(step: InPlace, work: Work) -> Facts:
    """Wait until the server is done, and read back what it took."""
    if any(not item.light() or item.kind == "index.add" for item in step.changes):
        wait_until_ready(work, step.target)
    live = work.store.describe(step.target)
    if live is None:
        raise RepairNeededError(f"{step.target} disappeared during the run")
    declared = [item.describe() for item in step.changes if not enforced((item,), work)]
    missing = [item for item in step.changes if enforced((item,), work) and not _taken(live.schema, item)]
    if missing:
        raise StoreError(
            f"the server did not take: {'; '.join(item.describe() for item in missing)}",
            hint="it may be too old for these settings: qmigrate doctor shows its version",
        )
    return {"declared_not_enforced": declared}


def _taken(live: CollectionSchema, item: Change) -> bool:
    family, verb = item.kind.split(".")
    if family == "config":
        probe = CollectionSchema(config={item.name: item.after})
        return not changes(CollectionSchema(config=live.config), probe)
    holder = {"vector": live.vectors, "sparse": live.sparse, "index": live.indexes}
    present = item.name in (live.aliases if family == "alias" else holder[family])
    return present != (verb == "drop")


def close(step: InPlace, work: Work) -> Facts:
    """Seal, and everything recorded in one transaction."""
    release(work, [step.target])
    close_inplace(work, step, {"verify": work.facts("verify")})
    return {}


PHASES = (
    Phase("preflight", preflight),
    Phase("change", change),
    Phase("verify", verify),
    Phase("close", close),
)
