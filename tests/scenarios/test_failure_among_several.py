"""What is about several collections: all that can refuse is asked before the first one, and what was done is shown."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest
import yaml
from tests.harness import Deployment, make_point, write
from tests.scenarios.cli import call

from qmigrate.commands import run_plan
from qmigrate.commands.failures import MovedError

TWO = """
def upgrade():
    made = {{"a": VectorParams(size=8, distance=Distance.COSINE)}}
    return [op.CreateCollection("{name}_a", made), op.CreateCollection("{name}_b", made)]
"""
ADD = """
def upgrade():
    return [op.AddVector("{name}_*", "b", VectorParams(size=4, distance=Distance.COSINE), values=Compute(made))]


def made(point):
    return [1.0 / (point.payload["n"] - 5)] * 4
"""
BELOW = '{"must": [{"key": "n", "range": {"lt": %d}}]}'
#: What is refused in the second collection, which has fewer points, and not in the first one.
REFUSED = {
    "cap": ("delete", "--filter", BELOW % 2, "--reason", "r", "--max-share", "0.2"),
    "number": ("delete", "--filter", BELOW % 9, "--reason", "r", "--max-share", "1", "--expect", "9"),
    "for good": ("delete", "--id", "1", "--reason", "r", "--erase", "--expect", "1", "--max-share", "0.1"),
    "no way back": ("delete", "--id", "1", "--reason", "r", "--no-export", "--expect", "1", "--max-share", "0.1"),
    "mark": ("delete", "--filter", BELOW % 2, "--reason", "r", "--soft", "--expect", "2", "--max-share", "0.2"),
    "orphans": ("orphans", "--sql", "SELECT id FROM rows", "--reason", "r", "--grace", "0", "--max-share", "0.1"),
    "sync": ("sync", "--sql", "SELECT id, n FROM rows WHERE id < 4", "--field", "n", "--max-share", "0.2"),
}


@pytest.fixture
def made(deployment) -> Deployment:
    """Twenty points in one collection, six in the other."""
    made = yaml.safe_load(deployment.config.read_text())
    deployment.config.write_text(yaml.safe_dump({**made, "databases": {"app": {"url": "sqlite:///app.db"}}}))
    deployment.revise("0001", TWO)
    assert call(deployment.root, "upgrade").code == 0
    store = deployment.store()
    for end, count in (("_a", 20), ("_b", 6)):
        write(store, deployment.name + end, [make_point(number) for number in range(count)])
    store.close()
    return deployment


def both(made: Deployment) -> list:
    """Everything in the two collections."""
    return [made.contents(made.name + end) for end in ("_a", "_b")]


@pytest.mark.parametrize("how", REFUSED)
def test_a_fix_that_one_of_several_refuses_changes_none(made, how):
    """Nothing is deleted, marked, erased or changed anywhere, and nothing is in the audit."""
    verb, *args = REFUSED[how]
    with contextlib.closing(sqlite3.connect(made.root / "app.db")) as rows:
        rows.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, n INTEGER)")
        rows.executemany("INSERT INTO rows VALUES (?, -1)", [(number,) for number in range(2, 21)])
        rows.commit()
    before = both(made)
    said = call(made.root, "fix", verb, f"{made.name}_*", *args, "--yes")
    assert said.code == 10, said.text
    assert f"points of {made.name}_" in said.err
    assert both(made) == before
    assert call(made.root, "history", "--deletions", "--json").json["data"]["rows"] == []


def test_what_was_done_before_a_refusal_is_told(made):
    """A rollback that the second collection refuses has moved the first one: in JSON, on the screen and with -q."""
    made.revise("0002", ADD.replace("- 5", "+ 5"))
    assert call(made.root, "upgrade").code == 0
    store = made.store()
    write(store, f"{made.name}_b", [make_point(99)])
    store.close()
    said = call(made.root, "rollback", "-q")
    assert said.code == 10
    assert f"done before that, and stays done: {made.name}_a" in said.err
    assert "Nothing was changed" not in said.err
    said = call(made.root, "rollback")
    assert (said.code, "Nothing was changed" in said.err, "done before" in said.err) == (10, True, False), said.err


@pytest.mark.parametrize("way", ["upgrade", "plan"])
def test_what_went_live_before_a_failure_is_told(made, tmp_path, way):
    """The second collection has a point that can't be given a vector."""
    store = made.store()
    store.delete(f"{made.name}_a", [6])
    store.close()
    made.revise("0002", ADD)
    args = ["upgrade"]
    if way == "plan":
        # It knows what will be refused, and keeps the plan all the same.
        assert call(made.root, "plan", "--out", str(tmp_path / "p")).code == 2
        args += ["--plan", str(tmp_path / "p")]
    said = call(made.root, *args, "--json", "--parallel", "1")
    assert said.json["error"]["facts"]["done"] == [f"{made.name}_a"], said.out
    assert f"{made.name}_a" in said.json["error"]["hint"]


