"""expect: whether a collection is what an application declares to need. It only reads, and loads no revision file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qmigrate.commands.condition import percent
from qmigrate.commands.session import configured_embedder, open_store, opened_ledger
from qmigrate.drift import differences
from qmigrate.errors import DriftError, NotFoundError, PendingError, UsageError
from qmigrate.ledger import Ledger
from qmigrate.model.state import CollectionState, World
from qmigrate.observe import check_ownership, observe, unmanaged
from qmigrate.operations.checks import logical_name_problem
from qmigrate.parameters.catalogue import catalogue
from qmigrate.ports import Embedder, Store
from qmigrate.settings.load import Settings
from qmigrate.text import quote

Fingerprint = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Expectation:
    """What an application needs of one collection. What is left out is not asked for.

    Attributes:
        collection: the logical name.
        revision: a revision that must be applied; later ones may be, too.
        embedder: the model that the application embeds its queries with. A name of ``embedders:`` in qmigrate.yaml,
            or an object with a ``fingerprint()``: some vector must have been filled by it. Or vector -> one of these.
        vectors: vector -> its size, or its ``VectorParams``: then the distance must be the same, too.
    """

    collection: str
    revision: str | None = None
    embedder: str | Embedder | Mapping[str, str | Embedder] | None = None
    vectors: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problem = logical_name_problem(self.collection, "the collection")
        if problem:
            raise UsageError(problem)


@dataclass(frozen=True, slots=True)
class Expected:
    """A collection that is what the application declares.

    Attributes:
        name: the logical name.
        physical: the collection that serves it.
        revision: the newest one that is applied.
        embedders: vector -> fingerprint of the model that filled it.
    """

    name: str
    physical: str
    revision: str | None
    embedders: Mapping[str, Fingerprint]


def expect(
    wanted: Expectation,
    *,
    client: object | None = None,
    settings: Settings | None = None,
    config: str | Path | None = None,
) -> Expected:
    """Compare what an application declares with what is recorded, and what is recorded with what is live.

    Args:
        wanted: what the application declares.
        client: the application's own ``QdrantClient`` or ``AsyncQdrantClient``; needed in local mode where it has the
            folder open.
        settings: those of qmigrate; by default read from `config`.
        config: the settings file; by default ``qmigrate.yaml``, or the file that ``QMIGRATE_CONFIG`` names.

    Raises:
        NotFoundError: there is no such collection.
        RefusedError: it is not under management.
        RepairNeededError: another ledger owns it, or it was moved behind the ledger's back.
        PendingError: the revision is not applied.
        DriftError: a vector, or the model that filled it, is another one.
        EmbedError: the embedder is not configured, or can't be loaded.
    """
    known = settings or Settings.load(config=config)
    with opened(known, client) as (ledger, store):
        world = observe(ledger, store, only=[wanted.collection])
        return judge(world, wanted, lambda name: _fingerprint(known, wanted.collection, name))


@contextmanager
def opened(settings: Settings, client: object | None) -> Iterator[tuple[Ledger, Store]]:
    """Ledger and store without the revision files, which a service needn't have."""
    with ExitStack() as stack:
        ledger = stack.enter_context(opened_ledger(settings))
        yield ledger, open_store(settings.with_client(client), stack, writes=False, partial=True)


def _fingerprint(settings: Settings, collection: str, name: str) -> Fingerprint:
    return configured_embedder(name, settings.for_collection(collection).embedders).fingerprint()


def judge(world: World, wanted: Expectation, fingerprint: Callable[[str], Fingerprint]) -> Expected:
    """The same over what was read already.

    Args:
        world: with the collection observed.
        fingerprint: of the configured embedder of a name.

    Raises:
        QmigrateError: as in :func:`expect`.
    """
    state = world.collections[wanted.collection]
    check_ownership(world, state.name)
    if state.live is None:
        raise NotFoundError(f"there is no collection {state.name}", hint="create it: qmigrate upgrade")
    if not state.managed:
        raise unmanaged(world.ledger_id, state, "is not under management, so nothing is recorded of it")
    _revision(state, wanted.revision)
    _vectors(state, wanted.vectors)
    _live(world, state)
    _models(state, wanted.embedder, fingerprint)
    newest = state.applied[-1].revision if state.applied else None
    return Expected(state.name, state.live.physical, newest, dict(state.embedders))


