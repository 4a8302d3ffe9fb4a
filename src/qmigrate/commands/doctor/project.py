"""The embedders: do they load, fit the vectors they fill, and are they what filled them. It embeds nothing."""

from __future__ import annotations

import platform
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from qmigrate.commands.doctor.deployment import Deployment, some
from qmigrate.commands.results import Check
from qmigrate.embed import fingerprint_digest, load
from qmigrate.errors import DriftError, EmbedError, QmigrateError, RevisionError
from qmigrate.model.state import CollectionState
from qmigrate.operations.base import Operation
from qmigrate.ports import Embedder
from qmigrate.revisions.graph import Revisions
from qmigrate.text import counted, did_you_mean
from qmigrate.version import __version__


@dataclass(frozen=True, slots=True)
class _Use:
    """A vector that an applied revision fills with an embedder."""

    collection: str
    vector: str
    embedder: str
    recorded: Mapping[str, Any] | None
    size: int | None


def loaded(patient: Deployment) -> Iterator[Check]:
    """Each embedder of the settings loads; which of them nothing uses."""
    wanted = set() if patient.broken("revisions") else _named(patient.revisions())
    for name, config in patient.settings.embedders.items():
        try:
            embedder = _load(patient, name, config)
        except _SlowError as error:
            yield Check(f"embedder {name}", None, error.message, error.hint, warns=True)
            continue
        except QmigrateError as error:
            yield Check(f"embedder {name}", False, error.message, error.hint, error.exit_code)
            continue
        values = f"{embedder.size} values" if embedder.size else "size known after its first batch"
        unused = "" if name in wanted or patient.broken("revisions") else "; no revision uses it"
        digest = fingerprint_digest(embedder.fingerprint())
        facts = {"size": embedder.size, "fingerprint": digest, "used": name in wanted}
        yield Check(f"embedder {name}", True, f"loads, {values}{unused}", facts=facts)
    configured = {*patient.settings.embedders}
    for override in patient.settings.collections.values():
        configured.update(override.embedders)
    for name in sorted(wanted - configured):
        detail = "a revision names it, and the settings don't have it"
        yield Check(f"embedder {name}", None, detail, f"add {name} under embedders: in qmigrate.yaml", warns=True)


def fingerprints(patient: Deployment) -> Iterator[Check]:
    """The configured models are those that filled the vectors."""
    right = 0
    without: list[str] = []
    known = patient.revisions()
    for state in patient.world().collections.values():
        for use in _uses(known, state):
            found = _judged(patient, use)
            if found is not None:
                yield found
            elif use.recorded is None:
                without.append(f"{use.collection}.{use.vector}")
            else:
                right += 1
    if right:
        yield Check("models", True, f"{counted(right, 'vector')} filled by the models that are configured")
    if without:
        detail = f"no fingerprint was recorded for {some(without)}: the first upgrade that fills it records one"
        yield Check("models unknown", None, detail, facts={"names": without})


def _judged(patient: Deployment, use: _Use) -> Check | None:
    config = patient.settings.for_collection(use.collection).embedders
    name = f"model of {use.collection}.{use.vector or '(unnamed)'}"
    if use.embedder not in config:
        detail = f"it was filled by {use.embedder}, which the settings don't have any more"
        return Check(name, None, detail, f"add {use.embedder} under embedders: in qmigrate.yaml", warns=True)
    try:
        embedder = _load(patient, use.embedder, config[use.embedder])
    except QmigrateError:
        # Reported by its own check where it is one of the settings; an override is reported here.
        overridden = patient.settings.collections.get(use.collection)
        if overridden is not None and use.embedder in overridden.embedders:
            raise
        return None
    if embedder.size is not None and use.size is not None and embedder.size != use.size:
        detail = f"{use.embedder} makes {embedder.size} values, and the vector is declared with {use.size}"
        return Check(name, False, detail, "make the sizes agree in qmigrate.yaml", EmbedError.exit_code)
    now = embedder.fingerprint()
    if use.recorded is None or dict(now) == dict(use.recorded):
        return None
    detail = (
        f"{use.embedder} is not the model that filled it ({_differences(use.recorded, now)}): searches with the new "
        "one in the old values find the wrong points"
    )
    refill = f"op.Reembed({use.collection!r}, {use.vector!r}, …)"
    hint = f"restore {use.embedder} in qmigrate.yaml, or fill it again: {refill}"
    facts = {"recorded": dict(use.recorded), "configured": dict(now)}
    return Check(name, False, detail, hint, 4, facts=facts)


