"""revision --autogenerate and check --declared: the declaration compared with what the revisions replay to, offline."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from qmigrate.declared.compare import Rename
from qmigrate.declared.drafts import Draft, drafts
from qmigrate.declared.outline import Answers, State, outline, undecided
from qmigrate.declared.reading import read, where
from qmigrate.errors import RevisionError, UsageError
from qmigrate.lint.project import Project
from qmigrate.planner.estimate import Copy, seconds_of_copy
from qmigrate.revisions.graph import Revisions
from qmigrate.revisions.new import NewFile, compose, new_id, write_new
from qmigrate.settings.load import Settings

#: Something is declared that no revision makes.
DIFFERS = 3


@dataclass(frozen=True, slots=True)
class Question:
    """Something that may have another name now, and what each answer costs.

    Attributes:
        rename: what is gone, and what is new.
        points: of the collection, by ``lint.points`` of the settings; None where they have none.
        seconds: that a new vector of this many points takes, at the speeds of ``estimates:``; None likewise.
    """

    rename: Rename
    points: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class GeneratedFile:
    """One revision.

    Attributes:
        path: its file.
        revision: its id.
        message: first line of its docstring.
        text: of the file.
        changes: its operations in words, as ``docs: add vector …``.
        undecided: what a person has to decide before lint takes it.
    """

    path: Path
    revision: str
    message: str
    text: str
    changes: tuple[str, ...]
    undecided: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Generated:
    """`revision --autogenerate`.

    Attributes:
        declared: where the declaration is.
        files: revisions that were written, in order; none where nothing differs.
        kept: what is not declared any more, and stays without ``--drops``.
        unsaid: what is declared and no revision can express.
        silent: settings that revisions have set and the declaration doesn't name.
        alone: collections of revisions that are not declared: they are left alone.
        dry_run: nothing was written.
    """

    declared: str
    files: tuple[GeneratedFile, ...] = ()
    kept: tuple[str, ...] = ()
    unsaid: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class DeclaredCheck:
    """`check --declared`.

    Attributes:
        declared: where the declaration is.
        collections: how many it has.
        changes: what differs, one line each, as ``docs: add vector …``.
        texts: the operations as they would be written, one text for each revision.
        renames: what may have another name now, and is not decided.
        unsaid: what no revision can express.
        silent: settings that revisions have set and the declaration doesn't name.
        alone: collections of revisions that are not declared; no difference.
        exit_code: 3 where something differs, else 0.
    """

    declared: str
    collections: int
    changes: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    renames: tuple[str, ...] = ()
    unsaid: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class Wishes:
    """How a revision is generated.

    Attributes:
        renames: what has another name now, as ``old=new`` or ``docs:old=new``.
        different: what has not, likewise.
        drops: what is not declared any more is dropped.
        only: restrict to these declared names; None for all.
        revision_id: of the first revision, instead of the next one.
    """

    renames: tuple[str, ...] = ()
    different: tuple[str, ...] = ()
    drops: bool = False
    only: tuple[str, ...] | None = None
    revision_id: str | None = None


def autogenerate(
    settings: Settings | None,
    message: str,
    wishes: Wishes | None = None,
    *,
    dry_run: bool = False,
    ask: Callable[[Question], bool] | None = None,
) -> Generated:
    """Write the revisions that make what is declared of what the revisions have made so far.

    It needs no server and no ledger. The declaration decides what there should be; what it doesn't is asked, or
    refused, and never guessed.

    Args:
        message: of the revision; of several, each adds what it is for.
        dry_run: compose them only.
        ask: answers whether something has another name now; without it that is an error.

    Raises:
        NotConfiguredError: nothing is declared.
        ConfigError: the declaration can't be read.
        RefusedError: something may be a rename, and nothing decides it.
        RevisionError: the revisions can't be used, or a file can't be written.
    """
    settings = settings or Settings.load(stores=False)
    wishes = wishes or Wishes()
    state = _state(settings, wishes.only)
    answers = _answers(settings, state, wishes, ask)
    made = outline(state, answers)
    found = drafts(made, message)
    if wishes.revision_id is not None and len(found) > 1:
        raise UsageError(
            f"{len(found)} revisions are needed, so that readers can follow in between, and --rev-id names one",
            hint="leave --rev-id out",
        )
    composed = _composed(settings, found, wishes.revision_id)
    if not dry_run:
        _write(composed)
    files = tuple(
        GeneratedFile(file.path, file.id, draft.message, file.text, draft.changes, draft.undecided)
        for file, draft in zip(composed, found, strict=True)
    )
    return Generated(where(settings), files, made.kept, made.unsaid, made.silent, made.alone, dry_run)


def check_declared(settings: Settings | None = None, *, only: Iterable[str] | None = None) -> DeclaredCheck:
    """Whether the revisions make what is declared; for a pull request. It writes nothing and needs no server.

    Args:
        only: restrict to these declared names.

    Raises:
        NotConfiguredError: nothing is declared.
        ConfigError: the declaration can't be read.
        RevisionError: the revisions can't be used.
    """
    settings = settings or Settings.load(stores=False)
    chosen = tuple(only) if only is not None else None
    state = _state(settings, chosen)
    doubtful = undecided(state, Answers())
    # A collection that is not declared doesn't count. What may be a rename is shown as what it is without one.
    alone = tuple(state.alone())
    found = outline(_without(state, alone), Answers(different=frozenset(doubtful), drops=True))
    texts = drafts(found, "what is declared")
    return DeclaredCheck(
        declared=where(settings),
        collections=len(state.wanted),
        changes=tuple(line for one in texts for line in one.changes),
        texts=tuple(one.source.text(indent=0) for one in texts),
        renames=tuple(one.written for one in doubtful),
        unsaid=found.unsaid,
        silent=found.silent,
        alone=alone,
        exit_code=DIFFERS if found.differs else 0,
    )


def _without(state: State, names: Iterable[str]) -> State:
    left = set(names)
    return replace(state, replayed={name: one for name, one in state.replayed.items() if name not in left})


def _state(settings: Settings, only: tuple[str, ...] | None) -> State:
    return State.read(read(settings), Revisions.load(settings.scripts), only)


def _answers(settings: Settings, state: State, wishes: Wishes, ask: Callable[[Question], bool] | None) -> Answers:
    answers = Answers(
        state.parsed(wishes.renames, "--rename"), state.parsed(wishes.different, "--different"), wishes.drops
    )
    while ask is not None and (open_ := undecided(state, answers)):
        one = open_[0]
        if ask(_priced(settings, state, one)):
            answers = replace(answers, renames=answers.renames | {one})
        else:
            answers = replace(answers, different=answers.different | {one})
    return answers


def _priced(settings: Settings, state: State, rename: Rename) -> Question:
    """What a new vector would cost, by what the settings say: nothing here asks a server."""
    held = state.holder(rename.collection)
    before = state.replayed.get(held if rename.what == "vector" else rename.old)
    points = Project((), points=settings.lint.points).points_of(held if rename.what == "vector" else rename.old)
    if points is None or before is None:
        return Question(rename)
    schema = before.schema
    new = sum(rename.new == name for name in state.wanted[rename.collection].values)
    wanted = Copy(
        collection=held,
        points=points,
        embeds=max(new, 1),
        schema=schema,
        total=points,
        weight=schema.bytes_per_point(),
    )
    return Question(rename, points, seconds_of_copy(wanted, (), settings.estimates, local=False)[0])


def _composed(settings: Settings, found: tuple[Draft, ...], revision_id: str | None) -> list[NewFile]:
    made: list[NewFile] = []
    for draft in found:
        after = made[-1] if made else None
        given = revision_id if after is None else None
        made.append(
            compose(
                settings.scripts,
                draft.message,
                revision_id=new_id(settings.scripts, settings.revision_ids, given, after),
                source=draft.source,
                downgrade=draft.downgrade,
                after=after,
            )
        )
    return made


def _write(files: Iterable[NewFile]) -> None:
    """All of them, or none."""
    written: list[Path] = []
    try:
        for file in files:
            write_new(file)
            written.append(file.path)
    except RevisionError:
        for path in written:
            path.unlink()
        raise
