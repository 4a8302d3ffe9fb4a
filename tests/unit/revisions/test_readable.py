"""What revisions follow where their files can't tell: nothing is taken for no ancestor that was applied before."""

from __future__ import annotations

from pathlib import Path

import pytest

from qmigrate.revisions.readable import Recorded, read_all


def files(folder: Path, **downs: object) -> dict[str, str]:
    """Revisions r1, r2, …, each with what it follows; their checksums."""
    (folder / "versions").mkdir(parents=True, exist_ok=True)
    for key, down in downs.items():
        body = f"revision = {key!r}\ndown_revision = {down!r}\n\ndef upgrade():\n    return [op.DropPayloadIndex('docs', {key!r})]\n"
        (folder / "versions" / f"{key}_rev.py").write_text("from qmigrate import op\n" + body)
    found, _ = read_all(folder, Recorded())
    return {one.id: one.checksum for one in found.order()}


def kept(folder: Path, target: str, applied: list[str], checksums: dict[str, str]) -> set[str]:
    """What stays applied when a rollback goes to a revision."""
    found, _ = read_all(folder, Recorded([applied], checksums))
    return set(found.resolve(target, current=frozenset(applied))) & set(applied)


@pytest.mark.parametrize(
    ("down", "target", "stays"),
    [
        ("r1", "r3", {"r1", "r2", "r3"}),
        ("r1", "r2", {"r1", "r2"}),
        ("r1", "-1", {"r1", "r2"}),
        (None, "r3", {"r1", "r2", "r3"}),
        (None, "-2", {"r1"}),
    ],
)
def test_a_file_that_was_changed_takes_nothing_from_below_itself(tmp_path, down, target, stays):
    """Its down_revision was edited after it was applied: what it came after goes back only after it."""
    checksums = files(tmp_path, r1=None, r2="r1", r3="r2")
    files(tmp_path, r3=down)
    assert kept(tmp_path, target, ["r1", "r2", "r3"], checksums) == stays


@pytest.mark.parametrize("target", ["r4", "r5"])
def test_a_file_that_is_gone_may_have_joined_branches(tmp_path, target):
    """Both branches lie before it."""
    checksums = files(tmp_path, r1=None, r2="r1", r3="r1", r4=("r2", "r3"), r5="r4")
    (tmp_path / "versions" / "r4_rev.py").unlink()
    stays = {"r1", "r2", "r3", "r4", *([target] if target == "r5" else [])}
    assert kept(tmp_path, target, ["r1", "r2", "r3", "r4", "r5"], checksums) == stays


def test_in_a_circle_the_order_counts_in_which_they_were_applied(tmp_path):
    """Each follows what was applied before it."""
    checksums = files(tmp_path, r1=None, r2="r1", r3="r2")
    files(tmp_path, r1="r3")
    applied = ["r1", "r2", "r3"]
    found = [kept(tmp_path, target, applied, checksums) for target in applied]
    assert found == [{"r1"}, {"r1", "r2"}, {"r1", "r2", "r3"}]


def test_what_is_unchanged_says_itself_what_it_follows(tmp_path):
    """Branches that were applied one after the other stay branches."""
    checksums = files(tmp_path, r1=None, r2="r1", r3="r1")
    assert kept(tmp_path, "r3", ["r1", "r2", "r3"], checksums) == {"r1", "r3"}