def test_a_relative_target_that_is_about_others_says_so(made):
    """One step back is counted over all collections: nothing to undo of this one is not a dead end."""
    for identifier, end in (("0002", "_b"), ("0003", "_a")):
        made.revise(identifier, f"""
        def upgrade():
            return [op.CreatePayloadIndex("{{name}}{end}", "kind", PayloadSchemaType.KEYWORD)]
        """)
        assert call(made.root, "upgrade").code == 0
    name = f"{made.name}_b"
    for more in ((), ("--dry-run",)):
        said = call(made.root, "rollback", "--only", name, *more)
        assert (said.code, f"{name} is at 0002 already" in said.out) == (0, True), said.text
    assert f"qmigrate rollback 0001 --only {name}" in said.out
    assert call(made.root, "rollback", "0001", "--only", name).code == 0
    assert "counted over all" not in call(made.root, "rollback", "0003").out


def test_each_way_back_of_a_fix_is_named(made):
    """A fix of two collections is two in the audit: taking one back leaves the other as it is."""
    before = both(made)
    said = call(
        made.root, "fix", "delete", f"{made.name}_*", "--id", "1", "--reason", "r", "--yes", "--expect", "1", "--max-share", "1"
    )
    ways = said.out.partition("Undo it: ")[2].strip().split(", ")
    assert len(ways) == 2, said.out
    for way in ways:
        assert call(made.root, *way.split()[1:], "--yes").code == 0
    assert both(made) == before


def test_the_way_back_that_an_upgrade_names_is_about_what_it_has_done(made):
    """What another collection has had before stays there, also where it is the same revision; each way is exact."""
    made.revise("0002", ADD.replace("- 5", "+ 5"))
    one, two = f"{made.name}_a", f"{made.name}_b"
    said = call(made.root, "upgrade", "--only", one)
    assert said.out.endswith("To roll back: qmigrate rollback -1\n"), said.out
    said = call(made.root, "upgrade")
    assert said.out.endswith(f"To roll back: qmigrate rollback 0001 --only {two}\n"), said.out
    before = made.contents(one)
    assert call(made.root, *said.out.rpartition("To roll back: qmigrate ")[2].split()).code == 0
    assert (made.contents(one), "b" in str(before)) == (before, True)
    assert [row["revision"] for row in statuses(made, (one, two))] == ["0002", "0001"]
    said = call(made.root, "rollback", "0001")
    assert said.code == 0
    said = call(made.root, "upgrade", "--json")
    assert said.json["data"]["back"] == ["qmigrate rollback -1"]


def statuses(made: Deployment, names) -> list:
    """These collections in `status`."""
    rows = {row["name"]: row for row in call(made.root, "status", "--json").json["data"]["collections"]}
    return [rows[name] for name in names]


@pytest.mark.parametrize("how", ["--max-share", "--no-export", "--erase"])
def test_a_fix_is_done_once_where_a_later_collection_moves_meanwhile(made, monkeypatch, how):
    """It is planned again, since another run has ended there; what was written to the first one since is not its own."""
    original, moved = run_plan.run_job, []

    def run(session, name, *args):
        if name.endswith("_b") and not moved:
            moved.append(1)
            write(session.store, f"{made.name}_a", [make_point(0, text="written since")])
            raise MovedError
        return original(session, name, *args)

    monkeypatch.setattr(run_plan, "run_job", run)
    more = ("--max-share", "1") if how == "--max-share" else (how, "--max-share", "1")
    said = call(made.root, "fix", "delete", f"{made.name}_*", "--id", "1", "--reason", "r", "--yes", "--expect", "1", *more)
    assert said.code == 0, said.text
    first, second = both(made)
    assert (first[1][0]["text"], 1 in second, moved) == ("written since", False, [1])
