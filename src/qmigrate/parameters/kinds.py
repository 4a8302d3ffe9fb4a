"""Kinds of values: what a parameter may be. Besides these, ``bool``, ``str`` and ``Any`` stand for themselves.

A tuple of kinds is a choice: the value is of one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from `least` up to `most` (None: no upper end)."""

    least: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Number:
    """A number from `least` to `most`, both included (None: no such end)."""

    least: float | None = None
    most: float | None = None


@dataclass(frozen=True, slots=True)
class Words:
    """One of several words.

    Attributes:
        members: word -> the name of the member that it is.
        model: the client's enumeration; empty where it has none.
    """

    members: Mapping[str, str]
    model: str = ""


@dataclass(frozen=True, slots=True)
class Fields:
    """An object with known fields; those of `required` must be there.

    Attributes:
        known: field -> kind, in the client's order.
        required: in the same order.
        model: the client's class; empty where it is one of `choices`.
        choices: the classes that it may be; `known` has the fields of all of them, `required` what they all require.
        exclusive: each class is one field, so that exactly one of them is there.
        unchecked: further fields of the client, whose kind is none of this module: they are refused.
    """

    known: Mapping[str, Any]
    required: tuple[str, ...] = ()
    model: str = ""
    choices: tuple[Fields, ...] = ()
    exclusive: bool = False
    unchecked: tuple[str, ...] = ()

    def without(self, *names: str) -> Fields:
        """The same object without some of its fields."""
        kept = {name: kind for name, kind in self.known.items() if name not in names}
        required = tuple(name for name in self.required if name not in names)
        unchecked = tuple(name for name in self.unchecked if name not in names)
        return Fields(kept, required, self.model, self.choices, self.exclusive, unchecked)


@dataclass(frozen=True, slots=True)
class Each:
    """An object whose keys are free, and whose values are all of one kind."""

    of: Any


@dataclass(frozen=True, slots=True)
class Listed:
    """A list of one kind."""

    of: Any
