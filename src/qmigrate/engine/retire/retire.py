"""Retire: the only module that deletes a collection. It re-reads names first and spares what has one."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from qmigrate.atomic_file import private_file, private_folder
from qmigrate.engine.approval import need_approval
from qmigrate.engine.build.shadow import is_over_and_there
from qmigrate.engine.closing import close_retire
from qmigrate.engine.epoch_aliases import check_same, is_same, own, release
from qmigrate.engine.fixes.purge import expire
from qmigrate.engine.points.dropped import forget_unborn
from qmigrate.engine.retire.late_writes import check_again, check_held, check_left, drop_late_writes
from qmigrate.engine.work import Phase, Work
from qmigrate.errors import ApprovalNeededError, QmigrateError, RefusedError, StoreError
from qmigrate.ledger.reader import present
from qmigrate.model.facts.phases import Closed, SourceSnapshot
from qmigrate.model.facts.retire import (
    RetireCheck,
    RetireDelete,
    RetiredSnapshot,
    RetirePreflight,
    RetireSnapshots,
    Retiring,
)
from qmigrate.model.names import PROBE_PREFIX, REHEARSAL, Permit, is_internal
from qmigrate.model.plan import Build, Retire
from qmigrate.model.state import BUILDING, OpenRun, marks_of
from qmigrate.observe import CLOSED_LATER, closed_later, use_the_newer
from qmigrate.ports import Snapshot, Store
from qmigrate.store.faults import is_unclear
from qmigrate.text import quote

_CHUNK = 2**20
#: What its phases learn.
KINDS: tuple[type[Retiring], ...] = (RetirePreflight, RetireCheck, RetireSnapshots, RetireDelete)
R = TypeVar("R", bound=Retiring)


class Exported(NamedTuple):
    """A snapshot that was downloaded: where it is, its digest, and its size in bytes."""

    file: str
    sha256: str
    size: int


def export_snapshot(work: Work, address: str, physical: str, snapshot: Snapshot) -> Exported:
    """Download a snapshot to ``<fixes.exports>/snapshots/<generation>/``, readable by its owner only.

    Next to it is ``<name>.sha256``, as ``sha256sum -c`` reads it. A file that is there already and complete is kept.

    Args:
        address: the name by which the server is asked.
        physical: the generation, for the folder.

    Returns:
        The file, its digest and its size.

    Raises:
        RefusedError: it can't be written, or what arrived is not what the server has.
    """
    folder = work.settings.fixes.exports / "snapshots" / _plain(physical)
    file = folder / _plain(snapshot.name)
    try:
        private_folder(folder)
        if not _is_whole(file, snapshot):
            _download(work, address, snapshot, file)
        digest = _digest(file)
        _write(file.with_name(file.name + ".sha256"), f"{digest}  {file.name}\n".encode())
    except OSError as error:
        raise RefusedError(
            f"the snapshot {snapshot.name} of {physical} can't be exported to {folder}: {error.strerror}",
            hint="make room, or name another folder: fixes.exports in qmigrate.yaml",
        ) from error
    return Exported(str(file), digest, file.stat().st_size)


def _download(work: Work, address: str, snapshot: Snapshot, file: Path) -> None:
    part = file.with_name(file.name + ".part")
    seen, size = hashlib.sha256(), 0
    work.progress.begin(work.collection, f"export {snapshot.name}", None)
    with os.fdopen(private_file(part, empty=True), "wb") as out:
        for chunk in work.store.read_snapshot(address, snapshot.name):
            work.tick()
            out.write(chunk)
            seen.update(chunk)
            size += len(chunk)
        out.flush()
        os.fsync(out.fileno())
    wrong = size != snapshot.size or snapshot.checksum not in (None, seen.hexdigest())
    if wrong:
        part.unlink()
        raise RefusedError(
            f"the snapshot {snapshot.name} arrived damaged: {size:,} of {snapshot.size:,} bytes, SHA-256 "
            f"{seen.hexdigest()[:12]} instead of {(snapshot.checksum or 'unknown')[:12]}",
            hint="run the same command again; if it happens again, the snapshot itself is damaged",
        )
    part.replace(file)
    work.progress.end(f"{size:,} bytes")


def _is_whole(file: Path, snapshot: Snapshot) -> bool:
    """Whether an earlier try has finished it: only a checksum of the server can say so."""
    return snapshot.checksum is not None and file.exists() and _digest(file) == snapshot.checksum


def _digest(file: Path) -> str:
    found = hashlib.sha256()
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()


def _write(file: Path, content: bytes) -> None:
    with os.fdopen(private_file(file, empty=True), "wb") as out:
        out.write(content)


def _plain(name: str) -> str:
    """A name as one part of a path, never a way out of the folder."""
    return name.replace("/", "_").replace("\\", "_").lstrip(".") or "_"


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
            "left unchanged",
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
    made = run.facts(SourceSnapshot, run.job.steps.index(build)).snapshot
    if made is not None and made.made is True and made.collection in work.store.physical_names():
        work.store.delete_snapshot(own(work, made.collection), made.name)
        release(work, [made.collection])


def _build(step: Retire, work: Work) -> tuple[OpenRun | None, Build | None]:
    """The superseded run and its build of this generation; it stays open until the abort is recorded."""
    run = next((one for one in work.lease.ledger.open_runs() if one.id == work.job.supersedes), None)
    steps = run.job.steps if run is not None else ()
    return run, next((one for one in steps if isinstance(one, Build) and one.target == step.target), None)


#: Points that a probe may have written.
MOST_PROBE_POINTS = 10
#: Request timeouts that a deletion can take, as ``Store.drop_collection`` promises.
LASTS = 2.0
#: How often a deletion is sent whose answer stays away: each time it is checked first, and the lease renewed.
DELETE_TRIES = 3
#: How long every node may take to show that a deleted collection is gone, in seconds.
READ_BACK = 10.0


def preflight(step: Retire, work: Work) -> RetirePreflight:
    """Nothing points to it, it is ours, and a name that applications may use is an alias of another generation."""
    return _unless_spared(step, work, RetirePreflight, lambda: _look(step, work))


def check(step: Retire, work: Work) -> RetireCheck:
    """Nothing was written to it after it was left (rule 9), or its points may be discarded."""
    return _unless_spared(step, work, RetireCheck, lambda: _check(step, work))


def snapshots(step: Retire, work: Work) -> RetireSnapshots:
    """Its snapshots are exported or deleted before it: a server hides them once their collection is gone."""
    return _unless_spared(step, work, RetireSnapshots, lambda: _snapshots(step, work))


def delete(step: Retire, work: Work) -> RetireDelete:
    """Checked once more, then the collection goes, and what was kept to compare it with."""
    return _unless_spared(step, work, RetireDelete, lambda: _delete(step, work))


def delete_plain(work: Work, physical: str, looked: Callable[[], None], quiet: Callable[[], None]) -> None:
    """Delete the plain collection of the logical name, behind a proven freeze: only ``gap`` may ask for it.

    Args:
        looked: called once it is sure what will be deleted: from then on the name may be taken.
        quiet: sees, each time before the request, that nothing was written since the proof, or proves again.

    Raises:
        RepairNeededError: it is not the collection that was proven.
    """
    check_same(work, physical)
    _destroy(work, physical, looked, quiet)


def drop_probe(store: Store, name: str) -> bool:
    """Delete a collection that a probe of the server has left behind: named so, with nothing in it to keep.

    Returns:
        Whether it was deleted; False where anything prevents it.
    """
    if not name.startswith(PROBE_PREFIX):
        return False
    found = store.describe(name)
    named = [alias for alias, target in store.aliases().items() if target == name and not is_internal(alias, name)]
    if found is None or found.seal is not None or named:
        return False
    if store.count(name) > MOST_PROBE_POINTS:
        return False
    store.drop_collection(Permit.of_probe(name))
    return True


def close(step: Retire, work: Work) -> Closed:
    """Recorded in one transaction."""
    close_retire(work, step, spared=_is_spared(work))
    expire(work)
    return Closed()


def _unless_spared(step: Retire, work: Work, kind: type[R], phase: Callable[[], R]) -> R:
    """Nothing more is done to what was spared; a refusal spares it, where the step allows it."""
    if _is_spared(work):
        return kind()
    try:
        if work.begun_only:
            _refuse_unbegun(step, work)
        return phase()
    except RefusedError as error:
        if not step.spare or isinstance(error, ApprovalNeededError):
            raise
        at, writes = error.facts.get("generation"), error.facts.get("writes")
        return kind(
            spared=error.message,
            hint=error.hint,
            generation=str(at) if at is not None else None,
            writes=writes if isinstance(writes, Mapping) else None,
        )


def _refuse_unbegun(step: Retire, work: Work) -> None:
    """The caller of the clean-up agreed to what it deletes; the one who finishes it may be about to go back to it."""
    row = work.generation(step.target)
    if row is not None and row.state == "retired":
        raise RefusedError(
            f"{step.target} was to be deleted by a clean-up that was interrupted before: it stays",
            hint=f"qmigrate gc {quote(work.collection)} shows it",
        )


def _is_spared(work: Work) -> bool:
    return any(work.facts(kind).spared is not None for kind in KINDS)


def _look(step: Retire, work: Work) -> RetirePreflight:
    # An abort checks all that it removes before the first goes: the run may have to be finished instead.
    for one in work.job.steps[work.step :] if work.job.supersedes is not None else (step,):
        if isinstance(one, Retire):
            _refuse_closed(one, work)
            _refuse_names(one, work)
    if not _is_there(step, work):
        return RetirePreflight(present=False)
    hidden_by = _hidden_by(step, work)
    _refuse_foreign(step, work)
    if not REHEARSAL.match(step.target):
        refuse_last_copy(step, work)
        refuse_written(step, work)
    points = work.store.count(_address(work, step.target))
    row = work.generation(step.target)
    until = row.held_until if row is not None and row.state == "retired" else None
    if until is not None and until > present(work.lease.ledger):
        # Before the end of its holdover it is a way back, of a rebuild or of a reset that was approved as such.
        need_approval(work, points, points)
    return RetirePreflight(present=True, hidden_by=hidden_by, points=points)


def _check(step: Retire, work: Work) -> RetireCheck:
    generation = work.generation(step.target)
    # Once its deletion has begun, nothing of it can be kept any more.
    served = generation is not None and generation.state == "retired"
    if not served or step.writes == "discard" or not work.facts(RetirePreflight).present:
        return RetireCheck()
    if work.store.capabilities.several and step.target in work.store.aliases():
        raise RefusedError(
            f"{step.target} is hidden by an alias of its name, and there are {work.store.capabilities.peers_words}: "
            "whether it was written to past its fence is unknown, since requests to it reach what serves as well",
            hint=f"qmigrate gc {quote(work.collection)} --now --generation {quote(step.target)} "
            "--discard-writes removes it all the same",
        )
    return check_left(work, step.target)


def _snapshots(step: Retire, work: Work) -> RetireSnapshots:
    if not work.store.capabilities.snapshots or not _is_there(step, work):
        return RetireSnapshots()
    address = _address(work, step.target)
    found = work.store.list_snapshots(address)
    fresh = [made.name for made in found if made.name not in step.snapshots]
    if fresh and step.spare:
        raise RefusedError(
            f"{step.target} has a snapshot that was not there when this was planned: {fresh[0]}; both were kept",
            hint="qmigrate gc shows it now",
        )
    done = work.facts(RetireSnapshots).snapshots or ()
    for made in found:
        entry = RetiredSnapshot(made.name, made.size, step.keep_snapshots)
        if step.keep_snapshots:
            kept = export_snapshot(work, address, step.target, made)
            entry = RetiredSnapshot(made.name, kept.size, kept=True, file=kept.file, sha256=kept.sha256)
        # Noted before it is deleted: afterwards nothing on the server shows it.
        done = (*(one for one in done if one.name != made.name), entry)
        work.note(replace(work.facts(RetireSnapshots), snapshots=done))
        work.store.delete_snapshot(own(work, step.target), made.name)
    return RetireSnapshots(snapshots=done)


def _delete(step: Retire, work: Work) -> RetireDelete:
    gone = RetireDelete(deleted=False)
    generation = work.generation(step.target)
    if generation is not None and generation.never_served:
        # A recovery that the server is still at would make the collection again behind its deletion.
        is_over_and_there(work, step.target)
        _refuse_foreign(step, work)
    if _is_there(step, work):
        checked = work.facts(RetireCheck)
        if checked.ids is not None:
            check_again(work, step.target, checked)
        release(work, [step.target])
        _refuse_names(step, work)
        hidden_by = _hidden_by(step, work)
        _destroy(work, step.target)
        _read_back(step, work, hidden_by)
        gone = RetireDelete(deleted=True)
    drop_snapshot(step, work)
    drop_late_writes(work, step.target)
    forget_unborn(work, step.target)
    return gone


def _nothing() -> None:
    """Nothing has to be done."""


def _destroy(
    work: Work, physical: str, begun: Callable[[], None] = _nothing, quiet: Callable[[], None] = _nothing
) -> None:
    """Delete a collection: recorded first, sent once under a lease that outlives the request, then checked.

    Nothing makes a server refuse what a process that was paused sends late, so the generation is abandoned for good
    before the request goes out: the process that takes over finishes the deletion, and nothing serves from it again.

    Args:
        begun: called once that is recorded: from then on the name may be taken.
        quiet: called before each request: the one before has been waited for, and a fence lets some writes pass.
    """
    unclear = False
    for attempt in range(DELETE_TRIES):
        work.tick()
        if unclear:
            if physical not in work.store.physical_names():
                return
            # A plain name may have been recreated by then, and that one is not what was to be deleted.
            check_same(work, physical)
        try:
            quiet()
        except QmigrateError:
            # An earlier request may arrive at any time.
            if unclear and physical not in work.store.physical_names():
                return
            raise
        permit = work.lease.begin_deletion(physical, LASTS * work.store.request_timeout)
        begun()
        try:
            work.store.drop_collection(permit)
        except StoreError as error:
            if not is_unclear(error):
                if not unclear:
                    # It has answered: nothing is on its way, and it is what it was.
                    work.lease.cancel_deletion(physical)
                raise
            # From here on a request may be on its way, whatever is answered to later ones.
            unclear = True
            if _goes_away(work, physical):
                return
            if attempt == DELETE_TRIES - 1:
                raise
        else:
            return


def _goes_away(work: Work, physical: str) -> bool:
    """Whether a collection is gone, or goes within the time of a request."""
    deadline = time.monotonic() + work.store.request_timeout
    while physical in work.store.physical_names():
        if time.monotonic() > deadline:
            return False
        work.tick()
        time.sleep(0.05)
    return True


def _refuse_foreign(step: Retire, work: Work) -> None:
    """Refuse what this ledger hasn't sealed."""
    if not _is_there(step, work):
        return
    found = work.store.describe(_address(work, step.target))
    if marks_of(found).ledger != work.ledger_id:
        raise RefusedError(f"{step.target} is not sealed by this ledger; it was left unchanged")


