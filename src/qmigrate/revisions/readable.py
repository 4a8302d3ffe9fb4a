"""The graph of revision files as far as they can be read, the broken ones included. It runs no operation.

For verbs that must work in an emergency. :meth:`qmigrate.revisions.graph.Revisions.load` refuses all files because of
one; here a broken, unfinished or missing file is a revision without operations that names what is wrong with it.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

from qmigrate.errors import QmigrateError, RevisionError
from qmigrate.revisions.file import Revision, files_of, is_identifier, load_file
from qmigrate.revisions.graph import Revisions

#: A variable of a file that Python can't parse.
_LINE = re.compile(r"^(revision|down_revision|irreversible)\s*(?::[^=\n]*)?=\s*(.+?)\s*(?:#.*)?$", re.MULTILINE)
_DOWNGRADE = re.compile(r"^def\s+downgrade\b", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the ledger has of revisions.

    Attributes:
        applied: for each collection what was applied to it, oldest first.
        checksums: revision -> checksum of the file that was applied.
        inline: ids that never had a file.
    """

    applied: Collection[Sequence[str]] = ()
    checksums: Mapping[str, str] = field(default_factory=dict)
    inline: Collection[str] = ()


@dataclass(slots=True)
class _Found:
    """One revision while the graph is put together; `down` is None where the file doesn't say what it follows."""

    revision: Revision
    module: ModuleType
    down: tuple[str, ...] | None

    @property
    def pair(self) -> tuple[Revision, ModuleType]:
        """As the graph takes it."""
        down = self.down or ()
        if self.revision.problem is None and down == self.revision.down:
            return self.revision, self.module
        return replace(self.revision, down=down), _stand_in(self.revision.id, down, self.revision.doc)


def read_all(scripts: Path, recorded: Recorded) -> tuple[Revisions, tuple[QmigrateError, ...]]:
    """Every revision that has a file, and those that the ledger or another file speaks of.

    Returns:
        The graph, and what is wrong besides the problems of its revisions.
    """
    problems: list[QmigrateError] = []
    found = _by_id(_read(scripts, recorded, problems), recorded, problems)
    _add_missing(scripts, found, recorded)
    order = _order_of(recorded)
    for one in found:
        found[one].down = _down_of(found, one, order, recorded)
    _cut_circles(found, order)
    _cut_circles(found, {})
    return Revisions([found[one].pair for one in sorted(found)]).bound(tuple), tuple(problems)


def _read(scripts: Path, recorded: Recorded, problems: list[QmigrateError]) -> list[_Found]:
    try:
        files = files_of(scripts)
    except RevisionError as error:
        # Where nothing was applied, no folder is needed yet.
        problems += [error] if recorded.checksums else []
        return []
    found: list[_Found] = []
    for file in files:
        try:
            revision, module = load_file(file)
        except RevisionError as error:
            unread = _unread(file, error)
            found += [unread] if unread is not None else []
            problems += [error] if unread is None else []
        else:
            found.append(_Found(revision, module, revision.down))
    return found


