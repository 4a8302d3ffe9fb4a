"""Kinds of values from models: every annotation that the client uses, and those that it might."""

# As the client writes them:
# ruff: noqa: UP006, UP007, UP035, UP042, UP045

import datetime
from enum import Enum
from typing import Annotated, Any, Dict, List, Literal, Optional, Union

import pytest
from pydantic import BaseModel, Field, StrictBool, StrictInt, create_model

from qmigrate.parameters import own
from qmigrate.parameters.catalogue import UNCHECKED, kind_of, object_of
from qmigrate.parameters.kinds import Each, Fields, Listed, Number, Whole, Words


class Colour(str, Enum):
    DEEP_RED = "red"
    BLUE = "blue"


class Numbered(Enum):
    ONE = 1


class Inner(BaseModel):
    a: int


class Scalar(BaseModel):
    scalar: Inner


class Binary(BaseModel):
    binary: Inner


class Snow(BaseModel):
    type: Literal["snow"]
    language: Colour


class Nothing(BaseModel):
    type: Literal["none"] = "none"
    when: datetime.datetime | None = None


COLOURS = Words({"red": "DEEP_RED", "blue": "BLUE"}, "Colour")
INNER = Fields({"a": Whole()}, ("a",), "Inner")
SCALAR = Fields({"scalar": INNER}, ("scalar",), "Scalar")
BINARY = Fields({"binary": INNER}, ("binary",), "Binary")
EITHER = Fields({"scalar": INNER, "binary": INNER}, choices=(SCALAR, BINARY), exclusive=True)


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (int, Whole(0)),
        (Optional[int], Whole(0)),
        (int | None, Whole(0)),
        (float, Number()),
        (bool, bool),
        (Optional[StrictBool], bool),
        (str, str),
        (Any, Any),
        (Colour, COLOURS),
        (Literal["x", "y"], Words({"x": "x", "y": "y"})),
        (Union[StrictInt, Colour, None], (Whole(0), COLOURS)),
        (Dict[str, Any], Each(Any)),
        (dict[str, Inner], Each(INNER)),
        (Optional[List[Colour]], Listed(COLOURS)),
        (Inner, INNER),
        (Union[Inner, Colour, None], (INNER, COLOURS)),
        (Union[Scalar, Binary, None], EITHER),
        (Union[Colour, Scalar, Binary], (COLOURS, EITHER)),
        (
            Union[Snow, Nothing],
            Fields(
                {"type": Words({"snow": "snow", "none": "none"}), "language": COLOURS},
                choices=(
                    Fields({"type": Words({"snow": "snow"}), "language": COLOURS}, ("type", "language"), "Snow"),
                    Fields({"type": Words({"none": "none"})}, (), "Nothing", unchecked=("when",)),
                ),
                unchecked=("when",),
            ),
        ),
        (Annotated[int, Field(ge=4)], Whole(4)),
        (Annotated[int, Field(gt=4, lt=9)], Whole(5, 8)),
        (Annotated[int, Field(ge=-5)], Whole(-5)),
        (Annotated[int, Field(ge=1.5, le=8.5)], Whole(2, 8)),
        (Annotated[float, Field(ge=0, le=1)], Number(0, 1)),
        (Annotated[float, Field(gt=0.5)], Number(0.5)),
        (Optional[Annotated[int, Field(le=100)]], Whole(0, 100)),
        (bytes, UNCHECKED),
        (datetime.datetime, UNCHECKED),
        (Numbered, UNCHECKED),
        (Literal[1, 2], UNCHECKED),
        (tuple[int, int], UNCHECKED),
        (list[bytes], UNCHECKED),
        (Union[int, bytes], UNCHECKED),
    ],
)
def test_an_annotation_is_a_kind(annotation, kind):
    """Each annotation has its kind; what has none is not guessed."""
    assert kind_of(annotation) == kind


def test_an_object_keeps_what_can_not_be_checked_apart():
    """Such a field is neither accepted nor unknown."""

    class Settings(BaseModel):
        m: int | None = None
        raw: bytes | None = None
        size: Annotated[int, Field(ge=2)]

    assert object_of(Settings) == Fields({"m": Whole(), "size": Whole(2)}, ("size",), "Settings", unchecked=("raw",))


@pytest.mark.parametrize(
    ("field", "bound", "kind"),
    [
        ((Optional[int], None), Whole(1, 100), Whole(1, 100)),
        ((Optional[int], Field(default=None, ge=5, le=200)), Whole(1, 100), Whole(5, 100)),
        ((Optional[float], None), Number(0), Number(0)),
        ((Optional[float], Field(default=None, le=3)), Number(0), Number(0, 3)),
        ((Optional[str], None), Whole(1), str),
        ((Union[int, str, None], None), Whole(1), (Whole(), str)),
    ],
)
def test_an_own_bound_narrows_a_number(monkeypatch, field, bound, kind):
    """The narrower of the model's bounds and the own ones counts, and what is not a number any more has none."""
    monkeypatch.setattr(own, "BOUNDS", {("Settings", "x"): bound})
    assert object_of(create_model("Settings", x=field)).known["x"] == kind


def test_words_are_taken_as_far_as_they_are_known(monkeypatch):
    """An enumeration whose new words need more than to be passed on keeps those that are listed."""
    monkeypatch.setattr(own, "WORDS", {"Colour": frozenset({"red"})})
    assert kind_of(Colour) == Words({"red": "DEEP_RED"}, "Colour")
