"""The graph of revision files; the only importer of alembic.script. It writes no file and opens no store."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from qmigrate.errors import QmigrateError, RevisionError, UnknownRevisionError
from qmigrate.model.names import is_forced
from qmigrate.revisions.file import Revision, files_of, load_file, operations_of
from qmigrate.text import quote

if TYPE_CHECKING:
    from alembic.script.revision import RevisionMap

    from qmigrate.operations.base import Operation

__all__ = ["Revision", "Revisions"]

_RELATIVE = re.compile(r"(?P<start>[^+-]*)(?P<sign>[+-])(?P<steps>\d+)")


class Revisions:
    """The graph of all revision files of a folder. Make it with :meth:`load`."""

    def __init__(self, found: Iterable[tuple[Revision, ModuleType]]) -> None:
        loaded = list(found)
        squashed = Squashed.of([revision for revision, _ in loaded])
        self._revisions = {one.id: one for one in (*squashed.files, *squashed.gone)}
        self._modules = {revision.id: module for revision, module in loaded}
        self._downgrades: dict[str, tuple[Operation, ...]] = {}
        self._replaced_by, self._gone = squashed.by, frozenset(one.id for one in squashed.gone)
        graph = _graph(squashed.files, squashed.parents, self._gone)
        self._heads = tuple(sorted(graph.heads))
        newest_first = graph.iterate_revisions("heads", "base") if loaded else ()
        self._order = tuple(self._revisions[found.revision] for found in newest_first)[::-1]
        self._parents = dict(squashed.parents)
        self._inline: tuple[str, ...] = ()
        self._names: Callable[[], Iterable[str]] = tuple
        self._known: Callable[[], frozenset[str]] = frozenset
        self._any_sign = False

    @classmethod
    def load(cls, scripts: Path) -> Revisions:
        """Read every ``versions/*.py``; each file is executed once, and nothing is written next to it.

        Raises:
            RevisionError: a file can't be used, or the files don't fit together; names the files.
        """
        found = [load_file(file) for file in files_of(scripts)]
        _check_graph([revision for revision, _ in found])
        return cls(found).bound(tuple)

    @classmethod
    def none(cls) -> Revisions:
        """No revision at all."""
        return cls(())

    def with_inline(self, found: Iterable[Revision]) -> Revisions:
        """This graph and revisions that have no file.

        Each comes where it was applied first: after the revisions that it names as `down`, and before every file
        that comes after all of those.

        Args:
            found: in the order in which they were recorded; parents without a file are passed over.

        Raises:
            RevisionError: a file has the same id.
        """
        made = copy.copy(self)
        made._revisions, made._parents = dict(self._revisions), dict(self._parents)
        for revision in found:
            other = self._revisions.get(revision.id)
            if other is not None:
                raise RevisionError(
                    f"{other.path} has the id {revision.id}, which is the key of {revision.path.name}",
                    hint="give the file another id",
                )
            down = tuple(one for one in revision.down if one in made._revisions)
            later = [one.id for one in self._order if made._closure(made._parents[one.id]).issuperset(down)]
            made._revisions[revision.id], made._parents[revision.id] = revision, down
            made._inline += (revision.id,)
            for one in later:
                made._parents[one] += (revision.id,)
        made._order = tuple(made._revisions[one] for one in made._sorted() if one not in self._gone)
        return made.bound(self._names, any_sign=self._any_sign)

    def with_problems(self, problems: Mapping[str, QmigrateError], downgrades: Mapping[str, bool]) -> Revisions:
        """This graph where nothing runs the files of some revisions, see :attr:`Revision.problem`.

        Args:
            problems: revision -> what is wrong; one that can't be read, and has a file, keeps its own.
            downgrades: revision -> whether the file that was applied had a ``downgrade()``, where that is recorded.
        """
        made = copy.copy(self)
        made._revisions = dict(self._revisions)
        for key, one in self._revisions.items():
            problem = one.problem if one.problem is not None and one.checksum else problems.get(key, one.problem)
            if problem is not None:
                has = downgrades.get(key, one.has_downgrade)
                made._revisions[key] = replace(one, problem=problem, has_downgrade=has)
        made._order = tuple(made._revisions[one.id] for one in self._order)
        made._downgrades = {}
        return made

    def bound(self, names: Callable[[], Iterable[str]], *, any_sign: bool = False) -> Revisions:
        """The same where these names exist: a pattern that is one of them means it alone.

        What a revision creates under an exact name is a name for every other revision, too.

        Args:
            names: asked once, and only where a pattern may be a name and a glob.
            any_sign: names may hold ``*`` and ``?``, too, as local mode takes them.
        """
        made = copy.copy(self)
        made._names, made._any_sign = names, any_sign
        created = {one.pattern for each in self._order for one in each.operations if one.creates and not one.is_glob}
        made._known = functools.cache(lambda: frozenset(names()) | created)
        made._revisions = {
            key: replace(one, operations=made._bind(one.operations)) for key, one in self._revisions.items()
        }
        made._order = tuple(made._revisions[one.id] for one in self._order)
        made._downgrades = {}
        return made

    def _bind(self, operations: tuple[Operation, ...]) -> tuple[Operation, ...]:
        doubtful = any(
            one.is_glob and not is_forced(one.written) and (self._any_sign or "[" in one.pattern) for one in operations
        )
        return tuple(one.bound(self._known()) for one in operations) if doubtful else operations

    def _sorted(self) -> list[str]:
        """Parents before children: files in their own order, the others as early as they can be."""
        placed: dict[str, None] = {}

        def place(one: str) -> None:
            for parent in self._parents[one]:
                if parent not in placed:
                    place(parent)
            placed[one] = None

        for one in [*(revision.id for revision in self._order), *self._inline]:
            if one not in placed:
                place(one)
        return list(placed)

    def order(self) -> tuple[Revision, ...]:
        """Every revision, parents before children; always the same order for the same files."""
        return self._order

    def standing(self) -> tuple[Revision, ...]:
        """The same without those that another one replaces: what makes a collection from nothing."""
        return tuple(one for one in self._order if one.id not in self._replaced_by)

    def squashed(self, *, gone: bool = False) -> tuple[Revision, ...]:
        """Those that replace others, in order; one that was squashed again comes before the one that replaces it.

        Args:
            gone: also those that have no file any more, as another one replaces them.
        """
        old = (self._revisions[one] for one in sorted(self._gone)) if gone else ()
        return tuple(sorted((one for one in (*self._order, *old) if one.replaces), key=lambda one: len(one.replaces)))

    def replacement(self, revision: str) -> Revision | None:
        """The revision that replaces one, and is not replaced itself; None where none does."""
        by = self._replaced_by.get(revision)
        return self._revisions[by] if by is not None else None

    def is_gone(self, revision: str) -> bool:
        """Whether it has no file any more, as another one replaces it; :meth:`get` has a record without operations."""
        return revision in self._gone

    def knows(self, revision: str) -> bool:
        """Whether there is a revision of this very id, with a file or replaced."""
        return revision in self._revisions

    def tips(self, ids: Collection[str]) -> frozenset[str]:
        """Those of some revisions that none of them follows."""
        among = frozenset(ids) & self._revisions.keys()
        return among - {parent for one in among for parent in self._parents[one]}

    def heads(self) -> tuple[str, ...]:
        """Ids that nothing follows, sorted."""
        return self._heads

    def missing(self) -> tuple[str, ...]:
        """Ids of revisions that were applied, or are followed, and that no file has; see :mod:`.readable`."""
        return tuple(one.id for one in self._order if one.problem is not None and not one.checksum)

    def head(self) -> Revision | None:
        """The newest revision, or None without any.

        Raises:
            RevisionError: there are several.
        """
        if len(self._heads) > 1:
            files = {one: self._revisions[one].path.name for one in self._heads}
            files.update(dict.fromkeys(self.missing(), "no file has it"))
            named = ", ".join(f"{one} ({files[one]})" for one in self._heads)
            missing = ", ".join(one for one in self.missing() if one in self._heads)
            way = f"bring the file of {missing} back" if missing else 'join them: qmigrate revision --merge -m "merge"'
            raise RevisionError(
                f"there are {len(self._heads)} heads: {named}",
                hint=f'{way}, or name one of them, or "heads"',
                facts={"heads": list(self._heads)},
            )
        return self._revisions[self._heads[0]] if self._heads else None

    def get(self, wanted: str) -> Revision:
        """The revision of an id, or of the beginning of one where only one begins like that.

        Raises:
            RevisionError: none, or several.
        """
        if wanted in self._revisions:
            return self._revisions[wanted]
        matching = [one for one in self._order if wanted and one.id.startswith(wanted)]
        if not matching:
            matching = [one for one in self._order if one.path.stem == wanted]
        if len(matching) == 1:
            return matching[0]
        if matching:
            named = ", ".join(one.id for one in matching)
            hint = "write more of the id"
            raise RevisionError(f'several revisions begin with "{wanted}": {named}', hint=hint)
        known = ", ".join(one.id for one in self._order[-5:]) or "none"
        raise UnknownRevisionError(f'there is no revision "{wanted}"', hint=f"the newest ones are: {known}")

    def ancestors(self, wanted: str) -> frozenset[str]:
        """Ids of everything before a revision, itself left out.

        Raises:
            RevisionError: there is no such revision.
        """
        start = self.get(wanted).id
        return self._closure([start]) - {start}

    def standing_for(self, wanted: str) -> Revision:
        """As :meth:`get`; where a replaced revision has no file any more, the one that replaces it."""
        found = self.get(wanted)
        if not self.is_gone(found.id):
            return found
        # Of several, where what was squashed was squashed again, the one that stands for the least.
        return next((one for one in self.squashed() if found.id in one.replaces), found)

    def resolve(self, target: str, *, current: frozenset[str], forward: bool = False) -> frozenset[str]:
        """Which revisions should be applied.

        Args:
            target: ``head``, ``heads``, ``base``, an id or the beginning of one, ``+N``, ``-N``, ``id+N``,
                ``id-N``.
            current: ids that are applied; only relative targets use it. A revision without operations
                leaves no trace there and doesn't count as a step. Nor does one that others of it replace, or that
                replaces others of it.
            forward: the way there is an upgrade, so that a replaced revision without a file means what replaces it.

        Returns:
            The target and everything before it.

        Raises:
            RevisionError: there is no such target, or it is ambiguous.
        """
        target = target.strip()
        if target == "base":
            return frozenset()
        if target == "heads":
            return self._closure((*self._heads, *self._inline))
        if target == "head":
            head = self.head()
            return self._closure((*([head.id] if head else []), *self._inline))
        relative = _RELATIVE.fullmatch(target)
        if relative is None:
            return self._closure([(self.standing_for if forward else self.get)(target).id])
        start = relative["start"]
        applied = self.resolve(start, current=current, forward=forward) if start else self._applied(current)
        step = self._up if relative["sign"] == "+" else self._down
        silent = self._silent(applied if start else current)
        for _ in range(int(relative["steps"])):
            applied = step(applied, target, silent)
        return applied

    def _silent(self, current: frozenset[str]) -> frozenset[str]:
        """What doesn't count as a step of a relative target: without operations; or squashed, and gone by otherwise."""
        found = {one.id for one in self._order if not one.operations and one.problem is None} | (self._gone - current)
        for one in self.squashed():
            apart = current.intersection(one.replaces)
            found.update({one.id} if apart and one.id not in current else set(one.replaces) - current)
        return frozenset(found)

    def downgrade_operations(self, wanted: str) -> tuple[Operation, ...] | None:
        """What the file's ``downgrade()`` returns; None when it has none.

        Raises:
            RevisionError: it fails, or returns something else than operations; or the file must not be run.
            DriftError: the file is not what was applied, and is not to be run.
        """
        revision = self.get(wanted)
        if not revision.has_downgrade:
            return None
        if revision.problem is not None:
            raise revision.problem
        if revision.id not in self._downgrades:
            module = self._modules[revision.id]
            found = operations_of(module, "downgrade", revision.path)
            self._downgrades[revision.id] = self._bind(found)
        return self._downgrades[revision.id]

    def _closure(self, starts: Iterable[str]) -> frozenset[str]:
        seen: set[str] = set()
        todo = list(starts)
        while todo:
            one = todo.pop()
            if one not in seen:
                seen.add(one)
                todo.extend(self._parents[one])
        return frozenset(seen)

    def _applied(self, current: frozenset[str]) -> frozenset[str]:
        unknown = sorted(current - set(self._revisions))
        if unknown:
            raise RevisionError(
                f"applied revisions have no file any more: {', '.join(unknown)}",
                hint="bring the files back, or name the target by its id",
            )
        return self._closure(current)

    def _up(self, applied: frozenset[str], target: str, silent: frozenset[str]) -> frozenset[str]:
        applied |= self._gone
        while True:
            ready = [one for one in self._order if one.id not in applied and applied.issuperset(self._parents[one.id])]
            empty = [one.id for one in ready if one.id in silent]
            if not empty:
                break
            applied |= set(empty)
        return applied | {_only(ready, target, "no revision follows")}

    def _down(self, applied: frozenset[str], target: str, silent: frozenset[str]) -> frozenset[str]:
        while True:
            newest = [self._revisions[one] for one in sorted(self.tips(applied))]
            empty = [one.id for one in newest if one.id in silent]
            if not empty:
                break
            applied -= set(empty)
        return applied - {_only(newest, target, "nothing is left to roll back")}


def _only(found: list[Revision], target: str, none: str) -> str:
    if not found:
        raise RevisionError(f'the target "{target}" goes too far: {none}')
    if len(found) > 1:
        named = ", ".join(f"{one.id} ({one.path.name})" for one in found)
        hint = "name a revision by its id"
        raise RevisionError(f'the target "{target}" is ambiguous here: {named}', hint=hint)
    return found[0].id


def _check_graph(found: list[Revision]) -> None:
    """What Alembic would only warn of."""
    by_id: dict[str, Revision] = {}
    for revision in found:
        other = by_id.setdefault(revision.id, revision)
        if other is not revision:
            raise RevisionError(
                f"two files have the revision {revision.id}: {other.path} and {revision.path}",
                hint="give one of them another id and let it follow the other",
            )
    replaced = {one for revision in found for one in revision.replaces}
    for revision in found:
        for parent in revision.down:
            if parent not in by_id and parent not in replaced:
                raise RevisionError(
                    f"{revision.path} follows the revision {parent}, and no file has that id",
                    hint="bring the file back, or repair down_revision",
                )
    for _, error in replaced_wrongly(found):
        raise error


def replaced_wrongly(found: Iterable[Revision]) -> Iterator[tuple[Revision, RevisionError]]:
    """Revisions that can't stand for what they replace, with why."""
    by_id: dict[str, Revision] = {one.id: one for one in found}
    squashed = sorted((one for one in by_id.values() if one.replaces), key=lambda one: len(one.replaces))
    for place, revision in enumerate(squashed):
        for other in squashed[:place]:
            both = next((one for one in other.replaces if one in revision.replaces), None)
            if both is not None and other.id not in revision.replaces:
                said = f"{other.path} and {revision.path} both replace the revision {both}"
                yield revision, RevisionError(said, hint="remove one of the files")
                break
        if own := sorted({revision.id, *revision.down}.intersection(revision.replaces)):
            what = "itself" if own[0] == revision.id else f"{own[0]}, which it follows"
            said = f"{revision.path} replaces {what}"
            yield revision, RevisionError(said, hint="repair replaces or down_revision")
        said_of = dict(revision.squashed)
        nested = (by_id[one] for one in revision.replaces if one in by_id and by_id[one].replaces)
        unsaid = next((one for one in nested if said_of.get(one.id) != one.replaces), None)
        if unsaid is not None:
            yield revision, _not_said(revision, unsaid)
            continue
        inner = {old for _, ids in revision.squashed for old in ids}
        there = [one for one in revision.replaces if one in by_id]
        gone = [one for one in revision.replaces if one not in by_id and one not in inner]
        # What a squashed revision stands for may be gone before it: its own file is judged by itself.
        if gone and there:
            yield revision, _partly_gone(revision, there, [one for one in revision.replaces if one not in by_id])


def _not_said(revision: Revision, nested: Revision) -> RevisionError:
    parts = dict(revision.squashed) | {nested.id: nested.replaces}
    ids = dict.fromkeys(old for one in revision.replaces for old in (*parts.get(one, ()), one))
    said = f"{revision.path} replaces {nested.id}, which replaces other revisions itself, and doesn't say which ones"
    # It has to say so itself: ledgers have these ids when the other file is gone.
    stood_for = {key: list(one) for key, one in parts.items()}
    return RevisionError(
        said, hint=f"write replaces = {list(ids)!r} and squashed = {stood_for!r}, as the verb squash does"
    )


def _partly_gone(revision: Revision, there: Sequence[str], gone: Sequence[str]) -> RevisionError:
    return RevisionError(
        f"{revision.path} replaces {', '.join(revision.replaces)}, and a part of their files was removed: "
        f"{', '.join(gone)}, but not {', '.join(there)}",
        hint="bring back what is missing; or remove them all, once every deployment has passed them: qmigrate show "
        f"{quote(revision.id)} says it of this one",
    )


@dataclass(frozen=True, slots=True)
class Squashed:
    """Files, where what replaces others has taken their place.

    Attributes:
        files: what follows a replaced revision follows the one that replaces it, so that no file has to be edited.
        gone: records of what is replaced and has no file any more.
        parents: id -> what comes before it. What replaces others comes after these, wherever it is applied.
        by: replaced id -> what replaces it.
    """

    files: tuple[Revision, ...]
    gone: tuple[Revision, ...]
    parents: Mapping[str, tuple[str, ...]]
    by: Mapping[str, str]

    @classmethod
    def of(cls, found: Iterable[Revision]) -> Squashed:
        """Of all files."""
        found = tuple(found)
        squashed = sorted((one for one in found if one.replaces), key=lambda one: len(one.replaces))
        by = {one: revision.id for revision in squashed for one in revision.replaces}
        files = {one.id: one if one.id in by else replace(one, down=_now(one, squashed)) for one in found}
        parents = {one.id: _now(one, squashed) for one in files.values()}
        gone: list[Revision] = []
        for one in squashed:
            missing = [old for old in one.replaces if old not in files and old not in parents]
            before = parents[one.id]
            for old in missing:
                gone.append(_record_of(one, old, before))
                # In one line: what is taken for no ancestor would be undone on the way back to it.
                parents[old] = before
                before = (old,)
            there = [old for old in one.replaces if old in files]
            followed = {parent for old in there for parent in parents[old]}
            ends = tuple(old for old in there if old not in followed)
            parents[one.id] = tuple(dict.fromkeys((*parents[one.id], *(before if missing else ()), *ends)))
        return cls(tuple(files.values()), tuple(gone), parents, by)


def _now(revision: Revision, squashed: Sequence[Revision]) -> tuple[str, ...]:
    """What it follows: in place of what is replaced what replaces it, unless that replaces this one, too.

    Args:
        squashed: those that replace others, the one that stands for most of them last.
    """
    found: dict[str, None] = {}
    for one in revision.down:
        whole = [each for each in squashed if one in each.replaces]
        if all(each.id != revision.id for each in whole):
            outside = [each.id for each in whole if revision.id not in each.replaces]
            found[outside[-1] if outside else one] = None
    return tuple(found)


def _record_of(one: Revision, old: str, down: tuple[str, ...]) -> Revision:
    error = RevisionError(
        f"the file of revision {old} was removed: {one.id} replaces it ({one.path.name})",
        hint="bring the file back from the history of your repository",
    )
    # Whether it had a downgrade() isn't known: what it did is not undone by guessing.
    stood_for = dict(one.squashed).get(old, ())
    return Revision(old, down, one.path, "", "", (), True, None, None, replaces=stood_for, problem=error)


def _graph(files: Sequence[Revision], parents: Mapping[str, tuple[str, ...]], without: frozenset[str]) -> RevisionMap:
    from alembic.script.base import Script
    from alembic.script.revision import CycleDetected, RevisionMap

    try:
        # Newest first, since that is how Alembic walks: of two branches the lower number then comes first.
        scripts = [Script(_stand_in(one, parents[one.id], without), one.id, str(one.path)) for one in reversed(files)]
        graph = RevisionMap(lambda: scripts)
        _ = graph.heads
    except CycleDetected as error:
        paths = {revision.id: str(revision.path) for revision in files}
        named = ", ".join(paths[one] for one in sorted(error.revisions))
        message = f"these revisions follow each other in a circle: {named}"
        raise RevisionError(message, hint="repair down_revision") from error
    return graph


def _stand_in(revision: Revision, parents: Iterable[str], without: frozenset[str]) -> ModuleType:
    """What Alembic's graph reads of a file."""
    module = ModuleType(f"qmigrate_graph_{revision.id}", revision.doc)
    down = tuple(one for one in parents if one not in without)
    module.__dict__.update(revision=revision.id, down_revision=down or None)
    return module
