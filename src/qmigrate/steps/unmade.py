"""A generation that the server refused to make: whether that is certain, and what was noted for it removed."""

from __future__ import annotations

from qmigrate.errors import LeaseHeldError, StoreError
from qmigrate.model.plan import Build
from qmigrate.steps.clone import was_tried
from qmigrate.steps.owned import own, release
from qmigrate.steps.work import Work


def is_unmade(step: Build, work: Work) -> bool:
    """Whether the build has provably made nothing, nor may make anything late, and its run has left nothing else open.

    Every request was answered, no recovery was asked for, and the collection is not there. What an earlier step of the
    job has built for this one is recorded only with it, so such a run stays open.
    """
    behind = work.job.steps[work.step - 1] if work.step else None
    if isinstance(behind, Build) or was_tried(work) or not work.store.all_answered():
        return False
    return step.target not in work.store.physical_names()


def unmake(step: Build, work: Work) -> None:
    """Remove the number of the generation, and the snapshot that the run has made for it."""
    made = work.facts("snapshot").get("snapshot") or {}
    if made.get("made"):
        try:
            work.store.delete_snapshot(own(work, made["collection"]), made["name"])
            release(work, [made["collection"]])
        except LeaseHeldError:
            raise
        except StoreError as error:
            work.progress.say(f"{work.collection}: the snapshot {made['name']} stays: {error.message}")
    work.lease.forget_generation(step.target)
