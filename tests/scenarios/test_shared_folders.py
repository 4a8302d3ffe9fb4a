"""Two ledgers, one folder: staging and production of one checkout count their runs alike, and each keeps its own points."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.harness import CREATE, Deployment, audit
from tests.scenarios.cli import call

from qmigrate import archive, op
from qmigrate.archive import SUFFIX, Header
from qmigrate.commands import fix, upgrade
from qmigrate.engine.export import remove_ours
from qmigrate.errors import RefusedError
from qmigrate.model.schema import CollectionSchema


class Two:
    """The same project with one of two places at a time."""

    def __init__(self, folder: Path) -> None:
        self.made = []
        for number in (1, 2):
            place = {"path": str(folder / f"qdrant{number}")}
            one = Deployment(folder / "project", place, f"sqlite:///{folder}/ledger{number}.db", name="images")
            one.revise("0001", CREATE, down=None)
            upgrade.upgrade(one.settings())
            one.load(20, start=100 * number, uuids=False)
            self.made.append(one)

    def at(self, number: int) -> Deployment:
        """The settings lead to this one now."""
        self.made[number].__post_init__()
        return self.made[number]


@pytest.fixture
def two(tmp_path) -> Two:
    """Both places, empty but for twenty points each."""
    return Two(tmp_path)


def deleted(made: Deployment, *ids: int) -> int:
    """Delete points; the number for its undo."""
    (done,) = fix.fix(made.settings(), op.DeletePoints(made.name, ids=list(ids), reason="r")).done
    return done.log


def file_of(made: Deployment) -> Path:
    """The export of the newest fix."""
    return Path(audit(made)[0].facts["file"])


def test_each_gets_its_own_points_back(two):
    """Both deletions are run 2 of the same generation; neither file is written over."""
    logs = [deleted(two.at(0), 101, 102), deleted(two.at(1), 201, 202)]
    for number, ids in ((0, {101, 102}), (1, {201, 202})):
        made = two.at(number)
        assert fix.undo(made.settings(), logs[number]).done[0].changed == 2
        assert ids <= made.contents().keys() <= set(range(101, 121)) | set(range(201, 221))
        assert len(made.contents()) == 20


def test_a_file_of_another_ledger_is_not_given_back(two):
    """As earlier versions have overwritten it: reported, and no point of it is written."""
    log = deleted(two.at(0), 101, 102)
    mine = file_of(two.at(0))
    deleted(two.at(1), 201, 202)
    shutil.copy(file_of(two.at(1)), mine)
    made = two.at(0)
    for act in (fix.undo_review, fix.undo):
        with pytest.raises(RefusedError, match="another ledger"):
            act(made.settings(), log)
    assert made.contents().keys() == set(range(103, 121))


def test_a_file_of_another_fix_is_not_given_back(two):
    """The file of a generation before under the name of this one."""
    made = two.at(0)
    log, first = deleted(made, 101, 102), file_of(made)
    other = first.with_name(f"other{SUFFIX}")
    header = archive.summary(first).header
    archive.write(other, Header(**{**_fields(header), "physical": "images__g0009"}), [])
    shutil.copy(other, first)
    with pytest.raises(RefusedError, match="another fix"):
        fix.undo(made.settings(), log)


def _fields(header: Header) -> dict:
    return {name: getattr(header, name) for name in header.__dataclass_fields__}


def test_an_erasure_leaves_the_files_of_another_ledger(two):
    """It names them: their possible users decide."""
    made = two.at(0)
    log, kept = deleted(made, 101, 102), file_of(made)
    assert call(made.root, "snapshot", "create", "images", "--archive").code == 0
    other = two.at(1)
    erasing = ["fix", "delete", "images", "--id", "101", "--erase", "--reason", "r", "--yes", "--expect", "1"]
    said = call(other.root, *erasing)
    assert (said.code, said.text.count("of another ledger, which may need it"), kept.name in said.text) == (0, 2, True), said.text
    made = two.at(0)
    assert fix.undo(made.settings(), log).done[0].changed == 2


def test_what_is_removed_is_ours(tmp_path):
    """A file of this ledger, one without an owner and one that can't be read go; one of another ledger stays."""
    schema = CollectionSchema()
    for name, owner, stays in (("mine", "here", False), ("old", None, False), ("other", "elsewhere", True)):
        path = tmp_path / f"{name}{SUFFIX}"
        made = {"kind": "deletion", "name": "images", "physical": "images", "generation": None, "facts": {}}
        archive.write(path, Header(**made, schema=schema, ledger=owner, source="", created_at=datetime.now(UTC)), [])
        remove_ours(path, "here")
        assert path.exists() is stays, name
    broken = tmp_path / f"broken{SUFFIX}"
    broken.touch()
    remove_ours(broken, "here")
    remove_ours(broken, "here")
    assert not broken.exists()
