"""Git's commands for revision files: to remove what was squashed, and to bring it back. It runs none of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qmigrate.revisions.graph import Revision
from qmigrate.text import quote

#: Files that a command names one by one; more are written as patterns, or left to git.
NAMED = 8


def remove_command(files: Sequence[Path], among: Sequence[Path]) -> str:
    """The command that removes these files, and no other one of the folder.

    Args:
        files: that may go.
        among: every file of the folder.
    """
    names = [_near(one) for one in files]
    if len(files) > NAMED:
        names = [f"{_near(one.parent)}/{one.name}" for one in _patterns(files, among)]
    return f"git rm {' '.join(map(quote, names))}"


def _patterns(files: Sequence[Path], among: Sequence[Path]) -> list[Path]:
    """As few patterns as meet all of these and none of the others: each the shortest beginning that no other has."""
    going = {one.name for one in files}
    others = [one.name for one in among if one.name not in going]
    found: dict[Path, None] = {}
    for one in files:
        sizes = range(1, len(one.name))
        size = next((n for n in sizes if not any(other.startswith(one.name[:n]) for other in others)), None)
        found[one if size is None else one.with_name(f"{one.name[:size]}*")] = None
    return list(found)


def restore_command(squashed: Revision, gone: Sequence[str]) -> str:
    """The command that brings back the files that a squashed revision replaces, from the commits that removed them.

    A file is known by its id here, with which its name begins. What was squashed before was mostly removed before, too:
    each of these has a command of its own.

    Args:
        gone: ids of those that have no file any more, in order.
    """
    left, commands = list(gone), []
    for parts in [*sorted((ids for _, ids in squashed.squashed), key=len), squashed.replaces]:
        removed = [one for one in left if one in parts]
        left = [one for one in left if one not in parts]
        commands += [_restored(squashed, removed)] if removed else []
    return "; ".join(commands)


def _restored(squashed: Revision, gone: Sequence[str]) -> str:
    """The same for those that one commit has removed."""
    folder = _near(squashed.path.parent)
    paths = [quote(f"{folder}/{one}_*") for one in gone]
    removed = f"git log -n 1 --diff-filter=D --format=%h -- {paths[-1]}"
    if len(gone) <= NAMED:
        # A squashed one's id begins as the first of theirs does, and it is not to become what it was then.
        others = [squashed.path.name, *(f"{one}_*" for one, _ in squashed.squashed if one not in gone)]
        apart = (other for other in others if any(other.startswith(f"{one}_") for one in gone))
        paths += [quote(f":!{folder}/{other}") for other in apart]
        return f'git checkout "$({removed})^" -- {" ".join(paths)}'
    deleted = f"git diff --name-only --diff-filter=D --relative $c^ $c -- {quote(folder)}"
    return f"c=$({removed}); git checkout $c^ -- $({deleted})"


def _near(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
