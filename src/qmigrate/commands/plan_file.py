"""upgrade --plan: exactly the jobs that were reviewed, or none. It never plans again."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from qmigrate.atomic_file import private_file, restrict
from qmigrate.commands.asking import check_plan
from qmigrate.commands.estimate import refuse_longer, with_estimates
from qmigrate.commands.held_runs import held_collections
from qmigrate.commands.parallel import at_once
from qmigrate.commands.results import UpgradeResult
from qmigrate.commands.run_job import RunOptions, moved_since
from qmigrate.commands.run_plan import finish_open_runs, perform_exactly
from qmigrate.commands.session import Session, session
from qmigrate.commands.sql_gate import waits, within_reach
from qmigrate.commands.upgrade import afterwards, check_names, planned
from qmigrate.engine.executor import stop_on_signals
from qmigrate.errors import DriftError, ForeignLedgerError, RefusedError, UsageError
from qmigrate.model.facts.stored import by_field, loaded, refuse_unknown
from qmigrate.model.plan import CollectionPlan, GoLive, Plan
from qmigrate.model.schema import JsonObject
from qmigrate.model.state import CollectionState, World
from qmigrate.observe import check_hidden, observe
from qmigrate.ports import Progress
from qmigrate.settings.load import Settings
from qmigrate.version import __version__

#: The shape of the file; another one is refused, since what it would do is unknown.
FORMAT, VERSION = "qmigrate.plan", 1
_AGAIN = "make it again: qmigrate plan --out FILE"


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """A plan as it was reviewed.

    Attributes:
        made_at: when.
        ledger: identity of the ledger; empty while it had none.
        ledger_label: where it was, without secrets.
        qdrant: label of the server.
        files: revision -> checksum of what the jobs use or record.
    """

    plan: Plan
    made_at: datetime
    ledger: str
    ledger_label: str
    qdrant: str
    files: dict[str, str]


def save(opened: Session, plan: Plan, path: Path) -> None:
    """Write a plan to a file that only its owner can read; an existing one is replaced at once.

    Raises:
        UsageError: it can't be written.
    """
    needed = frozenset(one for item in plan.collections for one in item.job.revisions())
    content = {
        "format": FORMAT,
        "version": VERSION,
        "made_at": datetime.now(UTC).isoformat(),
        "tool": __version__,
        "ledger": opened.ledger_id,
        "ledger_label": opened.ledger.url_label,
        "qdrant": _place(opened),
        "files": {one: value for one, value in (plan.checksums or {}).items() if one in needed},
        "plan": _plan_json(plan),
    }
    content["digest"] = _digest(content)
    fresh = path.with_name(path.name + ".new")
    try:
        with os.fdopen(private_file(fresh, empty=True), "w", encoding="utf-8", newline="\n") as out:
            restrict(out)
            json.dump(content, out, indent=2, ensure_ascii=False)
            out.write("\n")
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise UsageError(f"the plan can't be written to {path}: {error.strerror}") from error


def load(path: Path) -> SavedPlan:
    """Read a plan back.

    Raises:
        UsageError: it can't be read, is not a plan, of another version, or was changed since it was written.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the plan {path} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path} is not a plan: {error}", hint=_AGAIN) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UsageError(f"{path} is not a plan of qmigrate", hint=_AGAIN)
    if content.get("version") != VERSION:
        raise UsageError(
            f"{path} is a plan of version {content.get('version')}; this qmigrate reads version {VERSION}", hint=_AGAIN
        )
    if content.pop("digest", None) != _digest(content):
        raise UsageError(
            f"{path} was changed after it was written: what it would do is not what was planned", hint=_AGAIN
        )
    try:
        for item in content["plan"]["collections"]:
            refuse_unknown(CollectionPlan, item)
        return loaded(SavedPlan, content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{path} can't be understood: {type(error).__name__}: {error}", hint=_AGAIN) from error


def check_place(opened: Session, saved: SavedPlan) -> None:
    """Stop when a plan was made for another Qdrant or ledger, or from other revision files.

    Raises:
        ForeignLedgerError: another Qdrant or ledger.
        DriftError: a revision file is not what it was, or is gone.
    """
    here = _place(opened)
    if saved.qdrant != here:
        raise ForeignLedgerError(f"the plan was made for {saved.qdrant}; this is {here}", hint=_AGAIN)
    # A ledger that had no tables when the plan was made has an identity only now.
    same = saved.ledger == opened.ledger_id if saved.ledger else saved.ledger_label == opened.ledger.url_label
    if not same:
        raise ForeignLedgerError(
            f"the plan was made with another ledger ({saved.ledger_label}); this is {opened.ledger.url_label}",
            hint=_AGAIN,
        )
    files = opened.files()
    for revision, checksum in sorted(saved.files.items()):
        found = files.get(revision)
        if found is None or found[0] != checksum:
            what = "is gone" if found is None else "was changed"
            name = found[1] if found else f"the file of revision {revision}"
            raise DriftError(
                f"{name} {what} since the plan was made", hint=f"restore it, or {_AGAIN}", facts={"revision": revision}
            )


def _place(opened: Session) -> str:
    """Which Qdrant this is; a local folder that isn't there yet is named all the same."""
    can = opened.store.capabilities
    return f"local Qdrant in {opened.settings.qdrant.path}" if can.local else can.label


def _digest(content: JsonObject) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


#: Of a plan, as a file has it for its readers.
_PARTS = ("verb", "target", "notes", "held", "waiting", "checksums", "collections")


def _plan_json(plan: Plan) -> JsonObject:
    said = by_field(replace(plan, checksums=plan.checksums or {}))
    return {name: said[name] for name in _PARTS}


def plan_to(settings: Settings | None, path: Path, target: str = "head", only: tuple[str, ...] | None = None) -> Plan:
    """`plan`, and the plan in a file for :func:`upgrade_planned`. Sends no write to Qdrant or SQL.

    Args:
        path: of the file; only its owner can read it.

    Raises:
        UsageError: the file can't be written.
    """
    settings = settings or Settings.load()
    with session(settings, writes=False) as opened:
        made = planned(opened, target, only, models=True)
        save(opened, made, path)
        return made


def upgrade_planned(
    settings: Settings | None,
    path: Path,
    *,
    lock_timeout: float | None = None,
    no_snapshot: bool = False,
    allow_gap: bool = False,
    max_estimate: float | None = None,
    parallel: int | None = 1,
    progress: Progress | None = None,
) -> UpgradeResult:
    """Run the jobs of a plan file. The same file again resumes after a crash, and does nothing when all is done.

    What is past its holdover is not collected first, since that would move the state that was planned on.

    Args:
        path: of the file.
        lock_timeout: seconds to wait for another process; None for the setting.
        no_snapshot: don't make a snapshot of the sources first.
        allow_gap: consent to some milliseconds in which reads fail, where the plan has such a step.
        max_estimate: refuse what is expected to take longer than these seconds.
        parallel: collections at a time; None for as many as suit the server.

    Raises:
        UsageError: the file can't be read, or was changed.
        ForeignLedgerError: it was made for another Qdrant or ledger.
        DriftError: a revision file was changed since.
        RefusedError: the state of a collection has moved since.
        PendingError: a revision waits for one of SQL, or it is expected to take longer than `max_estimate`.
    """
    settings = settings or Settings.load()
    saved = load(path)
    with session(settings, writes=True, progress=progress) as opened, stop_on_signals(opened.progress) as stop:
        opened.parallel = at_once(opened.store, parallel)
        check_place(opened, saved)
        if not opened.store.capabilities.local:
            _check_consent(saved.plan, allow_gap)
        interrupted = [item.job.collection for item in saved.plan.collections if _is_begun(opened, item)]
        left = _not_begun(opened, saved)
        if max_estimate is not None:
            world = observe(opened.ledger, opened.store)
            # As it is today: what was planned on may have grown since.
            today = with_estimates(opened, world, _of(saved.plan, left))
            refuse_longer(opened, world, today, max_estimate, [*interrupted, *_names(left)])
        options = RunOptions(stop, lock_timeout, only=interrupted, snapshot=not no_snapshot)
        resumed, finished = finish_open_runs(opened, options)
        check_plan(opened, _of(saved.plan, left))
        outcomes = perform_exactly(opened, _of(saved.plan, left), options)
        held = held_collections(opened, tuple(_names(list(saved.plan.collections))))
        every = (*finished, *outcomes)
        back, at = afterwards(opened, every)
    return UpgradeResult(plan=saved.plan, resumed=tuple(resumed), outcomes=every, held=held, back=back, at=at)


def _not_begun(opened: Session, saved: SavedPlan) -> list[CollectionPlan]:
    """The jobs that neither an interrupted nor a finished run of this very plan has; all of them must fit."""
    left = [item for item in saved.plan.collections if not _is_begun(opened, item) and not _is_done(opened, item)]
    world = observe(opened.ledger, opened.store)
    check_names(world, opened.revisions, _names(list(saved.plan.collections)))
    check_hidden(world, _of(saved.plan, left))
    moved = [item.job.collection for item in left if _basis(world, item) != item.job.basis]
    if moved:
        raise moved_since(moved)
    _check_sql(opened, world, left)
    return left


def _check_sql(opened: Session, world: World, left: list[CollectionPlan]) -> None:
    """SQL may have gone back since the plan was made.

    Raises:
        PendingError: a revision of the plan waits for one of SQL.
    """
    revisions = frozenset(closing.revision for item in left for closing in item.job.closes)
    waiting = within_reach(opened, world, revisions)[1]
    if waiting:
        raise waits(waiting, "the plan")


def _names(items: list[CollectionPlan]) -> list[str]:
    return [item.job.collection for item in items]


def _basis(world: World, item: CollectionPlan) -> str:
    name = item.job.collection
    return world.collections.get(name, CollectionState(name=name, kind="absent", managed=False)).basis()


def _is_begun(opened: Session, item: CollectionPlan) -> bool:
    """Whether an interrupted run has this very job."""
    run = opened.ledger.open_run(item.job.collection)
    return run is not None and run.job == item.job


def _is_done(opened: Session, item: CollectionPlan) -> bool:
    """Whether the newest run of the collection has finished this very job."""
    return opened.ledger.newest_job(item.job.collection) == item.job


def _of(plan: Plan, items: list[CollectionPlan]) -> Plan:
    return replace(plan, collections=tuple(items))


def _check_consent(plan: Plan, allow_gap: bool) -> None:
    gaps = [
        item.job.collection
        for item in plan.collections
        if any(isinstance(step, GoLive) and step.place == "gap" for step in item.job.steps)
    ]
    if gaps and not allow_gap:
        raise RefusedError(
            f"{', '.join(gaps)}: reads fail for some milliseconds while the plain name becomes an alias",
            hint="qmigrate upgrade --plan FILE --allow-gap",
        )
