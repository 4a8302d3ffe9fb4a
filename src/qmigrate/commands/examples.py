"""What who approves a request is shown besides its words: examples, a fresh count, what else it touches. It only reads.

No field of a payload leaves it that ``fixes.approval.fields`` doesn't name.
"""

from __future__ import annotations

import heapq
import io
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from qmigrate.commands.asking import SILENT
from qmigrate.commands.edits import place_of
from qmigrate.commands.requests import audited, known_request
from qmigrate.commands.session import Session, opened_ledger, session
from qmigrate.engine.fixes.erase.selection import Erasure
from qmigrate.engine.fixes.kinds import opened as opened_fix
from qmigrate.errors import QmigrateError, UnknownNameError
from qmigrate.ledger.approvals import ApprovalRequest
from qmigrate.ledger.reader import present
from qmigrate.model.approval import DELETIONS, DROP, RESET, RETIRE
from qmigrate.model.facts.fixes import EditVerify
from qmigrate.model.facts.stored import loaded
from qmigrate.model.fix import Found
from qmigrate.model.payload_path import picked, roots, selected, value_at
from qmigrate.model.schema import JsonObject
from qmigrate.model.transform import Payload, PointId
from qmigrate.sequences import parts
from qmigrate.settings.approval import ApprovalSettings
from qmigrate.settings.load import Settings
from qmigrate.store import records
from qmigrate.text import aware, counted, took

#: Examples of each kind, and in all.
EACH, ALL = 7, 20
#: Seconds after which counting is given up, and points whose times are asked for at once.
_LONGEST, _AT_ONCE = 8.0, 500
#: Pixels of a small picture, and of the largest that is made smaller; bytes of its file.
_SMALL, _MOST_PIXELS, _MOST_BYTES = 160, 50_000_000, 30_000_000


@dataclass(frozen=True, slots=True)
class Example:
    """One point that would go.

    Attributes:
        why: ``newest``, ``oldest`` or ``random``; ``all`` where these are all.
        payload: fields of ``fixes.approval.fields`` alone.
        image: whether there may be a picture of it.
    """

    id: PointId
    why: str
    payload: JsonObject
    image: bool = False


@dataclass(frozen=True, slots=True)
class Review:
    """What is known of a request now.

    Attributes:
        now: points that would go now; None where they were not all counted.
        points: of the collection, now; None where that is unknown.
        counted_at: when.
        examples: some of them.
        touches: what else it touches, one line each.
        undo: until when, or why not.
        cap: largest share of the collection that the operation itself allows; None for none.
        problem: why it could not be counted.
    """

    now: int | None
    points: int | None
    counted_at: datetime
    examples: tuple[Example, ...] = ()
    touches: tuple[str, ...] = ()
    undo: str = ""
    cap: float | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a request that was done.

    Attributes:
        changed: points that went.
        verified: points that were read back as gone.
        left: points that were left, since another client had changed them meanwhile.
        log: its row of the audit.
        undo_until: until when it can be undone; None where it can't.
        undone_by: the row that has undone it.
    """

    changed: int
    verified: int | None
    left: int
    log: int
    undo_until: datetime | None
    undone_by: int | None


@dataclass(slots=True)
class _Drawn:
    """Ids of a selection: some at random, and those at both ends."""

    order: ApprovalSettings
    count: int = 0
    drawn: list[PointId] = field(default_factory=list)
    newest: list[tuple[Any, ...]] = field(default_factory=list)
    oldest: list[tuple[Any, ...]] = field(default_factory=list)
    lot: random.Random = field(default_factory=random.Random)

    def add(self, found: Sequence[tuple[PointId, Any]]) -> None:
        """Points with what they are ordered by, in Qdrant's order; None has no place in it."""
        for identifier, at in found:
            self.count += 1
            if len(self.drawn) < ALL:
                self.drawn.append(identifier)
            elif (place := self.lot.randrange(self.count)) < ALL:
                self.drawn[place] = identifier
            if at is None:
                continue
            for heap, sign in ((self.newest, 1), (self.oldest, -1)):
                entry = (sign * at, self.count, identifier)
                if len(heap) < EACH:
                    heapq.heappush(heap, entry)
                else:
                    heapq.heappushpop(heap, entry)

    def chosen(self) -> dict[PointId, str]:
        """Id -> why, at most 20; of fewer than that all, the newest first."""
        found: dict[PointId, str] = {}
        if self.count <= ALL:
            known = dict.fromkeys([*(entry[-1] for entry in sorted(self.newest, reverse=True)), *self.drawn])
            return dict.fromkeys(known, "all")
        for why, heap in (("newest", sorted(self.newest, reverse=True)), ("oldest", sorted(self.oldest, reverse=True))):
            for *_, identifier in heap:
                found.setdefault(identifier, why)
        for identifier in self.drawn:
            if len(found) < ALL:
                found.setdefault(identifier, "random")
        return found


