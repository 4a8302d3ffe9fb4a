"""The table: a rule of convergence, what is taken away of it, and the tests that must fail then.

A place that moves is followed here: the script reports a mutant that applies no longer. What only a comment calls
*load-bearing* belongs here too. The numbers are those of the rules in the module ``tests/model/converge.py`` as well.
"""

from __future__ import annotations

from tests.mutation.mutate import Mutant

SWAP = "tests/scenarios/test_rules_swap.py::"
TAKE_OVER = "tests/scenarios/test_rules_take_over.py::"
LATE = "tests/scenarios/test_late_writes.py::"
QUIET = "tests/unit/engine/test_steps_quiet.py::"
STALE = "tests/scenarios/test_stale_vectors.py::"
ORDER = "tests/scenarios/test_stopped_in_order.py::"
GC = "tests/scenarios/test_gc.py::"
PLAIN = "tests/scenarios/test_plain_names.py::"

MUTANTS: tuple[Mutant, ...] = (
    # 1. The base: the last pass redoes what has another digest, and leaves its base behind.
    Mutant(
        1,
        "the last pass compares the pure part only",
        "engine/points/compare.py",
        "        if entry.source != whole:\n            return None\n        seen",
        "        seen",
        (SWAP + "test_a_vector_that_only_the_last_pass_sees_is_redone_and_is_no_write_since",),
    ),
    Mutant(
        1,
        "the base of the last pass is not committed",
        "engine/prove/passes.py",
        "        share.add_to(report)\n    work.lease.commit_base(sides.base)\n",
        "        share.add_to(report)\n",
        (SWAP + "test_a_vector_that_only_the_last_pass_sees_is_redone_and_is_no_write_since",),
    ),
    # 2. Own aliases: what an earlier holder sends reaches nothing.
    Mutant(
        2,
        "earlier aliases not removed",
        "engine/epoch_aliases.py",
        "    for alias in stale:\n        work.store.drop_alias(alias)\n    if in_order",
        "    if in_order",
        (TAKE_OVER + "test_a_request_of_a_dead_holder_is_refused_from_the_take_over_on",),
    ),
    Mutant(
        2,
        "physical name instead of own alias",
        "engine/epoch_aliases.py",
        "        make(work, [alias], physical, known)\n    return alias\n",
        "        make(work, [alias], physical, known)\n    return EpochAlias(physical)\n",
        (TAKE_OVER + "test_a_holder_that_was_overtaken_writes_nothing",),
    ),
    Mutant(
        2,
        "an own alias is used without asking for the lease",
        "engine/epoch_aliases.py",
        "            work.store.create_alias(alias, physical)\n        confirm(work)\n",
        "            work.store.create_alias(alias, physical)\n",
        (LATE + "test_a_holder_of_the_past_cannot_swap_any_more[operation ids]",),
    ),
    # 3. Barriers: the ids behind a write that changes nothing, per shard and node.
    Mutant(
        3,
        "other shards no doubt",
        "engine/barriers.py",
        "    if before is None or before.keys() != now.keys():\n        return False\n    if not now",
        "    if before is None:\n        return False\n    if not now",
        (QUIET + "test_any_doubt_about_operation_ids_counts_as_a_write",),
    ),
    Mutant(
        3,
        "ids that went back count as quiet",
        "engine/barriers.py",
        "return all(now[shard] - before[shard] == expected for shard in now)",
        "return all(now[shard] - before[shard] <= expected for shard in now)",
        (QUIET + "test_any_doubt_about_operation_ids_counts_as_a_write",),
    ),
    Mutant(
        3,
        "ids of a cluster are relied on",
        "engine/barriers.py",
        "    return work.store.capabilities.nodes == 1\n",
        "    return True\n",
        (QUIET + "test_any_doubt_about_operation_ids_counts_as_a_write",),
    ),
    Mutant(
        3,
        "ids are read without a write behind the queue",
        "engine/barriers.py",
        "        return store.barrier(name)\n    store.flush(name)",
        "        return store.operation_ids(name)\n    store.flush(name)",
        ("tests/integration/test_store_fence.py::test_a_barrier_passes_through_every_queue_as_a_write_of_its_own",),
    ),
    # 4. The fence, and the tokens behind it.
    Mutant(
        4,
        "tokens not taken before the sweep",
        "engine/prove/sweep.py",
        "    taken = work.store.take_tokens(own(work, sides.source))\n    now = barrier(",
        "    taken = 0\n    now = barrier(",
        (LATE + "test_the_old_generation_takes_no_write_after_the_swap[operation ids]",),
    ),
    Mutant(
        4,
        "no fence before the sweep",
        "engine/prove/sweep.py",
        "    fence(work, sides.source)\n    taken = work.store.take_tokens(own(work, sides.source))\n",
        "    taken = 0\n",
        (LATE + "test_the_old_generation_takes_no_write_after_the_swap[operation ids]",),
    ),
    Mutant(
        4,
        "the earlier strict mode is not recorded",
        "engine/prove/sweep.py",
        "        work.lease.save_generation(replace(generation, fence=prior))\n",
        "        pass\n",
        (LATE + "test_the_old_generation_takes_no_write_after_the_swap[operation ids]",),
    ),
    # 5. After the swap: read back on every node, then sweeps until nothing came since the last reading began.
    Mutant(
        5,
        "swap not read back",
        "engine/golive/golive.py",
        "    read_back(work, names, step.target)\n",
        "",
        (SWAP + "test_every_node_shows_the_name_before_the_sweep",),
    ),
    Mutant(
        5,
        "one sweep round only",
        "engine/prove/sweep.py",
        "        if alone or is_last(work, before, now, (delta, taken), time.monotonic() - started):\n",
        "        if alone or before is not None:\n",
        (SWAP + "test_a_write_during_the_sweep_is_found_by_another_round",),
    ),
    Mutant(
        5,
        "never swept",
        "engine/prove/sweep.py",
        "    if nothing_written(work, since, now, delta=delta, own_writes=taken):\n        note_left",
        "    if now is not None:\n        note_left",
        (LATE + "test_late_writes_are_carried_into_the_new_generation[operation ids]",),
    ),
    Mutant(
        5,
        "second name check",
        "engine/golive/golive.py",
        "    if serving != step.source:\n        raise _foreign_alias(work, step, serving)\n    if step.source is not None:\n",
        "    if step.source is not None:\n",
        (SWAP + "test_a_name_that_moves_between_the_proof_and_the_swap_is_left_where_it_is",),
    ),
    # 6. The sweep, id by id.
    Mutant(
        6,
        "a newer write of the new side is overwritten",
        "engine/prove/sweep.py",
        "    if seen != known.target:\n",
        "    if seen is None:\n",
        (LATE + "test_a_newer_write_of_the_new_generation_is_kept_and_listed[operation ids]",),
    ),
    Mutant(
        6,
        "what looks equal is skipped before the base is asked",
        "engine/prove/sweep.py",
        "    if seen != known.target:\n",
        "    if seen != known.target or _already(judge, stored, here):\n",
        (STALE + "test_an_interrupted_carry_leaves_no_stale_vector",),
    ),
    Mutant(
        6,
        "a carry is not journaled before its write",
        "engine/prove/sweep.py",
        '    work.lease.carry(work.run, work.step, identifier, before, whole + seen, "running", doubt)\n',
        "",
        (STALE + "test_an_interrupted_carry_leaves_no_stale_vector",),
    ),
    Mutant(
        6,
        "a carried id keeps its old base",
        "engine/prove/sweep.py",
        "        known = done.get(key, entry or BaseEntry(records.ABSENT, records.ABSENT))\n",
        "        known = entry or BaseEntry(records.ABSENT, records.ABSENT)\n",
        (SWAP + "test_a_write_during_the_sweep_is_found_by_another_round",),
    ),
    Mutant(
        6,
        "a carry next to other writes is not listed",
        "engine/prove/sweep.py",
        "        if moved is None or moved != len(now) * delta_of(work) + writes:\n",
        "        if moved is None:\n",
        (LATE + "test_a_carry_beside_foreign_writes_is_listed[operation ids]", LATE + "test_a_late_insert_that_undoes_a_delete_is_named[operation ids]"),
    ),
    # 7. Resume: back to converge; nothing is guessed without a base.
    Mutant(
        7,
        "converge not volatile on resume",
        "engine/golive/golive.py",
        "    Phase(Proof, converge, volatile=True),\n",
        "    Phase(Proof, converge),\n",
        (TAKE_OVER + "test_a_proof_of_a_dead_holder_is_none",),
    ),
    Mutant(
        7,
        "the proof of an earlier holder counts",
        "engine/golive/golive.py",
        "    if proof.epoch == work.lease.epoch and (quiet or unknown):\n",
        "    if quiet or unknown:\n",
        (TAKE_OVER + "test_a_proof_of_a_dead_holder_is_none",),
    ),
    Mutant(
        7,
        "the sweep goes on without a base",
        "engine/golive/golive.py",
        "    if not work.lease.ledger.has_base(sides.base):\n",
        "    if sides.base is None:\n",
        (TAKE_OVER + "test_where_the_name_has_moved_and_its_proof_is_lost_nothing_is_guessed",),
    ),
    # 8. Freeze: between two barriers, and not older than a token takes to come back.
    Mutant(
        8,
        "freeze without closing barrier",
        "engine/golive/freeze.py",
        "            if is_last(work, facts.source_ids or {}, closing, (frozen.delta, taken), frozen.quiet_at - started):\n",
        "            if taken >= 0:\n",
        (SWAP + "test_a_freeze_that_a_write_has_passed_is_proven_again",),
    ),
    Mutant(
        8,
        "freeze not renewed",
        "engine/golive/golive.py",
        "        check_same(work, step.source)\n        renew()\n",
        "        check_same(work, step.source)\n",
        (SWAP + "test_a_freeze_that_has_grown_old_is_renewed_before_the_swap",),
    ),
    Mutant(
        8,
        "a freeze is lifted behind a name that has moved",
        "engine/golive/freeze.py",
        "    if holder(work) == frozen.source:\n        thaw",
        "    if frozen.source:\n        thaw",
        (SWAP + "test_a_freeze_behind_a_name_that_has_moved_stays_as_the_fence",),
    ),
    Mutant(
        8,
        "the helper lifts a freeze wherever the name is",
        "engine/golive/freeze_watchdog.py",
        "    if all(aliases.get(name) == shown for aliases in store.aliases_of_nodes()) and source in store.physical_names():\n",
        "    if shown is None:\n",
        ("tests/faults/test_kill_plain.py::test_what_the_helper_does_for_a_dead_parent",),
    ),
    # 9. The gap behind a freeze; nothing is retired that was written to.
    Mutant(
        9,
        "gap without freeze",
        "engine/golive/golive.py",
        '    if rekeyed or step.place == "gap" or work.settings.rebuild.writes == "freeze":\n',
        '    if rekeyed or work.settings.rebuild.writes == "freeze":\n',
        (SWAP + "test_no_write_is_acknowledged_right_before_a_plain_collection_is_deleted",),
    ),
    Mutant(
        9,
        "the freeze of a gap is not renewed before its deletion",
        "engine/golive/plain_names.py",
        "            if holder(work) == source:\n                renew()\n",
        "            holder(work)\n",
        (PLAIN + "test_what_passes_the_fence_before_a_deletion_is_sent_again_is_not_deleted",),
    ),
    Mutant(
        9,
        "a generation is retired whatever was written to it",
        "engine/retire/retire.py",
        "    return check_left(work, step.target)\n",
        "    return RetireCheck()\n",
        (GC + "test_writes_to_the_old_generation_after_it_was_left_are_never_lost_silently",),
    ),
    Mutant(
        9,
        "not checked again right before it is retired",
        "engine/retire/retire.py",
        "        if checked.ids is not None:\n            check_again(work, step.target, checked)\n",
        "",
        (GC + "test_a_write_between_the_check_and_the_deletion_spares_it",),
    ),
    # 10. Rollback: the fence of the parent goes, and the sides change places.
    Mutant(
        10,
        "the fence of the parent stays",
        "engine/golive/rollback.py",
        "    lift_fence(step, work)\n    if step.writes == \"discard\":\n",
        "    if step.writes == \"discard\":\n",
        (LATE + "test_the_old_generation_takes_no_write_after_the_swap[operation ids]",),
    ),
    Mutant(
        10,
        "the sides of the base are not exchanged",
        "engine/golive/rollback.py",
        "    for page in exchanged(committed(work.lease.ledger, forward)):\n",
        "    for page in committed(work.lease.ledger, forward):\n",
        (SWAP + "test_a_rollback_that_counts_afterwards_knows_what_both_sides_were",),
    ),
    # 11. What vouches for contents is read before them.
    Mutant(
        11,
        "ids are read after the contents that they vouch for",
        "engine/prove/proof.py",
        "        source_ids=dict(source_ids),\n",
        "        source_ids=dict(barrier(work.store, reach(work, sides.source))),\n",
        (SWAP + "test_a_write_behind_the_last_pass_and_before_its_end_is_carried",),
    ),
    # 12. Destruction: recorded first, sent once, read back; what was begun never serves again.
    Mutant(
        12,
        "a deletion is not recorded before it is sent",
        "ledger/writer.py",
        "            self._mark_deletion(connection, physical)\n",
        "",
        (GC + "test_a_deletion_that_has_begun_is_only_finished",),
    ),
    Mutant(
        12,
        "a deletion is sent again without checking what is there",
        "engine/retire/retire.py",
        "        work.tick()\n        if unclear:\n",
        "        work.tick()\n        if unclear and work is None:\n",
        (PLAIN + "test_a_deletion_whose_answer_was_lost_is_not_sent_to_what_was_made_again_since",),
    ),
    Mutant(
        12,
        "a deletion without an answer is withdrawn",
        "engine/retire/retire.py",
        "            unclear = True\n",
        "            work.lease.cancel_deletion(physical)\n            unclear = True\n",
        (GC + "test_a_deletion_that_may_be_on_its_way_is_not_taken_back",),
    ),
    Mutant(
        12,
        "names are not read again right before a deletion",
        "engine/retire/retire.py",
        "        release(work, [step.target])\n        _refuse_names(step, work)\n",
        "        release(work, [step.target])\n",
        (GC + "test_an_alias_that_appears_between_plan_and_deletion_spares_it",),
    ),
    Mutant(
        12,
        "collection not recognised again",
        "engine/epoch_aliases.py",
        "    if generation is None:\n        return True\n    found = ",
        "    if generation is None or physical:\n        return True\n    found = ",
        ("tests/scenarios/test_made_again.py::test_a_pass_stops_where_its_source_is_made_again_under_it",),
    ),
    # 13. What a pass is about to redo is journaled.
    Mutant(
        13,
        "what is redone is not journaled before",
        "engine/prove/passes.py",
        "        self._work.lease.mark_dirty(self._sides.base, self._number, [records.order_key(one) for one in ids])\n",
        "",
        (STALE + "test_an_interrupted_pass_leaves_no_stale_vector",),
    ),
    # 14. Stragglers of a dead holder are waited for, unless it has left none.
    Mutant(
        14,
        "no wait",
        "engine/epoch_aliases.py",
        "    deadline = time.monotonic() + work.store.request_timeout\n    if stale and",
        "    deadline = time.monotonic()\n    if stale and",
        (TAKE_OVER + "test_what_a_dead_holder_had_under_way_is_waited_for",),
    ),
    Mutant(
        14,
        "a stop in good order counts although a request had no answer",
        "engine/epoch_aliases.py",
        "    if not work.phase or work.delegated or not work.store.all_answered():\n",
        "    if not work.phase or work.delegated:\n",
        (ORDER + "test_a_write_without_an_answer_is_waited_for",),
    ),
    Mutant(
        14,
        "a stop in good order counts for later holders",
        "engine/epoch_aliases.py",
        "    last = (record for record in run.records if record.epoch == newest)\n"
        "    return any(loaded(StoppedInOrder, record.facts).epoch == newest for record in last)\n",
        "    return newest is not None and any(loaded(StoppedInOrder, record.facts).epoch for record in run.records)\n",
        (ORDER + "test_what_was_recorded_holds_for_that_holder_only",),
    ),
)
