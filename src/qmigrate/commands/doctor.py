"""doctor and wait: is everything there that a migration needs. They only read."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from qmigrate.commands.results import Check, Doctor, Waited
from qmigrate.commands.session import Session, open_store, session
from qmigrate.errors import QmigrateError, UnavailableError
from qmigrate.ledger import Ledger
from qmigrate.model.state import Capabilities, World
from qmigrate.observe import check_ownership, observe
from qmigrate.revisions import Revisions
from qmigrate.settings import Settings


def doctor(settings: Settings) -> Doctor:
    """Look at every part by itself, so that one broken part doesn't hide the next."""
    checks = [
        _try("revisions", lambda: _revisions(settings)),
        _try("ledger", lambda: _ledger(settings)),
        _try("qdrant", lambda: _qdrant(settings)),
    ]
    try:
        with session(settings, writes=False) as opened:
            world = observe(opened.ledger, opened.store)
            checks += [_try(f"collection {name}", partial(_collection, world, name)) for name in world.collections]
            checks += [_try(f"embedder {name}", partial(_embedder, opened, name)) for name in settings.embedders]
            checks += _leases(opened)
    except QmigrateError as error:
        if all(check.ok for check in checks):
            # Each works by itself: it is what the ledger has recorded that doesn't fit.
            checks.append(Check("recorded state", False, error.message, error.hint, error.exit_code))
    return Doctor(tuple(checks))


def wait(settings: Settings, timeout: float) -> Waited:
    """Wait until Qdrant and the ledger's database answer.

    Raises:
        UnavailableError: one of them still doesn't after `timeout` seconds; its last error.
    """
    started = time.monotonic()
    parts: dict[str, Callable[[], None]] = {
        "qdrant": partial(_reach_store, settings),
        "ledger": partial(_reach_ledger, settings),
    }
    while parts:
        last: UnavailableError | None = None
        for name in list(parts):
            try:
                parts[name]()
                del parts[name]
            except UnavailableError as error:
                last = error
        if last is None:
            break
        if time.monotonic() - started > timeout:
            raise UnavailableError(
                f"after {timeout:.0f} s still waiting for {' and '.join(parts)}: {last.message}", hint=last.hint
            ) from last
        time.sleep(min(0.5, max(0.05, timeout / 50)))
    return Waited(qdrant=True, ledger=True, seconds=round(time.monotonic() - started, 3))


def _reach_store(settings: Settings) -> None:
    with ExitStack() as stack:
        open_store(settings, stack, writes=False)


def _reach_ledger(settings: Settings) -> None:
    ledger = Ledger.open(settings.ledger.url, schema=settings.ledger.schema)
    try:
        ledger.identity()
    finally:
        ledger.close()


def _try(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look(), None)
    except QmigrateError as error:
        return Check(name, False, error.message, error.hint, error.exit_code)


def _revisions(settings: Settings) -> str:
    found = Revisions.load(settings.scripts)
    return f"{len(found.order())} in {settings.scripts}, head {', '.join(found.heads()) or 'none'}"


def _ledger(settings: Settings) -> str:
    ledger = Ledger.open(settings.ledger.url, schema=settings.ledger.schema)
    try:
        identity = ledger.identity()
        known = f"identity {identity}" if identity else "no tables yet: made by the first upgrade"
        return f"{ledger.url_label}, {known}"
    finally:
        ledger.close()


def _qdrant(settings: Settings) -> str:
    with ExitStack() as stack:
        return _capabilities(open_store(settings, stack, writes=False).capabilities)


def _capabilities(can: Capabilities) -> str:
    missing = [
        label
        for label, there in (
            ("snapshots", can.snapshots),
            ("payload indexes", can.payload_indexes),
            ("named vectors on a live collection", can.vector_names),
            ("operation ids (barriers)", can.barrier or can.local),
        )
        if not there
    ]
    return can.label + (f"; not available: {', '.join(missing)}" if missing else "; everything available")


def _collection(world: World, name: str) -> str:
    check_ownership(world, name)
    state = world.collections[name]
    if state.live is None:
        return "known to the ledger, not in Qdrant"
    if state.live.problem or state.live.status == "red":
        raise QmigrateError(f"{state.live.physical}: {state.live.problem or 'status red'}")
    warning = ""
    if state.kind == "alias":
        warning = "; an alias: get_collections doesn't list it, create_collection on it fails"
    managed = "" if state.managed else ", not under management"
    return f"{state.live.physical}, {state.live.status}, about {state.live.points:,} points{managed}{warning}"


def _embedder(opened: Session, name: str) -> str:
    embedder = opened.embedder(name, opened.settings.embedders)
    return f"loads, {embedder.size or 'unknown'} values"


def _leases(opened: Session) -> list[Check]:
    return [
        Check(f"lease {row.name}", None, f"held by {row.owner} on {row.host} until {row.expires_at:%H:%M:%S}", None)
        for row in opened.ledger.leases()
        if not row.expired
    ]
