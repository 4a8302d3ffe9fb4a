"""The runbook: every error class and exit code is in it, under its own code, and every message is one of the code's."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from qmigrate import errors

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
CLASSES = sorted(
    (one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.QmigrateError)),
    key=lambda one: one.__name__,
)
#: Exit codes without an error class, and those that a class has by its instances.
FURTHER = {0, 8, 143}
#: Classes whose code is another one's.
ANY_CODE = {"CollectionsFailedError"}


def sections() -> dict[frozenset[int], str]:
    """The text below each heading that begins with exit codes, by the codes."""
    parts = re.split(r"^## (.*)$", PAGE, flags=re.MULTILINE)[1:]
    found = {}
    for title, text in zip(parts[::2], parts[1::2], strict=True):
        codes = frozenset(int(one) for one in re.findall(r"\d+", title.split(":")[0]))
        found[codes] = title + text
    return found


@pytest.mark.parametrize("error", CLASSES, ids=lambda one: one.__name__)
def test_every_error_class_is_under_its_exit_code(error):
    """The exit code leads to the class, and the other way round."""
    if error.__name__ in ANY_CODE:
        assert f"`{error.__name__}`" in PAGE
        return
    text = [text for codes, text in sections().items() if error.exit_code in codes]
    assert len(text) == 1, error.exit_code
    assert f"`{error.__name__}`" in text[0]


def test_every_exit_code_has_a_section():
    """The codes of the page are those of the code."""
    known = {one.exit_code for one in CLASSES} | FURTHER
    assert {code for codes in sections() for code in codes} == known


def texts() -> str:
    """Every text of the code; what is filled in is a line break."""
    found = []
    for file in sorted((ROOT / "src" / "qmigrate").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                found.append("".join(str(one.value) if isinstance(one, ast.Constant) else "\n" for one in node.values))
    return "\0".join(found)


def test_every_message_is_one_of_the_code():
    """A message that was changed in the code is changed on the page, or it can't be found."""
    known = texts()
    rows = re.findall(r"^\| (`.*?`) \|", PAGE, flags=re.MULTILINE)
    assert len(rows) > 100
    for message in (one for row in rows for one in re.findall(r"`([^`]+)`", row)):
        pieces = [piece.strip(" ,;:()") for piece in message.split("…")]
        missing = [piece for piece in pieces if len(piece) > 3 and piece not in known]
        assert not missing, (message, missing)
