"""evaluate: search in one collection next to search in another one, on the same questions. It only reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from qmigrate.commands.session import Session, UserCode, session
from qmigrate.engine.build.comparison import Asking, Side, Words, ask, model_of, size_of
from qmigrate.errors import UsageError
from qmigrate.model.facts.comparison import Compared
from qmigrate.model.names import unknown
from qmigrate.model.transform import PointId
from qmigrate.observe import known_names
from qmigrate.operations.quality import Compare, SameValue
from qmigrate.ports import Progress
from qmigrate.settings.load import Settings
from qmigrate.store import records

#: Between a collection and a vector: neither has it in its name.
_BETWEEN = "/"
#: The options of the verb.
_OPTIONS = Words("--embedder-a NAME", "--embedder-b NAME", "--same-value FIELD", "--measure overlap")


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What a comparison shows.

    Attributes:
        a: the old search: a collection, and behind a slash the vector where it has several.
        b: the new one.
        result: figures and decision.
    """

    a: str
    b: str
    result: Compared


def evaluate(
    settings: Settings | None, a: str, b: str, wanted: Compare, *, progress: Progress | None = None
) -> Evaluated:
    """Whether search in `b` is as good as search in `a`, as a revision with ``quality=`` would ask it.

    Args:
        a: ``docs``, or ``docs/title`` where it has several vectors; logical names, aliases and generations.
        b: likewise; may be the same collection with another vector.
        wanted: what is asked; its ``old_vector`` is that of `a`.

    Raises:
        UsageError: a vector is open or missing, the questions can't be read, or both are one and the same search.
    """
    settings = settings or Settings.load()
    with session(settings, writes=False, progress=progress, partial=True, readable=True) as opened:
        texts = not isinstance(wanted.queries, SameValue)
        before = _side(opened, a, wanted.old_embedder, texts=texts)
        after = _side(opened, b, wanted.embedder, texts=texts)
        if (before.name, before.vector, before.embedder) == (after.name, after.vector, after.embedder):
            raise UsageError(
                f"{a} and {b} are the same search",
                hint="name the other vector behind a slash (docs/title), or another collection or generation",
            )

        def alone(call: Callable[[], Any]) -> Any:
            with opened.turn.of(opened):
                return call()

        def tick(count: int = 0, note: str = "") -> None:
            opened.progress.advance(count, note)

        opened.progress.begin(a, "compare", None)
        found = ask(Asking(opened.store, settings, opened.progress, tick, alone, _OPTIONS), before, after, wanted)
        opened.progress.end(found.reason)
    return Evaluated(a, b, found)


def shown_points(
    settings: Settings | None, names: Sequence[str], ids: Iterable[PointId]
) -> dict[PointId, dict[str, Any]]:
    """What of the payloads of points may be shown: the fields of ``console.fields``; nothing where it names none.

    Args:
        names: collections, the first one that has a point counts; a vector may stand behind a slash.
    """
    settings = settings or Settings.load()
    fields, wanted = settings.console.fields, list(dict.fromkeys(ids))
    found: dict[PointId, dict[str, Any]] = {}
    if not fields or not wanted:
        return found
    with session(settings, writes=False, partial=True, readable=True) as opened:
        for name in dict.fromkeys(one.partition(_BETWEEN)[0] for one in names):
            lacking = [one for one in wanted if one not in found]
            for stored in opened.store.fetch(name, lacking, payload=list(fields), vectors=False) if lacking else ():
                payload = records.payload_of(stored)
                found[records.point_id(stored)] = {key: payload[key] for key in fields if key in payload}
    return found


def _side(opened: Session, given: str, model: str | None, *, texts: bool) -> Side:
    name, _, vector = given.partition(_BETWEEN)
    live = opened.store.describe(name)
    if live is None:
        raise unknown("collection", name, known_names(opened.ledger, opened.store))
    names = sorted(live.schema.vector_names())
    if _BETWEEN not in given:
        if len(names) != 1:
            shown = ", ".join(f"{name}{_BETWEEN}{one}" for one in names) or "none"
            raise UsageError(f"{name} has {len(names)} vectors: say which one", hint=f"one of: {shown}")
        vector = names[0]
    if vector not in names:
        raise UsageError(f"{name} has no vector {vector!r} (vectors: {', '.join(names) or 'none'})")
    settings = opened.settings.for_collection(name)
    code = UserCode(opened, settings)
    recorded = _recorded(opened, live.physical, vector)
    embedder = model_of(code, settings.embedders, model, recorded) if texts else None
    return Side(name, vector, size_of(live.schema, vector), embedder, given)


def _recorded(opened: Session, physical: str, vector: str) -> Any:
    """The fingerprint of the model that has filled a vector of the generation that serves; None of any other one."""
    views = opened.ledger.collections()
    return next((view.embedders.get(vector) for view in views.values() if view.physical == physical), None)
