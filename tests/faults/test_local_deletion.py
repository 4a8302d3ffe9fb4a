"""A process that dies while local mode deletes a collection: it is there as a whole afterwards, or it isn't there."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from qdrant_client.local import qdrant_local
from tests.harness import ADD, Deployment, by_hand, make_point, write
from tests.scenarios.cli import call
from tests.scenarios.plain_names import SCHEMA, plain

from qmigrate.store.local import folder
from qmigrate.store.local.local import LocalStore

POINTS = 40
#: An upgrade that is killed as soon as the points of the plain collection are gone.
KILLED = """
import os, shutil
from qdrant_client.local import qdrant_local
from qmigrate.cli.app import run

class Killed:
    def rmtree(self, path, **how):
        shutil.rmtree(path, **how)
        os._exit(9)

qdrant_local.shutil = Killed()
run(["upgrade"])
"""


class DiedError(BaseException):
    """In the place of SIGKILL: nothing behind it is done."""


class Dies:
    """In the place of ``shutil``: dies before or behind the removal of a folder."""

    def __init__(self, *, behind: bool) -> None:
        self.behind = behind

    def rmtree(self, path, **how) -> None:
        if self.behind:
            shutil.rmtree(path, **how)
        raise DiedError


def died(*_, **__):
    """Where a file was to be written."""
    raise DiedError


@pytest.mark.parametrize(
    ("module", "name", "instead", "left"),
    [
        (folder, "writing", died, POINTS),
        (qdrant_local, "shutil", Dies(behind=False), None),
        (qdrant_local, "shutil", Dies(behind=True), None),
    ],
    ids=["before it is unlisted", "before its points go", "behind that"],
)
def test_it_is_whole_or_gone(tmp_path, monkeypatch, module, name, instead, left):
    """It is never shown without its points, and its name is free for another one."""
    store = LocalStore.open(str(tmp_path / "q"))
    for one in ("docs", "other"):
        store.create_collection(one, SCHEMA, seal=None)
        write(store, one, [make_point(number, uuid_id=False) for number in range(POINTS)])
    store.create_alias("served", "docs")
    with monkeypatch.context() as patch:
        patch.setattr(module, name, instead)
        with pytest.raises(DiedError):
            store.drop_collection(by_hand("docs"))
    store.close()
    again = LocalStore.open(str(tmp_path / "q"))
    try:
        assert [again.count(one) for one in again.physical_names()] == [POINTS] * (2 if left else 1)
        assert again.aliases() == ({"served": "docs"} if left else {})
        assert not list((tmp_path / "q").rglob("docs/.deleting"))
        again.drop_collection(by_hand("docs"))
        again.create_collection("docs", SCHEMA, seal=None)
        assert (again.count("docs"), again.count("other")) == (0, POINTS)
    finally:
        again.close()


def test_a_plain_collection_that_makes_room(tmp_path):
    """What has taken its name keeps every point: an empty collection of that name is none to be made equal to."""
    made = Deployment(tmp_path, {"path": ".qmigrate/qdrant"}, f"sqlite:///{tmp_path}/ledger.db", name="docs")
    plain(made, POINTS)
    before = {one: payload for one, (payload, _) in made.contents().items()}
    made.revise("0002", ADD)
    assert subprocess.run([sys.executable, "-P", "-c", KILLED], cwd=made.root, capture_output=True, check=False).returncode == 9
    refused = call(made.root, "abort", "docs")
    assert (refused.code, "can only be finished" in refused.err) == (10, True)
    done = call(made.root, "upgrade")
    assert done.code == 0, done.text
    assert {one: payload for one, (payload, _) in made.contents().items()} == before
