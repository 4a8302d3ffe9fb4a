"""How adopt and stamp look: what was found, what a revision can't say, and the next command."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from qmigrate.cli.adopt import show_adopted
from qmigrate.commands.adopt import Adopted, AdoptResult

DOCS = Adopted("docs", "docs", 0, "0001", "baseline", 12030)
LOST = Adopted("pages", "pages__g0003", 3, "0002", "seal", 5, {"ledger": "abcdef0123456789"}, ("vector a: size 2, recorded 3",))
KNOWN = Adopted("known", "known_v1", 0, "0001", "known", 1)


@pytest.mark.parametrize(
    ("result", "said", "silent"),
    [
        (
            AdoptResult((DOCS,), Path("/x/0001_adopt.py"), "def upgrade():\n", ("payload = 1",), ("mind the gap",), dry_run=True),
            ("def upgrade():", "would write /x/0001_adopt.py", "can't express: payload = 1", "note: mind the gap", "Run it: qmigrate adopt docs"),
            ("Recorded",),
        ),
        (
            AdoptResult((DOCS, LOST), Path("/x/0001_adopt.py"), "def upgrade():\n"),
            ("docs        0001      plain         12,030  new baseline", "taken over from ledger abcdef01", "pages differs from 0002: vector a", "made /x/0001_adopt.py", "Recorded: 2 collections"),
            ("def upgrade",),
        ),
        (AdoptResult((KNOWN,)), ("known_v1", "was recorded already", "Nothing to do"), ("Recorded", "made")),
    ],
)
def test_what_a_person_reads(result, said, silent):
    """The preview shows the file, the real thing names it, and nothing done is reported as such."""
    out = io.StringIO()
    show_adopted(Console(file=out, width=100), result, command="qmigrate adopt docs")
    for words in said:
        assert words in out.getvalue()
    for words in silent:
        assert words not in out.getvalue()
