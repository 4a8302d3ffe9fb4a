"""Whether an alias may take the name of a collection: tried on throwaway names. It touches no name of a user.

Servers accept it without documenting it (seen on 1.18: RenameAlias checks no collection names), and a later one may
refuse it. So it is never assumed from a version.
"""

from __future__ import annotations

import re
import threading
import time
import uuid

from qmigrate.errors import StoreError
from qmigrate.model.names import PROBE_PREFIX, Permit
from qmigrate.model.schema import JsonObject
from qmigrate.store.server import aliases, collections
from qmigrate.store.server.nodes import Nodes, physical_names
from qmigrate.store.server.nodes import aliases as aliases_of
from qmigrate.store.server.rest import Rest

#: The smallest collection there is: no vector at all.
_EMPTY: JsonObject = {"vectors": {}}
_MARK = "qmigrate_probe"
_NAME = re.compile(rf"^{PROBE_PREFIX}(?P<began>[0-9a-f]+)_[0-9a-f]+_[ab]$")
#: Seconds after which a probe that is still there has no owner.
FORGOTTEN = 3600
#: Seconds for which a server that has just allowed it is taken to allow it still.
HOLDS = 60.0


class Hides:
    """What was found, for a minute and as long as the same versions answer: many names are hidden one after the other.

    Two collections are made for each look, which takes a server longer than all else that a small collection needs.
    A refusal is never kept. Threads share it, and look one at a time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._allowed: tuple[float, tuple[str, ...]] | None = None

    def look(self, nodes: Nodes, timeout: float) -> bool:
        """See :func:`probe`."""
        with self._lock:
            versions = _versions(nodes)
            if self._allowed is not None:
                at, earlier = self._allowed
                if earlier == versions and time.monotonic() - at < HOLDS:
                    return True
            found = probe(nodes, timeout)
            self._allowed = (time.monotonic(), versions) if found else None
            return found


def _versions(nodes: Nodes) -> tuple[str, ...]:
    return tuple(str(node.send("GET", "/").json().get("version")) for node in nodes.everyone())


def probe(nodes: Nodes, timeout: float) -> bool:
    """Hide an empty collection behind an alias, look from every node, bring it back, and remove everything.

    Args:
        timeout: seconds after which a node that doesn't show the alias counts as one that never will.

    Returns:
        Whether it worked, both ways, on every node. Nodes of different versions count as no.
    """
    if len({node.send("GET", "/").json().get("version") for node in nodes.everyone()}) > 1:
        return False
    began = int(time.time())
    _remove_forgotten(nodes.main, began)
    stem = f"{PROBE_PREFIX}{began:x}_{uuid.uuid4().hex[:12]}"
    hidden, shown, alias, way = f"{stem}_a", f"{stem}_b", f"{stem}_c", f"{stem}_d"
    try:
        for name in (hidden, shown):
            nodes.main.call("PUT", collections.path_of(name), _EMPTY)
        nodes.main.call("PATCH", collections.path_of(shown), {"metadata": {_MARK: stem}})
        aliases.create(nodes.main, way, hidden)
        aliases.create(nodes.main, alias, shown)
        return _tried(nodes, (hidden, shown, alias, way), stem, timeout)
    finally:
        for name in (hidden, alias, way):
            aliases.drop(nodes.main, name)
        for name in (hidden, shown):
            _remove(nodes.main, name)


def _tried(nodes: Nodes, names: tuple[str, str, str, str], stem: str, timeout: float) -> bool:
    hidden, shown, alias, way = names
    try:
        aliases.rename(nodes.main, [(alias, hidden)])
    except StoreError:
        return False
    deadline = time.monotonic() + timeout
    while not all(aliases_of(node).get(hidden) == shown for node in nodes.everyone()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return all(_mark(node, hidden) == stem and _mark(node, way) is None for node in nodes.everyone())


def _mark(node: Rest, name: str) -> object:
    """What the collection behind a name was marked with: distinguishes the hidden one from the shown one."""
    info = collections.info_of(node, name)
    if info is None:
        return "nothing"
    return (info["config"].get("metadata") or {}).get(_MARK)


def _remove_forgotten(node: Rest, now: int) -> None:
    """Probes of processes that died: the name has the time of their start."""
    for name in physical_names(node):
        found = _NAME.match(name)
        if found and now - int(found["began"], 16) > FORGOTTEN:
            aliases.drop(node, name)
            _remove(node, name)


def _remove(node: Rest, name: str) -> None:
    """The deletion of a probe may be repeated: no other client has its name."""
    node.repeat(lambda: collections.drop(node, Permit.of_probe(name)))
