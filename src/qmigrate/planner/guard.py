"""What must hold before anything is run: files are what was applied, and nothing that was abandoned is resumed."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from qmigrate.errors import DriftError, RepairNeededError
from qmigrate.model.plan import Build, GoLive
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.state import DELETING, Applied, Capabilities, CollectionState, OpenRun, World
from qmigrate.planner.forward import pending
from qmigrate.revisions.graph import Revisions
from qmigrate.text import quote


def check_checksums(files: Mapping[str, tuple[str, str]], applied: Mapping[str, str]) -> None:
    """Stop when a file that was applied has changed since, or is gone.

    Args:
        files: revision -> (checksum, path) as it is now.
        applied: revision -> checksum as recorded or accepted.

    Raises:
        DriftError: naming the first such revision.
    """
    for error in changed_files(files, applied).values():
        raise error


def changed_files(files: Mapping[str, tuple[str, str]], applied: Mapping[str, str]) -> dict[str, DriftError]:
    """Revision -> what is wrong with a file that was applied and has changed since, or is gone; arguments as above."""
    found: dict[str, DriftError] = {}
    for revision, checksum in sorted(applied.items()):
        if revision not in files:
            found[revision] = DriftError(
                f"revision {revision} is applied, but its file is not in the versions folder",
                hint="bring the file back (is this the right scripts folder and branch?)",
            )
            continue
        now, path = files[revision]
        if now != checksum:
            found[revision] = DriftError(
                f"{path} was changed after it was applied (recorded {checksum[:12]}, now {now[:12]})",
                hint=f"restore it, or accept it: qmigrate repair --accept {quote(revision)} --reason WHY",
                facts={"revision": revision, "recorded": checksum, "found": now},
            )
    return found


def check_not_given_up(state: CollectionState, run: OpenRun) -> None:
    """Stop a resume that would fill, or go live with, a generation whose deletion has begun: it may be gone any moment.

    One that serves already, by another client's hand, is written to: it is not built on either.

    Raises:
        RepairNeededError: the run can only be aborted, or the name has to be moved back first.
    """
    for position, step in enumerate(run.job.steps):
        row = state.generation(step.target)
        if isinstance(step, (Build, GoLive)) and row is not None and row.state == DELETING:
            raise RepairNeededError(
                f"run {run.id} works on {row.physical}, which an abort has begun to delete: it can only be aborted",
                hint=f"qmigrate abort {quote(state.name)} finishes that",
            )
        serves = isinstance(step, GoLive) and step.target not in (None, step.source) and state.physical == step.target
        # What waits for its cut-over checks that by itself, and stays held.
        if serves and run.record(position, "swap") is None and run.waiting() != position:
            raise RepairNeededError(
                f"{state.name} is on {step.target}, which run {run.id} has neither proven nor gone live with: another "
                "client moved the name, and continuing would change what was written there since",
                hint=f"copy what you need from it, point the alias {quote(state.name)} to "
                f"{quote(str(getattr(step, 'source', None)))} again, then run the same command again",
            )


def check_open_run(files: Mapping[str, tuple[str, str]], run: OpenRun) -> None:
    """Stop when a file that an interrupted run works from has changed: resume never runs other code.

    Raises:
        DriftError: naming the revision.
    """
    for revision in sorted(run.job.revisions()):
        recorded = run.checksums.get(revision)
        found = files.get(revision, ("", revision))
        if recorded is not None and found[0] != recorded:
            raise DriftError(
                f"{found[1]} was changed while run {run.id} of {run.job.collection} was under way",
                hint=f"restore it and run qmigrate upgrade, or undo the run: qmigrate abort "
                f"{quote(run.job.collection)}",
            )


_UNKNOWN = Capabilities(
    local=False, version=(0, 0, 0), label="", snapshots=False, payload_indexes=False, vector_names=False, barrier=False
)


def unfinished(
    applied: Mapping[str, tuple[Applied, ...]],
    revisions: Revisions,
    wanted: frozenset[str],
    away: Collection[str] = (),
) -> dict[str, tuple[str, ...]]:
    """Logical name -> the revisions that it hasn't got, of a target and everything before it.

    A collection that a revision names and that the ledger doesn't know counts as unfinished; a glob is about the
    collections that are in the ledger.

    Args:
        applied: per logical name, as the ledger has it.
        wanted: ids of the target and all its ancestors.
        away: logical names that no collection has any more: only what recreates one is about it.
    """
    known = {name: entries for name, entries in applied.items() if entries}
    world = World(
        ledger_id="",
        capabilities=_UNKNOWN,
        collections={
            name: CollectionState(
                name=name,
                kind="alias",
                managed=True,
                applied=entries,
                declared=None if name in away else CollectionSchema(),
            )
            for name, entries in known.items()
        },
    )
    found = {name: list(pending(world, revisions, wanted, name)) for name in known}
    superseded = {old for one in revisions.squashed() if one.id in wanted for old in one.replaces}
    for revision in revisions.order():
        if revision.id in superseded:
            continue
        names = {operation.pattern for operation in revision.operations if not operation.is_glob}
        for name in sorted(names - known.keys()):
            if revision.id in wanted:
                found.setdefault(name, []).append(revision.id)
    return {name: tuple(entries) for name, entries in sorted(found.items()) if entries}
