"""adopt and stamp: collections that are there already come under management, as they are. No point is touched."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

from qmigrate.commands.candidates import Candidates, Left, find
from qmigrate.commands.inline import with_inline
from qmigrate.commands.names import named
from qmigrate.commands.parallel import at_once
from qmigrate.commands.run_job import RunOptions
from qmigrate.commands.run_plan import finish_open_runs, perform
from qmigrate.commands.session import Session, session
from qmigrate.engine.executor import Stop, stop_on_signals
from qmigrate.errors import ForeignLedgerError, QmigrateError, RefusedError
from qmigrate.model.names import has_wildcard
from qmigrate.model.plan import Plan
from qmigrate.model.state import Seal, World, marks_of
from qmigrate.observe import known_names, lacks_seal, observe
from qmigrate.operations.text.source import CodeWriter, alias_source, create_source, drop_source
from qmigrate.parameters.own import SERVER_DEFAULTS
from qmigrate.planner.adopt import AdoptWish, Target, Verdict, judge, number_of, plan_adopt, refuse_differences
from qmigrate.planner.members import chain
from qmigrate.ports import Progress
from qmigrate.revisions.graph import Revisions
from qmigrate.revisions.new import NewFile, compose, initialise, new_id, write_new
from qmigrate.settings.load import Settings
from qmigrate.text import counted, quote


@dataclass(frozen=True, slots=True)
class Adopted:
    """One collection.

    Attributes:
        name: the logical name.
        physical: the collection that serves it.
        generation: its number; 0 for one that qmigrate has not made.
        revision: the one that it is at now.
        how: ``baseline`` (a revision was written from it), ``history`` (a revision fits), ``seal`` (taken over from
            another ledger), ``known`` (it was under management already, nothing was done).
        points: approximate count.
        taken_over: ledger, revision and generation that were overridden, or None.
        drift: what differs from the recorded schema of a collection that was taken over.
    """

    name: str
    physical: str
    generation: int
    revision: str | None
    how: str
    points: int
    taken_over: Mapping[str, Any] | None = None
    drift: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AdoptResult:
    """`adopt` and `stamp`.

    Attributes:
        rows: one per collection.
        file: the baseline revision that was written, or would be.
        text: its content.
        missing: what it can't express, one line each.
        notes: what a person should know.
        dry_run: nothing was written.
        left: what matches the glob and can't be adopted.
    """

    rows: tuple[Adopted, ...]
    file: Path | None = None
    text: str | None = None
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    dry_run: bool = False
    left: tuple[Left, ...] = ()

    @property
    def exit_code(self) -> int:
        """That of the first one that was left and could be adopted; another ledger's collection is not one of those."""
        codes = (one.exit_code for one in self.left if one.exit_code != ForeignLedgerError.exit_code)
        return next(codes, 0)


@dataclass(frozen=True, slots=True)
class _Finding:
    """The revisions of the collections, and the revision that has to be written for those that none creates."""

    verdicts: tuple[Verdict, ...]
    file: NewFile | None
    missing: tuple[str, ...]
    notes: tuple[str, ...] = ()
    left: tuple[Left, ...] = ()


