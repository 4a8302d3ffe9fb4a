"""What the contract for vectors asks for: each is a preset of the settings, or a verb. It selects nothing by itself."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import qmigrate.commands.fix as fix
import qmigrate.commands.presets as presets
import qmigrate.commands.reset as reset
import qmigrate.commands.retrain as retrain
import qmigrate.commands.stats as stats
from qmigrate import scratch
from qmigrate.commands.missing_rows import function_of, handed
from qmigrate.commands.names import ALL
from qmigrate.errors import NotConfiguredError, PointsNotFoundError
from qmigrate.model.names import has_signs
from qmigrate.ports import Progress
from qmigrate.settings.load import Settings
from qmigrate.text import aware


@dataclass(frozen=True, slots=True)
class DeletedVectors:
    """What was deleted.

    Attributes:
        deleted: points.
        log: its row of the audit, for ``fix undo``; None where what was named is not there.
    """

    deleted: int
    log: int | None


@dataclass(frozen=True, slots=True)
class DeletedSession:
    """A training session that is gone, and its points.

    Attributes:
        deleted: points.
        log: their row of the audit, for ``fix undo``; None where none was asked for.
    """

    deleted: int
    log: int | None
    session: int


@dataclass(frozen=True, slots=True)
class RetrainedDirectory:
    """What was deleted, marked and queued.

    Attributes:
        job: of the application's queue; of the audit where it has none.
        sessions: rows that were marked.
    """

    deleted: int
    job: str
    sessions: int


@dataclass(frozen=True, slots=True)
class DeletedOrphans:
    """What had no row.

    Attributes:
        ids: of the points that are gone.
    """

    deleted: int
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Directory:
    """One directory.

    Attributes:
        path: ends with a slash.
        vectors: points in it, those of directories below left out.
        sessions: how many there were, as SQL has it.
        last_trained_at: ISO 8601, or None.
    """

    path: str
    vectors: int
    sessions: int
    last_trained_at: str | None


@dataclass(frozen=True, slots=True)
class Folder:
    """A directory in the tree of all of them.

    Attributes:
        path: ends with a slash.
        name: what it adds to the folder above it that is shown.
        depth: folders above it that are shown.
        vectors: points in it, those of directories below left out.
        below: points in it and in all directories below: what a deletion by its path would take.
        sessions: as :class:`Directory` has it; None of a folder that only has others.
        last_trained_at: the same.
    """

    path: str
    name: str
    depth: int
    vectors: int
    below: int
    sessions: int | None
    last_trained_at: str | None


@dataclass(frozen=True, slots=True)
class VectorsReview:
    """What an endpoint would do now.

    Attributes:
        would: what would become of the points, in words.
        changes: points, exactly.
        points: of the collections that it is about.
        by_collection: the same for each of them.
        sample: the first of them: id, before, after.
        max_share: the largest share that is allowed, 0 to 1; None where all may go.
        statements: what would be run in the application's database, in words.
        notes: what a person should know.
        missing: rows without a point, where they are looked for; else None.
    """

    would: str
    changes: int
    points: int
    by_collection: Mapping[str, int]
    sample: tuple[Mapping[str, Any], ...] = ()
    max_share: float | None = None
    statements: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    missing: int | None = None

    @property
    def is_too_much(self) -> bool:
        """Whether more would go than the cap allows, so that it would be refused."""
        return self.max_share is not None and self.changes > self.max_share * self.points


def delete(
    settings: Settings,
    endpoint: str,
    value: Any,
    *,
    reason: str,
    most: Mapping[str, int] | None = None,
    progress: Progress | None = None,
) -> DeletedVectors:
    """Delete what the preset of an endpoint selects; where nothing is there, that is recorded, too.

    Args:
        endpoint: ``directory``, ``asset``, ``session`` or ``category``.
        value: of the preset's parameter ``value``.
        reason: for the audit.
        most: collection -> up to how many points of it a person has agreed to; None where none was asked.

    Raises:
        NotConfiguredError: the settings name no preset for it.
        RefusedError: more would go than the cap allows, or than was agreed to; nothing was deleted.
    """
    operation = presets.preset(settings, _preset(settings, endpoint), {"value": value}, reason=reason)
    try:
        # Whose points are meant the preset says.
        result = fix.fix(settings, operation, most=most, tenant=ALL, progress=progress)
    except PointsNotFoundError:
        return DeletedVectors(0, None)
    return DeletedVectors(result.changed, result.log)


def retrain_directory(
    settings: Settings,
    path_prefix: str,
    category_id: int,
    *,
    reason: str,
    expect: int | None = None,
    progress: Progress | None = None,
) -> RetrainedDirectory:
    """Delete the points of a directory, mark its rows, and queue its training.

    Args:
        expect: points that a person has agreed to, exactly; None where none was asked.

    Raises:
        NotConfiguredError: the settings name no preset for it.
        RefusedError: more would go than the cap allows, or no row would be marked; nothing was changed.
    """
    # Before anything is deleted: what can't be queued must not go.
    if settings.console.queue:
        function_of(settings, settings.console.queue)
    result = retrain.retrain(
        settings, _wish(settings, path_prefix, category_id, reason), expect=expect, progress=progress
    )
    newest = result.values[-1] if result.values else None
    job = queued(settings, path_prefix, category_id, reason=reason)
    if job is None:
        job = f"retrain-{newest.log if newest is not None else 0}"
    sessions = newest.rows.get(settings.console.sessions, 0) if newest is not None else 0
    return RetrainedDirectory(result.deleted, job, max(0, sessions))


def _wish(settings: Settings, path_prefix: str, category_id: int, reason: str) -> retrain.Wish:
    name = _preset(settings, "retrain")
    given = {"category_id": category_id}
    taken = presets.parameters_of(settings, name)
    return retrain.Wish(name, [path_prefix], {key: given[key] for key in given if key in taken}, reason)


def queued(settings: Settings, path_prefix: str, category_id: int, *, reason: str) -> str | None:
    """Hand a training on to the application's function; the id that it returns, None where there is no function."""
    if not settings.console.queue:
        return None
    call: Callable[..., Any] = function_of(settings, settings.console.queue)
    return str(call(path_prefix=path_prefix, category_id=category_id, reason=reason))


