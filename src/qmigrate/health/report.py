"""What a readiness probe answers, and its shape in JSON. It sends nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qmigrate.commands.readiness import JobStanding, Look, Standing
from qmigrate.health.slot import Answer
from qmigrate.text import counted

#: Most collections that a report lists; the ones that need attention come first.
LISTED = 100

Part = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Report:
    """Whether a service is ready.

    Attributes:
        service: its name.
        ready: whether it should be sent requests.
        summary: the most important thing in a few words.
        deps: part -> ``enabled``, ``ok`` and ``latency_ms``; ``skipped`` where it was not asked, ``error`` where
            it isn't well.
        schema: revisions, drift, progress and collections; None while nothing is known of them.
    """

    service: str
    ready: bool
    summary: str
    deps: Mapping[str, Part]
    schema: Mapping[str, Any] | None = field(default=None)

    @property
    def status_code(self) -> int:
        """Of HTTP: 200 or 503."""
        return 200 if self.ready else 503

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        found: dict[str, Any] = {"service": self.service, "ready": self.ready, "summary": self.summary}
        found["deps"] = {name: dict(one) for name, one in self.deps.items()}
        return found | ({"schema": dict(self.schema)} if self.schema is not None else {})


def skipped() -> Part:
    """A part that is switched off."""
    return {"enabled": False, "skipped": True, "ok": None}


def part(answer: Answer | None, waited: float) -> Part:
    """A part that was asked; `answer` is None when it hasn't come after `waited` seconds."""
    if answer is None:
        return {"enabled": True, "ok": False, "latency_ms": None, "error": f"no answer within {waited * 1000:.0f} ms"}
    found: dict[str, Any] = {"enabled": True, "ok": answer.ok, "latency_ms": round(answer.seconds * 1000, 1)}
    if answer.ok is None:
        found["skipped"] = True
    if answer.error is not None:
        found["error"] = answer.error
    if answer.tries > 1:
        found["tries"] = answer.tries
    return found


def judged(
    service: str,
    deps: Mapping[str, Part],
    look: Look | None,
    age: float,
    *,
    require: Sequence[str],
    expects: Sequence[str],
) -> Report:
    """The report.

    Args:
        service: its name.
        deps: every part.
        look: the newest check of the collections, or None while there is none.
        age: of the look, in seconds.
        require: what makes the service not ready, as in the settings.
        expects: collections of which the application declares something.
    """
    reasons = [f"{name}: {one['error']}" for name, one in deps.items() if one["ok"] is False]
    if look is not None:
        reasons += list(look.unmet.values())
        for row in look.collections:
            if "serving" in require and not row.serving and row.name not in look.unmet:
                reasons.append(f"{row.name}: {row.detail or 'it is not served'}")
        if "pending" in require and look.pending:
            reasons.append(f"{counted(len(look.pending), 'revision')} pending")
        if "drift" in require and look.drift:
            reasons.append(look.drift[0])
    elif expects:
        reasons.append(f"nothing is known yet of {', '.join(expects)}")
    more = f", and {len(reasons) - 1} more" if len(reasons) > 1 else ""
    said = f"{reasons[0]}{more}" if reasons else ", ".join(["ok", *_notable(look)])
    return Report(service, not reasons, said, deps, _schema(look, age) if look is not None else None)


def _notable(look: Look | None) -> list[str]:
    """What is not a reason to stop, and should be seen."""
    if look is None:
        return []
    found = [f"a job is at {look.progress} %"] if look.progress is not None else []
    found += [f"{counted(len(look.pending), 'revision')} pending"] if look.pending else []
    failed = [row.name for row in look.collections if row.job is not None and row.job.status == "failed"]
    found += [f"a job of {failed[0]} has failed"] if failed else []
    return found + ([f"drift: {look.drift[0]}"] if look.drift else [])


def _schema(look: Look, age: float) -> dict[str, Any]:
    rows = sorted(look.collections, key=lambda row: (row.state == "ready" and row.serving, row.name))
    found: dict[str, Any] = {
        "head": look.head,
        "pending": list(look.pending) if look.pending is not None else None,
        "drift": list(look.drift),
        "progress": look.progress,
        "age_s": round(max(0.0, age), 1),
        "collections": {row.name: _collection(row) for row in rows[:LISTED]},
    }
    if len(rows) > LISTED:
        found["left_out"] = len(rows) - LISTED
    if look.unmet:
        found["unmet"] = dict(look.unmet)
    return found | ({"notes": list(look.notes)} if look.notes else {})


def _collection(row: Standing) -> dict[str, Any]:
    found: dict[str, Any] = {
        "state": row.state,
        "serving": row.serving,
        "revision": row.revision,
        "generation": row.generation,
        "pending": list(row.pending),
        "drift": row.drift,
    }
    if row.state != "ready":
        found |= {"detail": row.detail, "next": row.next_command}
    return found | ({"job": _job(row.job)} if row.job is not None else {})


def _job(job: JobStanding) -> dict[str, Any]:
    return {
        "verb": job.verb,
        "status": job.status,
        "stage": job.stage,
        "progress": job.progress,
        "error": job.error,
        "started_at": job.started_at.isoformat(),
    }
