"""Several collections are restored by a glob: the newest of each, all or none as long as nothing has moved."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.harness import CREATE, make_point, write
from tests.scenarios.cli import call

from qmigrate import archive
from qmigrate.commands import restore, snapshot, upgrade
from qmigrate.engine.restore import phases as building
from qmigrate.errors import CollectionsFailedError, NotFoundError, RefusedError, UsageError


@pytest.fixture
def three(deployment):
    """Three collections of ten points, with an archive of each, and one point more since."""
    made = deployment
    for number, letter in enumerate("abc", 1):
        made.revise(f"000{number}", CREATE.replace("{name}", f"{{name}}_{letter}"))
    upgrade.upgrade(made.settings())
    names = [f"{made.name}_{letter}" for letter in "abc"]
    for name in names:
        put(made, name, *map(make_point, range(10)))
    snapshot.create(made.settings(), f"{made.name}_*", archived=True)
    for name in names:
        put(made, name, make_point(99))
    return made, names


def put(made, name, *points) -> None:
    """Write through a name."""
    store = made.store()
    write(store, name, points)
    store.close()


def counts(made, names) -> list[int]:
    """Points of each."""
    return [len(made.contents(name)) for name in names]


def test_the_newest_of_each_is_restored_and_taken_back(three):
    """A glob restores what it matches and leaves the rest; so does its undo; the plan lists every one."""
    made, names = three
    words = ["snapshot", "restore", f"{made.name}_[ab]", "--latest"]
    shown = call(made.root, *words, "--dry-run", "--json").json["data"]
    assert [one["job"]["collection"] for one in shown["collections"]] == names[:2]
    refused = call(made.root, *words, "--json")
    assert (refused.code, sorted(refused.json["error"]["facts"]["collections"])) == (10, names[:2])
    done = call(made.root, *words, "--yes")
    assert (done.code, counts(made, names)) == (0, [10, 10, 11]), done.text
    assert done.out.count("--undo") == 2
    undone = call(made.root, "snapshot", "restore", f"{made.name}_*", "--undo")
    assert (undone.code, counts(made, names)) == (0, [11, 11, 11]), undone.text
    with pytest.raises(NotFoundError, match="was restored"):
        restore.undo(made.settings(), f"{made.name}_*")


def test_one_without_a_snapshot_refuses_all(three):
    """Nothing moves when one of them can't be restored, or when an option is given that is for one collection."""
    made, names = three
    made.revise("0004", CREATE.replace("{name}", "{name}_d"))
    upgrade.upgrade(made.settings())
    with pytest.raises(NotFoundError, match=f"{made.name}_d"):
        restore.restore(made.settings(), f"{made.name}_*", consent=True)
    for more in ({"snapshot": "x"}, {"into": "other"}):
        with pytest.raises(UsageError, match="may be several collections"):
            restore.restore(made.settings(), f"{made.name}_[ab]", consent=True, **more)
    with pytest.raises(NotFoundError, match="no collection matches .*, and no archive"):
        restore.restore(made.settings(), f"{made.name}_x*", consent=True)
    assert counts(made, names) == [11, 11, 11]


def test_one_that_fails_stops_no_other(three, monkeypatch):
    """Each fails by itself: the others are restored, and the error names the one that was not."""
    made, names = three
    original = building.converge

    def broken(step, work):
        if work.collection == names[1]:
            raise RefusedError("stopped here")
        return original(step, work)

    monkeypatch.setattr(building, "converge", broken)
    with pytest.raises(CollectionsFailedError, match="stopped here") as caught:
        restore.restore(made.settings(), f"{made.name}_*", consent=True)
    assert list(caught.value.failed) == [names[1]]
    assert counts(made, names) == [10, 11, 10]


def test_an_exact_name_is_no_glob(three):
    """A collection whose name has such signs is restored alone, although it matches others."""
    made, names = three
    odd = f"{made.name}_[abc]"
    made.revise("0004", CREATE.replace("{name}", "{name}_[abc]"))
    upgrade.upgrade(made.settings())
    put(made, odd, *map(make_point, range(3)))
    file = made.root / "odd"
    snapshot.create(made.settings(), "*", archived=True, to=file)
    put(made, odd, make_point(99))
    restore.restore(made.settings(), odd, folder=file, consent=True)
    assert counts(made, [*names, odd]) == [11, 11, 11, 3]


def test_a_glob_restores_nothing_that_only_another_ledger_has(three, tmp_path):
    """Of a folder that several projects share only what is ours is meant; an exact name still moves a collection."""
    made, names = three
    folder, other = tmp_path / "shared", f"{made.name}_a_theirs"
    (found,) = snapshot.create(made.settings(), names[0], to=folder, archived=True).rows
    header = archive.summary(found.path).header
    archive.write(folder / f"theirs{archive.SUFFIX}", replace(header, name=other, ledger="another"), [])
    shown = restore.plan(made.settings(), f"{made.name}_a*", folder=folder)
    assert [one.job.collection for one in shown.collections] == names[:1]
    with pytest.raises(NotFoundError, match="another ledger") as caught:
        restore.plan(made.settings(), f"{other[:-1]}?", folder=folder)
    assert other in caught.value.hint
    assert restore.plan(made.settings(), other, folder=folder).collections[0].job.collection == other
    # A collection of ours that has no archive of ours is not replaced by that of another project, either.
    archive.write(tmp_path / "one" / f"x{archive.SUFFIX}", replace(header, name=names[1], ledger="another"), [])
    if "path" in made.qdrant:
        restore.plan(made.settings(), names[1], folder=tmp_path / "one")
        with pytest.raises(NotFoundError, match="another ledger"):
            restore.plan(made.settings(), f"{made.name}_[b]", folder=tmp_path / "one")


def test_what_another_ledger_left_out_of_its_header_is_not_met_by_a_glob(three, tmp_path):
    """An archive of a collection that nothing had under management is restored by its name alone."""
    made, names = three
    (found,) = snapshot.create(made.settings(), names[0], to=tmp_path, archived=True).rows
    free = f"{made.name}_free"
    header = replace(archive.summary(found.path).header, name=free, ledger=None)
    archive.write(tmp_path / f"free{archive.SUFFIX}", header, [])
    shown = restore.plan(made.settings(), f"{made.name}_[af]*", folder=tmp_path)
    assert [one.job.collection for one in shown.collections] == names[:1]
    assert restore.plan(made.settings(), free, folder=tmp_path).collections[0].job.collection == free
