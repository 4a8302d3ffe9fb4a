"""Points at random into a throwaway collection, as they are. It proves nothing: what is built from them does."""

from __future__ import annotations

from qmigrate.model.plan import Build
from qmigrate.model.transform import PointTransform
from qmigrate.steps.owned import own, reach
from qmigrate.steps.points import Maker, write
from qmigrate.steps.work import Facts, Work

#: Points that are fetched at once.
_BATCH = 256


def copy_sample(step: Build, work: Work) -> Facts:
    """Copy up to `step.sample` points; all of them where there are fewer.

    Returns:
        Facts: ``sampled``.
    """
    source = reach(work, str(step.source))
    alias = own(work, step.target)
    ids = work.store.sample_ids(source, step.sample)
    maker = Maker(work, PointTransform.identity(step.schema.vector_names()), step.schema)
    work.progress.begin(work.collection, "sample", len(ids))
    for start in range(0, len(ids), _BATCH):
        found = work.store.fetch(source, ids[start : start + _BATCH])
        for pending in write(work, alias, maker, maker.make(found)):
            pending.wait()
        work.tick(len(found))
    work.progress.end(f"{len(ids):,} points")
    return {"sampled": len(ids)}
