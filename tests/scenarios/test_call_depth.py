"""A traceback from the command line to Qdrant is short, and no rebuild asks more often for names than safety needs."""

from __future__ import annotations

import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.conftest import clean
from tests.harness import ADD, CREATE, INDEX, Deployment
from tests.scenarios.cli import call
from tests.scenarios.test_clone import deploy

import qmigrate
from qmigrate.store.local.local import LocalStore
from qmigrate.store.server.server import ServerStore

SOURCES = str(Path(qmigrate.__file__).parent)
#: Functions of ``epoch_aliases`` that ask for names because their caller needs them.
ASKING = frozenset(
    ("epoch_aliases", name) for name in ("look", "holder", "reach", "own", "is_same", "check_same", "refuse_hidden")
)

@pytest.fixture
def made(tmp_path) -> Deployment:
    """A collection with points, and a pending revision that rebuilds it; no server is needed to count."""
    deployment = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
    deployment.revise("0001", CREATE)
    assert call(deployment.root, "upgrade").code == 0
    deployment.load(20)
    return deployment


def watched(monkeypatch, name: str, seen: Callable[[], None], store: type = LocalStore) -> None:
    """Call `seen` whenever the store gets this request."""
    original = getattr(store, name)

    def request(self, *args, **kwargs):
        seen()
        return original(self, *args, **kwargs)

    monkeypatch.setattr(store, name, request)


def way() -> list[str]:
    """Functions of the package between the command line, or the beginning of the thread, and the request."""
    names = [f"{Path(frame.filename).stem}.{frame.name}" for frame in frames()]
    main = threading.current_thread() is threading.main_thread()
    # The tests begin with `run`, which `main` calls.
    return ["app.main", *names[names.index("app.run") :]] if main else names


@pytest.mark.parametrize(
    ("verb", "request_", "most"),
    [
        (("upgrade",), "upsert", 14),
        (("upgrade",), "rename_aliases", 11),
        (("fix", "delete", "{name}", "--id", "1", "--yes", "--expect", "1", "--reason", "r"), "delete", 12),
        (("rollback",), "rename_aliases", 11),
    ],
)
def test_the_way_to_a_request_is_short(made, monkeypatch, verb, request_, most):
    """The reader of a traceback finds the part that failed: no frame is there only to call the next one."""
    made.revise("0002", ADD)
    if verb == ("rollback",):
        assert call(made.root, "upgrade").code == 0
    ways: list[list[str]] = []
    watched(monkeypatch, request_, lambda: ways.append(way()))
    said = call(made.root, *(word.format(name=made.name) for word in verb))
    assert said.code == 0, said.text
    assert ways
    assert max(map(len, ways)) <= most, "\n".join(" > ".join(one) for one in ways if len(one) > most)


@pytest.mark.parametrize(
    ("verb", "revision", "expected"),
    [
        ("upgrade", ADD, {"aliases": 19, "physical_names": 5, "aliases_of_nodes": 1}),
        ("rollback", ADD, {"aliases": 15, "physical_names": 6, "aliases_of_nodes": 1}),
        ("upgrade", INDEX, {"aliases": 5, "physical_names": 2}),
        ("rollback", INDEX, {"aliases": 5, "physical_names": 2}),
    ],
    ids=["copy", "rollback", "in place", "rollback in place"],
)
def test_names_are_asked_for_as_often_as_safety_needs(made, monkeypatch, verb, revision, expected):
    """Each of these is load-bearing where it stands, as the code says; one more is a request for nothing."""
    made.revise("0002", revision)
    if verb == "rollback":
        assert call(made.root, "upgrade").code == 0
    asked, sites = asks(monkeypatch, LocalStore)
    assert call(made.root, verb).code == 0
    assert dict(asked) == expected
    assert unexplained(sites) == []


def test_a_comment_counts_only_where_it_stands(tmp_path):
    """Directly above the request, over several lines or in the middle of a call; not behind a line of code."""
    file = tmp_path / "a.py"
    file.write_text("# Load-bearing: x\n# and more\nask()\nask()\nf(\n    # Load-bearing: y\n    ask(),\n)\n# why\nask()\n")
    assert [number for number in range(1, 11) if says_why(str(file), number)] == [2, 3, 7]


@pytest.mark.server
def test_a_clone_asks_no_more_often(qdrant_server, tmp_path, monkeypatch):
    """The same count on a server, for a rebuild that begins as a clone."""
    made = deploy(qdrant_server, tmp_path)
    asked, sites = asks(monkeypatch, ServerStore)
    said = call(made.root, "upgrade")
    clean(made)
    assert said.code == 0, said.text
    assert dict(asked) == {"aliases": 19, "physical_names": 5, "aliases_of_nodes": 1}
    assert unexplained(sites) == []


class Site(NamedTuple):
    """A place in the code."""

    file: str
    line: int


def site() -> Site:
    """The place that decides to ask for names: none of the functions that only ask for others."""
    found = next(one for one in reversed(frames()) if (Path(one.filename).stem, one.name) not in ASKING)
    return Site(found.filename, found.lineno or 0)


def asks(monkeypatch, store: type) -> tuple[Counter[str], set[Site]]:
    """Every request for names from now on: how many of each, and the places that decide to ask."""
    asked: Counter[str] = Counter()
    sites: set[Site] = set()

    def ask(name: str) -> None:
        if frames() and not inside():
            asked.update([name])
            sites.add(site())

    for name in ("aliases", "physical_names", "aliases_of_nodes"):
        watched(monkeypatch, name, lambda name=name: ask(name), store)
    return asked, sites


def unexplained(sites: Iterable[Site]) -> list[Site]:
    """Places without a comment ``# Load-bearing: …`` that says what would be lost without the request."""
    return sorted(one for one in sites if not says_why(*one))


def says_why(file: str, line: int) -> bool:
    """Whether the comment directly above a line says what would be lost without the request."""
    above = Path(file).read_text(encoding="utf-8").splitlines()[: line - 1]
    comment = list(takewhile(lambda text: text.strip().startswith("#"), reversed(above)))
    return any(text.strip().startswith("# Load-bearing: ") for text in comment)


def inside() -> bool:
    """Whether the store asks itself: in local mode that is not a request."""
    return Path(frames()[-1].filename).name == "local.py"


def frames() -> list[traceback.FrameSummary]:
    """Those of the package that lead here."""
    return [frame for frame in traceback.extract_stack() if frame.filename.startswith(SOURCES)]
