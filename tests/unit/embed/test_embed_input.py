"""What an embedder gets of a payload: one function for copies, for points that are tried again, and for estimates."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import qmigrate
from qmigrate import Embed
from qmigrate.embed.inputs import ImageName
from qmigrate.embed.stream import Failure
from qmigrate.engine.points.embed_input import embed_input
from qmigrate.sequences import in_parts, parts

SOURCE = Path(qmigrate.__file__).parent


def fails(payload):
    """Raises."""
    raise KeyError("no such key")


@pytest.mark.parametrize(
    ("filling", "expected"),
    [
        (Embed("e", text="text"), "a text"),
        (Embed("e", text="{text}, {n}"), "a text, 3"),
        (Embed("e", text="lacking"), None),
        (Embed("e", text=lambda payload: payload["text"].upper()), "A TEXT"),
        (Embed("e", text=lambda _: b"bytes"), b"bytes"),
        (Embed("e", text=lambda _: None), None),
        (Embed("e", text=lambda _: "  "), None),
        (Embed("e", text=lambda _: b""), None),
        (Embed("e", text=lambda payload: payload["n"]), Failure(0, "read", "<lambda> returned int instead of a string or bytes")),
        (Embed("e", text=fails), Failure(0, "read", "fails failed for its payload: KeyError: 'no such key'")),
        (Embed("e", image="text"), ImageName("a text")),
        (Embed("e", image=lambda _: "a.png"), ImageName("a.png")),
        (Embed("e", image=lambda _: b"png"), b"png"),
    ],
)  # fmt: skip
def test_an_item_nothing_or_a_failure(filling, expected):
    """What a function of a revision does wrong is about this point: a value, never an error."""
    found = embed_input(filling, {"text": "a text", "n": 3})
    assert (found, type(found)) == (expected, type(expected))


def test_nothing_else_takes_inputs_from_payloads():
    """What an ``Embed`` reads is asked in one place, next to the class itself."""
    asking = {
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "spec"
    }
    # Whether two are the same, and how one is written: of the declaration, without a payload.
    compared = {"commands/doctor/repairs.py", "declared/fillers.py", "operations/text/operation.py"}
    assert asking - compared == {"operations/values.py", "engine/points/embed_input.py"}


@pytest.mark.parametrize("count", [0, 1, 4, 5, 8, 9])
def test_parts_are_all_items_in_order(count):
    """Of sequences, of bytes in memory, and of what is read once."""
    data = bytes(range(count))
    sizes = [4] * (count // 4) + [count % 4] * bool(count % 4)
    for found in (in_parts(list(data), 4), in_parts(memoryview(data), 4), parts(iter(data), 4)):
        pieces = [bytes(piece) for piece in found]
        assert (b"".join(pieces), [len(piece) for piece in pieces]) == (data, sizes)
