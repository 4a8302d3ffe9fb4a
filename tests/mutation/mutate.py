"""A mutant is the code with one rule taken away: it is patched into a copy of the sources, and tests must fail there.

The working tree is never touched. Nothing here knows a rule: the table is in ``rules.py``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: What a copy needs for the tests to run.
PARTS = ("src", "tests", "pyproject.toml")
#: Seconds that the tests of one mutant may take: one that doesn't end is ended, and was not killed by a test.
PATIENCE = 600.0
KILLED, SURVIVED, SKIPPED = "killed", "survived", "skipped"
STALE, BROKEN = "does not apply", "does not run"
#: Outcomes of a mutant that is not proof of a tested rule.
BAD = (SURVIVED, STALE, BROKEN)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One rule taken away at one place.

    Attributes:
        rule: its number in the table.
        name: what is taken away, in words; unique.
        file: path below ``src/qmigrate``.
        old: text that is in the file exactly once.
        new: what stands there in the mutant.
        tests: node ids of pytest, of one case or of a whole function; of each at least one case must fail.
    """

    rule: int
    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def path(self) -> Path:
        """The file from the root of the repository."""
        return Path("src", "qmigrate", self.file)

    def applies(self, root: Path = ROOT) -> bool:
        """Whether its text is in the file once, and the patched file is Python."""
        source = (root / self.path).read_text(encoding="utf-8")
        if source.count(self.old) != 1 or self.old == self.new:
            return False
        with suppress(SyntaxError):
            compile(source.replace(self.old, self.new), str(self.path), "exec")
            return True
        return False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a mutant.

    Attributes:
        state: one of the constants of this module.
        said: the end of pytest's output; for the named tests that did not fail.
    """

    state: str
    said: str = ""


class Copy:
    """A copy of the repository in a folder of its own, into which one mutant after the other is patched."""

    def __init__(self, folder: Path, root: Path = ROOT) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        for part in PARTS:
            if (root / part).is_dir():
                shutil.copytree(root / part, folder / part)
            else:
                shutil.copy2(root / part, folder / part)

    def judge(self, mutant: Mutant) -> Outcome:
        """Patch it in, run its tests, and put the file back."""
        if not mutant.applies(self.folder):
            return Outcome(STALE, f"{mutant.path} has changed: find the rule's place again")
        place = self.folder / mutant.path
        source = place.read_text(encoding="utf-8")
        try:
            self._write(place, source.replace(mutant.old, mutant.new))
            return self.run(mutant.tests)
        finally:
            self._write(place, source)

    def run(self, tests: Sequence[str]) -> Outcome:
        """Run tests in the copy: killed where each of them has a case that fails."""
        results = self.folder / "results.xml"
        results.unlink(missing_ok=True)
        try:
            code, said = self.pytest([f"--junitxml={results}", *tests], PATIENCE)
        except subprocess.TimeoutExpired:
            return Outcome(BROKEN, f"not over within {PATIENCE:.0f} s")
        if code not in (0, 1) or not results.exists():
            return Outcome(BROKEN, said)
        return judged(results, tests, said)

    def pytest(self, arguments: Sequence[str], patience: float | None = None) -> tuple[int, str]:
        """Exit code and the end of the output of a run of tests in the copy.

        Raises:
            TimeoutExpired: it took longer than `patience` seconds.
        """
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", *arguments]
        # A run within a run of pytest: what the outer one keeps in the environment is not of the inner one.
        env = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
        env["PYTHONPATH"] = str(self.folder / "src")
        done = subprocess.run(
            command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=patience, check=False
        )
        return done.returncode, (done.stdout + done.stderr)[-4000:]

    @staticmethod
    def _write(place: Path, source: str) -> None:
        """Replace a module; its compiled form goes, since within a second its time and size may stay the same."""
        place.write_text(source, encoding="utf-8")
        for compiled in (place.parent / "__pycache__").glob(f"{place.stem}.*.pyc"):
            compiled.unlink()


def judged(results: Path, tests: Sequence[str], said: str) -> Outcome:
    """What a file of results says of the named tests."""
    cases: dict[str, list[str]] = {function_of(test): [] for test in tests}
    for case in ElementTree.parse(results).iter("testcase"):  # noqa: S314
        name = str(case.get("name")).split("[")[0]
        if name in cases:
            ends = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
            cases[name].append(ends[0] if ends else "passed")
    if not all(cases.values()):
        return Outcome(BROKEN, said)
    if all({"failure", "error"} & set(ends) for ends in cases.values()):
        return Outcome(KILLED, said)
    if all(set(ends) == {"skipped"} for ends in cases.values()):
        return Outcome(SKIPPED, said)
    return Outcome(SURVIVED, said)


def function_of(test: str) -> str:
    """The function of a node id, without the parameters of a case."""
    return test.split("::")[-1].split("[")[0]
