"""Whether what is built, proven and held was written to by another client. It deletes nothing and moves no name."""

from __future__ import annotations

from qmigrate.errors import RefusedError
from qmigrate.model.plan import Build, GoLive
from qmigrate.model.schema import JsonObject
from qmigrate.model.state import HOLD, OpenRun
from qmigrate.model.words import quote
from qmigrate.steps.base import base_name, committed, digest_of, exchanged, unpack
from qmigrate.steps.left import differing
from qmigrate.steps.quiet import barrier, nothing_written
from qmigrate.steps.work import Work


def check_held(work: Work, run: OpenRun, build: Build) -> None:
    """See, before an abort removes it, that a generation which waits for its cut-over is what was proven.

    Once the cut-over was released, the run itself writes to it, and nothing is known.

    Raises:
        RefusedError: another client wrote to it; names at most 20 ids.
    """
    for position, step in enumerate(run.job.steps):
        held = run.record(position, HOLD) if isinstance(step, GoLive) and step.target == build.target else None
        if held is not None and held.state != "done":
            check_unserved(work, build, proof_of(run, build))


def proof_of(run: OpenRun, build: Build) -> JsonObject:
    """What the proof of a build has noted."""
    position = run.job.steps.index(build)
    known = (run.record(position, phase) for phase in ("shadow", "converge"))
    return {name: fact for record in known if record is not None for name, fact in record.facts.items()}


def check_unserved(work: Work, build: Build, proof: JsonObject) -> None:
    """See that nothing was written to a generation since its proof: the name may have been moved there and back.

    Raises:
        RefusedError: something was; names at most 20 ids.
    """
    ledger, physical = work.lease.ledger, build.target
    forward = base_name(build.source, physical, back=False)
    # Where ids differ, the way forward has kept the other side too, in the order of its own ids.
    backward = base_name(physical, build.source, back=True)
    if physical not in work.store.physical_names() or not ledger.has_base(forward):
        return
    now, delta = barrier(work.store, physical), int(proof.get("barrier_delta", 0))
    if now and nothing_written(work, proof.get("target_ids"), now, delta=delta):
        return
    name = backward if ledger.has_base(backward) else forward
    pages = committed(ledger, name) if name == backward else exchanged(committed(ledger, name))
    found = differing(work, physical, unpack(pages), digest_of(ledger, name))
    if not found.count:
        return
    named = ", ".join(f"{identifier} ({how})" for identifier, how in found.named)
    raise RefusedError(
        f"{physical} was built and proven and does not serve, but another client wrote to it since: {found.count:,} "
        f"points differ from what was proven: {named}",
        hint=f"copy what you need from it and delete {physical} in Qdrant, then "
        f"qmigrate abort {quote(work.collection)}",
        facts={"generation": physical, "writes": {"count": found.count, "named": [list(one) for one in found.named]}},
    )
