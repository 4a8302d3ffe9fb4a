"""Columns that fit a terminal and are never cut: names are there to be copied. It depends on no result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmigrate.text import one_line

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from rich.text import Text as Text

    #: What a column holds.
    Cell = str | Text
else:

    class Text:
        """A ``rich.text.Text``. rich is loaded when the first one is made: --help needs none, and starts sooner."""

        def __new__(cls, *args: Any, **options: Any) -> Any:
            """What rich makes of the same arguments."""
            from rich.text import Text as Styled

            return Styled(*args, **options)

        @staticmethod
        def assemble(*parts: Any, **options: Any) -> Any:
            """Rich's ``Text.assemble``."""
            from rich.text import Text as Styled

            return Styled.assemble(*parts, **options)




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
    from rich.cells import cell_len

    cells = [[_text(cell) for cell in row] for row in rows]
    if header:
        cells.insert(0, [Text(name, style="dim") for name in header])
    widths = [max(cell_len(cell.plain) for cell in column) for column in zip(*cells, strict=True)]
    return [_line(row, widths, right, indent) for row in cells]


def _line(row: list[Text], widths: list[int], right: Collection[int], indent: int) -> Text:
    from rich.cells import cell_len

    line = Text(" " * indent)
    for place, cell in enumerate(row):
        space = " " * (widths[place] - cell_len(cell.plain))
        line.append(space if place in right else "").append_text(cell).append("" if place in right else space)
        line.append("  " if place < len(row) - 1 else "")
    line.rstrip()
    return line


def note_lines(notes: Iterable[str]) -> list[Text]:
    """``note: …`` for each; what to do about it has a line of its own, so that a command can be copied."""
    lines: list[Text] = []
    for note in notes:
        what, arrow, command = note.partition(" → ")
        lines.append(Text(f"note: {what}"))
        lines += [Text(f"  → {command}")] if arrow else []
    return lines


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
    if not isinstance(cell, str):
        return Text(one_line(cell.plain), style=cell.style) if one_line(cell.plain) != cell.plain else cell.copy()
    return Text(one_line(cell))
