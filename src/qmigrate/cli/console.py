"""Consoles for stdout and stderr. It decides about colours, width and control characters, and prints nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from qmigrate.cli import starting
from qmigrate.text import visible


class _Console(Console):
    """Steers the terminal by itself only: what a text holds of control characters is shown, not obeyed."""

    def print(self, *objects: Any, **options: Any) -> None:
        """On a terminal a long line is wrapped at words, below where its text begins; a file has it in one piece."""
        lines = [one for each in objects for one in _wrapped(each, self.width)] if self.is_terminal else objects
        if len(lines) == len(objects):
            super().print(*objects, **options)
            return
        for line in lines:
            super().print(line, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Everything that is printed comes by here, tables and progress bars too."""
        for segment in super().render(renderable, options):
            shown = segment.text if segment.control else visible(segment.text)
            yield segment if shown == segment.text else Segment(shown, segment.style)


#: What a line begins with and its continuation is indented by: ``note: ``, ``  why      ``, blanks.
_HEAD = re.compile(r"(?:note: |error: |\s*→ |\s*\S+:? {2,}|\s*)")
#: From here on a line is a command, which stays in one piece so that it can be copied.
_COMMAND = re.compile(r"(?:^|(?<=[\s(]))(?:qmigrate|alembic) [a-z]")


def _wrapped(line: Any, width: int) -> list[Any]:
    """The pieces of a text that is too long for the terminal; anything else as it is."""
    text = line.plain if isinstance(line, Text) else line
    if not isinstance(text, str) or "\n" in text or cell_len(visible(text)) <= width:
        return [line]
    head = _HEAD.match(text)
    indent = min(head.end() if head else 0, width // 3)
    command = _COMMAND.search(text, indent)
    prose = text[: command.start()] if command else text
    cuts = [0, *_cuts(prose, width, indent)]
    if command and command.start() > indent and cell_len(text) - cuts[-1] + (indent if cuts[-1] else 0) > width:
        cuts.append(command.start())
    whole = line if isinstance(line, Text) else Text(text)
    pieces = whole.divide(cuts[1:]) if len(cuts) > 1 else [whole]
    found = []
    for place, piece in enumerate(pieces):
        piece.rstrip()
        if piece.plain.strip():
            found.append(Text.assemble(" " * indent, piece) if place else piece)
    return found


def _cuts(prose: str, width: int, indent: int) -> list[int]:
    """Where lines begin: at words; one that is too long stays in one piece."""
    cuts, first, used = list[int](), True, len(prose) - len(prose.lstrip())
    for word in re.finditer(r"\S+\s*", prose):
        if not first and used + cell_len(word.group().rstrip()) > width:
            cuts.append(word.start())
            used = indent
        first, used = False, used + cell_len(word.group())
    return cuts


def console(*, stderr: bool = False, plain: bool = False) -> Console:
    """A console that prints texts as they are: no markup, no guessed colours, no line cut off.

    Args:
        stderr: for progress and errors instead of the result.
        plain: no colours, like ``NO_COLOR`` in the environment; ``FORCE_COLOR`` asks for them without a
            terminal.
    """
    starting.over()
    return _Console(
        stderr=stderr,
        color_system=None if plain or os.environ.get("NO_COLOR") else "auto",
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
    )
