"""Before each request of each verb its holder stands still, or is cut off; another acts: the end is as without it."""

from __future__ import annotations

import pytest
from tests.faults.judged import look
from tests.faults.pause import MODES, paused
from tests.faults.stride import thinned
from tests.faults.verbs import Case, cases, moved, prepare
from tests.harness import Repeated

CASES = cases()


class Prepared:
    """Deployments of a verb, as many as are needed; in local mode copies of one."""

    def __init__(self, folder, qdrant, case: Case) -> None:
        self._repeated = Repeated(lambda place: prepare(place, qdrant, case), "path" in qdrant)
        self._folder = folder

    def __call__(self, name: str):
        return moved(self._repeated(self._folder / name))


def requests_of(prepared: Prepared, monkeypatch, case: Case) -> list[str]:
    """What its holder sends where nobody disturbs it."""
    with paused(prepared("undisturbed"), monkeypatch, case.work, None) as holder:
        holder.start()
        assert holder.error is None
        return holder.gate.passed


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
def test_a_holder_that_comes_back_changes_nothing(qdrant_config, tmp_path, monkeypatch, name, mode):
    """Every request of every verb, whatever others do, and however it comes back."""
    case, local = CASES[name], "path" in qdrant_config
    if case.server and local:
        pytest.skip("local mode has no snapshots")
    prepared = Prepared(tmp_path, qdrant_config, case)
    requests = requests_of(prepared, monkeypatch, case)
    assert requests
    for number in range(len(requests)) if local else thinned(range(len(requests))):
        look(prepared(str(number)), monkeypatch, case, number, requests[number], mode)
