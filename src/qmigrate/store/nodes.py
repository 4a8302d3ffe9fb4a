"""The nodes of one Qdrant: the one that is asked, and those that are watched. It knows no collection's inside."""

from __future__ import annotations

from dataclasses import dataclass

from qmigrate.errors import NotFoundError
from qmigrate.store.address import ConnectionSettings
from qmigrate.store.rest import Rest


@dataclass(frozen=True, slots=True)
class Nodes:
    """REST connections.

    Attributes:
        main: takes every request that one node can answer.
        watched: every node whose view counts; `main` alone unless nodes were named.
    """

    main: Rest
    watched: tuple[Rest, ...]

    @classmethod
    def of(cls, settings: ConnectionSettings) -> Nodes:
        """Connections for the settings; nothing is sent."""
        main = Rest(str(settings.url), settings)
        made = {str(settings.url): main}
        for url in settings.watched:
            if url not in made:
                made[url] = Rest(url, settings)
        return cls(main, tuple(made[url] for url in dict.fromkeys(settings.watched)))

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