def _revision(state: CollectionState, revision: str | None) -> None:
    applied = state.applied_revisions()
    if revision is None or revision in applied or revision in state.passed:
        return
    run = state.open_run
    hint = f"qmigrate upgrade {quote(revision)}"
    on_its_way = run is not None and revision in run.job.revisions()
    now = ""
    if run is not None and on_its_way and run.leased:
        now, hint = f" (being applied now, {percent(run) or 0:.0f} %)", "wait until it is done: qmigrate status"
    elif on_its_way and state.held:
        now, hint = " (built, and held)", f"qmigrate cutover {quote(state.name)}"
    raise PendingError(
        f"{state.name} is at {applied[-1] if applied else 'base'}, and this application needs {revision}{now}",
        hint=hint,
        facts={"collection": state.name, "applied": list(applied), "needed": revision},
    )


def _vectors(state: CollectionState, vectors: Mapping[str, Any]) -> None:
    recorded = state.declared.vectors if state.declared else {}
    for name, wanted in vectors.items():
        shown = name or "(unnamed)"
        if name not in recorded:
            there = ", ".join(sorted(one or "(unnamed)" for one in recorded)) or "none"
            raise _other(state.name, f"it has no vector {shown} (recorded: {there})")
        size = wanted if isinstance(wanted, int) else _field(wanted, "size")
        distance = None if isinstance(wanted, int) else _field(wanted, "distance")
        for key, value in (("size", size), ("distance", distance)):
            found = recorded[name].get(key)
            if value is not None and found != value:
                raise _other(
                    state.name, f"vector {shown} has the {key} {found}, and this application works with {value}"
                )


def _field(params: Any, key: str) -> Any:
    """A field of ``VectorParams`` or of a mapping like it, as plain JSON has it."""
    value = params.get(key) if isinstance(params, Mapping) else getattr(params, key, None)
    return getattr(value, "value", value)


def _live(world: World, state: CollectionState) -> None:
    """What a search needs must be live as it is recorded: what is never tuned, but may have been removed."""
    if state.declared is None or state.live is None:
        return
    for found in differences(state.declared, state.live.schema, local=world.capabilities.local):
        lost = found.kind in ("vector.add", "sparse.add")
        if lost or (found.kind.startswith(("vector", "sparse")) and found.path.endswith(catalogue().decisive)):
            raise DriftError(
                f"{state.name}: {found.message}, so it is not what the ledger has recorded",
                hint=f"qmigrate check --only {quote(state.name)}",
                facts={"path": found.path, "recorded": found.recorded, "live": found.live},
            )


def _models(
    state: CollectionState,
    embedder: str | Embedder | Mapping[str, str | Embedder] | None,
    fingerprint: Callable[[str], Fingerprint],
) -> None:
    if embedder is None:
        return
    if isinstance(embedder, Mapping):
        for vector, one in embedder.items():
            _filled_by(state, vector, one, fingerprint)
        return
    now = _plain(fingerprint(embedder) if isinstance(embedder, str) else embedder.fingerprint())
    if now in (_plain(one) for one in state.embedders.values()):
        return
    if len(state.embedders) == 1:
        _filled_by(state, next(iter(state.embedders)), embedder, fingerprint)
    filled = ", ".join(f"{vector or '(unnamed)'}" for vector in sorted(state.embedders)) or "none"
    raise _other(
        state.name, f"no vector was filled by the model {_called(embedder)} (filled by another one: {filled})"
    )


def _filled_by(
    state: CollectionState, vector: str, embedder: str | Embedder, fingerprint: Callable[[str], Fingerprint]
) -> None:
    shown = vector or "(unnamed)"
    then = _plain(state.embedders[vector]) if vector in state.embedders else None
    if then is None:
        raise _other(state.name, f"no model is recorded that filled the vector {shown}")
    now = _plain(fingerprint(embedder) if isinstance(embedder, str) else embedder.fingerprint())
    for key in sorted(then.keys() | now.keys()):
        if then.get(key) != now.get(key):
            raise _other(
                state.name,
                f"vector {shown} was filled with {key} {then.get(key)!r}, and {_called(embedder)} "
                f"of this application has {now.get(key)!r}",
                vector=vector,
                recorded=then,
                application=now,
            )


def _plain(fingerprint: Fingerprint) -> dict[str, Any]:
    """As SQL keeps it: tuples are lists there."""
    found: dict[str, Any] = json.loads(json.dumps(fingerprint))
    return found


def _called(embedder: str | Embedder) -> str:
    return embedder if isinstance(embedder, str) else type(embedder).__name__


def _other(name: str, why: str, **facts: Any) -> DriftError:
    return DriftError(
        f"{name} is not what this application declares: {why}",
        hint=f"deploy the application that fits, or change the collection: qmigrate schema {quote(name)}",
        facts={"collection": name, **facts},
    )
