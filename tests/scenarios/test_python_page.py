"""The programs of docs/reference/python.md: run as they stand, in the project of the quickstart."""

from __future__ import annotations

import re
from pathlib import Path

from tests.scenarios import pages

ROOT = Path(__file__).parents[2]


def test_the_programs_of_the_page_do_what_it_says(tmp_path):
    """An upgrade from a program, then a service in an event loop; what it deletes can be undone."""
    quickstart = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    pages.run(quickstart.partition("## Plan and upgrade")[0], tmp_path)
    # The revision makes a collection for each tenant, too.
    revision = tmp_path / "qdrant_migrations" / "versions" / "0001_notes.py"
    made = re.sub(r"    return \[(op\.CreateCollection\()\"notes\"(.*)\]\n", r'    return [\1"notes"\2, \1"notes_*"\2]\n', revision.read_text())
    revision.write_text(made, encoding="utf-8")
    typed = pages.run((ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8"), tmp_path)
    assert typed == ["python deploy.py", "python service.py"]