def is_about_several(settings: Settings, endpoint: str) -> bool:
    """Whether the preset of an endpoint may be about more than one collection."""
    entry = settings.fixes.presets.get(_preset(settings, endpoint))
    return not isinstance(entry, Mapping) or has_signs(str(entry.get("collection") or "*"))


def directories(settings: Settings) -> list[Directory]:
    """Points of each directory, and next to them what SQL has of it; by path."""
    query, joined = settings.console.directories, {}
    if query is not None:
        joined = {"sql": query.sql, "key": query.key, "database": query.database}
    wanted = stats.Wanted(paths=settings.console.paths)
    found = stats.stats(settings, collection_of(settings), wanted, **joined)
    return [
        Directory(
            path=f"{str(group.value).rstrip('/')}/",
            vectors=group.points,
            sessions=int(group.columns.get("session_count") or 0),
            last_trained_at=_moment(group.columns.get("last_trained_at")),
        )
        for group in sorted(found.grouped[0].groups, key=lambda group: str(group.value))
    ]


def folders(found: Sequence[Directory], below: str = "") -> list[Folder]:
    """Directories as a tree, each above what is in it; one that only leads to a single other one is left out.

    Args:
        found: as :func:`directories` has them.
        below: only the directory of this path and what is in it.
    """
    start = f"{below.rstrip('/')}/" if below else ""
    own = {one.path: one for one in found if one.path.startswith(start)}
    totals: Counter[str] = Counter()
    parts: dict[str, set[str]] = {}
    for one in own.values():
        inner = one.path
        totals[inner] += one.vectors
        while (outer := _outer(inner)) is not None and outer.startswith(start):
            totals[outer] += one.vectors
            parts.setdefault(outer, set()).add(inner)
            inner = outer
    shown = [path for path in totals if path in own or len(parts.get(path, ())) > 1]
    made: list[Folder] = []
    above: list[str] = []
    for path in sorted(shown, key=lambda path: path.split("/")):
        while above and not path.startswith(above[-1]):
            above.pop()
        mine = own.get(path)
        made.append(
            Folder(
                path=path,
                name=path.removeprefix(above[-1]) if above else path,
                depth=len(above),
                vectors=mine.vectors if mine else 0,
                below=totals[path],
                sessions=mine.sessions if mine else None,
                last_trained_at=mine.last_trained_at if mine else None,
            )
        )
        above.append(path)
    return made


def _outer(path: str) -> str | None:
    """The directory that a directory is in; None where there is none."""
    head, slash, _ = path.rstrip("/").rpartition("/")
    return f"{head}/" if slash and path.rstrip("/") else None


def delete_review(settings: Settings, endpoint: str, value: Any, *, reason: str) -> VectorsReview:
    """What :func:`delete` would do. It writes nothing.

    Raises:
        NotConfiguredError: the settings name no preset for it.
    """
    operation = presets.preset(settings, _preset(settings, endpoint), {"value": value}, reason=reason)
    try:
        found = fix.review(settings, operation, tenant=ALL)
    except PointsNotFoundError:
        return VectorsReview("be deleted", 0, 0, {})
    return _reviewed(found, found.previews, operation.max_share)


def retrain_review(settings: Settings, path_prefix: str, category_id: int, *, reason: str) -> VectorsReview:
    """What :func:`retrain_directory` would do. It writes nothing; statements are only planned by the database.

    Raises:
        NotConfiguredError: the settings name no preset for it.
    """
    wish = _wish(settings, path_prefix, category_id, reason)
    found = retrain.review(settings, wish)
    queue = (f"a call of {settings.console.queue}",) if settings.console.queue else ()
    made = _reviewed(None, found.previews, retrain.cap_of(settings, wish))
    return replace(made, statements=(*found.statements, *queue))


