"""Columns that fit a terminal and are never cut: names are there to be copied. It depends on no result."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from qmigrate.text import one_line, visible

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence


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


Cell = str | Text


def columns(
    rows: Sequence[Sequence[Cell]],
    *,
    header: Sequence[str] = (),
    right: Collection[int] = (),
    indent: int = 2,
) -> list[Text]:
    """Rows as aligned lines, two spaces between the columns and none after the last.

    Args:
        rows: of equal length.
        header: names of the columns, printed dim.
        right: numbers of the columns that are aligned to the right.
        indent: spaces before each line.
    """
    cells = [[_text(cell) for cell in row] for row in rows]
    if header:
        cells.insert(0, [Text(name, style="dim") for name in header])
    widths = [max(cell_len(cell.plain) for cell in column) for column in zip(*cells, strict=True)]
    return [_line(row, widths, right, indent) for row in cells]


def _line(row: list[Text], widths: list[int], right: Collection[int], indent: int) -> Text:
    line = Text(" " * indent)
    for place, cell in enumerate(row):
        space = " " * (widths[place] - cell_len(cell.plain))
        line.append(space if place in right else "").append_text(cell).append("" if place in right else space)
        line.append("  " if place < len(row) - 1 else "")
    line.rstrip()
    return line


def labelled(label: str, lines: Sequence[str], *, indent: int = 2, width: int = 9) -> list[Text]:
    """Lines after one dim label: ``  back     to 0002 in milliseconds``."""
    return [
        Text.assemble(" " * indent, ((label if not place else "").ljust(width), "dim"), one_line(line))
        for place, line in enumerate(lines)
    ]


def short(text: str, most: int) -> str:
    """The beginning of a text of at most `most` characters, for what no user needs to copy."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _text(cell: Cell) -> Text:
    # A cell that began a line of its own could say anything.
    if isinstance(cell, Text):
        return Text(one_line(cell.plain), style=cell.style) if one_line(cell.plain) != cell.plain else cell.copy()
    return Text(one_line(cell))
