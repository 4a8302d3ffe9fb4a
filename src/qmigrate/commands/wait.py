"""wait: until Qdrant, on both of its ports, and the ledger's database answer. It checks nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from qmigrate.commands.results import Waited
from qmigrate.commands.session import open_store, opened_ledger
from qmigrate.errors import UnavailableError
from qmigrate.ports import Progress
from qmigrate.settings.load import Settings
from qmigrate.store import ConnectionSettings

#: Longest time in seconds that one request may take.
_ONE_TRY = 5.0


def wait(settings: Settings | None, timeout: float, progress: Progress | None = None) -> Waited:
    """Wait until Qdrant answers over REST and over gRPC, and the ledger's database answers.

    A run needs gRPC from its first copy on: where a network policy lets only REST through, it would end with half of
    its revisions applied.

    Args:
        progress: gets what is waited for, and why, once for each reason.

    Raises:
        UnavailableError: one of them still doesn't after `timeout` seconds; its last error.
    """
    settings = settings or Settings.load()
    started = time.monotonic()
    said: dict[str, str] = {}
    parts: dict[str, Callable[[], None]] = {
        "qdrant": partial(_reach_store, settings, min(_ONE_TRY, max(1.0, timeout / 4))),
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
                if progress is not None and said.get(name) != error.message:
                    said[name] = error.message
                    progress.say(f"waiting for {name}: {error.message}")
        if last is None:
            break
        if time.monotonic() - started > timeout:
            raise UnavailableError(
                f"after {timeout:.0f} s still waiting for {' and '.join(parts)}: {last.message}", hint=last.hint
            ) from last
        time.sleep(min(0.5, max(0.05, timeout / 50)))
    return Waited(qdrant=True, ledger=True, seconds=round(time.monotonic() - started, 3))


def _reach_store(settings: Settings, one_try: float) -> None:
    # A paused node, or a firewall that drops what is unknown to it, would hold it up for the time that a request
    # of a migration may take.
    settings = replace(settings, qdrant=replace(settings.qdrant, timeout=min(settings.qdrant.timeout, one_try)))
    with ExitStack() as stack:
        open_store(settings, stack, writes=False)
    if settings.qdrant.path is None:
        from qmigrate.store.server.examine import Examiner

        examiner = Examiner(ConnectionSettings(**settings.connection()))
        try:
            examiner.points_reachable()
        finally:
            examiner.close()


def _reach_ledger(settings: Settings) -> None:
    with opened_ledger(settings) as ledger:
        ledger.identity()