def orphans_review(settings: Settings, *, reason: str) -> VectorsReview:
    """What :func:`delete_orphans` would do; its second look, after the ``grace`` of the preset, may find fewer.

    Raises:
        NotConfiguredError: the settings name no preset for it.
    """
    wish = presets.orphan_preset(settings, _preset(settings, "orphans"), {}, reason=reason)
    found = fix.review(settings, wish.operation, tenant=ALL)
    missing = sum(one.counts.get("missing", 0) for one in found.previews)
    return replace(_reviewed(found, found.previews, wish.operation.max_share), missing=missing)


def reset_review(settings: Settings, *, reason: str) -> VectorsReview:
    """What :func:`delete_all` would do.

    Raises:
        NotConfiguredError: the settings name no collection for it.
    """
    name = collection_of(settings)
    points = reset.review(settings, name, reason=reason).points
    return VectorsReview("be left behind", points, points, {name: points})


def _reviewed(found: fix.Review | None, previews: Sequence[fix.Preview], cap: float | None) -> VectorsReview:
    words = {one.would for one in previews}
    return VectorsReview(
        would=words.pop() if len(words) == 1 else "change",
        changes=sum(one.changes for one in previews),
        points=sum(one.points for one in previews),
        by_collection={one.collection: one.changes for one in previews},
        sample=tuple(row for one in previews for row in one.sample),
        max_share=cap,
        notes=found.notes if found is not None else (),
    )


def delete_orphans(
    settings: Settings, *, reason: str, most: Mapping[str, int] | None = None, progress: Progress | None = None
) -> DeletedOrphans:
    """Delete the points without a row, and tell their ids. It takes as long as the ``grace`` of its preset.

    Args:
        most: as :func:`delete` has it.
    """
    wish = presets.orphan_preset(settings, _preset(settings, "orphans"), {}, reason=reason)
    taker = function_of(settings, wish.missing_call) if wish.missing_call else None
    with ExitStack() as stack:
        ids = stack.enter_context(scratch.own_folder()) / "ids.jsonl"
        narrow = fix.Narrow(missing_to=wish.missing, missing_table=wish.missing_table, ids_to=str(ids))
        wanted = stack.enter_context(handed(narrow, taker))
        result = fix.fix(settings, wish.operation, narrow=wanted, most=most, tenant=ALL, progress=progress)
        lines = ids.read_text(encoding="utf-8").splitlines() if ids.exists() else []
    gone = (found["id"] if isinstance(found, Mapping) else found for found in map(json.loads, lines))
    return DeletedOrphans(result.changed, tuple(map(str, gone)))


def delete_all(
    settings: Settings, *, reason: str, expect: int | None = None, progress: Progress | None = None
) -> DeletedVectors:
    """Start over with an empty collection; what was there is kept until it is collected.

    Args:
        expect: points that a person has agreed to, exactly; None where none was asked.
    """
    name = collection_of(settings)
    there = reset.review(settings, name, reason=reason).points if expect is None else expect
    done = reset.reset(settings, name, reason=reason, expect=there, confirm=reset.PHRASE, progress=progress)
    return DeletedVectors(done.left, done.log)


def delete_session(
    settings: Settings, session: int, *, vectors: bool, reason: str, progress: Progress | None = None
) -> DeletedSession | None:
    """Delete the rows of a training session by the application's function, and by default its points before it.

    Returns:
        None where there was no such session.

    Raises:
        NotConfiguredError: the settings name no function for it.
    """
    of_application = _function(settings, "delete_session")
    gone = DeletedVectors(0, None)
    if vectors:
        # Points that are gone don't come back by a 404.
        if not _function(settings, "has_session")(session):
            return None
        gone = delete(settings, "session", session, reason=reason, progress=progress)
    return DeletedSession(gone.deleted, gone.log, session) if of_application(session) else None


def _function(settings: Settings, name: str) -> Callable[..., Any]:
    """A function of the application.

    Raises:
        NotConfiguredError: the settings name none.
    """
    spec = getattr(settings.console, name)
    if spec is None:
        raise NotConfiguredError(f"console.{name} of the settings names no function")
    found: Callable[..., Any] = function_of(settings, spec)
    return found


def reason_of(settings: Settings, endpoint: str, given: str | None, called: str) -> str:
    """The reason for the audit: what was given, else the preset's, else what was called."""
    entry = settings.fixes.presets.get(settings.console.presets.get(endpoint, ""))
    return given or str((isinstance(entry, Mapping) and entry.get("reason")) or called)


def collection_of(settings: Settings) -> str:
    """The collection that is counted by directory, and can be reset.

    Raises:
        NotConfiguredError: the settings name none.
    """
    if settings.console.collection is None:
        raise NotConfiguredError("console.collection of the settings names no collection")
    return settings.console.collection


def _preset(settings: Settings, endpoint: str) -> str:
    name = settings.console.presets.get(endpoint)
    if name is None:
        raise NotConfiguredError(f"console.presets.{endpoint} of the settings names no preset")
    return name


def _moment(value: Any) -> str | None:
    """ISO 8601 in UTC, as the contract has it; a text of the database as it is."""
    if isinstance(value, datetime):
        return aware(value).astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return None if value is None else str(value)
