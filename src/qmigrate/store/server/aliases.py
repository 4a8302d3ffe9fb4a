"""Alias changes on a server. Reading aliases is in ``nodes``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qmigrate.errors import NotFoundError
from qmigrate.model.schema import JsonObject
from qmigrate.store.faults import TransientError
from qmigrate.store.server.nodes import aliases
from qmigrate.store.server.rest import Rest

_PATH = "/collections/aliases"
#: Number of the name that a guard has between two actions of one request; no other alias of its holder has it.
MOVED_ASIDE = 999_999


def create(node: Rest, alias: str, target: str) -> None:
    """Make or re-point an alias."""
    action = {"create_alias": {"collection_name": target, "alias_name": alias}}
    node.call("POST", _PATH, {"actions": [action]})


def drop(node: Rest, alias: str) -> None:
    """Remove an alias; no error when it is gone."""
    node.call("POST", _PATH, {"actions": [{"delete_alias": {"alias_name": alias}}]})


def guarded(
    node: Rest, guard: str, *, make: Mapping[str, str] | None = None, drop: Sequence[str] = ()
) -> None:
    """Make and remove aliases in one request, if `guard` is still there; it may be repeated.

    The server works through the actions in order, under one lock, and stops at the first that it refuses. So the guard
    is moved aside and back first: where it is gone, nothing else happens; where anything behind it is refused, it is
    back already.

    Raises:
        NotFoundError: `guard` is gone.
    """
    aside = f"{guard}__{MOVED_ASIDE}"
    moves: list[JsonObject] = [
        {"rename_alias": {"old_alias_name": old, "new_alias_name": new}}
        for old, new in ((guard, aside), (aside, guard))
    ]
    made: list[JsonObject] = [
        {"create_alias": {"collection_name": target, "alias_name": alias}} for alias, target in (make or {}).items()
    ]
    gone: list[JsonObject] = [{"delete_alias": {"alias_name": alias}} for alias in drop]
    node.call("POST", _PATH, {"actions": [*moves, *made, *gone]})


def rename(node: Rest, pairs: Sequence[tuple[str, str]], drop: Sequence[str] = ()) -> None:
    """Rename aliases (old, new) in one request, which then removes `drop`.

    The server works through the actions in order and stops at the first that it refuses, so nothing is removed
    once an `old` is gone.

    Not simply repeated: a rename that was carried out and whose answer was lost would look like one that a later
    holder has forbidden. So after a lost answer the aliases themselves say which it was.

    Raises:
        NotFoundError: an `old` is gone. Nothing was sent when it was gone before.
    """
    targets = aliases(node)
    gone = [old for old, _ in pairs if old not in targets]
    if gone:
        raise NotFoundError(f"Qdrant at {node.label}: alias {gone[0]!r} does not exist any more")
    actions: list[JsonObject] = [
        {"rename_alias": {"old_alias_name": old, "new_alias_name": new}} for old, new in pairs
    ]
    actions += [{"delete_alias": {"alias_name": alias}} for alias in drop]

    def once() -> None:
        try:
            node.envelope(node.send("POST", _PATH, {"actions": actions}))
        except TransientError as error:
            if not error.unknown or not _done(node, pairs, drop, targets):
                raise

    node.repeat(once)


def _done(
    node: Rest, pairs: Sequence[tuple[str, str]], drop: Sequence[str], targets: dict[str, str]
) -> bool:
    now = aliases(node)
    renamed = all(old not in now and now.get(new) == targets[old] for old, new in pairs)
    return renamed and not any(alias in now for alias in drop)
