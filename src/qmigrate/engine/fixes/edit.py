"""A data fix on the live generation: find, write down, change, look again, record. It chooses no point."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

from qmigrate.engine.approval import need_approval
from qmigrate.engine.closing import close_edit
from qmigrate.engine.epoch_aliases import check_begun, nothing_of_ours, own, reach
from qmigrate.engine.export import making, remove_ours, run_file, started_at
from qmigrate.engine.fixes.first_look import drop_first_look
from qmigrate.engine.fixes.journal import journal_name, windows, write, write_ids
from qmigrate.engine.fixes.kinds import opened
from qmigrate.engine.fixes.marks import check_marks, mark, marks_of
from qmigrate.engine.fixes.protocol import (
    LONGEST,
    QUICK,
    WORTH,
    Fix,
    FixSource,
    FixTarget,
    Look,
    OldLookError,
    check_cap,
    consented,
    unmet,
)
from qmigrate.engine.fixes.purge import expire
from qmigrate.engine.fixes.undo import exported_by
from qmigrate.engine.throttle import Throttle, waiting
from qmigrate.engine.work import Phase, Work
from qmigrate.errors import NotFoundError, RefusedError, RepairNeededError, UnavailableError, VerificationError
from qmigrate.ledger.reader import present
from qmigrate.model.facts.audit import Audited, NotChanged
from qmigrate.model.facts.edits import Edit, UndoEdit, words_of
from qmigrate.model.facts.fixes import EditChange, EditVerify, Export, Select
from qmigrate.model.facts.phases import Closed, Facts
from qmigrate.model.facts.stored import learned, loaded
from qmigrate.model.fix import Found, PointEdit
from qmigrate.model.plan import EditPoints
from qmigrate.model.schema import JsonObject
from qmigrate.store.faults import TransientError
from qmigrate.store.server.requests import sent_once, tries
from qmigrate.text import counted, quote

#: Kinds of fixes that the audit has although no point was there: a user has decided that these points go.
LOGGED_EMPTY = frozenset({"delete", "soft"})
#: What the history keeps of a fix.
_REPORTED: tuple[type[Facts], ...] = (Select, EditChange, EditVerify)
#: How often a group is sent again when one of its points went away in between.
_TRIES = 5
#: Points of a portion that are read right after their change, and the seconds between reads.
_SEEN, _PAUSES = 16, (0.05, 0.2, 0.5, 1.0)


def select(step: EditPoints, work: Work) -> Select:
    """Only reads Qdrant and the application's SQL: what is to be changed is written into the ledger.

    Raises:
        RefusedError: more would change than was agreed to.
    """
    live = work.store.describe(reach(work, step.target))
    if live is None:
        raise RepairNeededError(f"{step.target}, which serves {work.collection}, is not in Qdrant any more")
    if nothing_of_ours(work, step.target):
        work.progress.say(f"{work.collection} was deleted and recreated by another client: nothing is restored")
        return found_by(Found(), work.facts(Select))
    if live.status == "red" or live.problem:
        raise RefusedError(
            f"{step.target} is unhealthy: {live.problem or 'status red'}", hint="repair the collection first"
        )
    check_begun(work, step.target)
    check_marks(work.settings, step.edit)
    known = work.facts(Select)
    if known.now is None:
        # An attempt that goes on counts ages from the same moment; by the ledger's clock, since a host's may be wrong.
        known = replace(known, now=present(work.lease.ledger))
        work.note(known)
    work.progress.begin(work.collection, "select", live.points)
    found = Found()
    with opened(_place(work, step), step.edit) as fix:
        write(work.lease, _journal(work), _counted(work, found, fix))
    ids_to = Edit.of(step.edit).ids_to
    if ids_to:
        # Now already, so that a file that can't be written refuses before anything is changed.
        write_ids(Path(ids_to), windows(work.lease.ledger, _journal(work)))
    work.progress.end(f"{found.changes:,} of {counted(found.points, 'point')} to {words_of(step.edit).verb}")
    for line in unmet(work.collection, step.edit, found.counts) if not found.changes else ():
        work.progress.say(line)
    return found_by(found, known)


def found_by(found: Found, known: Select) -> Select:
    """What a selection has found, next to what is known of it."""
    points, changes, counts = found.points, found.changes, dict(found.counts)
    return replace(known, points=points, changes=changes, counts=counts, sample=tuple(found.sample))


def _counted(work: Work, found: Found, fix: Fix) -> Iterator[PointEdit]:
    """What is found, counted; after the last one it is checked against the cap, before any of it counts as stored."""
    for entry in fix.find(found):
        found.changes += 1
        if found.changes % 500 == 0:
            work.tick(500)
        yield entry
    step = work.job.steps[work.step]
    edit: JsonObject = step.edit if isinstance(step, EditPoints) else {}
    agreed, would = consented(edit, work.collection), words_of(edit).would
    ops = work.operations(step.ops) if isinstance(step, EditPoints) else ()
    check_cap(work.collection, found, fix.share(), Edit.of(edit).expect, agreed, would=would, operations=ops)
    need_approval(work, found.changes, found.points)


def export(step: EditPoints, work: Work) -> Export:
    """Keep what an undo needs and the journal can't hold, in a file of its own."""
    if not work.facts(Select).changes:
        return Export()
    began = started_at(work.lease.ledger, work.run)
    path = run_file(work.settings.fixes.exports, step.target, work.run, str(work.step), started=began)
    return _exported(step, work, path)


