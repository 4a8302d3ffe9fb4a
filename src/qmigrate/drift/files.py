"""Revision files against what was applied from them: every file that has changed, not only the first. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from qmigrate.drift.finding import Finding, drift
from qmigrate.errors import DriftError
from qmigrate.model.state import OpenRun
from qmigrate.planner.guard import check_checksums, check_open_run


def file_findings(
    files: Mapping[str, tuple[str, str]], applied: Mapping[str, str], runs: Iterable[OpenRun]
) -> tuple[Finding, ...]:
    """Applied files that were changed or are gone, and files that an unfinished run works from.

    Args:
        files: revision -> (checksum, path) as it is now.
        applied: revision -> checksum as recorded or accepted.
        runs: unfinished ones.
    """
    found = []
    for revision, checksum in sorted(applied.items()):
        try:
            check_checksums(files, {revision: checksum})
        except DriftError as error:
            now = files[revision][0][:12] if revision in files else None
            hints = (error.hint,) if error.hint else ()
            found.append(drift("file", f"revision {revision}", error.message, *hints, recorded=checksum[:12], live=now))
    for run in runs:
        try:
            check_open_run(files, run)
        except DriftError as error:
            hints = (error.hint,) if error.hint else ()
            found.append(drift("file", f"run of {run.job.collection}", error.message, *hints))
    return tuple(found)
