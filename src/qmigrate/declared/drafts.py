"""An outline as the text of revisions, as a person would have written them. It writes no file."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qmigrate.declared.collection import Wanted
from qmigrate.declared.compare import Piece, Stage, compare
from qmigrate.declared.outline import Outline, operation_after
from qmigrate.declared.replay import Replayed
from qmigrate.errors import PlanError
from qmigrate.model.schema import DISABLED, CollectionSchema
from qmigrate.operations.base import Operation, assign, check_contradictions
from qmigrate.operations.collection import SetAlias
from qmigrate.operations.text.operation import operation_source
from qmigrate.operations.text.source import CodeWriter
from qmigrate.operations.values import FILL_ME
from qmigrate.operations.vector import RenameVector
from qmigrate.parameters.own import SERVER_DEFAULTS

#: How the message of one of several revisions ends.
_ENDINGS = {
    Stage.ROOM: "make room",
    Stage.ADD: "add",
    Stage.SWITCH: "switch",
    Stage.AFTER: "change what was renamed",
    Stage.DROP: "drop what is not used any more",
}


@dataclass(frozen=True, slots=True)
class Draft:
    """One revision that is not written yet.

    Attributes:
        message: first line of its docstring.
        source: what ``upgrade()`` returns.
        downgrade: what ``downgrade()`` returns; None where the way back is derived, or nothing can say it.
        changes: its operations in words, as ``docs: add vector …``.
        undecided: what a person has to decide before lint takes it, likewise.
    """

    message: str
    source: CodeWriter
    downgrade: CodeWriter | None
    changes: tuple[str, ...]
    undecided: tuple[str, ...]


def drafts(made: Outline, message: str) -> tuple[Draft, ...]:
    """The revisions of an outline, in order.

    Args:
        message: of the only one; of several, each adds what it is for.
    """
    found = []
    now: dict[str, Replayed] = dict(made.before)
    for stage, pieces in made.stages.items():
        said = message if len(made.stages) == 1 else f"{message}: {_ENDINGS[stage]}"
        then = _after(now, pieces)
        found.append(_draft(said, pieces, now, then))
        now = then
    return tuple(found)


def _draft(
    message: str, pieces: Sequence[Piece], before: Mapping[str, Replayed], after: Mapping[str, Replayed]
) -> Draft:
    source = CodeWriter()
    for piece in pieces:
        source = source + operation_source(piece.operation, piece.comments)
    back, trouble = _way_back(pieces, before, after)
    changes = tuple(f"{one.operation.pattern}: {one.operation.describe()}" for one in pieces)
    undecided = [line for one in pieces for line in _undecided(one.operation, before)]
    if back is None:
        undecided += trouble
        for line in trouble:
            source = source + CodeWriter(operations=((None, (line,)),), words=frozenset())
        return Draft(message, source, None, changes, tuple(undecided))
    down = CodeWriter(words=frozenset())
    for operation in back:
        missing = getattr(operation, "values", None) is FILL_ME
        words = ('What fills it again? Without an answer: no downgrade(), and irreversible = "why that is fine"',)
        down = down + operation_source(operation, words if missing else ())
        if missing:
            undecided.append(f"{operation.pattern}: values=FILL_ME in downgrade(): {operation.describe()}")
    return Draft(message, source, down, changes, tuple(undecided))


def _undecided(operation: Operation, before: Mapping[str, Replayed]) -> list[str]:
    """What lint refuses of an operation until a person has decided it."""
    found = []
    if getattr(operation, "values", None) is FILL_ME:
        found.append(f"{operation.pattern}: values=FILL_ME: {operation.describe()}")
    state = before.get(operation.pattern)
    if hasattr(operation, "cutover") and operation.cutover is None and state and operation.incompatible(state.schema):
        found.append(f'{operation.pattern}: cutover="immediate" or "hold": {operation.describe()}')
    if operation.drops:
        found.append(f'{operation.pattern}: irreversible = "why": {operation.describe()}')
    return found


def _after(before: Mapping[str, Replayed], pieces: Iterable[Piece]) -> dict[str, Replayed]:
    found = dict(before)
    for piece in pieces:
        operation = piece.operation
        if operation.creates:
            found[operation.pattern] = Replayed(operation.apply(None))  # type: ignore[arg-type]
            continue
        for name in [name for name in found if operation.bound((name,)).matches(name)]:
            after = operation_after(found[name], operation)
            if after is None:
                del found[name]
            else:
                found[name] = after
    return found


def _way_back(
    pieces: Sequence[Piece], before: Mapping[str, Replayed], after: Mapping[str, Replayed]
) -> tuple[list[Operation] | None, list[str]]:
    """What undoes a revision where that is not derived, or why nothing here can say it."""
    operations = [one.operation for one in pieces if not one.operation.creates]
    stuck = dict(_stuck(operations, before))
    if not stuck:
        return None, []
    back: list[Operation] = []
    for name in sorted({one.pattern for one in operations}):
        own = [one for one in operations if one.pattern == name]
        state = _state(name, before), _state(name, after)
        if state[0] is None or state[1] is None or any(isinstance(one, SetAlias) for one in own):
            return None, _no_way(stuck)
        inverse = _inverse(state[0][0], state[0][1], state[1][1], own)
        if inverse is None:
            return None, _no_way(stuck)
        back += inverse
    return back, []


def _no_way(stuck: Mapping[str, str]) -> list[str]:
    return [
        f'{name}: {why}. Decide: irreversible = "why that is fine", or a downgrade()'
        for name, why in sorted(stuck.items())
    ]


def _state(pattern: str, states: Mapping[str, Replayed]) -> tuple[str, Replayed] | None:
    """A collection by the pattern that means it alone."""
    return next(((name, one) for name, one in states.items() if pattern in (name, name.replace("[", "[[]"))), None)


def _stuck(operations: Sequence[Operation], before: Mapping[str, Replayed]) -> Iterable[tuple[str, str]]:
    """Collections on which an operation has no way back of its own, with the reason."""
    now = dict(before)
    for operation in operations:
        found = _state(operation.pattern, now)
        if found is None:
            continue
        name, state = found
        try:
            why = operation.irreversible_reason(state.schema)
        except PlanError:
            why = None
        if why and not operation.drops:
            yield name, why
        then = operation_after(state, operation)
        if then is None:
            del now[name]
        else:
            now[name] = then


def _inverse(name: str, before: Replayed, after: Replayed, own: Sequence[Operation]) -> list[Operation] | None:
    """Operations that make the earlier schema of a collection again; None where a setting can't be said."""
    renamed = [one for one in own if isinstance(one, RenameVector)]
    back: list[Operation] = [
        RenameVector(one.collection, one.new_name, one.vector, cutover="immediate") for one in reversed(renamed)
    ]
    now: Replayed | None = after
    for operation in back:
        now = operation_after(now, operation)
    config = _restored(before.schema.config, after.schema.config)
    if now is None or config is None:
        return None
    wanted = Wanted(name, before.schema.with_(config=config), {**before.filled})  # type: ignore[dict-item]
    pieces = compare(wanted, now, {}, drops=True).pieces
    back += [_at_once(one.operation, now.schema) for one in pieces]
    try:
        check_contradictions(back)
    except PlanError:
        return None
    return back


def _at_once(operation: Operation, schema: CollectionSchema) -> Operation:
    """The same, going live at the end of the run: a rollback doesn't wait."""
    if not hasattr(operation, "cutover") or operation.incompatible(schema) is None:
        return operation
    made = copy.copy(operation)
    assign(made, cutover="immediate")
    return made


def _restored(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any] | None:
    """The earlier settings, with the server's defaults for what was not set; None where these are not known."""
    found: dict[str, Any] = dict(before)
    for key, value in after.items():
        if key in ("metadata",):
            continue
        usual = SERVER_DEFAULTS.get(key)
        if key == "quantization_config":
            found.setdefault(key, DISABLED)
        elif isinstance(value, Mapping):
            known = usual if isinstance(usual, Mapping) else {}
            part = dict(before.get(key) or {})
            for name in value.keys() - part.keys():
                default = known.get(name, False if isinstance(value[name], bool) else None)
                if default is None:
                    return None
                part[name] = default
            found[key] = part
        elif key not in before:
            if usual is None:
                return None
            found[key] = usual
    return found
