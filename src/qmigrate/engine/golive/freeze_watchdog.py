"""The helper process of a freeze: when the process that froze dies, writes are let in again. It decides nothing else.

It is started before the freeze and reads its standard input: the word *done* ends it, the end of the input means that
its parent is dead. Then it waits until no request of the dead holder can still land, and lifts the freeze through an
alias of that holder's own lease epoch, which the process that took over has removed (rule 2).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from qmigrate import children
from qmigrate.engine.epoch_aliases import own
from qmigrate.engine.work import Work
from qmigrate.errors import NotFoundError, QmigrateError, StoreError
from qmigrate.model.names import EpochAlias, as_own
from qmigrate.model.schema import JsonObject
from qmigrate.ports import Store

#: Seconds that the helper may take to start, and to end once it is not needed any more.
START_LIMIT = 60.0
END_LIMIT = 10.0
READY = "ready"
DONE = "done"


class Watch:
    """A helper process that stands by. In local mode there is none: no other client can write."""

    def __init__(self, process: subprocess.Popen[str] | None) -> None:
        self._process = process

    @classmethod
    def start(cls, work: Work, source: str) -> Watch:
        """Start it, and wait until it stands by.

        Raises:
            StoreError: it could not be started.
        """
        if work.store.capabilities.local:
            return cls(None)
        order = {
            "connection": work.settings.connection(),
            "collection": work.collection,
            "source": source,
            "alias": own(work, source),
        }
        # The order goes through the pipe: it holds the key, and arguments can be read by every user.
        process = subprocess.Popen(
            command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            # Ctrl-C is not for it: it is there for when its parent has ended. Each system has its own way.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        watch = cls(process)
        try:
            watch.tell({"order": order})
            answer = children.first_line(process, START_LIMIT, work.tick)
            if answer != READY:
                silent = f"it did not answer within {START_LIMIT:g} s, and was killed"
                raise StoreError(
                    f"the helper that ends a freeze of {source} could not be started: "
                    f"{silent if answer is None else answer or 'it ended at once'}",
                    hint="nothing was frozen; is the machine overloaded? The same command continues from here",
                )
        except BaseException:
            watch.kill()
            raise
        return watch

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send one line; a helper that is gone is not an error here."""
        if self._process is None or self._process.stdin is None:
            return
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except OSError:
            # Not always as a broken pipe: Windows calls it an invalid argument.
            return

    def freezes(self, prior: JsonObject) -> None:
        """From now on the source may refuse writes: then this strict mode is to be restored. Before, nothing is."""
        self.tell({"prior": prior})

    def finish_gap(self, pairs: Sequence[tuple[str, str]]) -> None:
        """From now on the source may be gone: then it renames these aliases instead of lifting anything."""
        self.tell({"gap": [list(pair) for pair in pairs]})

    def release(self) -> None:
        """It is not needed any more; one that doesn't end is killed, which does no harm by now."""
        self.tell({DONE: True})
        self._end(END_LIMIT)

    def kill(self) -> None:
        """It must not do anything any more."""
        if self._process is not None:
            self._process.kill()
        self._end(END_LIMIT)

    def _end(self, patience: float) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        # The end of its input alone would mean that we are dead.
        children.end(process, patience)
        for stream in (process.stdin, process.stdout):
            with suppress(OSError):
                if stream is not None:
                    stream.close()


def command() -> list[str]:
    """What the helper is started by."""
    return children.command("qmigrate.engine.golive.freeze_watchdog")


def watch(lines: Sequence[str] | Any, opened: Any) -> None:
    """The helper's own work: read orders until *done* or the end of the input, then act.

    Args:
        lines: standard input, line by line.
        opened: makes a store of connection settings.
    """
    order: dict[str, Any] = {}
    pairs: list[tuple[EpochAlias, str]] = []
    store: Store | None = None
    for line in lines:
        message = json.loads(line)
        if DONE in message:
            return
        if "prior" in message:
            order["prior"] = message["prior"]
        if "gap" in message:
            pairs = [(as_own(old), new) for old, new in message["gap"]]
        if "order" in message:
            order = message["order"]
            store = opened(order["connection"])
            print(READY, flush=True)  # noqa: T201  the answer to the parent
    if store is not None and "prior" in order:
        act(store, order, pairs)


def act(store: Store, order: Mapping[str, Any], pairs: Sequence[tuple[EpochAlias, str]]) -> None:
    """What is left to do for a parent that died."""
    name, source = order["collection"], order["source"]
    if pairs and source not in store.physical_names():
        # It died in the gap: every moment counts, and renaming can only finish what it began.
        _rename(store, pairs, time.monotonic() + store.request_timeout)
        return
    time.sleep(store.request_timeout)
    shown = None if name == source else source
    if all(aliases.get(name) == shown for aliases in store.aliases_of_nodes()) and source in store.physical_names():
        try:
            store.lift_fence(as_own(order["alias"]), order["prior"])
        except NotFoundError:
            # Another process has taken over: it owns it now.
            return


def _rename(store: Store, pairs: Sequence[tuple[EpochAlias, str]], deadline: float) -> None:
    while True:
        try:
            store.rename_aliases(pairs)
        except NotFoundError:
            return
        except QmigrateError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _open(connection: Mapping[str, Any]) -> Store:
    from qmigrate.store import ConnectionSettings, connect

    return connect(ConnectionSettings(**{**connection, "nodes": tuple(connection["nodes"])}))


if __name__ == "__main__":
    watch(sys.stdin, _open)
