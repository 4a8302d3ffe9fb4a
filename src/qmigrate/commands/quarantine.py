"""fix quarantine: points that could not be embedded, listed, and through their embedder again. It embeds none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qmigrate.commands.parallel import paced
from qmigrate.commands.run_fixes import run_fix
from qmigrate.commands.session import Session, UserCode, opened_ledger, session
from qmigrate.engine.as_applied import refuse_changed
from qmigrate.engine.work import transform_of
from qmigrate.ledger import Ledger, Quarantined
from qmigrate.model.names import unknown
from qmigrate.model.plan import Build, EditPoints, Plan
from qmigrate.model.schema import JsonObject
from qmigrate.model.state import CollectionState, Generation, World
from qmigrate.planner import planned_fix
from qmigrate.ports import Progress
from qmigrate.settings.load import Settings

#: States of a generation that does not serve yet.
BUILT = ("building", "held")
WORDS = "embed again what could not be embedded"


@dataclass(frozen=True, slots=True)
class Row:
    """A point without its vector; the fields are those of :class:`qmigrate.ledger.Quarantined`."""

    collection: str
    generation: str
    point_id: int | str
    vector: str
    outcome: str
    stage: str
    reason: str
    source: str | None
    run: int | None
    attempts: int
    since: str | None


@dataclass(frozen=True, slots=True)
class Quarantine:
    """`fix quarantine`: open rows, of what serves and of what is being built."""

    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Retried:
    """`fix quarantine --retry`.

    Attributes:
        filled: points that have their vector now, those that came back included.
        failed: points that failed again.
        settled: rows that no longer needed it.
        stranded: points that were dropped from a generation that was rebuilt since: only their file has them; those
            whose ids of today are unknown, since the generation that has both is gone; and those whose vector is
            not there now, or is one of that name that no embedder has filled.
        waiting: points of a generation that is being built: the upgrade itself tries them.
    """

    filled: int
    failed: int
    settled: int
    stranded: int
    waiting: int
    collections: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0: what could be filled is."""
        return 0


def quarantine(settings: Settings | None = None, collection: str | None = None) -> Quarantine:
    """Points that could not be embedded, and are not settled. It asks the ledger only.

    Raises:
        NotFoundError: the ledger has no such collection.
    """
    settings = settings or Settings.load()
    with opened_ledger(settings) as ledger:
        known = sorted({*ledger.collections(), *(one.job.collection for one in ledger.open_runs())})
        if collection is not None and collection not in known:
            raise unknown("collection", collection, known, of=" in the ledger")
        names = known if collection is None else [collection]
        return Quarantine(tuple(_shown(name, row) for name in names for row in _open(ledger, name)))


def retry(
    settings: Settings | None = None,
    collection: str | None = None,
    *,
    reason: str = "",
    max_rate: float | None = None,
    lock_timeout: float | None = None,
    progress: Progress | None = None,
) -> Retried:
    """Embed them again: vectors are filled in, dropped points come back, what fails again stays listed.

    Args:
        collection: only this one; None for all.
        max_rate: most points per second; None for no limit.

    Raises:
        NotFoundError: the ledger has no such collection.
    """
    settings = settings or Settings.load()
    more = {"reason": reason or None} | paced(max_rate)
    names = tuple(dict.fromkeys(row.collection for row in quarantine(settings, collection).rows))
    with session(settings, writes=True, progress=progress, begins=False) as opened:
        result = run_fix(opened, lambda world: _plan(opened, world, names, more), lock_timeout)
        built = [row.physical for name in names for row in opened.ledger.generations(name) if row.state in BUILT]
        waiting = sum(opened.ledger.quarantined(physical) for physical in built)
    counts = [one.counts for one in result.done]
    return Retried(
        filled=sum(one.changed for one in result.done),
        failed=sum(one.changed_meanwhile for one in result.done),
        settled=sum(one.get("settled", 0) for one in counts),
        stranded=sum(one.get("stranded", 0) for one in counts),
        waiting=waiting,
        collections=names,
    )


