"""squash: several revisions become one, which stands for them. It needs no server and no ledger, and removes none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qmigrate.declared.replay import created
from qmigrate.declared.squash import (
    Whole,
    between,
    lines,
    lines_of,
    on_older_points,
    on_points,
    runs_without,
    squashed,
)
from qmigrate.errors import QmigrateError, RefusedError, RevisionError, UsageError
from qmigrate.planner.members import chain
from qmigrate.revisions import alembic_files
from qmigrate.revisions.graph import Revision, Revisions
from qmigrate.revisions.new import NewFile, compose_squashed, new_id, write_new
from qmigrate.settings.load import Settings
from qmigrate.text import quote


@dataclass(frozen=True, slots=True)
class SquashedFile:
    """One revision that stands for others.

    Attributes:
        path: its file.
        revision: its id.
        message: first line of its docstring.
        replaces: what it stands for, in order.
        replaced_files: their files, which stay.
        text: of the file.
        changes: its operations in words.
        left_out: operations on points that are not in it.
        undecided: what a person has to decide.
    """

    path: Path
    revision: str
    message: str
    replaces: tuple[str, ...]
    replaced_files: tuple[Path, ...]
    text: str
    changes: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SquashResult:
    """`squash`.

    Attributes:
        files: what was written; several where revisions in between stay as they are.
        kept: revisions that stay, since they change points -> their operations on points.
        compared: collections and globs of which both ways make the same schema.
        dry_run: nothing was written.
    """

    files: tuple[SquashedFile, ...]
    kept: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    compared: tuple[str, ...] = ()
    dry_run: bool = False


def squash(
    settings: Settings | None,
    span: str,
    message: str | None = None,
    *,
    points: str | None = None,
    revision_id: str | None = None,
    dry_run: bool = False,
) -> SquashResult:
    """Write the revision that stands for those of a range, next to them.

    A collection that has all of them is recorded as past it by the next upgrade, with no work; one that has none gets
    it in their place; one in between goes through the rest of them first.

    Args:
        span: ``FROM:TO``, both ends included.
        message: first line of its docstring.
        points: what becomes of operations that change points and leave no trace in a schema: ``elide`` leaves them
            out, ``keep`` leaves their revisions as they are, and squashes what is before and after each. None where
            there are none, or a person has to choose.
        revision_id: instead of the ids of both ends, or of the moment in a folder of moments.
        dry_run: compose only.

    Raises:
        RevisionError: there is no such range, something leads out of its middle, or there is nothing to squash.
        RefusedError: operations change points, and `points` doesn't say what becomes of them; or one revision can't
            stand for the range.
    """
    if points not in (None, "elide", "keep"):
        raise UsageError(f"points={points!r} is unknown", hint="use one of: elide, keep")
    settings = settings or Settings.load(stores=False)
    revisions = Revisions.load(settings.scripts)
    found = between(revisions, span)
    changing = [one for one in found if on_points(one)]
    if changing and points is None:
        raise _undecided(revisions, found, changing)
    kept = {one.id: lines_of(one) for one in changing} if points == "keep" else {}
    runs = runs_without(found, kept)
    if not runs:
        stay = f", and {', '.join(kept)} stay as they are" if kept else ""
        raise RevisionError(f"{span}: there are not two revisions in a row to squash{stay}")
    if revision_id is not None and len(runs) > 1:
        raise UsageError(f"{len(runs)} revisions are needed, and --rev-id names one", hint="leave --rev-id out")
    wholes = [squashed(revisions, run) for run in runs]
    composed: list[NewFile] = []
    for run, whole in zip(runs, wholes, strict=True):
        composed.append(_composed(settings, run, whole, (message, revision_id), composed[-1] if composed else None))
    if not dry_run:
        _write(settings, revisions, composed, wholes)
    files = tuple(_file(revisions, made, whole) for made, whole in zip(composed, wholes, strict=True))
    return SquashResult(files, kept, created(revisions), dry_run)


def _undecided(revisions: Revisions, found: Sequence[Revision], changing: Sequence[Revision]) -> RefusedError:
    said = [line for one in changing for line in lines_of(one)]
    never = on_older_points(revisions, found)
    span = quote(f"{found[0].id}:{found[-1].id}")
    out = "a collection that begins with the squashed revision has no points by then"
    if never:
        names = ", ".join(dict.fromkeys(operation.pattern for _, operation in never))
        out = f"{names} is there before, so a deployment that is at an earlier revision never gets them"
    return RefusedError(
        "what these do with points can't be seen in a schema, so a person has to decide what becomes of it:\n"
        + "\n".join(f"  {line}" for line in said),
        hint=f"qmigrate squash {span} --elide-data leaves them out: {out}\n"
        f"qmigrate squash {span} --keep-data leaves these revisions as they are, and squashes what is before and after "
        "each",
        facts={"operations": said},
    )


def _composed(
    settings: Settings,
    run: Sequence[Revision],
    whole: Whole,
    given: tuple[str | None, str | None],
    after: NewFile | None,
) -> NewFile:
    """The file of one run.

    Args:
        given: message and id, where they were asked for.
        after: one that is not written yet, and has another id.
    """
    message, revision_id = given
    # Of what was squashed before, the ends of that: the name says what all of it stands for.
    first, last = (run[0].replaces or (run[0].id,))[0], (run[-1].replaces or (run[-1].id,))[-1]
    variables: dict[str, object] = {"replaces": whole.replaces}
    if whole.replaces_for:
        variables["replaces_for"] = dict(whole.replaces_for)
    if whole.squashed:
        variables["squashed"] = dict(whole.squashed)
    if whole.irreversible:
        variables["irreversible"] = whole.irreversible
    return compose_squashed(
        settings.scripts,
        (message or f"squashed {first} to {last}", message or "squashed"),
        # Two moments in one name would leave no room for anything else in a line.
        new_id(settings.scripts, settings.revision_ids, revision_id, after) or f"{first}_{last}",
        whole.down,
        (whole.source, whole.downgrade),
        tuple(lines(variables)),
        _sql_of(settings, run),
    )


def _sql_of(settings: Settings, run: Sequence[Revision]) -> str | None:
    """The SQL revision that must be applied before all of them: the last one, where Alembic's files say so.

    Raises:
        RefusedError: they name several, and nothing shows which one comes last.
    """
    named = list(dict.fromkeys(one.requires_sql for one in run if one.requires_sql))
    if len(named) < 2:
        return named[0] if named else None
    sql = alembic_files.find(settings.folder, settings.sql.config)
    known = {name: [one for one in sql.revisions if one.startswith(name)] for name in named} if sql is not None else {}
    if sql is not None and all(len(ids) == 1 for ids in known.values()):
        ids = {name: full[0] for name, full in known.items()}
        for name, full in ids.items():
            others = {one for other, one in ids.items() if other != name}
            if others <= sql.ancestors(full):
                return name
    raise RefusedError(
        f"they wait for several SQL revisions ({', '.join(named)}), and Alembic's files don't show that one comes "
        "after the others",
        hint="squash those that wait for one of them by themselves; or name Alembic's settings: sql.config in "
        "qmigrate.yaml",
    )


def _write(settings: Settings, before: Revisions, composed: Sequence[NewFile], wholes: Sequence[Whole]) -> None:
    """All of them, or none: each is read back, and all together have to make what was made before.

    Raises:
        RevisionError: a file can't be written, or doesn't say what it was made to say.
    """
    written: list[Path] = []
    try:
        for made, whole in zip(composed, wholes, strict=True):
            back = write_new(made)
            written.append(made.path)
            if (back.replaces, dict(back.squashed), back.down) != (whole.replaces, dict(whole.squashed), whole.down):
                raise RevisionError(f"{made.path.name} doesn't say what it replaces", hint="is that the template?")
        _check_same(before, Revisions.load(settings.scripts))
    except QmigrateError:
        for path in written:
            path.unlink()
        raise


def _check_same(before: Revisions, after: Revisions) -> None:
    for name in created(before):
        old, new = (chain(each, name, frozenset(one.id for one in each.order())) for each in (before, after))
        made = [links[-1].after if links else None for links in (old, new)]
        if made[0] != made[1]:
            raise RevisionError(f"the squashed revisions don't make the same of {name}; nothing was written")


def _file(revisions: Revisions, made: NewFile, whole: Whole) -> SquashedFile:
    message = made.text.splitlines()[0].strip('"')
    files = tuple(revisions.get(one).path for one in whole.replaces if not revisions.is_gone(one))
    return SquashedFile(
        made.path, made.id, message, whole.replaces, files, made.text, whole.changes, whole.left_out, whole.undecided
    )