def _exported(step: EditPoints, work: Work, path: Path, done: int = 0) -> Export:
    with opened(_place(work, step), step.edit) as fix:
        kept = fix.export(path, windows(work.lease.ledger, _journal(work), done), work.tick)
    return Export(str(path), kept.points, kept.since) if kept is not None and kept.points else Export()


def _see_export(step: EditPoints, work: Work, done: EditChange) -> EditChange:
    """No point goes that is not in the file: a process that resumes may be on another host, or have lost its disk.

    What is still there is exported again, where nothing is gone yet, or a person has confirmed that the file is lost.

    Raises:
        RepairNeededError: some are gone, and their file is not here.
    """
    said = work.facts(Export).file
    path = Path(said) if said else None
    if path is None or (path.is_file() and path.stat().st_size):
        return done
    lost = 0
    for entries in windows(work.lease.ledger, _journal(work)):
        lost += len(entries) - len(work.store.fetch_ids(reach(work, step.target), [entry.id for entry in entries]))
        work.tick()
    if lost and not path.is_file():
        raise RepairNeededError(
            f"{lost:,} of the points of {work.collection} that are to be deleted are gone, and their export {path} "
            "is not here",
            hint="bring it back from the host that made it, or mount its folder, and run the same command again\n"
            f"if it is lost: {making(path.parent)}touch {quote(path)} confirms it; the remaining points are "
            "exported there first",
        )
    work.progress.say(f"{work.collection}: exported again, since {path.name} was not there any more")
    _exported(step, work, path, done.entries)
    return replace(done, lost=lost) if lost else done


def change(step: EditPoints, work: Work) -> EditChange:
    """Change what was selected; each point is checked again right before.

    A point that is as it should be counts as changed: it may be that of an attempt whose answer got lost.
    """
    check_begun(work, step.target)
    selected = work.facts(Select).changes
    done = work.facts(EditChange)
    if not selected:
        return done
    done = _see_export(step, work, done)
    words = words_of(step.edit)
    work.progress.begin(work.collection, words.verb, selected, done.entries)
    hand = FixTarget(own(work, step.target), work.store, work.tick)
    throttle = Throttle(Edit.of(step.edit).max_rate, pause=waiting(work.tick))
    with opened(_place(work, step), step.edit) as fix:
        stored = windows(work.lease.ledger, _journal(work), done.entries, fix.window)
        for entries in _portions(stored, lambda: throttle.portion(hand.pace.portion(fix.portion()))):
            work.tick()
            # Before the points are checked again, so that little time lies between that check and the change.
            throttle.take(len(entries))
            done = done.plus(_change(work, step, fix, hand, entries))
            work.note(done)
            work.tick(len(entries))
    work.progress.end(f"{done.changed:,} {words.done}")
    return done


def _portions(windows_: Iterable[Sequence[PointEdit]], size: Callable[[], int]) -> Iterator[Sequence[PointEdit]]:
    """As many at a time as the fix, its rate and the server allow at that moment."""
    for entries in windows_:
        done = 0
        while done < len(entries):
            some = entries[done : done + size()]
            yield some
            done += len(some)