def adopt(  # noqa: PLR0913  as many as the command has options
    settings: Settings | None,
    pattern: str,
    *,
    alias: str | None = None,
    take_over: bool = False,
    message: str | None = None,
    revision_id: str | None = None,
    dry_run: bool = False,
    lock_timeout: float | None = None,
    parallel: int | None = 1,
    progress: Progress | None = None,
) -> AdoptResult:
    """Take the collections that match under management, as they are.

    Each is compared with the schema that every revision has recorded for it, and is recorded at the newest one that
    fits. Those that no revision creates get one: a baseline, written from what is there; collections of equal schema
    share an operation, with the glob for the schema that most have. Then each is sealed and recorded, at generation 0
    if qmigrate has not made it. Points, settings and names stay as they are, so no client notices. Where a glob means
    several, those that can't be adopted are named and left alone.

    Args:
        pattern: a logical name or glob.
        alias: for one plain collection: the name that the application will use from now on, made an alias of it.
        take_over: override the seal of another ledger, which is lost: its revision is believed if the file still has
            the sealed checksum, and its other generations are kept indefinitely. They are not a way back, since what
            was written since they were left is unknown without that ledger.
        message: of the baseline revision.
        revision_id: of the baseline revision, instead of the next one.
        dry_run: find out and show, write nothing.
        parallel: collections at a time; None for as many as suit the server.

    Raises:
        DriftError: a collection fits no revision, although one creates it; lists the differences.
        ForeignLedgerError: it is sealed by another ledger, and `take_over` was not given.
        RefusedError: several revisions fit, a run of the other ledger seems to be under way, or the names are unclear.
        NotFoundError: nothing matches.
    """
    settings = settings or Settings.load()
    with (
        session(settings, writes=not dry_run, progress=progress, looking=True, begins=False) as opened,
        stop_on_signals(opened.progress) as stop,
    ):
        opened.parallel = at_once(opened.store, parallel)
        found = find(opened, pattern, alias, take_over=take_over)
        if not dry_run:
            _finish(opened, found, stop, lock_timeout)
        choice = AdoptWish(take_over=take_over)
        world = observe(opened.ledger, opened.store, only=found.names)
        finding = _look(opened, world, found, choice, _wording(pattern, message, revision_id))
        left = {one.name for one in finding.left}
        found = replace(found, chosen=tuple(name for name in found.chosen if name not in left))
        if not dry_run:
            choice = _write_baseline(opened, finding, choice)
            try:
                _record(opened, "adopt", found, choice, stop, lock_timeout)
            except QmigrateError:
                _take_back(opened, finding, found)
                raise
        return _result(opened, found, finding, dry_run=dry_run)


def stamp(
    settings: Settings | None,
    revision: str,
    *,
    only: Iterable[str] | None = None,
    take_over: bool = False,
    dry_run: bool = False,
    lock_timeout: float | None = None,
    progress: Progress | None = None,
) -> AdoptResult:
    """Record that collections are at a revision, because they are: nothing is run.

    The same comparison as :func:`adopt`, with one revision. What was recorded beyond it is recorded as not applied.

    Args:
        revision: ``head``, an id or the beginning of one.
        only: these logical names; by default all that a revision up to this one creates.
        take_over: override the seal of another ledger; the schema alone decides then.

    Raises:
        DriftError: a collection doesn't fit; lists the differences.
        RefusedError: no revision up to this one creates a named collection.
        ForeignLedgerError: it is sealed by another ledger, and `take_over` was not given.
    """
    settings = settings or Settings.load()
    with (
        session(settings, writes=not dry_run, progress=progress, begins=False) as opened,
        stop_on_signals(opened.progress) as stop,
    ):
        wanted = _named(opened.revisions, revision)
        names = named(opened, only) if only is not None else _created(opened, wanted)
        found = Candidates.named(opened, names)
        if not dry_run:
            _finish(opened, found, stop, lock_timeout)
        choice = AdoptWish(take_over=take_over, revision=wanted)
        world = observe(opened.ledger, opened.store, only=found.names)
        finding = _look(opened, world, found, choice, None)
        if not dry_run:
            _record(opened, "stamp", found, choice, stop, lock_timeout)
        return _result(opened, found, finding, dry_run=dry_run)


def _named(revisions: Revisions, revision: str) -> str:
    newest = revisions.head() if revision.strip() == "head" else None
    return newest.id if newest is not None else revisions.standing_for(revision).id


def _finish(opened: Session, found: Candidates, stop: Stop, lock_timeout: float | None) -> None:
    """Resume what an interrupted adopt or stamp has begun; an upgrade is not this verb's business."""
    mine = [run.job.collection for run in opened.ledger.open_runs() if run.verb in ("adopt", "stamp")]
    chosen = [name for name in mine if name in found.names]
    if chosen:
        finish_open_runs(opened, RunOptions(stop, lock_timeout, only=chosen))


def _created(opened: Session, wanted: str) -> tuple[str, ...]:
    closure = opened.revisions.ancestors(wanted) | {wanted}
    every = known_names(opened.ledger, opened.store)
    names = [name for name in every if chain(opened.revisions, name, closure)]
    world = observe(opened.ledger, opened.store, only=names)
    found = tuple(name for name, state in world.collections.items() if state.live is not None)
    if not found:
        raise RefusedError(
            f"none of the collections that revisions up to {wanted} create exists",
            hint="qmigrate status shows what is there; name a collection with --only",
        )
    return found


