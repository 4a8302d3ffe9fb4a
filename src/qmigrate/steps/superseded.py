"""What an abort must know of the run that it takes back: never the only copy, and no snapshot left behind."""

from __future__ import annotations

from qmigrate.errors import RefusedError
from qmigrate.model.plan import Build, Retire
from qmigrate.model.state import OpenRun
from qmigrate.steps.owned import own, release
from qmigrate.steps.unserved import check_held
from qmigrate.steps.work import Work


def refuse_last_copy(step: Retire, work: Work) -> None:
    """Refuse to remove what was built when the generation that it was built from is gone.

    Raises:
        RefusedError: it holds the only copy of the points.
    """
    build = _build(step, work)[1]
    if build is None or build.source is None or work.store.describe(step.target) is None:
        return
    if work.store.describe(build.source) is None and work.store.count(step.target):
        raise RefusedError(
            f"{build.source}, which {step.target} was built from, is not in Qdrant any more: {step.target} holds the "
            "only copy of its points, so it was left as it is",
            hint=f"restore {build.source} from a snapshot, or delete {step.target} in Qdrant when nobody needs it",
        )


def refuse_written(step: Retire, work: Work) -> None:
    """Refuse to remove what was held when another client has written to it: the name may have been there meanwhile.

    Raises:
        RefusedError: something was written to it since its proof.
    """
    run, build = _build(step, work)
    if run is not None and build is not None:
        check_held(work, run, build)


def drop_snapshot(step: Retire, work: Work) -> None:
    """Remove the snapshot that the run made of the source before it built this: nothing of it has gone live.

    One that the run only found there, after an interruption, may be somebody else's and stays.
    """
    run, build = _build(step, work)
    if run is None or build is None:
        return
    record = run.record(run.job.steps.index(build), "snapshot")
    made = (record.facts.get("snapshot") if record is not None else None) or {}
    if made.get("made") and made["collection"] in work.store.physical_names():
        work.store.delete_snapshot(own(work, made["collection"]), made["name"])
        release(work, [made["collection"]])


def _build(step: Retire, work: Work) -> tuple[OpenRun | None, Build | None]:
    """The superseded run and its build of this generation; it stays open until the abort is recorded."""
    run = next((one for one in work.lease.ledger.open_runs() if one.id == work.job.supersedes), None)
    steps = run.job.steps if run is not None else ()
    return run, next((one for one in steps if isinstance(one, Build) and one.target == step.target), None)