def _change(work: Work, step: EditPoints, fix: Fix, hand: FixTarget, entries: Sequence[PointEdit]) -> EditChange:
    """Change one portion; how many entries became what.

    Nothing is sent a second time without another look: an answer that got lost may be that of a change that was made,
    and other clients write at the same time.
    """
    portion = _Portion(fix, hand, entries)
    for attempt in range(_TRIES):
        try:
            for once in portion.tries(work):
                with once:
                    agreed = portion.look()
                    if agreed:
                        with portion.writing() as careful:
                            fix.write(careful, agreed)
                        portion.see(agreed)
            return portion.became
        except OldLookError as error:
            if error.portion and len(entries) > 1:
                half = len(entries) // 2
                first = _change(work, step, fix, hand, entries[:half])
                return first.plus(_change(work, step, fix, hand, entries[half:]))
            work.tick()
        except NotFoundError:
            # Either a point went away since it was read, or a later holder has taken the alias away.
            if attempt == _TRIES - 1 or work.store.aliases().get(hand.alias) != step.target:
                raise
    raise UnavailableError(
        f"point {entries[0].id} of {work.collection} can't be changed within {WORTH:g} s after it was read",
        hint="run the same command again when the server has less load: it continues from here",
    )


class _Portion:
    """Entries that are checked and changed together.

    Attributes:
        left: how many were to be changed, of each try.
        became: how many became what, of the newest try.
    """

    def __init__(self, fix: Fix, hand: FixTarget, entries: Sequence[PointEdit]) -> None:
        self._fix, self._hand, self._entries = fix, hand, entries
        self._slow, self._look = fix.looks_again, Look()
        self.left: list[int] = []
        self.became = EditChange()

    def tries(self, work: Work) -> Iterator[AbstractContextManager[object]]:
        """As long as the server is waited for, or something gets done: a limiter may let only a few requests pass."""
        while True:
            begun = len(self.left)
            try:
                yield from tries(work.store.request_timeout)
            except TransientError:
                if len(self.left) - begun < 2 or self.left[-1] >= self.left[begun]:
                    raise
                work.tick()
            else:
                return

    def look(self) -> list[PointEdit]:
        """Read them: those that are as they were found are to be changed, unless that reading grows old."""
        self._fix.settle(self._hand)
        self._look, states = Look(), self._fix.states(self._entries, writing=True)
        there = [entry for entry, state in zip(self._entries, states, strict=True) if state == "before"]
        agreed = self._still(there)
        self.left.append(len(agreed))
        self.became = EditChange(
            entries=len(self._entries),
            changed=states.count("after") + len(agreed),
            moved=states.count("moved") + len(there) - len(agreed),
            gone=states.count("gone"),
        )
        return agreed

    def see(self, written: Sequence[PointEdit]) -> None:
        """Read some of them right after the change, of every shard: later it is unknown which client put a point back.

        Raises:
            VerificationError: they are what they were before.
        """
        left = list(written[:: max(1, len(written) // _SEEN)])
        for pause in _PAUSES:
            states = self._fix.states(left)
            left = [entry for entry, state in zip(left, states, strict=True) if state == "before"]
            if not left:
                return
            # A replica may be behind for a moment.
            time.sleep(pause)
            self._hand.tick()
        raise VerificationError(
            f"point {left[0].id} is what it was before, right after it was changed: the server did not take the change",
            hint="run the same command again: it continues from here",
        )

    def _still(self, there: Sequence[PointEdit]) -> list[PointEdit]:
        """Those that are still meant, and are still what they were: SQL may have taken its time to say so."""
        asked = Look()
        agreed = self._fix.still(there)
        if not agreed or self._fix.looks_again or asked.age < QUICK:
            return agreed
        self._fix.settle(self._hand)
        states = self._fix.states(agreed, writing=True)
        return [entry for entry, state in zip(agreed, states, strict=True) if state == "before"]

    @contextmanager
    def writing(self) -> Iterator[FixTarget]:
        """Where they are changed to, while the reading of them is not too old; each request is sent once."""
        slow, self._slow = self._slow, True
        if not slow:
            self._look.check(LONGEST, portion=False)
        since = Look()

        def tick(count: int = 0, note: str = "") -> None:
            self._hand.tick(count, note)
            since.check(WORTH, portion=True)

        with sent_once():
            yield replace(self._hand, tick=tick)
        self._hand.pace.took(len(self._entries), since.age)


def verify(step: EditPoints, work: Work) -> EditVerify:
    """Read everything back: what was changed is as it should be, or another client has changed it since.

    That the server takes changes was seen right behind each. So what is as it was before was put back by another
    client, and like all that is newer it stays.
    """
    selected, counted = work.facts(Select).changes, EditVerify()
    if not selected:
        return counted
    work.progress.begin(work.collection, "verify", selected)
    with opened(_place(work, step), step.edit) as fix:
        ids_to = Edit.of(step.edit).ids_to
        if ids_to:
            _write_changed(work, Path(ids_to), fix)
        unchanged = 0
        for entries, states in _read_back(work, fix):
            unchanged += states.count("before")
            counted = EditVerify(
                counted.verified + states.count("after"),
                counted.changed_since + states.count("moved"),
                counted.gone + states.count("gone"),
            )
            work.tick(len(entries))
    # What was skipped on purpose may still be what it was.
    skipped = max(0, unchanged - work.facts(EditChange).moved)
    counted = replace(counted, changed_since=counted.changed_since + skipped)
    # Another client has written them since, or the server stores something else.
    other = f", {counted.changed_since:,} are not what was written" if counted.changed_since else ""
    work.progress.end(f"{counted.verified:,} verified{other}")
    return counted


def _read_back(work: Work, fix: Fix) -> Iterator[tuple[list[PointEdit], list[str]]]:
    """Every selected point and how it is now, some at a time."""
    for entries in windows(work.lease.ledger, _journal(work), size=fix.window):
        yield entries, fix.states(entries)


def _write_changed(work: Work, path: Path, fix: Fix) -> None:
    """Write the ids of what is as it should be into the file that was named.

    It could be written before the change. Where it can't be any more, as on another host, that is reported:
    the ledger has the ids, and the fix is done.
    """
    changed = (
        [entry for entry, state in zip(entries, states, strict=True) if state == "after"]
        for entries, states in _read_back(work, fix)
    )
    try:
        write_ids(path, changed)
    except UnavailableError as error:
        work.progress.say(f"the ids are not in the file: {error.message}; qmigrate export show has them")


def close(step: EditPoints, work: Work) -> Closed:
    """Everything recorded in one transaction; the journal stays while the fix can be undone."""
    check_begun(work, step.target)
    found, changed, said = work.facts(Select), work.facts(EditChange), Edit.of(step.edit)
    told = Audited(
        work.run,
        work.step,
        step.target,
        changed=changed.changed,
        counts=found.counts or {},
        undo=said.undo if found.changes else None,
        file=work.facts(Export).file,
        not_changed=NotChanged(changed.moved, changed.gone),
        lost=changed.lost,
    )
    report = {kind.phase: learned(work.facts(kind)) for kind in _REPORTED}
    taken_back = said.drops
    # That a deletion found nothing is recorded, too; and rows are marked although there was no point.
    empty = said.kind in LOGGED_EMPTY and said.log_empty
    wanted = not taken_back and (found.changes or said.mark or empty)
    with opened(_place(work, step), step.edit) as fix:
        fixed = fix.audit(told) if wanted else None
    # Before the run is recorded as done: afterwards no process would come back for it.
    if fixed is None or not found.changes:
        work.lease.drop_base(_journal(work))
    if taken_back:
        back = loaded(UndoEdit, step.edit)
        work.lease.drop_base(journal_name(back.run, back.step))
        remove_ours(exported_by(work.settings, step.target, back), work.ledger_id)
    drop_first_look(work.lease, step.edit)
    expire(work)
    with marks_of(work.settings, step.edit) as marks:
        also = mark(work, step.edit, marks, changed.changed) if marks is not None else None
        return Closed(close_edit(work, step, fixed, report, also=also), said.undo)


def _place(work: Work, step: EditPoints) -> FixSource:
    selected, exported = work.facts(Select), work.facts(Export)
    # What was left out of the export has changed since it was found.
    whole = exported.file is not None and exported.points == selected.changes
    return FixSource(
        work.collection,
        reach(work, step.target),
        work.store,
        work.lease.ledger,
        work.settings,
        work.tick,
        work.code,
        work.lease,
        work.operations(step.ops),
        selected.now or present(work.lease.ledger),
        exported.since or {} if whole else {},
    )


def _journal(work: Work) -> str:
    return journal_name(work.run, work.step)


PHASES = (
    Phase(Select, select),
    Phase(Export, export),
    Phase(EditChange, change),
    Phase(EditVerify, verify),
    Phase(Closed, close),
)