def _wording(pattern: str, message: str | None, revision_id: str | None) -> tuple[str, str, str | None]:
    return pattern, message or f"adopt {pattern}", revision_id


def _look(
    opened: Session, world: World, found: Candidates, choice: AdoptWish, wording: tuple[str, str, str | None] | None
) -> _Finding:
    verdicts, left = _judged(opened, world, found, choice, alone=wording is None or len(found.chosen) == 1)
    new = [verdict.target for verdict in verdicts if verdict.how == "baseline"]
    if not new or wording is None:
        return _Finding(verdicts, None, (), left=left)
    pattern, message, revision_id = wording
    leaving = [state.name for state in found.leaving(world)]
    source, notes = _source(opened, len(found.chosen) + len(found.left), new, pattern, leaving)
    chosen = new_id(opened.settings.scripts, opened.settings.revision_ids, revision_id)
    file = compose(opened.settings.scripts, message, revision_id=chosen, source=source, required=False)
    return _Finding(verdicts, file, source.missing, notes, left)


def _judged(
    opened: Session, world: World, found: Candidates, choice: AdoptWish, *, alone: bool
) -> tuple[tuple[Verdict, ...], tuple[Left, ...]]:
    """The revision of each, and those that can't be adopted.

    Args:
        alone: the first of those stops all.

    Raises:
        QmigrateError: that of :func:`adopt`, where it is alone, or where none is left to adopt.
    """
    verdicts: list[Verdict] = []
    left: list[Left] = []
    first: QmigrateError | None = None
    for target in found.targets(opened, world):
        try:
            verdict = judge(target, world, opened.revisions, choice)
            if not alone:
                refuse_differences([verdict], choice)
            verdicts.append(verdict)
        except QmigrateError as error:
            if alone:
                raise
            first = first or error
            left.append(Left.of(target.name, error))
    if first is not None and not verdicts:
        raise first
    refuse_differences(verdicts, choice)
    return tuple(verdicts), tuple(left)


def _source(
    opened: Session, matching: int, new: Sequence[Target], pattern: str, leaving: Sequence[str]
) -> tuple[CodeWriter, tuple[str, ...]]:
    """Operations that make what is there: one per schema, and the glob for the one that most of them have.

    What has another one comes first, by its name: a glob makes nothing that is there by then.

    Args:
        matching: how many collections the pattern means, those among them that are adopted already or can't be.
        new: those that the revision is written for.
        pattern: as it was given.
        leaving: names that are under management and get another one.
    """
    defaults = filled_in(opened)
    groups: dict[str, list[Target]] = {}
    for target in new:
        same = [target.live.schema.with_(aliases=()).to_json(), target.live.unknown]
        groups.setdefault(json.dumps(same, sort_keys=True, default=str), []).append(target)
    parts = [drop_source(name) for name in leaving]
    ordered = sorted(groups.values(), key=len)
    usual = ordered[-1] if len(ordered[-1]) * 2 > matching else None
    glob = has_wildcard(pattern) and usual is not None
    for group in ordered:
        schema = group[0].live.schema.with_(aliases=())
        for name in [pattern] if glob and group is usual else sorted(target.name for target in group):
            parts.append(create_source(name, schema, defaults=defaults, unknown=group[0].live.unknown))
        parts += [alias_source(target.name, target.live.schema.aliases) for target in group]
    return reduce(add, parts), _odd_notes(pattern, ordered, usual) if has_wildcard(pattern) else ()


def filled_in(opened: Session) -> Mapping[str, Any]:
    """What the connected server fills in by itself where a create call leaves it out."""
    able = opened.store.capabilities
    # A cluster chooses its own shard number; one node takes one.
    alone = able.nodes == 1 and (able.barrier or able.local)
    return {**SERVER_DEFAULTS, "shard_number": 1} if alone else SERVER_DEFAULTS


def _odd_notes(pattern: str, groups: Sequence[Sequence[Target]], usual: Sequence[Target] | None) -> tuple[str, ...]:
    """Collections that the revision names one by one, since its glob is for another schema."""
    odd = sorted(target.name for group in groups if group is not usual for target in group)
    if not odd:
        return ()
    listed = ", ".join(odd[:8]) + (f" and {len(odd) - 8:,} more" if len(odd) > 8 else "")
    if usual is None:
        return (f"no schema is the most common: the revision names each of {listed}, and {pattern} is used for none",)
    many = counted(len(usual), "collection")
    return (f"the revision uses {pattern} for {many} of one schema, and names those of another schema: {listed}",)


