"""The example faces, run as its readers would: in a copy, from the command line, to the end."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.scenarios.cli import SOURCE, environment

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_faces_follow_their_persons(tmp_path):
    """Drift is found and repaired by a revision; Alembic's merge and the application's are followed by the points."""
    folder = tmp_path / "faces"
    shutil.copytree(EXAMPLES / "faces", folder, ignore=shutil.ignore_patterns("__pycache__", ".qmigrate", "*.db"))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = environment({"PATH": path, "PYTHONPATH": str(SOURCE)})
    done = subprocess.run([str(folder / "demo.sh")], capture_output=True, text=True, check=False, timeout=280, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    first, last = done.stdout.split("python faces.py show")[1:]
    assert re.findall(r"nobody .* SQL +(\d+)  Qdrant +(\d+)", first) == [("0", "63")]
    assert "data fix: 63 of 200 points would change (200 rows, 63 missing)" in done.stdout
    assert "40 faces moved from Barbara to Grace, 40 points changed (fix 3)" in done.stdout
    assert re.findall(r"(\w+) +\w+  SQL +(\d+)  Qdrant +(\d+)", last) == [
        ("Ada", "80", "80"),
        ("Edsger", "40", "40"),
        ("Grace", "80", "80"),
    ]
