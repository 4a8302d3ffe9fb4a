"""A holder is paused right before each of its requests; others act; it wakes: nothing is as if it had done anything."""

from __future__ import annotations

import pytest
from tests.faults.judged import ends_of, look
from tests.faults.pause import WRITES, paused
from tests.faults.stride import thinned
from tests.faults.verbs import (
    CLONE,
    DROP,
    HELD,
    IN_PLACE,
    REBUILD,
    UNALIAS,
    Case,
    abort,
    adopt_it,
    back,
    collect,
    delete_some,
    empty,
    erase_some,
    forth,
    let_on,
    prepare,
    up,
)
from tests.harness import CREATE, Deployment, Repeated

#: Minutes: see scripts/test --nightly.
pytestmark = pytest.mark.nightly

CASES = {
    "fix, then abort": Case((CREATE,), (), delete_some, (abort,)),
    "fix, then fix": Case((CREATE,), (), delete_some, (delete_some,)),
    "erasure, then erasure": Case((CREATE, REBUILD), (), erase_some, (up, erase_some)),
    "reset, then abort": Case((CREATE,), (), empty, (abort,)),
    "reset, then upgrade": Case((CREATE,), (), empty, (up,)),
    "adopt, then adopt": Case((CREATE,), (), adopt_it, (adopt_it,), plain=True),
    "gap, then upgrade": Case((CREATE,), (REBUILD,), forth, (forth,), plain=True),
    "gap, then abort": Case((CREATE,), (REBUILD,), forth, (abort,), plain=True),
    "abort of a held one, then cutover": Case((CREATE,), (HELD,), abort, (let_on,)),
    "abort of a held one, then abort": Case((CREATE,), (HELD,), abort, (abort, up)),
    "gc, then abort and rollback": Case((CREATE, REBUILD), (), collect, (abort, back)),
    "gc, then gc": Case((CREATE, REBUILD), (), collect, (collect,)),
    "gc, then rollback": Case((CREATE, REBUILD), (), collect, (back,)),
    "gc at an upgrade, then abort and rollback": Case((CREATE, REBUILD), (IN_PLACE.replace("_also", "_more"),), up, (abort, back), "0s"),
    "gc with snapshots, then abort and rollback": Case((CREATE, REBUILD), (), collect, (abort, back), snapshot="auto"),
    "clone, then abort": Case((CREATE,), (CLONE,), up, (abort,), snapshot="auto"),
    "clone, then upgrade": Case((CREATE,), (CLONE,), up, (up,), snapshot="auto"),
    "drop, then abort": Case((CREATE, UNALIAS), (DROP,), up, (abort,)),
    "drop, then upgrade": Case((CREATE,), (DROP,), up, (up,)),
    "in place, then abort": Case((CREATE,), (IN_PLACE,), up, (abort,)),
    "in place, then upgrade": Case((CREATE,), (IN_PLACE,), up, (up,)),
    "in place, then abort and upgrade": Case((CREATE,), (IN_PLACE,), up, (abort, up)),
    "rollback, then abort": Case((CREATE, REBUILD), (), back, (abort,)),
    "rollback, then upgrade": Case((CREATE, REBUILD), (), back, (up, up)),
    "rollback in place, then upgrade": Case((CREATE, IN_PLACE.replace("op.AddVector", "# op.AddVector")), (), back, (up, up)),
    "rebuild, then abort": Case((CREATE,), (REBUILD,), up, (abort,)),
    "rebuild, then upgrade and rollback": Case((CREATE,), (REBUILD,), up, (up, back)),
    "rebuild, then abort and upgrade": Case((CREATE,), (REBUILD,), up, (abort, up)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.timeout(600)
def test_a_holder_that_wakes_changes_nothing_any_more(qdrant_config, tmp_path, monkeypatch, name):
    """Before every request it is paused, others act and the application writes; then it wakes, and all is as it was."""
    case = CASES[name]
    prepared = Repeated(lambda folder: prepare(folder, qdrant_config, case), "path" in qdrant_config)
    with paused(prepared(tmp_path / "all"), monkeypatch, case.work, None) as holder:
        holder.start()
        requests = holder.gate.passed
        assert holder.error is None
    assert requests
    numbers = range(len(requests)) if "path" in qdrant_config else thinned(range(len(requests)))

    def another(name: str) -> Deployment:
        return prepared(tmp_path / name)

    ends = ends_of(another, monkeypatch, case)
    for number in numbers:
        look(another, monkeypatch, ends, number, requests[number])


def test_every_request_that_changes_something_is_paused():
    """The table of requests is taken from the store's protocol, so that none can be left out."""
    assert {"drop_collection", "change_aliases", "rename_aliases", "write_seal", "apply", "lift_fence"} <= set(WRITES)
