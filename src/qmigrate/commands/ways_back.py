"""The commands that undo what an upgrade has just done, and nothing else. It only reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from qmigrate.commands.results import Outcome
from qmigrate.commands.session import Session
from qmigrate.errors import RevisionError
from qmigrate.model.words import quote

#: Collections that one command names.
_NAMED = 20


def ways_back(opened: Session, outcomes: Iterable[Outcome]) -> tuple[str, ...]:
    """One command where that is exact: what others have of the same revisions stays as it is; else one per target.

    Nothing where no target leaves just what was there before.
    """
    done: dict[str, frozenset[str]] = {}
    for outcome in outcomes:
        if outcome.revisions:
            done[outcome.collection] = done.get(outcome.collection, frozenset()).union(outcome.revisions)
    if not done:
        return ()
    applied = {name: [one.revision for one in entries] for name, entries in opened.ledger.all_applied().items()}
    relative = f"-{len(frozenset().union(*done.values()))}"
    if _taken(opened, relative, applied) == done:
        return (f"qmigrate rollback {quote(relative)}",)
    targets: dict[str, list[str]] = {}
    for name, revisions in sorted(done.items()):
        kept = [one for one in applied.get(name, []) if one not in revisions]
        target = kept[-1] if kept else "base"
        if _taken(opened, target, {name: applied.get(name, [])}) == {name: revisions}:
            targets.setdefault(target, []).append(name)
    return tuple(_command(target, names) for target, names in targets.items() if len(names) <= _NAMED)


def _taken(opened: Session, target: str, applied: Mapping[str, list[str]]) -> dict[str, frozenset[str]] | None:
    """What a rollback to a target would undo, by collection; None where there is no such target."""
    current = frozenset(one for entries in applied.values() for one in entries)
    try:
        keep = opened.revisions.resolve(target, current=current)
    except RevisionError:
        return None
    found = {name: frozenset(one for one in entries if one not in keep) for name, entries in applied.items()}
    return {name: revisions for name, revisions in found.items() if revisions}


def _command(target: str, names: Iterable[str]) -> str:
    return " ".join(["qmigrate rollback", quote(target), *(f"--only {quote(name)}" for name in names)])