def _is_there(step: Retire, work: Work) -> bool:
    """Whether the generation is there: one that applications have named may be gone, and recreated by them.

    What has the logical name itself is recognised by that: see :func:`_hidden_by`.
    """
    if step.target not in work.store.physical_names():
        return False
    return step.target == work.collection or is_same(work, step.target)


def _address(work: Work, physical: str) -> str:
    """By which name requests get to it: an alias of its own name would lead them elsewhere."""
    return own(work, physical) if physical in work.store.aliases() else physical


def _refuse_closed(step: Retire, work: Work) -> None:
    """Refuse what has served: it is what this ledger has as being built that was closed, by a later state of it."""
    row = work.generation(step.target)
    found = work.store.describe(_address(work, step.target)) if _is_there(step, work) else None
    if row is not None and row.state == BUILDING and closed_later(work.state, marks_of(found)):
        raise RefusedError(
            CLOSED_LATER.format(name=work.collection, physical=step.target), hint=use_the_newer(work.collection)
        )


def _refuse_names(step: Retire, work: Work) -> None:
    names = [
        alias
        for alias, physical in work.store.aliases().items()
        if physical == step.target and not is_internal(alias, physical)
    ]
    if names:
        hint = None
        if work.job.supersedes is not None:
            named = ", ".join(map(quote, sorted(names)))
            hint = (
                f"qmigrate upgrade finishes the run; or point {named} where it led before, then "
                f"qmigrate abort {quote(work.collection)}"
            )
        raise RefusedError(
            f"{step.target} is in use: {', '.join(sorted(names))} points to it; it was left unchanged", hint=hint
        )


