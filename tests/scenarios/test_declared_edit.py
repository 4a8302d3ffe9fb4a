"""The script of examples/pydocs: an edit of the declaration becomes a reviewed, applied revision."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.scenarios.cli import SOURCE, environment

EXAMPLE = Path(__file__).parents[2] / "examples" / "pydocs"


@pytest.mark.nightly
def test_an_edit_becomes_an_applied_revision(tmp_path):
    """Run as it stands, in a copy: it ends with the live schema of the edit, and says how long that took."""
    folder = tmp_path / "pydocs"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", ".qmigrate"))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = environment({"PATH": path, "PYTHONPATH": str(SOURCE)})
    done = subprocess.run([str(folder / "edit.sh")], capture_output=True, text=True, check=False, timeout=280, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    gate, written = done.stdout.split("$ qmigrate revision --autogenerate")
    assert "1 collection, 2 differences. (3)" in gate
    assert 'values=Embed("words", text="name")' in written
    assert "4 revisions: no findings." in written
    assert "The revisions make what is declared: collections.yaml: 1 collection." in written
    assert "names:" in written.partition("$ qmigrate schema pydocs")[2]
    assert re.search(r"from the edit to the applied revision: \d+ s\n$", done.stdout)
