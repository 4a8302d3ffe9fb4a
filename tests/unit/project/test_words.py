"""The checker of words: it finds a phrase in texts of any file, over line breaks too, and leaves names alone."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
WORDS = runpy.run_path(str(ROOT / "scripts" / "words.py"))


def phrases(file: Path) -> list[str]:
    """line:phrase of every finding."""
    return [":".join(line.removeprefix(f"{file.as_posix()}:").split(": ")[:2]) for line in WORDS["findings"](file)]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.py", '"""One.\n\nNobody\nhere."""\n', ["3:Nobody"]),
        ("a.py", "mend = {'anew': 1}\n", []),
        ("a.py", "x = 1  # made anew\n", ["1:anew"]),
        ("a.py", 'f"a reason is wanted for {mend}"\n', ["1:is wanted"]),
        ("a.py", '"there is no lease, it is no longer held"\n', []),
        ("a.py", '"7 is no point id"\n', ["1:is no point"]),
        ("a.md", "The run was\ntold\n", ["1:was told"]),
        ("a.md", "It is repaired, amended, and built again next to the old one.\n", []),
    ],
)
def test_phrases(tmp_path, name, content, expected):
    """What is found in which file, and at which line."""
    file = tmp_path / name
    file.write_text(content, encoding="utf-8")
    assert phrases(file) == expected


def test_exit_code(tmp_path, capsys):
    """1 and one line for a phrase, 0 and nothing without one."""
    (tmp_path / "a.md").write_text("nobody\n", encoding="utf-8")
    (tmp_path / "b.png").write_text("nobody\n", encoding="utf-8")
    assert WORDS["main"]([str(tmp_path)]) == 1
    assert capsys.readouterr().out.count("\n") == 1
    (tmp_path / "a.md").write_text("no other process\n", encoding="utf-8")
    assert WORDS["main"]([str(tmp_path)]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("name", "phrase"), sorted(WORDS["EXCEPTIONS"]))
def test_every_exception_is_still_one(name, phrase):
    """An exception whose text has gone is taken out."""
    assert phrase in " ".join((ROOT / name).read_text(encoding="utf-8").lower().split())