def _unread(file: Path, error: RevisionError) -> _Found | None:
    """What a file that can't be used still says of itself; None where not even its id is known."""
    try:
        content = file.read_bytes()
    except OSError:
        content = b""
    text = content.decode("utf-8", "replace")
    said, downgrades = _said(text)
    identifier = next((one for one in (said.get("revision"), file.stem.partition("_")[0]) if is_identifier(one)), None)
    if not isinstance(identifier, str):
        return None
    reason = said.get("irreversible")
    revision = Revision(
        id=identifier,
        down=(),
        path=file,
        doc="",
        checksum=hashlib.sha256(content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")).hexdigest(),
        operations=(),
        has_downgrade=downgrades,
        irreversible=reason if isinstance(reason, str) else None,
        requires_sql=None,
        problem=error,
    )
    return _Found(revision, _stand_in(identifier, (), ""), _parents(said))


def _said(text: str) -> tuple[dict[str, object], bool]:
    """The variables that are written down as plain values, and whether there is a ``downgrade()``."""
    found: dict[str, object] = {}
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        for name, value in _LINE.findall(text):
            _keep(found, name, value)
        return found, _DOWNGRADE.search(text) is not None
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    _keep(found, target.id, ast.unparse(node.value))
    return found, any(isinstance(node, ast.FunctionDef) and node.name == "downgrade" for node in tree.body)


def _keep(found: dict[str, object], name: str, value: str) -> None:
    try:
        found[name] = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return


def _parents(said: Mapping[str, object]) -> tuple[str, ...] | None:
    if "down_revision" not in said:
        return None
    found = said["down_revision"]
    listed = () if found is None else (found,) if isinstance(found, str) else found
    if not isinstance(listed, tuple | list) or not all(isinstance(one, str) for one in listed):
        return None
    return tuple(dict.fromkeys(listed))


def _by_id(
    found: Iterable[_Found], recorded: Recorded, problems: list[QmigrateError]
) -> dict[str, _Found]:
    """One file for each id: of two, that which was applied."""
    by_id: dict[str, _Found] = {}
    for one in found:
        key, other = one.revision.id, by_id.get(one.revision.id)
        if other is None:
            by_id[key] = one
            continue
        error = RevisionError(
            f"two files have the revision {key}: {other.revision.path} and {one.revision.path}",
            hint="give one of them another id and let it follow the other",
        )
        problems.append(error)
        kept = next((each for each in (other, one) if each.revision.checksum == recorded.checksums.get(key)), None)
        if kept is None:
            other.revision = replace(other.revision, problem=other.revision.problem or error)
        by_id[key] = kept or other
    return by_id


def _add_missing(scripts: Path, found: dict[str, _Found], recorded: Recorded) -> None:
    """Revisions that were applied, or that a file follows, and that no file has."""
    follows = {parent: one for one in found.values() for parent in one.down or ()}
    replaced = {old for one in found.values() for old in one.revision.replaces}
    for key in {*follows, *recorded.checksums}.difference(found, recorded.inline, replaced):
        if key in recorded.checksums:
            error = RevisionError(f"revision {key} is applied, and no file has it", hint="bring the file back")
        else:
            child = follows[key]
            error = RevisionError(
                f"{child.revision.path} follows the revision {key}, and no file has that id",
                hint="bring the file back, or repair down_revision",
            )
            if child.revision.id in recorded.checksums:
                # What it really came after, the ledger has.
                child.down, child.revision = None, replace(child.revision, problem=child.revision.problem or error)
                continue
        # Whether it had a downgrade() isn't known: what it did is not undone by guessing.
        missing = Revision(key, (), scripts / "versions" / f"{key}.py", "", "", (), True, None, None, problem=error)
        found[key] = _Found(missing, _stand_in(key, (), ""), None)


def _order_of(recorded: Recorded) -> dict[str, tuple[str, ...]]:
    """Revision -> all that was applied before it, for files that don't say what they follow.

    Not only the last one: which branches a file has joined that is not there isn't known, and what is taken for no
    ancestor would be undone on the way back to it.
    """
    before: dict[str, tuple[str, ...]] = {}
    for entries in recorded.applied:
        files = [one for one in entries if one not in recorded.inline]
        for place, one in enumerate(files):
            before.setdefault(one, tuple(files[:place]))
    return before


def _down_of(
    found: Mapping[str, _Found], key: str, order: Mapping[str, tuple[str, ...]], recorded: Recorded
) -> tuple[str, ...] | None:
    """What a revision follows: as its file says where that is what was applied, else with what was applied before it.

    Load-bearing: by a file that was changed since, what it came after would be undone from below it.
    """
    said, checksum = found[key].down, found[key].revision.checksum
    if said is None:
        return _tips(found, order[key], order) if key in order else None
    if recorded.checksums.get(key, checksum) == checksum:
        return said
    return _tips(found, (*said, *order.get(key, ())), order)


def _tips(found: Mapping[str, _Found], some: Iterable[str], order: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Those of the revisions that no other one of them comes after; all of them where they go round in a circle."""
    among = tuple(dict.fromkeys(some))
    before = {key: frozenset(one.down if one.down is not None else order.get(key, ())) for key, one in found.items()}
    older = {each for one in among if one in before for each in _ancestors(before, one)}
    return tuple(one for one in among if one not in older) or among


def _cut_circles(found: dict[str, _Found], order: Mapping[str, tuple[str, ...]]) -> None:
    """What follows itself follows what it was applied after, or nothing: a graph needs a beginning."""
    before = {key: frozenset(one.down or ()) for key, one in found.items()}
    circle = sorted(key for key in found if key in _ancestors(before, key))
    named = ", ".join(str(found[key].revision.path) for key in circle)
    for key in circle:
        error = RevisionError(f"these revisions follow each other in a circle: {named}", hint="repair down_revision")
        one = found[key]
        one.down = order.get(key, ())
        one.revision = replace(one.revision, problem=one.revision.problem or error)


def _ancestors(before: Mapping[str, frozenset[str]], start: str) -> set[str]:
    seen: set[str] = set()
    todo = list(before[start])
    while todo:
        one = todo.pop()
        if one not in seen:
            seen.add(one)
            todo += before.get(one, ())
    return seen


def _stand_in(identifier: str, down: tuple[str, ...], doc: str) -> ModuleType:
    """What Alembic's graph reads of a file."""
    module = ModuleType(f"qmigrate_unread_{identifier}", doc)
    module.__dict__.update(revision=identifier, down_revision=down or None)
    return module