def review(settings: Settings, number: int) -> Review:
    """What a request would do now. Sends no write to Qdrant or SQL.

    Raises:
        UnknownNameError: there is no such request.
    """
    with opened_ledger(settings) as ledger:
        one = known_request(ledger, number)
    own = settings.for_collection(one.collection).fixes.approval or ApprovalSettings(above=_NO_BOUND)
    with session(settings, writes=False, partial=True, readable=True) as opened:
        at = present(opened.ledger)
        try:
            found = _looked(opened, one, own, at)
        except QmigrateError as error:
            found = Review(None, None, at, problem=error.message)
        return replace(found, touches=tuple(_touches(opened, one)), undo=_undo(opened, one, at), cap=_cap(opened, one))


def outcome(settings: Settings, number: int) -> Outcome | None:
    """What came of a request; None while it is not done, or has left no row in the audit.

    Raises:
        UnknownNameError: there is no such request.
    """
    with opened_ledger(settings) as ledger:
        one = known_request(ledger, number)
        found = audited(one, ledger.deletions()) if one.run is not None else None
        if found is None:
            return None
        row, undone = found
        told = row.told
        history = [each for each in ledger.history(one.collection) if each.run == one.run]
        report = next((each.report.get(EditVerify.phase) for each in history if each.report), None)
        kept = settings.for_collection(one.collection).fixes.undo
        until = told.held_until or row.created_at + timedelta(seconds=kept)
        return Outcome(
            changed=told.changed or row.count,
            verified=loaded(EditVerify, report).verified if report else None,
            left=told.let_be,
            log=row.id,
            undo_until=until if isinstance(told.undo, str) and undone is None else None,
            undone_by=None if undone is None else undone.id,
        )


def small_image(settings: Settings, number: int, identifier: PointId) -> bytes:
    """A small JPEG of the picture of a point, below ``image_roots``; the caller knows that it is an example.

    Raises:
        UnknownNameError: there is none that may be shown.
    """
    with opened_ledger(settings) as ledger:
        one = known_request(ledger, number)
    own = settings.for_collection(one.collection).fixes.approval
    if own is None or not own.picture or not own.image_roots:
        raise UnknownNameError("no picture is shown: fixes.approval.picture and image_roots name none")
    with session(settings, writes=False, partial=True, readable=True) as opened:
        (payload,) = _payloads(opened, one.collection, [identifier], [own.picture]).values() or ({},)
    return _small(_inside(str(value_at(payload, own.picture) or ""), own.image_roots))


#: Of a collection whose settings ask for no approval any more.
_NO_BOUND: Any = None


def _looked(opened: Session, one: ApprovalRequest, own: ApprovalSettings, at: datetime) -> Review:
    drawn, until = _Drawn(own), time.monotonic() + _LONGEST
    edit: JsonObject | None = one.what.get("edit")
    if edit is None or one.kind not in DELETIONS:
        return _whole(opened, one, own, at)
    seen, whole = Found(), True
    for part in _parts(opened, one, edit, seen):
        drawn.add(_ordered(opened, one.collection, part, own))
        if time.monotonic() > until:
            whole = False
            break
    now = drawn.count if whole else None
    least = counted(drawn.count, "point")
    problem = None if whole else f"not all was counted within {took(_LONGEST)}: at least {least}"
    return Review(now, seen.points, at, _shown(opened, one.collection, drawn.chosen(), own), problem=problem)


def _whole(opened: Session, one: ApprovalRequest, own: ApprovalSettings, at: datetime) -> Review:
    """Of what is about every point."""
    name = one.what.get("generation") if one.kind in (DROP, RETIRE) else None
    address = str(name) if name is not None and opened.store.describe(str(name)) is not None else one.collection
    points = opened.store.count(address)
    chosen = dict.fromkeys(opened.store.sample_ids(address, ALL), "random")
    return Review(points, points, at, _shown(opened, address, chosen, own))


def _parts(opened: Session, one: ApprovalRequest, edit: JsonObject, seen: Found) -> Iterator[list[PointId]]:
    """The ids of a selection, some at a time."""
    edit = {**edit, **SILENT}
    place = place_of(opened, one.collection, ())
    if one.kind == "erase":
        yield from parts((entry.id for entry in Erasure(place, edit).find(seen)), _AT_ONCE)
        return
    with opened_fix(place, edit) as fix:
        yield from parts((entry.id for entry in fix.find(seen)), _AT_ONCE)


def _ordered(
    opened: Session, name: str, ids: Sequence[PointId], own: ApprovalSettings
) -> list[tuple[PointId, float | None]]:
    """Each with what it is ordered by: its time, where a field has that, else its number."""
    if not own.time:
        return [(one, float(one) if isinstance(one, int) else None) for one in ids]
    payloads = _payloads(opened, name, ids, [own.time])
    return [(one, _seconds(value_at(payloads.get(one, {}), own.time))) for one in ids]


