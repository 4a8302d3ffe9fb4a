"""What an abort must know of the run that it undoes: never the only copy, and no snapshot left behind."""

from __future__ import annotations

from qmigrate.errors import RefusedError
from qmigrate.model.plan import Build, Retire
from qmigrate.model.state import OpenRun
from qmigrate.model.words import quote
from qmigrate.steps.owned import is_same, own, release
from qmigrate.steps.unserved import check_held
from qmigrate.steps.work import Work


def refuse_last_copy(step: Retire, work: Work) -> None:
    """Refuse to remove what was built when the generation that it was built from is gone.

    Raises:
        RefusedError: it holds the only copy of the points.
    """
    if _build(step, work)[1] is None:
        return
    # All of them before the first goes: the later ones were built from the earlier ones.
    for one in work.job.steps[work.step :]:
        build = _build(one, work)[1] if isinstance(one, Retire) else None
        if build is not None:
            _refuse_last_copy(build, work)


def _refuse_last_copy(build: Build, work: Work) -> None:
    source, target = build.source, build.target
    if source is None or target not in work.store.physical_names() or not work.store.count(target):
        return
    gone = work.store.describe(source) is None
    if gone or not is_same(work, source):
        made = "has lost its seal: another client seems to have deleted and recreated it"
        now = "is not in Qdrant any more" if gone else made
        raise RefusedError(
            f"{source}, which {target} was built from, {now}: {target} holds the only copy of its points, so it was "
            "left as it is",
            hint=f"restore {source} from a snapshot; or copy what you need from {target}, delete {target} in Qdrant, "
            f"then qmigrate abort {quote(work.collection)}",
        )


def refuse_written(step: Retire, work: Work) -> None:
    """Refuse to remove what was held when another client has written to it: the name may have led there since.

    Raises:
        RefusedError: something was written to it since its proof.
    """
    run, build = _build(step, work)
    if run is not None and build is not None:
        check_held(work, run, build)


def drop_snapshot(step: Retire, work: Work) -> None:
    """Remove the snapshot that the run made of the source before it built this: nothing of it has gone live.

    One that the run only found there, after an interruption, may be another client's and stays.
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