def _differences(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    keys = sorted(key for key in {*recorded, *now} if recorded.get(key) != now.get(key))
    return some([f"{key}: {recorded.get(key)} → {now.get(key)}" for key in keys], 3)


def _uses(revisions: Revisions, state: CollectionState) -> Iterator[_Use]:
    """Vectors of a collection by the last applied operation that embeds them."""
    known = {one.id: one for one in revisions.order()}
    latest: dict[str, str] = {}
    for applied in state.applied:
        revision = known.get(applied.revision)
        for operation in revision.operations if revision else ():
            if operation.matches(state.name):
                latest.update({vector: filling.embedder for vector, filling in operation.embeds().items()})
    vectors = state.declared.vectors if state.declared else {}
    for vector, embedder in sorted(latest.items()):
        if vector in vectors:
            yield _Use(state.name, vector, embedder, state.embedders.get(vector), vectors[vector].get("size"))


def _named(revisions: Revisions) -> set[str]:
    operations: list[Operation] = [operation for one in revisions.order() for operation in one.operations]
    return {filling.embedder for operation in operations for filling in operation.embeds().values()}


def _load(patient: Deployment, name: str, config: Mapping[str, Any]) -> Embedder:
    """Load it once, and give up waiting when the time is up: a model may be large, or its library hang.

    Raises:
        EmbedError: it can't be loaded, or not within the time that is left.
    """
    key = (name, repr(sorted(config.items())))
    loading: _Loading = patient.loading.setdefault(key, _Loading(name, config))
    return loading.wait(patient.left)


class _SlowError(EmbedError):
    """It is still loading: nothing is known of it yet."""


class _Loading:
    """An embedder that is being loaded by a thread of its own."""

    def __init__(self, name: str, config: Mapping[str, Any]) -> None:
        self._name = name
        self._found: Embedder | BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(config,), name=f"embedder {name}", daemon=True)
        self._begun = False

    def _run(self, config: Mapping[str, Any]) -> None:
        try:
            embedder = load(self._name, config)
            embedder.fingerprint()
            self._found = embedder
        except BaseException as error:
            self._found = error

    def wait(self, seconds: float) -> Embedder:
        """The embedder, when it is there within this many seconds."""
        if not self._begun:
            self._begun = True
            self._thread.start()
        self._thread.join(seconds)
        found = self._found
        if found is None:
            raise _SlowError(
                f"embedder {self._name!r} is still loading after {seconds:.0f} s", hint="qmigrate doctor --timeout 5m"
            )
        if isinstance(found, QmigrateError):
            raise found
        if isinstance(found, BaseException):
            message = f"embedder {self._name!r} can't be loaded: {type(found).__name__}: {found}"
            raise EmbedError(message, hint="correct embedders in qmigrate.yaml") from found
        return found


#: What the work depends on, by the names under which it is installed.
SOFTWARE = ("qdrant-client", "SQLAlchemy", "alembic", "psycopg", "numpy", "grpcio")


#: What systems other than Linux call themselves, for people.
_SYSTEMS = {"darwin": "macOS", "win32": "Windows"}


def system(patient: Deployment) -> list[Check]:
    """What qmigrate can't do on this system, and does on Linux."""
    return [] if sys.platform == "linux" else [_elsewhere(patient)]


def _elsewhere(patient: Deployment) -> Check:
    name = _SYSTEMS.get(sys.platform, sys.platform)
    missing = ["a lease whose holder died is waited out (limits.lease_ttl), not taken over at once"]
    if patient.settings.ledger.url.startswith("sqlite"):
        missing.append("whether the SQLite ledger lies on a local disk is not checked")
    if patient.local:
        missing.append("free memory is not checked")
    if sys.platform == "win32":
        missing.append("files get the rights of their folder, and no process is started for each GPU (rebuild.devices)")
    facts = {"system": sys.platform, "missing": missing}
    return Check("system", None, f"on {name}: {'; '.join(missing)}", facts=facts)


def revisions(patient: Deployment) -> Iterator[Check]:
    """The files can be read, and have one head."""
    found = patient.revisions()
    heads = found.heads()
    scripts = patient.settings.scripts
    facts = {"scripts": str(scripts), "heads": list(heads), "revisions": len(found.order())}
    # A file that was applied and changed since is reported with what is recorded, several heads below.
    broken = [one for one in patient.file_problems() if not isinstance(one, DriftError)]
    broken = [one for one in broken if len(heads) < 2 or "heads" not in one.facts]
    for error in broken:
        yield Check("revisions", False, error.message, error.hint, error.exit_code)
    if not broken:
        detail = f"{len(found.order())} in {scripts}, head {', '.join(heads) or 'none'}"
        yield Check("revisions", True, detail, facts=facts)
    try:
        found.head()
    except RevisionError as error:
        yield Check("heads", None, error.message, error.hint, warns=True)
    if not found.order():
        yield Check("first revision", None, "there is no revision yet", 'qmigrate revision -m "what changes"')


def settings(patient: Deployment) -> Iterator[Check]:
    """Where the settings come from, and what was not chosen."""
    chosen = patient.settings
    yield Check("settings", True, str(chosen.config) if chosen.config else "no qmigrate.yaml: defaults")
    if chosen.ledger.defaulted:
        yield Check(
            "ledger place",
            None,
            f"no ledger is configured: it is {chosen.ledger.label}, and is lost with this machine",
            "name your SQL database: ledger.url in qmigrate.yaml, or QMIGRATE_LEDGER_URL",
        )
    for name, database in chosen.databases.items():
        if database.url is None:
            yield Check(f"database {name}", None, database.missing, "set it, or remove it from databases:", warns=True)


def overrides(patient: Deployment) -> Iterator[Check]:
    """What ``collections:`` names is a collection that there is, or that a revision makes."""
    operations = [operation for one in patient.revisions().order() for operation in one.operations]
    known = {*patient.world().collections, *(one.pattern for one in operations if not one.is_glob)}
    for name in patient.settings.collections:
        if name not in known and not any(one.matches(name) for one in operations):
            yield Check(
                f"override {name}",
                None,
                f"collections: in the settings names {name}, and there is no such collection"
                f"{did_you_mean(name, known)}",
                "correct the name in qmigrate.yaml: as it is, it changes nothing",
                warns=True,
            )


def software(_patient: Deployment) -> Iterable[Check]:
    """What is installed here."""
    found = {"qmigrate": __version__, "python": platform.python_version(), **dict(_installed())}
    yield Check("software", True, ", ".join(f"{name} {shown}" for name, shown in found.items()), facts=found)


def _installed() -> Iterator[tuple[str, str]]:
    for name in SOFTWARE:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, "not installed"
