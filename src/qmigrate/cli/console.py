"""Consoles for stdout and stderr. It decides about colours and width, and prints nothing."""

from __future__ import annotations

import os

from rich.console import Console


def console(*, stderr: bool = False, plain: bool = False) -> Console:
    """A console that prints texts as they are: no markup, no guessed colours, no line cut off.

    Args:
        stderr: for progress and errors instead of the result.
        plain: no colours, like ``NO_COLOR`` in the environment; ``FORCE_COLOR`` asks for them without a
            terminal.
    """
    return Console(
        stderr=stderr,
        color_system=None if plain or os.environ.get("NO_COLOR") else "auto",
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
    )
