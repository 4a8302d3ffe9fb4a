"""What an embedder gets of a payload."""

from __future__ import annotations

from typing import Any

import pytest

from qmigrate.embed.inputs import read_input
from qmigrate.errors import EmbedError

PAYLOAD: dict[str, Any] = {
    "content": " some text\n",
    "blank": "  \n",
    "nothing": None,
    "year": 2024,
    "share": 0.5,
    "open": False,
    "tags": ["red", "", "blue", 3],
    "none": [],
    "meta": {"title": "A title", "deep": {"er": "yes"}},
    "meta.author": "Ann",
}


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ("content", " some text\n"),
        ("blank", None),
        ("nothing", None),
        ("missing", None),
        ("year", "2024"),
        ("share", "0.5"),
        ("open", "false"),
        ("tags", "red\nblue\n3"),
        ("none", None),
        ("meta", None),
        ("meta.title", "A title"),
        ("meta.deep.er", "yes"),
        ("meta.deep.missing", None),
        ("content.title", None),
        ("meta.author", "Ann"),
        ("{content}", "some text"),
        ("{meta.title}: {year}", "A title: 2024"),
        ("{meta.title} {missing}", "A title"),
        ("{missing} {blank}", None),
        ("{{{year}}}", "{2024}"),
        ("{ year }", "2024"),
    ],
)
def test_input_of_a_payload(spec: str, wanted: str | None) -> None:
    """Fields, keys inside them and templates; what holds no text yields None."""
    assert read_input(PAYLOAD, spec) == wanted


@pytest.mark.parametrize("spec", ["{title", "title}", "{}", "{year:>9}", "{year!r}", "{{title}}"])
def test_malformed_templates_are_named(spec: str) -> None:
    """A template that can't be meant stops before the first point."""
    with pytest.raises(EmbedError) as caught:
        read_input(PAYLOAD, spec)
    assert repr(spec) in caught.value.message
