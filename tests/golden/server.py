"""What only a server has: clones, hidden names, late writes. The ledger is kept, and the server is not."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from qdrant_client import models
from tests.conftest_qdrant import running
from tests.golden import adapter, project
from tests.golden.project import Project


@contextmanager
def _served(folder: Path, **more: object) -> Iterator[Project]:
    """A collection of a server that was adopted under its own name."""
    with running({}) as server:
        qdrant = {"url": server.url, "grpc_port": server.grpc_port}
        made = project.plain(folder, qdrant=qdrant, **more)
        made.cli("adopt", "docs", "-m", "baseline", "--rev-id", "0001")
        made.last = "0001"
        yield made


def hidden(folder: Path) -> Project:
    """A plain name becomes an alias; late writes are carried; a clone; a snapshot comes back; a rollback."""
    with _served(folder) as made:
        made.revise("0002", project.ADD)
        with adapter.before_the_swap(lambda: _late(made)):
            made.cli("upgrade")
        made.revise("0003", project.HNSW)
        made.cli("upgrade")
        made.cli("snapshot", "create", "docs")
        made.cli("snapshot", "restore", "docs", "--latest", "--yes")
        made.cli("snapshot", "restore", "docs", "--undo")
        made.cli("rollback", "0001", "--discard-writes")
    return _left(made)


def gap(folder: Path) -> Project:
    """A plain collection is deleted before the alias takes its name."""
    with _served(folder, rebuild={"plain_names": "gap", "holdover": "36500d"}) as made:
        made.revise("0002", project.ADD)
        made.cli("upgrade", "--allow-gap")
    return _left(made)


def _left(made: Project) -> Project:
    """What the ledger alone says is there still."""
    Project(made.folder / "local")
    (made.folder / "local" / "qmigrate.yaml").replace(made.folder / "qmigrate.yaml")
    shutil.rmtree(made.folder / "local")
    return made


def _late(made: Project) -> None:
    made.load([3], text="late")
    made.load([100])
    with made.client() as client:
        client.delete("docs", models.PointIdsList(points=[9]))


SERVED: Mapping[str, Callable[[Path], Project]] = {"served-hidden": hidden, "served-gap": gap}