def _plan(opened: Session, world: World, names: Sequence[str], more: JsonObject) -> Plan:
    planned = []
    for name in names:
        state = world.collections.get(name)
        if state is None or state.live is None or not state.managed:
            continue
        live = str(state.physical)
        groups = _groups(opened, state, live)
        if groups:
            edit = {"kind": "retry", "undo": None, "groups": groups, "live": live, **more}
            step = EditPoints((), live, edit, str(more.get("reason") or WORDS))
            planned.append(planned_fix(world, name, [step], [WORDS]))
    return Plan(verb="fix", target=(), collections=tuple(planned))


def _groups(opened: Session, state: CollectionState, live: str) -> list[JsonObject]:
    """What there is to be tried, by generation and vector, with what its vector is called now."""
    line = lineage(state.generations, live)
    builds = _builds(opened.ledger, state.name)
    schemas = {row.physical: row.schema for row in state.generations}
    found: list[JsonObject] = []
    rows = opened.ledger.quarantine([one.physical for one in line])
    keys = dict.fromkeys((row.generation, row.vector) for row in rows)
    if keys:
        _refuse_changed(opened, state.name, [build for one in line if (build := builds.get(one.physical))])
    for generation, vector in keys:
        build = builds.get(generation)
        if build is None or build.source is None or build.source not in schemas:
            continue
        later = line[[one.physical for one in line].index(generation) + 1 :]
        now = _renamed(opened, vector, [builds.get(one.physical) for one in later], schemas)
        found.append(
            {
                "generation": generation,
                "vector": vector,
                "now": now,
                "ops": [[ref.revision, ref.index] for ref in build.ops],
                "schema": schemas[build.source].to_json(),
            }
        )
    return found


def _refuse_changed(opened: Session, name: str, builds: Sequence[Build]) -> None:
    """What fills a vector, and what it is called since, is said by the files that the generations were made by.

    Raises:
        RefusedError: one of them says something else.
    """
    code = UserCode(opened, opened.settings.for_collection(name))
    made_by = opened.ledger.built_by(name)
    for build in builds:
        why = f"points of {build.target} that could not be embedded can't be filled by it"
        hint = f"or leave the points of {name} as they are: qmigrate fix quarantine lists them"
        refuse_changed(code, build.ops, made_by.get(build.target, {}), why, hint)


def _renamed(
    opened: Session, vector: str, builds: Sequence[Build | None], schemas: Mapping[str, Any]
) -> str | None:
    """What a vector is called after these rebuilds; None where one of them dropped it or filled it again."""
    name: str | None = vector
    code = UserCode(opened, opened.settings)
    for build in builds:
        if build is None or build.source is None or build.source not in schemas or name is None:
            return name
        operations = [code.operation(ref) for ref in build.ops]
        carried = transform_of(operations, schemas[build.source]).vectors
        name = next((target for target, source in carried.items() if source == name), None)
    return name


def lineage(generations: Sequence[Generation], live: str) -> list[Generation]:
    """The generations that led to the one that serves, oldest first."""
    by_number = {row.number: row for row in generations}
    line: list[Generation] = []
    here = next((row for row in generations if row.physical == live), None)
    while here is not None and here not in line:
        line.insert(0, here)
        here = by_number.get(here.parent) if here.parent is not None else None
    return line


def _builds(ledger: Ledger, name: str) -> dict[str, Build]:
    """The newest build of each generation."""
    steps = [step for job in reversed(ledger.jobs(name)) for step in job.steps if isinstance(step, Build)]
    return {step.target: step for step in steps}


def _open(ledger: Ledger, name: str) -> list[Quarantined]:
    """Of what serves and what led to it, and of what is being built."""
    generations = ledger.generations(name)
    view = ledger.collections().get(name)
    line = lineage(generations, view.physical) if view is not None and view.physical is not None else []
    made = [row for row in generations if row.state in BUILT]
    return ledger.quarantine(list(dict.fromkeys(row.physical for row in [*line, *made])))


def _shown(name: str, row: Quarantined) -> Row:
    return Row(
        name,
        row.generation,
        row.point_id,
        row.vector,
        row.outcome,
        row.stage,
        row.reason,
        row.source,
        row.run,
        row.attempts,
        row.created_at.isoformat() if row.created_at is not None else None,
    )