def _write_baseline(opened: Session, finding: _Finding, choice: AdoptWish) -> AdoptWish:
    """Write the revision; from here on it is history like any other, and the same command resumes after a crash."""
    if finding.file is None:
        return choice
    initialise(opened.settings.scripts)
    made = write_new(finding.file)
    opened.revisions = with_inline(Revisions.load(opened.settings.scripts), opened.ledger, opened.store)
    names = {verdict.target.name for verdict in finding.verdicts if verdict.how == "baseline"}
    return replace(choice, baseline=dict.fromkeys(names, made.id))


def _take_back(opened: Session, finding: _Finding, found: Candidates) -> None:
    """Remove the revision again where nothing of it was recorded: denied, or another process works there."""
    if finding.file is None:
        return
    # Where the ledger doesn't show it, the file stays: without it an interrupted run could not resume.
    with suppress(QmigrateError):
        begun = {run.job.collection for run in opened.ledger.open_runs()} & set(found.names)
        if not begun and finding.file.id not in opened.ledger.applied_checksums():
            finding.file.path.unlink(missing_ok=True)


def _record(
    opened: Session, verb: str, found: Candidates, choice: AdoptWish, stop: Stop, lock_timeout: float | None
) -> None:
    def make(world: World) -> Plan:
        targets = found.targets(opened, world)
        verdicts = [judge(target, world, opened.revisions, choice) for target in targets]
        refuse_differences(verdicts, choice)
        return plan_adopt(verb, verdicts, found.leaving(world), opened.revisions)

    perform(opened, make, RunOptions(stop, lock_timeout, owned=False), names=found.names)


def _result(opened: Session, found: Candidates, finding: _Finding, *, dry_run: bool) -> AdoptResult:
    rows = tuple(_row(verdict, finding) for verdict in finding.verdicts)
    notes = [*found.notes, *finding.notes, *(note for verdict in finding.verdicts for note in _notes(verdict))]
    if finding.file is not None and opened.store.capabilities.local:
        notes.append(
            "local mode keeps neither payload indexes nor settings, so the revision can't name them: add those that "
            "a server is to have"
        )
    file, text = (finding.file.path, finding.file.text) if finding.file else (None, None)
    left = (*found.left, *finding.left)
    return AdoptResult(rows, file, text, finding.missing, tuple(dict.fromkeys(notes)), dry_run, left)


def _row(verdict: Verdict, finding: _Finding) -> Adopted:
    target, over = verdict.target, verdict.overrides
    new = verdict.how == "baseline" and finding.file is not None
    return Adopted(
        name=target.name,
        physical=target.live.physical,
        generation=number_of(target),
        revision=finding.file.id if new and finding.file else verdict.revision,
        how=verdict.how,
        points=target.live.points,
        taken_over={key: over.get(key) for key in ("ledger", "revision", "generation")} if over else None,
        drift=verdict.differences,
    )


def _notes_of_before(target: Target) -> list[str]:
    """What the ledger has had behind the name, where that is not what is adopted now."""
    row = next((one for one in target.state.generations if one.state == "live"), None)
    if row is None or (row.physical == target.live.physical and not lacks_seal(target.state)):
        return []
    was = row.physical if row.physical != target.live.physical else f"{row.physical}, with the seal that it lacks now"
    now = f"about {target.live.points:,} points are adopted now"
    said = f"{target.name} was {was}: another client has moved or recreated it, and {now}"
    return [f"{said}. Earlier generations stay until qmigrate gc {quote(target.name)} --now"]


def _notes(verdict: Verdict) -> list[str]:
    target = verdict.target
    notes = _notes_of_before(target)
    strict = target.live.schema.config.get("strict_mode_config") or {}
    if strict.get("enabled") and strict.get("write_rate_limit") == 1:
        notes.append(
            f"{target.name} takes one write per minute and shard: strict mode has write_rate_limit 1, perhaps a fence "
            "that an interrupted run of another ledger has left"
        )
    for one in target.beside:
        owner = marks_of(one).ledger
        if verdict.overrides is None or owner != Seal.of(verdict.overrides).ledger:
            notes.append(f"{one.physical} looks like a generation of {target.name}, but is not recorded: left alone")
    return notes if verdict.how != "known" else []
