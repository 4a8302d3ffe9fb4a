"""Consoles for stdout and stderr. It decides about colours, width and control characters, and prints nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from qmigrate.text import visible


class _Console(Console):
    """Steers the terminal by itself only: what a text holds of control characters is shown, not obeyed."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Everything that is printed comes by here, tables and progress bars too."""
        for segment in super().render(renderable, options):
            shown = segment.text if segment.control else visible(segment.text)
            yield segment if shown == segment.text else Segment(shown, segment.style)


def console(*, stderr: bool = False, plain: bool = False) -> Console:
    """A console that prints texts as they are: no markup, no guessed colours, no line cut off.

    Args:
        stderr: for progress and errors instead of the result.
        plain: no colours, like ``NO_COLOR`` in the environment; ``FORCE_COLOR`` asks for them without a
            terminal.
    """
    return _Console(
        stderr=stderr,
        color_system=None if plain or os.environ.get("NO_COLOR") else "auto",
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
    )
