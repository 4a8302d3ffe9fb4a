"""The nodes of one Qdrant: the one that is asked, and those that are watched. It knows no collection's inside."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from qmigrate.errors import NotFoundError, StoreError
from qmigrate.store.address import ConnectionSettings
from qmigrate.store.server.rest import Rest

#: Seconds that one of several nodes may take to answer before it is left out of what only reads.
PATIENCE = 5.0
#: The same for what writes, which doesn't begin then.
NEEDED = 10.0


@dataclass(frozen=True, slots=True)
class Nodes:
    """REST connections.

    Attributes:
        main: takes every request that one node can answer.
        watched: every node whose view counts; `main` alone unless nodes were named.
        silent: why nodes that were named are left out, one line each.
    """

    main: Rest
    watched: tuple[Rest, ...]
    silent: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: ConnectionSettings) -> Nodes:
        """Connections for the settings; nothing is sent."""
        main = Rest(str(settings.url), settings)
        made = {str(settings.url): main}
        for url in settings.watched:
            if url not in made:
                made[url] = Rest(url, settings)
        return cls(main, tuple(made[url] for url in dict.fromkeys(settings.watched)))

    def answering(self) -> Nodes:
        """Those that answer at once, for what only reads; all of them where none does, so that errors say why.

        Where the asked node is silent, the first that answers takes its place.
        """
        everyone = self.everyone()
        silent = self._silent(PATIENCE)
        up = [node for node in everyone if node not in silent]
        if not up or not silent:
            return self
        watched = tuple(node for node in self.watched if node in up)
        reasons = tuple(silent[node].message for node in everyone if node in silent)
        return Nodes(self.main if self.main in up else up[0], watched or (up[0],), reasons)

    def check_all_answer(self) -> None:
        """See that each of several nodes answers at once, for what writes.

        A node that can't be asked may take a write that no barrier sees, or show a name where it led before; so none is
        left out, and none is waited for as long as a request of a migration may take.

        Raises:
            StoreError: some give no answer; they are named.
        """
        silent = self._silent(NEEDED)
        if silent:
            said = "; ".join(error.message for error in silent.values())
            raise StoreError(
                f"{said}. What writes needs every node: otherwise writes on this one would go unseen",
                hint=next(iter(silent.values())).hint,
            )

    def _silent(self, patience: float) -> dict[Rest, StoreError]:
        """Why nodes give no answer, where there are several."""
        everyone = self.everyone()
        if len(everyone) == 1:
            return {}
        with ThreadPoolExecutor(len(everyone)) as pool:
            found = dict(zip(everyone, pool.map(lambda node: node.why_silent(patience), everyone), strict=True))
        return {node: error for node, error in found.items() if error is not None}

    def everyone(self) -> tuple[Rest, ...]:
        """The asked node and the watched ones, each once."""
        return tuple(dict.fromkeys((self.main, *self.watched)))

    def close(self) -> None:
        """Close all connections."""
        for node in self.everyone():
            node.close()


def aliases(node: Rest) -> dict[str, str]:
    """Alias -> physical name, as one node sees it."""
    found = node.get("/aliases")["aliases"]
    return {entry["alias_name"]: entry["collection_name"] for entry in found}


def physical_names(node: Rest) -> tuple[str, ...]:
    """Physical collections, sorted."""
    return tuple(sorted(entry["name"] for entry in node.get("/collections")["collections"]))


def physical_of(nodes: Nodes, name: str) -> str:
    """The collection that a name stands for: an alias is looked up first, as the server does.

    Raises:
        NotFoundError: there is neither an alias nor a collection of that name.
    """
    target = aliases(nodes.main).get(name)
    if target is not None:
        return target
    if name in physical_names(nodes.main):
        return name
    raise NotFoundError(f"Qdrant at {nodes.main.label}: there is no collection or alias {name!r}")
