"""Before each request of each verb its holder stands still, or is cut off; another acts: the end is as without it.

The matrix is verb × what others do × how the holder comes back × request. In local mode a request is a *Write* of the
store's protocol, on a server each single one of these. A holder that is paused is paused before every one. Cut off, it
is tried at every third, another third for each of what others do, so that none is left out of a verb.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tests.faults.judged import look
from tests.faults.pause import GONE, LATE, LOST, MODES, PAUSED, WRITES, paused
from tests.faults.stride import thinned
from tests.faults.verbs import OTHERS, VERBS, Case, cases, moved, prepare
from tests.harness import Repeated

CASES = cases()
#: Methods that only a server gets, or that no verb of the matrix sends in local mode.
ELSEWHERE = {
    "barrier", "build_index", "create_snapshot", "delete_snapshot", "fence", "flush", "hides_collections", "lift_fence",
    "overwrite_payload", "place_replicas", "recover_snapshot", "take_tokens",
}  # fmt: skip


class Prepared:
    """Deployments of a verb, as many as are needed; in local mode copies of one."""

    def __init__(self, folder, qdrant, case: Case) -> None:
        self._repeated = Repeated(lambda place: prepare(place, qdrant, case), "path" in qdrant)
        self._folder = folder

    def __call__(self, name: str):
        return moved(self._repeated(self._folder / name))


def requests_of(prepared: Prepared, monkeypatch, case: Case) -> list[str]:
    """What its holder sends where no other process disturbs it."""
    with paused(prepared("undisturbed"), monkeypatch, case.work, None) as holder:
        holder.start()
        assert holder.error is None
        return holder.gate.passed


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.server])
def test_a_holder_that_comes_back_changes_nothing(tmp_path, monkeypatch, name, mode):
    """Whatever others do, and however it comes back."""
    case = CASES[name]
    prepared = Prepared(tmp_path, {"path": "local"}, case)
    requests = requests_of(prepared, monkeypatch, case)
    assert requests
    shift = list(CASES).index(name) + MODES.index(mode)
    for number in range(len(requests)):
        if mode == PAUSED or number % 3 == shift % 3:
            look(prepared(str(number)), monkeypatch, case, number, requests[number], mode)


def is_unfenced(label: str) -> bool:
    """Whether a request of a server makes or deletes a collection or a snapshot: no alias of a lease epoch can guard it."""
    method, _, path = label.partition(" ")
    parts = path.strip("/").split("/")
    return "snapshots" in parts or (method in ("PUT", "DELETE") and len(parts) == 2)


def chosen(requests: Sequence[str]) -> list[int]:
    """Some of the requests of a server: what no alias guards, what comes right behind it, and a few of the others."""
    unfenced = [number for number, label in enumerate(requests) if is_unfenced(label)]
    behind = [number + 1 for number in unfenced if number + 1 < len(requests)]
    return sorted({*unfenced[:1], *unfenced[-1:], *behind[:1], *thinned(range(len(requests)))[1:3]})


@pytest.mark.nightly
@pytest.mark.server
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", [PAUSED, LATE])
@pytest.mark.parametrize("verb", VERBS)
def test_a_holder_that_comes_back_to_a_server_changes_nothing(qdrant_server, tmp_path, monkeypatch, verb, mode):
    """The same before single requests; what others do is another thing for each verb."""
    place = list(VERBS).index(verb) + MODES.index(mode)
    case = CASES[f"{verb}; {list(OTHERS)[place % len(OTHERS)]}"]
    qdrant = {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "timeout": 1}
    prepared = Prepared(tmp_path, qdrant, case)
    requests = requests_of(prepared, monkeypatch, case)
    for number in chosen(requests):
        look(prepared(str(number)), monkeypatch, case, number, requests[number], mode)


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
    prepared = Prepared(tmp_path, {"path": "local"}, CASES[name])
    requests = requests_of(prepared, monkeypatch, CASES[name])
    for number in range(0, len(requests), step):
        look(prepared(str(number)), monkeypatch, CASES[name], number, requests[number], mode)


@pytest.mark.nightly
def test_no_request_is_in_no_verb(tmp_path, monkeypatch):
    """The requests are taken from the store's protocol: one that is added there needs a verb here that sends it."""
    sent: set[str] = set()
    for place, case in enumerate(VERBS.values()):
        if not case.server:
            sent |= set(requests_of(Prepared(tmp_path / str(place), {"path": "local"}, case), monkeypatch, case))
    assert sent | ELSEWHERE == set(WRITES)
