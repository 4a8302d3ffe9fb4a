"""A generation that is being built: its row in the ledger, its seal, and how it is recognised. It makes none."""

from __future__ import annotations

import time

from qmigrate.engine.closing import seal_of
from qmigrate.engine.epoch_aliases import own, release
from qmigrate.engine.work import Work
from qmigrate.errors import LeaseHeldError, RepairNeededError, StoreError
from qmigrate.model.facts.phases import Shadow, SourceSnapshot
from qmigrate.model.plan import Build
from qmigrate.model.schema import CollectionSchema, JsonObject
from qmigrate.model.state import Generation, marks_of

#: What a shadow doesn't get before it is filled: it would limit the copy itself.
HELD_BACK = "strict_mode_config"
#: Pause between two checks of a recovery that continues without us, in seconds.
_LOOK = 0.2


def record(step: Build, work: Work) -> None:
    """The number is taken from here on, whatever becomes of it."""
    parent = work.generation(step.source)
    work.lease.save_generation(
        Generation(
            number=step.number,
            physical=step.target,
            parent=parent.number if parent else None,
            revisions=(),
            schema=step.schema,
            state="building",
        )
    )


def seal(step: Build, work: Work) -> JsonObject:
    """The seal of a shadow; an identical copy is at the revision of its source, with vectors of its models."""
    if step.source is None or step.ops or step.fill != "copy":
        return seal_of(work, step.number, "building", None, {})
    applied, view = work.state.applied_revisions(), work.lease.ledger.view(work.collection)
    embedders = dict(view.embedders) if view is not None else {}
    return seal_of(work, step.number, "building", applied[-1] if applied else None, embedders)


def recognise(step: Build, work: Work) -> None:
    """The collection is there already: it must be ours and unfinished, or nothing is touched.

    Raises:
        RepairNeededError: it isn't.
    """
    found = work.store.describe(step.target)
    marks = marks_of(found)
    if not marks.is_of(work.ledger_id, step.number) or marks.state != "building":
        raise unexplained(step, work)


def unexplained(step: Build, work: Work) -> RepairNeededError:
    """Something has the name of the next generation, and no journal explains it."""
    return RepairNeededError(
        f"{step.target} exists already and is in no journal; it was left unchanged",
        hint=f"it was to become {work.collection}; if it is not needed, delete it in Qdrant and run again",
    )


def is_over_and_there(work: Work, physical: str) -> bool:
    """Whether a recovery under this name, whose answer no process waits for, is over and has made the collection.

    Waits while the server is at it. False where the server doesn't report it.

    Raises:
        StoreError: it is still at it after ``limits.ready_timeout``.
    """
    deadline = time.monotonic() + work.settings.limits.ready_timeout
    while True:
        # In this order: a collection that was seen before its recovery is known to be over is complete.
        present = work.store.describe(physical) is not None
        running = work.store.recovering(physical)
        if running is None:
            return False
        if not running and (present or work.store.describe(physical) is None):
            return present
        if time.monotonic() > deadline:
            raise StoreError(
                f"the server is still recovering {physical} after "
                f"{work.settings.limits.ready_timeout:.0f} s",
                hint="run the same command again: it continues to wait; limits.ready_timeout sets the limit",
            )
        work.tick(0, "the server recovers the snapshot")
        time.sleep(_LOOK)


def without_held_back(schema: CollectionSchema) -> CollectionSchema:
    """The schema that a shadow gets before it is filled; aliases are not part of it."""
    config = {name: value for name, value in schema.config.items() if name != HELD_BACK}
    return schema.with_(config=config, aliases=())


def is_unmade(step: Build, work: Work) -> bool:
    """Whether the build has provably made nothing, nor may make anything late, and its run has left nothing else open.

    Every request was answered, no recovery was asked for, and the collection is not there. What an earlier step of the
    job has built for this one is recorded only with it, so such a run stays open.
    """
    behind = work.job.steps[work.step - 1] if work.step else None
    if isinstance(behind, Build) or was_tried(work) or not work.store.all_answered():
        return False
    return step.target not in work.store.physical_names()


def was_tried(work: Work) -> bool:
    """Whether the server was asked to recover a snapshot: it may still be at it, though it has answered."""
    return bool(work.facts(Shadow).tried)


def unmake(step: Build, work: Work) -> None:
    """Remove the number of the generation, and the snapshot that the run has made for it."""
    made = work.facts(SourceSnapshot).snapshot
    if made is not None and made.made is True:
        try:
            work.store.delete_snapshot(own(work, made.collection), made.name)
            release(work, [made.collection])
        except LeaseHeldError:
            raise
        except StoreError as error:
            work.progress.say(f"{work.collection}: the snapshot {made.name} stays: {error.message}")
    work.lease.forget_generation(step.target)
