"""Plain collection names without a gap: an alias takes the name and hides the collection. It deletes nothing.

While it is hidden, the old collection is reached by the alias ``<name>__old``; see ``owned.reach``.
"""

from __future__ import annotations

from qmigrate.errors import RefusedError
from qmigrate.model.names import old_alias
from qmigrate.model.plan import GoLive
from qmigrate.model.report import SweepReport
from qmigrate.model.words import quote
from qmigrate.steps.owned import is_same, own
from qmigrate.steps.work import Work


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
            "which reads fail, or qmigrate adopt --alias: the application uses another name",
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


def forget(work: Work) -> None:
    """The collection serves by its own name again."""
    if work.store.aliases().get(old_alias(work.collection)) == work.collection:
        work.store.change_aliases(own(work, work.collection), drop=[old_alias(work.collection)])


def is_lost(step: GoLive, work: Work) -> bool:
    """Whether another client deleted the collection that was left, or made it again: an application's own one.

    A delete by name reaches the hidden one, not what serves; and so does one by the name of before ``adopt --alias``.
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
