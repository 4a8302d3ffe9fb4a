"""ensure: for applications that create collections while they run. It changes no collection that is there."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

from qmigrate.commands.results import Outcome
from qmigrate.commands.run_job import RunOptions
from qmigrate.commands.run_plan import finish_open_runs, perform
from qmigrate.commands.session import Session, opened_ledger, session
from qmigrate.engine.executor import Stop
from qmigrate.errors import ConfigError, RevisionError, UsageError
from qmigrate.ledger import View
from qmigrate.model.names import GENERATION
from qmigrate.model.plan import Plan
from qmigrate.model.schema import JsonObject
from qmigrate.model.state import Seal, World
from qmigrate.observe import check_ownership, observe, unmanaged
from qmigrate.operations.checks import logical_name_problem
from qmigrate.planner import plan_upgrade
from qmigrate.settings.load import Settings
from qmigrate.store import ConnectionSettings
from qmigrate.store.borrowed import Borrowed
from qmigrate.text import quote

#: Seconds that the client may take to see what was made: nodes of a cluster see it one after the other.
PATIENCE = 5.0
#: As it is recorded with its runs.
VERB = "ensure"


@dataclass(frozen=True, slots=True)
class Ensured:
    """A collection that is there and under management.

    Attributes:
        name: the logical name.
        physical: the collection that serves it.
        revision: the one that it is at.
        created: whether this call made it.
    """

    name: str
    physical: str
    revision: str
    created: bool


def ensure(
    client: object, name: str, *, settings: Settings | None = None, config: str | Path | None = None
) -> Ensured:
    """Make sure that a collection is there: created at the head of the revisions, with generation, alias and seal.

    A collection that is there and under management costs two requests and some SQL queries, and is never changed: a
    pending revision is the business of ``qmigrate upgrade``. Several callers at once: one creates, the others wait.

    Args:
        client: the application's own ``QdrantClient`` or ``AsyncQdrantClient``; in local mode its folder is used
            through it. All of it waits: an event loop calls it as ``await asyncio.to_thread(ensure, client, name)``.
        name: the logical name; a revision must create it, by this name or by a glob.
        settings: those of qmigrate; by default read from `config`.
        config: the settings file; by default ``qmigrate.yaml``, or the file that ``QMIGRATE_CONFIG`` names.

    Raises:
        UsageError: `client` is not a client, or no collection can have this name.
        ConfigError: the client uses another Qdrant than the settings.
        RevisionError: no revision creates it, or one has dropped it.
        RefusedError: it is there, but not under management.
        RepairNeededError: the name was moved behind the ledger's back, or what serves was deleted and recreated.
        ForeignLedgerError: another ledger has it under management.
    """
    with ExitStack() as stack:
        borrowed = stack.enter_context(closing(Borrowed(client)))
        problem = logical_name_problem(name, "the name")
        if problem:
            raise UsageError(problem)
        return _made_sure(borrowed, name, settings or Settings.load(config=config))


def _made_sure(borrowed: Borrowed, name: str, known: Settings) -> Ensured:
    found = _known(known, name)
    if found is not None and borrowed.sees(name) and found.is_sealed(borrowed.seal(name)):
        return found.ensured
    with ExitStack() as stack:
        store, own = borrowed.store(ConnectionSettings(**known.connection()))
        if own:
            stack.callback(store.close)
        opened = stack.enter_context(session(known, writes=True, store=store))
        made = _create(opened, name)
    after = _known(known, name)
    if not borrowed.sees(name, patience=PATIENCE) or not (after is None or after.is_sealed(borrowed.seal(name))):
        raise ConfigError(
            f"{name} is there, but the client doesn't see it: it uses another Qdrant than qmigrate.yaml names",
            hint="name the same Qdrant in both",
        )
    return made


@dataclass(frozen=True, slots=True)
class _Known:
    """What the ledger has of a name that serves.

    Attributes:
        ledger: its identity.
        settled: no run is under way, which may be moving the name to the next generation.
    """

    ensured: Ensured
    ledger: str | None
    settled: bool

    def is_sealed(self, seal: JsonObject | None) -> bool:
        """Whether what a client sees under the name is that, as far as it is known."""
        if seal is None:
            return True
        told = Seal.of(seal)
        ours = (told.ledger, told.collection) == (self.ledger, self.ensured.name)
        generation = GENERATION.match(self.ensured.physical)
        if not self.settled or generation is None or generation["name"] != self.ensured.name:
            return ours
        return ours and told.generation == int(generation["number"])


def _known(settings: Settings, name: str) -> _Known | None:
    """What the ledger has of a name that serves; None while a caller is still making it, or was interrupted."""
    with opened_ledger(settings) as ledger:
        found = _ensured(ledger.view(name), created=False)
        if found is None:
            return None
        run = ledger.open_run(name)
        if run is not None and run.verb == VERB:
            return None
        return _Known(found, ledger.identity(), settled=run is None)


def _ensured(view: View | None, *, created: bool) -> Ensured | None:
    if view is None or view.physical is None or view.revision is None:
        return None
    return Ensured(view.name, view.physical, view.revision, created)


def _create(opened: Session, name: str) -> Ensured:
    # Signals are the application's own business.
    stop = Stop()
    finished: list[Outcome] = []
    if opened.ledger.open_run(name) is not None:
        _, finished = finish_open_runs(opened, RunOptions(stop, only=[name]))
    if opened.ledger.view(name) is None:
        _refuse_unmanaged(observe(opened.ledger, opened.store, only=[name]), name)
    wanted = opened.revisions.resolve("head", current=frozenset())

    def make(world: World) -> Plan:
        state = world.collections[name]
        if state.declared is not None:
            return Plan(VERB, (), ())
        made = plan_upgrade(world, opened.revisions, wanted, only=[name], create=frozenset({name}))
        return replace(made, verb=VERB)

    _, outcomes = perform(opened, make, RunOptions(stop), names=[name])
    made = _ensured(opened.ledger.view(name), created=bool(finished or outcomes))
    if made is None:
        raise _not_made(observe(opened.ledger, opened.store, only=[name]), name)
    check_ownership(observe(opened.ledger, opened.store, only=[name]), name)
    return made


def _not_made(world: World, name: str) -> RevisionError:
    """Why nothing makes it."""
    state = world.collections[name]
    if state.lost:
        return RevisionError(
            f"nothing has the name {name} since its loss was recorded, and it counts as created",
            hint=f"qmigrate rollback base --only {quote(name)}, then it is recreated without points; or restore it: "
            f"qmigrate snapshot list {quote(name)}",
        )
    return RevisionError(
        f"a revision has dropped {name}" if state.applied else f"no revision creates {name}",
        hint=f"write one that does: op.CreateCollection({name!r}, …), or with a glob for all names like it",
    )


def _refuse_unmanaged(world: World, name: str) -> None:
    state = world.collections[name]
    if state.live is not None and state.open_run is None and not state.managed:
        raise unmanaged(world.ledger_id, state, "is there already, and not under management")
