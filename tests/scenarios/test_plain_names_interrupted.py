"""A gap that is interrupted behind its further names and before the deletion: both collections are reached meanwhile."""

from __future__ import annotations

import pytest
from tests.harness import ADD, Deployment, make_point
from tests.scenarios.plain_names import plain
from tests.scenarios.test_alias_moved_by_hand import lead, targets, there

from qmigrate.commands import rollback as back
from qmigrate.commands import upgrade
from qmigrate.engine.golive import plain_names
from qmigrate.errors import RefusedError

POINTS = 40


@pytest.fixture
def cut(deployment, monkeypatch) -> Deployment:
    """A plain collection with a further name; the run dies when that has moved."""
    deployment.extra["rebuild"] = {"plain_names": "gap"}
    deployment.__post_init__()
    plain(deployment, POINTS)
    lead(deployment, deployment.name, name=f"{deployment.name}_mine")
    deployment.revise("0002", ADD)
    looked = plain_names.refuse_made_again

    def dies(step, work):
        if work.phase == "swap":
            raise KeyboardInterrupt
        looked(step, work)

    with monkeypatch.context() as patch:
        patch.setattr(plain_names, "refuse_made_again", dies)
        with pytest.raises(KeyboardInterrupt):
            upgrade.upgrade(deployment.settings(), allow_gap=True)
    assert further(deployment) == f"{deployment.name}__g0001"
    return deployment


def further(made: Deployment) -> str:
    """Where the further name leads."""
    return targets(made)[f"{made.name}_mine"]


def test_an_abort_removes_nothing_where_a_name_has_moved(cut):
    """It refuses before the first of two generations goes, so that the run can be finished."""
    before = there(cut)
    with pytest.raises(RefusedError, match="in use") as refused:
        back.abort(cut.settings())
    assert "qmigrate upgrade finishes the run" in refused.value.hint
    assert there(cut) == before
    upgrade.upgrade(cut.settings(), allow_gap=True)
    assert cut.row().revision == "0002"
    assert further(cut) == f"{cut.name}__g0002"


def test_what_was_written_by_a_further_name_is_not_swept_away(cut):
    """The proof would make the new generation equal to the plain collection again, which doesn't have it."""
    lead(cut, f"{cut.name}__g0001", make_point(500), name=f"{cut.name}_mine")
    for _ in range(2):
        with pytest.raises(RefusedError, match=r"1 points differ from what was proven: 501 \(new\)"):
            upgrade.upgrade(cut.settings(), allow_gap=True)
    assert 501 in there(cut)[f"{cut.name}__g0001"]
    assert cut.name in there(cut)