def _hidden_by(step: Retire, work: Work) -> str | None:
    """The live generation that an alias of the target's very name leads to, as every node has it, or None.

    Raises:
        RefusedError: the target's name is one that applications use, and it may be the target that they reach.
    """
    holders = {aliases.get(step.target) for aliases in work.store.aliases_of_nodes()}
    if holders == {None} and step.target != work.collection:
        return None
    holder = holders.pop() if len(holders) == 1 else None
    serving = work.generation(holder)
    if serving is None or serving.state != "live" or holder == step.target:
        raise RefusedError(
            f"{step.target} is a name that applications use, and not every node has it as an alias of the live "
            f"generation of {work.collection}; it was left unchanged",
            hint="qmigrate status shows what is where",
        )
    return holder


def _read_back(step: Retire, work: Work, hidden_by: str | None) -> None:
    """Wait until every node shows that the collection is gone and that its name, where it has one, still serves."""
    deadline = time.monotonic() + max(READ_BACK, work.store.request_timeout)
    while True:
        nodes = work.store.aliases_of_nodes()
        left_over = any(step.target in aliases.values() for aliases in nodes)
        serves = all(aliases.get(step.target) == hidden_by for aliases in nodes)
        if serves and not left_over and not _is_there(step, work):
            break
        if time.monotonic() > deadline:
            raise StoreError(
                f"{step.target} was deleted, but not every node shows that yet", hint="run the same command again"
            )
        work.tick()
        time.sleep(0.02)
    if hidden_by is not None:
        found = work.store.describe(step.target)
        if found is None or found.physical != hidden_by:
            raise StoreError(f"{step.target} should lead to {hidden_by} now, but it does not", hint="qmigrate status")


PHASES = (
    Phase(RetirePreflight, preflight),
    Phase(RetireCheck, check),
    Phase(RetireSnapshots, snapshots),
    Phase(RetireDelete, delete),
    Phase(Closed, close),
)
