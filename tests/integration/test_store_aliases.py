"""Aliases on both stores: re-pointed at once, renamed all together, and gone for a holder that lost its lease."""

from __future__ import annotations

import pytest
from qdrant_client import grpc
from tests.harness import write
from tests.integration.test_store import ids_of, make, points

from qmigrate.errors import ConflictError, NotFoundError
from qmigrate.store import records


def test_an_alias_is_made_repointed_and_dropped(store, fresh_name):
    """One call makes or re-points it; every other call follows it."""
    one, two, alias = (f"{fresh_name}_{part}" for part in ("1", "2", "alias"))
    make(store, one)
    make(store, two)
    for target in (one, one, two):
        store.create_alias(alias, target)
        assert store.aliases()[alias] == target
        assert store.describe(alias).physical == target
        assert store.describe(target).schema.aliases == (alias,)
    assert all(found[alias] == two for found in store.aliases_of_nodes())
    write(store, alias, points([1, 2]))
    assert (store.count(alias), store.count(one), store.count(two)) == (2, 0, 2)
    store.delete(alias, [1])
    assert ids_of(store.scan(alias)) == [2]
    store.drop_alias(alias)
    store.drop_alias(alias)
    assert alias not in store.aliases()


def test_an_alias_needs_a_real_target_and_a_free_name(store, fresh_name):
    """An unknown target is not found; the name of a collection is a conflict."""
    make(store, fresh_name)
    with pytest.raises(NotFoundError):
        store.create_alias(f"{fresh_name}_alias", f"{fresh_name}_missing")
    make(store, f"{fresh_name}_2")
    with pytest.raises(ConflictError):
        store.create_alias(f"{fresh_name}_2", fresh_name)


def test_renaming_aliases_repoints_the_names_in_one_request(store, fresh_name):
    """RenameAlias over existing aliases re-points them, and the own aliases are used up."""
    one, two = f"{fresh_name}__g0001", f"{fresh_name}__g0002"
    make(store, one)
    make(store, two)
    for name in (fresh_name, f"{fresh_name}_also"):
        store.create_alias(name, one)
    own = [f"{two}__e3__0", f"{two}__e3__1"]
    for alias in own:
        store.create_alias(alias, two)
    store.rename_aliases([(own[0], fresh_name), (own[1], f"{fresh_name}_also")])
    found = {alias: target for alias, target in store.aliases().items() if alias.startswith(fresh_name)}
    assert found == {fresh_name: two, f"{fresh_name}_also": two}


def test_renaming_an_alias_that_is_gone_changes_nothing(store, fresh_name):
    """A later holder removes own aliases; the swap that it forbids is NotFoundError, also when only one is gone."""
    one, two = f"{fresh_name}__g0001", f"{fresh_name}__g0002"
    make(store, one)
    make(store, two)
    store.create_alias(fresh_name, one)
    store.create_alias(f"{two}__e3__0", two)
    before = store.aliases()
    with pytest.raises(NotFoundError):
        store.rename_aliases([(f"{two}__e3__0", fresh_name), (f"{two}__e3__1", f"{fresh_name}_also")])
    assert store.aliases() == before


def test_writes_through_an_alias_that_is_gone_are_not_found(store, fresh_name):
    """That is what stops a holder whose lease was taken over: upsert, delete, fence and tokens."""
    make(store, fresh_name)
    alias = f"{fresh_name}__e1"
    ready = grpc.PointStruct(id=grpc.PointId(num=1))
    ready.vectors.vectors.vectors["a"].MergeFromString(records.vector_wire([1.0, 2.0, 3.0, 4.0]))
    for call in (
        lambda: store.upsert(alias, [ready.SerializeToString()]).wait(),
        lambda: store.delete(alias, [1]),
        lambda: store.fence(alias),
        lambda: store.take_tokens(alias),
        lambda: store.barrier(alias),
        lambda: store.operation_ids(alias),
    ):
        with pytest.raises(NotFoundError):
            call()
    assert store.count(fresh_name) == 0


def guarded(store, name) -> tuple[str, str]:
    """A collection and the alias of a lease epoch for it."""
    physical, guard = f"{name}__g0001", f"{name}__g0001__e3"
    make(store, physical)
    store.create_alias(guard, physical)
    return physical, guard


def test_aliases_change_in_one_request_and_the_guard_stays(store, fresh_name):
    """What applications use is made, re-pointed and removed; the alias of the epoch is what it was."""
    physical, guard = guarded(store, fresh_name)
    make(store, f"{fresh_name}__g0002")
    store.create_alias(f"{fresh_name}_gone", physical)
    store.create_alias(fresh_name, f"{fresh_name}__g0002")
    for _ in range(2):
        store.change_aliases(guard, make={fresh_name: physical, f"{fresh_name}_new": physical}, drop=[f"{fresh_name}_gone"])
        found = {alias: target for alias, target in store.aliases().items() if alias.startswith(fresh_name)}
        assert found == {guard: physical, fresh_name: physical, f"{fresh_name}_new": physical}


def test_without_its_guard_no_alias_changes(store, fresh_name):
    """A later holder has removed it: nothing is made, nothing goes, and nothing is left behind."""
    physical, guard = guarded(store, fresh_name)
    store.create_alias(fresh_name, physical)
    store.drop_alias(guard)
    for change in ({"drop": [fresh_name]}, {"make": {f"{fresh_name}_new": physical}}):
        with pytest.raises(NotFoundError):
            store.change_aliases(guard, **change)
        assert {alias for alias in store.aliases() if alias.startswith(fresh_name)} == {fresh_name}


def test_a_refused_change_leaves_the_guard_where_it_was(store, fresh_name):
    """An alias can't take the name of a collection; the request may be tried again afterwards."""
    physical, guard = guarded(store, fresh_name)
    make(store, f"{fresh_name}_taken")
    with pytest.raises(ConflictError):
        store.change_aliases(guard, make={f"{fresh_name}_taken": physical})
    assert store.aliases()[guard] == physical
    store.change_aliases(guard, make={fresh_name: physical})
    assert store.aliases()[fresh_name] == physical
