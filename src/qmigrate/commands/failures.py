"""Each collection fails by itself: what failed is kept, and the others continue if asked for. It repairs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from qmigrate.errors import (
    CollectionsFailedError,
    DriftError,
    PlanError,
    QmigrateError,
    RefusedError,
    RepairNeededError,
    StoppedError,
)
from qmigrate.model.plan import Plan
from qmigrate.ports import Progress

#: Errors of planning that are about one collection.
_OWN = (PlanError, RefusedError, RepairNeededError, DriftError)
#: How a hint begins that names what was done before.
_DONE = "done before that, and stays done: "


class MovedError(Exception):
    """The collection is not what the plan was made on: no failure, it is planned again."""


@contextmanager
def telling(done: Sequence[str]) -> Iterator[None]:
    """An error that ends the block names what was done before it: of these collections the work is not undone.

    Args:
        done: logical names, filled while the block runs.
    """
    try:
        yield
    except QmigrateError as error:
        before = error.facts.get("done")
        names = list(dict.fromkeys([*done, *(before if isinstance(before, list) else [])]))
        if names and before != names:
            error.facts["done"] = names
            kept = [line for line in (error.hint or "").splitlines() if not line.startswith(_DONE)]
            error.hint = "\n".join([*kept, f"{_DONE}{', '.join(names)}"])
        raise


class Failures:
    """Collections that failed. Without `keep_going` the first failure is raised at once.

    Args:
        progress: gets each failure as it happens.
        keep_going: whether the other collections continue.
    """

    def __init__(self, progress: Progress, *, keep_going: bool = False) -> None:
        self.keep_going = keep_going
        self.found: dict[str, QmigrateError] = {}
        self._progress = progress

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Work on one collection: its failure is kept, a stop or an interruption is not one."""
        try:
            yield
        except (StoppedError, MovedError):
            raise
        except Exception as error:
            if not self.keep_going:
                raise
            known = error if isinstance(error, QmigrateError) else None
            self.found[name] = known or QmigrateError(f"unexpected {type(error).__name__}: {error}")
            self._progress.say(f"{name} failed: {self.found[name].message}. Continuing with the others.")

    def raise_any(self, result: object) -> None:
        """Raise one error for everything that failed.

        Args:
            result: what became of the others.

        Raises:
            CollectionsFailedError: something failed; it names each collection.
        """
        if self.found:
            raise CollectionsFailedError(self.found, result) from next(iter(self.found.values()))


def plan_each(
    make: Callable[[Iterable[str] | None], Plan],
    names: Iterable[str],
    only: Iterable[str] | None,
    failures: Failures,
) -> Plan:
    """One plan for all; where one collection prevents it and the others are to continue, a plan of those that can.

    Args:
        make: plans the collections of these names; None means all.
        names: every collection that could be meant.
        only: the restriction that was asked for, if any.
    """
    try:
        return make(only)
    except _OWN:
        if not failures.keep_going:
            raise
    plans: list[Plan] = []
    for name in names if only is None else only:
        if name not in failures.found:
            with failures.of(name):
                plans.append(make((name,)))
    return replace(
        make(()),
        collections=tuple(item for plan in plans for item in plan.collections),
        notes=tuple(dict.fromkeys(note for plan in plans for note in plan.notes)),
        held=tuple(name for plan in plans for name in plan.held),
        waiting={revision: sql for plan in plans for revision, sql in plan.waiting.items()},
    )
