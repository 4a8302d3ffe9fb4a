"""Before each request of each verb its holder stands still, or is cut off; another acts: the end is as without it.

The matrix is verb × what others do × how the holder comes back × request. In local mode a request is a *Write* of the
store's protocol, on a server each single one of these. How much of it runs is a part of :data:`PARTS`: in local mode
``paused``, on a server ``turns``; ``QMIGRATE_MATRIX`` names another one for both.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from copy import copy
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path

import pytest
from tests.conftest_postgres import fresh_database
from tests.faults.judged import Seen, ends_of, look
from tests.faults.pause import GONE, LATE, LOST, MODES, PAUSED, WRITES, paused
from tests.faults.verbs import OTHERS, VERBS, Case, cases, moved, prepare
from tests.harness import Deployment, Repeated

CASES = cases()
LOCAL = {"path": "local"}
#: Methods that only a server gets, or that no verb of the matrix sends in local mode.
ELSEWHERE = {
    "barrier", "build_index", "create_snapshot", "delete_snapshot", "fence", "flush", "hides_collections", "lift_fence",
    "overwrite_payload", "place_replicas", "recover_snapshot", "take_tokens",
}  # fmt: skip

#: Parts of the matrix, by their names. Each says of a number of a verb, one of what others do and one of a request, and
#: of a way to come back, whether that is tried. *paused*: before every request it stands still; in each of the other
#: ways it comes back before every third. *each*: every request with each of what others do, the ways in turn. *turns*:
#: every request once, what others do and the ways in turn.
PARTS: dict[str, Callable[[int, int, int, int], bool]] = {
    "whole": lambda verb, other, number, way: True,
    "paused": lambda verb, other, number, way: MODES[way] == PAUSED or (verb + other + number + way) % 3 == 0,
    "each": lambda verb, other, number, way: (verb + other + number) % len(MODES) == way,
    "turns": lambda verb, other, number, way: (
        (verb + number) % len(OTHERS) == other and (verb + number // len(OTHERS)) % len(MODES) == way
    ),
}
PART = os.environ.get("QMIGRATE_MATRIX")


def is_chosen(part: str, name: str, number: int, mode: str) -> bool:
    """Whether a request of a case is tried in a mode."""
    verb, other = name.split("; ")
    return PARTS[part](list(VERBS).index(verb), list(OTHERS).index(other), number, MODES.index(mode))


class Prepared:
    """Deployments of a verb, as many as are needed; in local mode copies of one."""

    def __init__(
        self, folder: Path, qdrant: dict, case: Case, ledger_url: Callable[[Path], str | None] = lambda folder: None
    ) -> None:
        self._repeated = Repeated(lambda place: prepare(place, qdrant, case, ledger_url(place)), "path" in qdrant)
        self.folder = folder

    def __call__(self, name: str) -> Deployment:
        return moved(self._repeated(self.folder / name))

    def within(self, folder: Path) -> Prepared:
        """The same, in another folder."""
        found = copy(self)
        found.folder = folder
        return found


def requests_of(prepared: Prepared, monkeypatch, case: Case) -> list[str]:
    """What its holder sends where no other process disturbs it."""
    with paused(prepared("undisturbed"), monkeypatch, case.work, None) as holder:
        holder.start()
        assert holder.error is None
        return holder.gate.passed


@dataclass
class Alike:
    """What is the same in all cells of a verb.

    Attributes:
        prepared: what all deployments are copies of.
        requests: what its holder sends.
        seen: ends without the holder, by what others do.
    """

    prepared: Prepared
    requests: list[str]
    seen: dict[str, Seen] = field(default_factory=lambda: defaultdict(dict))


@pytest.fixture(scope="module")
def alike(tmp_path_factory):
    """Finds it out once for each verb, in local mode."""

    @cache
    def of_verb(verb: str) -> Alike:
        prepared = Prepared(tmp_path_factory.mktemp("verb"), LOCAL, VERBS[verb])
        with pytest.MonkeyPatch.context() as patch:
            return Alike(prepared, requests_of(prepared, patch, VERBS[verb]))

    return of_verb


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.server])
def test_a_holder_that_comes_back_changes_nothing(alike, tmp_path, monkeypatch, name, mode):
    """Whatever others do, and however it comes back."""
    verb, other = name.split("; ")
    common = alike(verb)
    assert common.requests
    ends = ends_of(common.prepared.within(tmp_path), monkeypatch, CASES[name], common.seen[other])
    for number, label in enumerate(common.requests):
        if is_chosen(PART or "paused", name, number, mode):
            look(common.prepared.within(tmp_path), monkeypatch, ends, number, label, mode)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def ledgers(request):
    """Makes ledgers, each in a folder that is given; and which half of the requests are tried with this kind."""
    with ExitStack() as stack:

        def url(folder: Path) -> str | None:
            if request.param == "sqlite":
                return None
            return stack.enter_context(fresh_database(request.getfixturevalue("postgres_url")))

        yield url, ("sqlite", "postgresql").index(request.param)


@pytest.mark.nightly
@pytest.mark.server
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("verb", VERBS)
def test_a_holder_that_comes_back_to_a_server_changes_nothing(qdrant_server, ledgers, tmp_path, monkeypatch, verb):
    """The same before every single request; those with an even number and a ledger in SQLite, the others in PostgreSQL."""
    ledger_url, half = ledgers
    qdrant = {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "timeout": 1}
    prepared = Prepared(tmp_path, qdrant, VERBS[verb], ledger_url)
    requests = requests_of(prepared, monkeypatch, VERBS[verb])
    tried = 0
    for other in OTHERS:
        name = f"{verb}; {other}"
        of_other = prepared.within(tmp_path / other)
        ends = ends_of(of_other, monkeypatch, CASES[name])
        for number, mode in product(range(half, len(requests), 2), MODES):
            if is_chosen(PART or "turns", name, number, mode):
                tried += look(of_other, monkeypatch, ends, number, f"{requests[number]} of {name}", mode)
    assert tried


#: Of each verb and each way back something, in seconds: verb and others, mode, every how many-th request.
SOME = [
    ("gc; rollback", PAUSED, 3),
    ("fix erase; resume", LATE, 3),
    ("upgrade, in place; abort", LOST, 4),
    ("restore, undone; resume", GONE, 5),
    ("cutover; gc", LATE, 6),
]


@pytest.mark.parametrize(("name", "mode", "step"), SOME, ids=[f"{name}, {mode}" for name, mode, _ in SOME])
def test_some_of_the_matrix(tmp_path, monkeypatch, name, mode, step):
    """A few of its cells run with all other tests."""
    prepared = Prepared(tmp_path, LOCAL, CASES[name])
    requests = requests_of(prepared, monkeypatch, CASES[name])
    ends = ends_of(prepared, monkeypatch, CASES[name])
    for number in range(0, len(requests), step):
        look(prepared, monkeypatch, ends, number, requests[number], mode)


@pytest.mark.nightly
def test_no_request_is_in_no_verb(tmp_path, monkeypatch):
    """The requests are taken from the store's protocol: one that is added there needs a verb here that sends it."""
    sent: set[str] = set()
    for place, case in enumerate(VERBS.values()):
        if not case.server:
            sent |= set(requests_of(Prepared(tmp_path / str(place), LOCAL, case), monkeypatch, case))
    assert sent | ELSEWHERE == set(WRITES)
