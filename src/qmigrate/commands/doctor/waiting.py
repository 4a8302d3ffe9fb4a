"""wait: until Qdrant and the ledger's database answer. It looks at nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from qmigrate.commands.results import Waited
from qmigrate.commands.session import open_store, opened_ledger
from qmigrate.errors import UnavailableError
from qmigrate.settings import Settings


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
    with opened_ledger(settings) as ledger:
        ledger.identity()
