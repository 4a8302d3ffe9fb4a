"""How fast a build was, from what its phases have learned: estimates are made from it. It times nothing."""

from __future__ import annotations

from qmigrate.model.plan import Build
from qmigrate.model.schema import JsonObject
from qmigrate.steps.work import Work
from qmigrate.store.weigh import weigh


def speed_of(work: Work, step: int) -> JsonObject | None:
    """Points and seconds of the phases of a build; None when it copied nothing, or in an earlier attempt only.

    Args:
        step: position of the build in the job.

    Returns:
        ``points`` copied in ``fill`` seconds, all of them proven in ``prove`` and indexed in ``index`` seconds;
        ``total`` points; ``embeds``: how many vectors were embedded; ``width``: bytes of a point as it is declared,
        ``weight``: by a sample.
    """
    if step < 0:
        return None
    build = work.job.steps[step]
    filled, proven = work.facts("fill", step), work.facts("converge", step)
    total = int((proven.get("report") or {}).get("points", 0))
    if not isinstance(build, Build) or not filled.get("fresh") or not total:
        return None
    return {
        "points": int(filled["fresh"]),
        "fill": filled["seconds"],
        "total": total,
        "prove": proven.get("seconds", 0.0),
        "index": work.facts("index", step).get("seconds", 0.0),
        "embeds": len(work.facts("preflight", step).get("embedders") or {}),
        "width": build.schema.bytes_per_point(),
        "weight": weigh(work.store, build.target).per_point(build.schema),
    }
