"""Applied revisions must still be what was applied. It compares checksums and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from qmigrate.errors import DriftError
from qmigrate.model.state import OpenRun
from qmigrate.model.words import quote


def check_checksums(files: Mapping[str, tuple[str, str]], applied: Mapping[str, str]) -> None:
    """Stop when a file that was applied has changed since, or is gone.

    Args:
        files: revision -> (checksum, path) as it is now.
        applied: revision -> checksum as recorded or accepted.

    Raises:
        DriftError: naming the first such revision.
    """
    for revision, checksum in sorted(applied.items()):
        if revision not in files:
            raise DriftError(
                f"revision {revision} is applied, but its file is not in the versions folder",
                hint="bring the file back (is this the right scripts folder and branch?)",
            )
        found, path = files[revision]
        if found != checksum:
            raise DriftError(
                f"{path} was changed after it was applied (recorded {checksum[:12]}, now {found[:12]})",
                hint=f'restore it, or accept it: qmigrate repair --accept {quote(revision)} --reason "…"',
                facts={"revision": revision, "recorded": checksum, "found": found},
            )


def check_open_run(files: Mapping[str, tuple[str, str]], run: OpenRun) -> None:
    """Stop when a file that an interrupted run works from has changed: resume never runs other code.

    Raises:
        DriftError: naming the revision.
    """
    for revision in sorted(run.job.revisions()):
        recorded = run.checksums.get(revision)
        found = files.get(revision, ("", revision))
        if recorded is not None and found[0] != recorded:
            raise DriftError(
                f"{found[1]} was changed while run {run.id} of {run.job.collection} was under way",
                hint=f"restore it and run qmigrate upgrade, or take the run back: qmigrate abort "
                f"{quote(run.job.collection)}",
            )
