"""Plain collection names with a gap: the collection is deleted and its name becomes an alias of an identical one.

Only behind a proven freeze: the generation that takes the name holds every point of what is deleted (rule 9).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from qmigrate.engine.epoch_aliases import holder, is_same, own, own_pairs, refuse_begun, refuse_hidden
from qmigrate.engine.retire.late_writes import check_unserved
from qmigrate.engine.retire.retire import delete_plain
from qmigrate.engine.work import Work
from qmigrate.errors import ConflictError, NotFoundError, RefusedError, RepairNeededError, StoreError
from qmigrate.model.facts.phases import Gap, Proof, Shadow, Swap
from qmigrate.model.names import EpochAlias, old_alias
from qmigrate.model.plan import Build, GoLive
from qmigrate.model.report import SweepReport
from qmigrate.model.state import marks_of
from qmigrate.text import quote

#: Seconds that the name may take to become an alias after its collection is gone, before the step stops.
LIMIT = 60.0


def makes_room(step: GoLive, work: Work) -> tuple[str | None, ...]:
    """Names that a plain collection has, or gets back, by this step: it is handled separately."""
    return (step.target, work.collection) if step.place in ("gap", "shadow") else (step.target,)


def is_over(step: GoLive, work: Work, physical: str) -> bool:
    """Whether this physical name was deleted by this very step, as its journal says."""
    return step.place == "gap" and physical == step.source and _is_begun(work) and physical not in _present(work)


def is_open(step: GoLive, work: Work) -> bool:
    """Whether the run was interrupted in the gap: no collection has the name any more, and no alias has it yet."""
    return (
        step.place == "gap"
        and _is_begun(work)
        and work.collection not in work.store.aliases()
        and work.collection not in _present(work)
    )


def move(step: GoLive, work: Work, names: Sequence[str], renew: Callable[[], None]) -> None:
    """Further aliases first, without a gap; then the plain collection goes and its name is taken.

    Args:
        renew: proves again where the freeze is so old that a write may have passed since.
    """
    target, source = str(step.target), str(step.source)
    further = [name for name in names if name != work.collection]
    refuse_begun(work, target)
    pairs = own_pairs(work, target, [work.collection, *further])
    refuse_hidden(work, further)
    if further:
        work.store.rename_aliases(pairs[1:])
    refuse_made_again(step, work)
    if source not in _present(work):
        _take(work, pairs[:1], time.monotonic() + LIMIT)
        return
    generation = work.generation(source)
    gone = Gap(generation.number if generation else None, recorded=True)
    work.note(replace(work.facts(Swap), gap=gone))
    if work.frozen is not None:
        work.frozen.watch.finish_gap(pairs[:1])
    started = time.monotonic()
    _delete_and_take(step, work, pairs[:1], renew)
    gap = round((time.monotonic() - started) * 1000, 1)
    work.note(replace(work.facts(Swap), gap_milliseconds=gap))
    work.progress.say(f"{work.collection}: the name was away for at most {gap} ms")


def take_names_back(step: GoLive, work: Work) -> None:
    """Give further names back that an attempt before has moved, where it died before the plain collection went.

    They lead to what is about to be made equal to that one, so nothing must be written by them.

    Raises:
        RefusedError: something was; names at most 20 ids.
    """
    swap, position = work.facts(Swap), work.build_step()
    if step.place != "gap" or position < 0 or swap.names is None:
        return
    known = work.store.aliases()
    moved = [name for name in swap.names if name != work.collection and known.get(name) == step.target]
    if not moved:
        return
    build = work.job.steps[position]
    assert isinstance(build, Build)  # noqa: S101  build_step() looks for one
    proof, made = work.facts(Proof, position).renewed(work.facts(Proof)), work.facts(Shadow, position)
    check_unserved(work, build, proof, made)
    earlier = swap.earlier or {}
    led = {name: earlier.get(name, step.source) for name in moved}
    make = {name: to for name, to in led.items() if to is not None}
    work.store.change_aliases(own(work, str(step.target)), make=make, drop=[name for name in moved if name not in make])
    # What came in between, before they were handed back.
    check_unserved(work, build, proof, made)


def refuse_made_again(step: GoLive, work: Work) -> None:
    """Stop where this very step has deleted the plain collection, and another client made one of its name since.

    Raises:
        RepairNeededError: so it is; an alias would hide what was written to that one.
    """
    source, target = str(step.source), str(step.target)
    if step.place != "gap" or not _is_begun(work) or source not in _present(work) or not _was_deleted(work, source):
        return
    raise RepairNeededError(
        f"{source} was deleted by this run, and another client made a collection of that name again before it became "
        f"an alias: it was left unchanged. Every point of the old one is in {target}",
        hint=f"move what is in the new {source} away (qmigrate verify {quote(source)} {quote(target)} "
        "compares them), delete it, and run qmigrate upgrade again",
    )


def _refuse_taken_again(work: Work, source: str) -> None:
    """The same right after the name has moved: the deletion is over, so what has the name now is another collection.

    Raises:
        RepairNeededError: so it is.
    """
    deadline = time.monotonic() + work.store.request_timeout
    while source in _present(work):
        if time.monotonic() < deadline:
            # Of several nodes one may still show the old one.
            time.sleep(0.05)
            continue
        raise RepairNeededError(
            f"another client made a collection {source} again in the moment the name was away, and the alias "
            f"{source} hides it now: what was written to it can't be seen",
            hint=f"create another alias for the collection {source}, and check what is in it; qmigrate upgrade "
            "continues this run",
        )


def _delete_and_take(
    step: GoLive, work: Work, pairs: Sequence[tuple[EpochAlias, str]], renew: Callable[[], None]
) -> None:
    """A server that refuses such an alias while the collection is there is asked repeatedly by another thread."""
    source = str(step.source)
    refuses = work.settings.rebuild.plain_names == "auto"
    failed: list[BaseException] = []
    looked, taking = threading.Event(), threading.Lock()

    def quiet() -> None:
        with taking:
            # Once the name has moved, what serves takes the writes, and must not be made equal to anything.
            if holder(work) == source:
                renew()

    def delete() -> None:
        try:
            delete_plain(work, source, looked.set, quiet)
        except BaseException as error:
            failed.append(error)
        finally:
            looked.set()

    thread = threading.Thread(target=delete)
    thread.start()
    looked.wait()
    if not refuses:
        thread.join()
    while not failed:
        over = not thread.is_alive()
        if over:
            # Where a server lets an alias hide a collection, it would hide that one.
            refuse_made_again(step, work)
        try:
            with taking:
                work.store.rename_aliases(pairs)
        except (ConflictError, StoreError) as error:
            if isinstance(error, NotFoundError):
                raise
            if over:
                _take(work, pairs, time.monotonic() + LIMIT)
                break
            time.sleep(0.001)
        else:
            break
    thread.join()
    if failed:
        if isinstance(failed[0], RepairNeededError):
            refuse_made_again(step, work)
        raise failed[0]
    _refuse_taken_again(work, source)


def _take(work: Work, pairs: Sequence[tuple[EpochAlias, str]], deadline: float) -> None:
    while True:
        try:
            work.store.rename_aliases(pairs)
        except NotFoundError:
            raise
        except StoreError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return


def _is_begun(work: Work) -> bool:
    return work.facts(Swap).gap is not None


def _was_deleted(work: Work, source: str) -> bool:
    """Whether the collection of this name is not the one in the ledger."""
    found = work.store.describe(source)
    gap = work.facts(Swap).gap
    return gap is None or not marks_of(found).is_of(work.ledger_id, gap.generation)


def _present(work: Work) -> tuple[str, ...]:
    return work.store.physical_names()


def preflight(step: GoLive, work: Work) -> None:
    """Try it on throwaway names, and see that the way to the hidden collection is free. Nothing of a user is touched.

    Raises:
        RefusedError: this server doesn't let an alias hide a collection.
    """
    _check_way(work)
    if not step.back:
        _refuse_unhideable(work)


def _check_way(work: Work) -> None:
    way = old_alias(work.collection)
    pointing = work.store.aliases().get(way)
    if pointing not in (None, work.collection) or way in work.store.physical_names():
        raise RefusedError(
            f"{way} is the name by which the old collection is to be reached, but it is taken"
            + (f": an alias of {pointing}" if pointing else " by a collection"),
            hint="rename it, then run qmigrate upgrade again",
        )


def _refuse_unhideable(work: Work) -> None:
    if not work.store.hides_collections():
        able = work.store.capabilities
        nodes = f"has {able.peers_words}, which resolve names again"
        why = nodes if able.may_be_several else "doesn't allow it, or has more than one node by now"
        raise RefusedError(
            f"an alias may not take the name of the collection {work.collection}: this Qdrant {why}",
            hint=f"qmigrate abort {quote(work.collection)}, then qmigrate upgrade --allow-gap: some milliseconds in "
            f"which reads fail, or qmigrate adopt {quote(work.collection)} --alias NAME: its new name",
        )


def prepare(work: Work) -> None:
    """Make the way to the collection that is about to be hidden.

    Raises:
        RefusedError: that is not possible any more: a node may have joined while the run was under way.
    """
    _refuse_unhideable(work)
    # Passes lie between the preflight and here.
    _check_way(work)
    if work.store.aliases().get(old_alias(work.collection)) != work.collection:
        work.store.change_aliases(own(work, work.collection), make={old_alias(work.collection): work.collection})


def forget_hidden_name(work: Work) -> None:
    """The collection serves by its own name again."""
    if work.store.aliases().get(old_alias(work.collection)) == work.collection:
        work.store.change_aliases(own(work, work.collection), drop=[old_alias(work.collection)])


def is_lost(step: GoLive, work: Work) -> bool:
    """Whether another client deleted the collection that was left, or made it again: an application's own one.

    A delete by name reaches the hidden one, not what serves; and so does one by the name from before ``adopt --alias``.
    """
    return step.place != "gap" and step.source is not None and not is_same(work, step.source)


def lost_report(work: Work) -> SweepReport:
    """What is known then: nothing was taken from the new generation, and late writes are unknown."""
    work.progress.say(
        f"{work.collection}: another client deleted the old collection after the name had moved; the new generation is "
        "complete as of its proof, what was written to the old one after that is lost with it"
    )
    report = SweepReport()
    report.lost = True
    return report
