"""Texts for people: what was probably meant."""

from __future__ import annotations

from pathlib import Path

import pytest

import qmigrate
from qmigrate.text import did_you_mean


@pytest.mark.parametrize(
    ("word", "known", "options", "said"),
    [
        ("nme", ["name", "size"], {}, '; did you mean "name"?'),
        ("NAME", {"name": 1}, {}, '; did you mean "name"?'),
        ("name", [], {}, ""),
        ("colour", ["name", "size"], {}, ""),
        (3, ["3d"], {}, '; did you mean "3d"?'),
        ("LEDGR_URL", ["LEDGER_URL"], {"before": "QMIGRATE_"}, '; did you mean "QMIGRATE_LEDGER_URL"?'),
        ("LED", ["LEDGER"], {"alike": 0.9}, ""),
    ],
)
def test_a_close_word_is_proposed(word, known, options, said):
    """One word, in one wording; nothing where none is close."""
    assert did_you_mean(word, known, **options) == said


def test_there_is_one_wording():
    """No other module of the package writes the question."""
    root = Path(qmigrate.__file__).parent
    asking = [path for path in root.rglob("*.py") if "did you mean" in path.read_text(encoding="utf-8")]
    assert asking == [root / "text.py"]
