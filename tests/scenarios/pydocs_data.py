"""Copies the example ``pydocs``, runs its programs, and has what must be found. It tests nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "pydocs"
COLLECTION = "pydocs"
#: Fewest points that load.py writes on any supported Python.
FEWEST = 900
#: Plain words -> names, one of which must be among the first three, by either vector.
EXPECTED = {
    "join two path components": {"os.path.join"},
    "parse a json string": {"json.loads"},
    "shuffle a list in place": {"random.shuffle"},
    "compress data with gzip": {"gzip.compress"},
    "arithmetic mean of data": {"statistics.mean", "statistics.fmean"},
    "greatest common divisor": {"math.gcd"},
    "make a temporary directory": {"tempfile.TemporaryDirectory", "tempfile.mkdtemp"},
    "wrap a paragraph of text": {"textwrap.wrap", "textwrap.fill"},
}
_LINE = re.compile(r"^ +(?P<score>-?\d\.\d\d)  (?P<kind>module|class|function) +(?P<name>\S+)", re.MULTILINE)


def copy_example(folder: Path) -> Path:
    """A fresh copy of the example below `folder`, without leftovers of a run in the source tree."""
    target = folder / "pydocs"
    shutil.copytree(EXAMPLE, target, ignore=shutil.ignore_patterns(".qmigrate", "__pycache__"))
    return target


def run_program(example: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``load.py`` or ``search.py`` of a copy as its own process, as a reader of the README would."""
    # Settings of the person who runs the tests must not lead to their server.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("QMIGRATE_")}
    search_path = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, str(example / name), *arguments],
        cwd=example,
        env={**environment, "PYTHONPATH": os.pathsep.join(filter(None, search_path))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def found_names(output: str) -> list[str]:
    """The names that search.py printed, best first."""
    return [match["name"] for match in _LINE.finditer(output)]