def _seconds(value: Any) -> float | None:
    """A time as seconds since 1970; None where it is none."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        return aware(datetime.fromisoformat(str(value))).timestamp()
    except (ValueError, OverflowError):
        return None


def _shown(opened: Session, name: str, chosen: dict[PointId, str], own: ApprovalSettings) -> tuple[Example, ...]:
    wanted = [*own.fields, *([own.picture] if own.picture and own.image_roots else [])]
    payloads = _payloads(opened, name, list(chosen), wanted) if wanted else {}
    return tuple(
        Example(
            one,
            why,
            picked(payloads.get(one, {}), own.fields),
            bool(own.picture and own.image_roots and value_at(payloads.get(one, {}), own.picture)),
        )
        for one, why in chosen.items()
    )


def _payloads(opened: Session, name: str, ids: Sequence[PointId], fields: Sequence[str]) -> dict[PointId, Payload]:
    """What is asked for are the keys at the top that these fields begin with."""
    found = opened.store.fetch(name, ids, payload=selected(roots(fields)), vectors=False)
    return {records.point_id(one): records.payload_of(one) for one in found}


def _touches(opened: Session, one: ApprovalRequest) -> Iterator[str]:
    """What else is changed, in words."""
    edit: JsonObject = one.what.get("edit") or {}
    view = opened.ledger.view(one.collection)
    aliases = sorted(opened.store.aliases().items()) if view is not None else []
    same = [name for name, physical in aliases if view is not None and view.physical == physical]
    others = [name for name in same if name != one.collection and "__" not in name]
    if others:
        yield f"readers of {', '.join(others)}, which lead to the same points"
    mark = edit.get("mark") or {}
    for statement in mark.get("statements") or ():
        yield f"rows of the database {mark.get('database')}: {statement}"
    if mark.get("queue"):
        yield f"a row in {mark['queue']} of the database {mark.get('database')}"
    if one.kind == "erase":
        replaced = "are replaced" if edit.get("snapshots") == "replace" else "are listed, and may still hold them"
        yield f"every generation that is kept, exports, journals and samples; snapshots {replaced}"
    if one.kind in ("delete", "orphans"):
        yield "older generations keep their points; a rollback doesn't bring these back"
    if one.kind == RESET:
        yield "an empty generation takes the name; writes until then stay in the old one"
    if one.kind == DROP:
        yield "the name is gone for every reader"


def _undo(opened: Session, one: ApprovalRequest, at: datetime) -> str:
    """Until when it could be undone, in words."""
    settings = opened.settings.for_collection(one.collection)
    edit: JsonObject = one.what.get("edit") or {}
    if one.kind in (RESET, DROP):
        until = at + timedelta(seconds=settings.rebuild.holdover)
        return f"until {until:%Y-%m-%d %H:%M} UTC, then gc removes the points"
    if one.kind == RETIRE:
        return "it can't be undone: it is what an undo would need"
    if one.kind == "erase":
        return "it can't be undone: nothing is kept"
    if edit.get("undo") is None:
        return "it can't be undone: it was asked for without an export"
    return f"until {at + timedelta(seconds=settings.fixes.undo):%Y-%m-%d %H:%M} UTC, from an export"


def _cap(opened: Session, one: ApprovalRequest) -> float | None:
    edit: JsonObject | None = one.what.get("edit")
    if edit is None:
        return None
    own = edit.get("max_share")
    return float(own) if own is not None else opened.settings.for_collection(one.collection).fixes.max_share


def _inside(said: str, roots: Sequence[str]) -> Path:
    """A file below one of the roots, links resolved.

    Raises:
        UnknownNameError: it is none, or lies elsewhere; which of both is not said.
    """
    try:
        for root in (Path(one).resolve() for one in roots):
            named = Path(said)
            found = (named if named.is_absolute() else root / named).resolve()
            if found.is_relative_to(root) and found.is_file() and found.stat().st_size <= _MOST_BYTES:
                return found
    except (OSError, ValueError, RuntimeError):
        pass
    raise UnknownNameError("there is no picture of this point below fixes.approval.image_roots")


def _small(path: Path) -> bytes:
    """Made small here: what is sent is never the file itself.

    Raises:
        UnknownNameError: it is not a picture, or too large a one.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                raise ValueError("too large")
            picture.draft("RGB", (2 * _SMALL, 2 * _SMALL))
            made = ImageOps.exif_transpose(picture).convert("RGB")
            made.thumbnail((_SMALL, _SMALL))
            out = io.BytesIO()
            made.save(out, "JPEG", quality=80)
            return out.getvalue()
    except Exception as error:  # a decoder may raise anything
        raise UnknownNameError("the picture of this point can't be read") from error
