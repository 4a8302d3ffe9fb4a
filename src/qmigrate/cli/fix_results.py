"""What data fixes would do and did, for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from qmigrate.cli.layout import Text, columns, labelled, short
from qmigrate.text import counted, number, quote, took

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from qmigrate.commands.fix import Preview, Review
    from qmigrate.commands.run_fixes import Done, FixResult

#: Longest text of a value.
_VALUE = 40
#: Points of a sample that are shown.
_SHOWN = 5
#: What a sample shows of all: the figure, whose it is, and in words.
_ESTIMATED = (("strays", "points", "are strays"), ("missing", "rows", "are missing"), ("changes", "points", "differ"))


def show_review(console: Console, review: Review) -> None:
    """What would change, and that nothing was done."""
    for line in review_lines(review):
        console.print(line)
    # Where no pair was compared, it is unknown whether it is in order.
    compared = any(one.counts.get("rows", 1) != one.counts.get("without_point", 0) for one in review.previews)
    nothing = "No differences." if review.would == "change" and compared else "Nothing to do."
    sampled = sum(preview.counts.get("sampled", 0) for preview in review.previews)
    points = f"{number(review.changes)} of {counted(sampled, 'point')}" if sampled else counted(review.changes, "point")
    console.print(f"Nothing was changed: {points} would {review.would}." if review.changes else nothing)


def review_lines(review: Review) -> list[Text]:
    """Per collection: figures, and the first of what would change."""
    lines = [Text(note.replace(" → ", "\n  → ")) for note in review.notes]
    for preview in review.previews:
        lines += preview_lines(preview)
    return lines


def show_done(console: Console, result: FixResult, unit: str) -> None:
    """What was changed, and how it is undone.

    Args:
        unit: what became of the points, in a word.
    """
    for one in result.done:
        for line in _done(one, unit):
            console.print(line)
    for note in result.notes:
        console.print(f"note: {note}" if result.changed else f"0 points: {note}")
    for seen in result.looked:
        strays = [f"{counted(seen.strays, 'point')} without a row"] if seen.strays or not seen.missing else []
        missing = [f"{counted(seen.missing, 'row')} without a point"] if seen.missing else []
        what = f"  first look: {', '.join(strays + missing)}"
        console.print(Text.assemble((seen.collection, "bold"), what))
        again = f"run the same command again after {seen.due_at.astimezone():%Y-%m-%d %H:%M:%S}"
        for line in labelled("not yet", [again]):
            console.print(line)
    logs = [one.log for one in reversed(result.done) if one.log is not None and one.changed and one.undo]
    if logs:
        # Each collection has its own, and the newest goes first.
        ways = ", ".join(f"qmigrate fix undo {quote(log)}" for log in logs)
        console.print(Text.assemble("Undo it: ", (ways, "bold")))


def preview_lines(preview: Preview) -> list[Text]:
    """What would change of one collection: figures, and the first of it."""
    head = Text.assemble((preview.collection, "bold"), f"  {preview.what}")
    counts = dict(preview.counts)
    estimates = [_estimate(counts, *named) for named in _ESTIMATED]
    sampled = counts.pop("sampled", None)
    looked_at = preview.points if sampled is None else sampled
    figures = f"{number(preview.changes)} of {counted(looked_at, 'point')} would {preview.would}"
    if preview.returns:
        # What was deleted is not one of those that are there.
        figures = f"{counted(preview.changes, 'point')} would come back; {counted(preview.points, 'point')} there now"
    if sampled is not None:
        figures += f" (a sample of {number(preview.points)})"
    label = "returns" if preview.returns else preview.label
    lines = [head, *labelled("values", preview.values), *labelled(label, [figures])]
    lines += [*labelled("types", preview.misfits), *labelled("found", _counts(counts))]
    lines += labelled("estimate", [one for one in estimates if one])
    return [*lines, *labelled("sample", _sample(preview.sample[:_SHOWN]))]


def _estimate(counts: dict[str, int], name: str, unit: str, are: str) -> str | None:
    """What a sample shows of all; it removes its figures."""
    low, high = counts.pop(f"{name}_at_least", None), counts.pop(f"{name}_at_most", None)
    if low is None or high is None:
        return None
    return f"{number(low)} to {number(high)} {unit} {are} (95 %)"


def _done(one: Done, unit: str) -> list[Text]:
    head = Text.assemble((one.collection, "bold"), f"  {counted(one.changed, 'point')} {unit} in {took(one.seconds)}")
    lines = [head, *labelled("found", _counts(one.counts)), *labelled("verified", [number(one.verified)])]
    if one.changed_meanwhile:
        skipped = counted(one.changed_meanwhile, "point")
        lines += labelled("skipped", [f"{skipped} changed by another client since the preview"])
    if one.gone:
        lines += labelled("gone", [f"{counted(one.gone, 'point')} deleted since the preview"])
    return lines


def _counts(counts: Mapping[str, int]) -> list[str]:
    """The figures that aren't zero: none where only points were counted."""
    parts = [f"{number(value)} {name.replace('_', ' ')}" for name, value in counts.items() if value]
    return [", ".join(parts)] if parts else []


def _sample(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """The first points as a small table: the id, and a column for each key, with what it is and would be."""
    if not points:
        return []
    keys = sorted({key for one in points for key in (*one["before"], *one["after"])})
    rows = [(str(one["id"]), *(_change(one, key) for key in keys)) for one in points]
    return [line.plain for line in columns(rows, header=("id", *keys), indent=0)]


def _change(one: Mapping[str, Any], key: str) -> str:
    """``"a" → "b"``; one value where it stays, or where the point is only there before or afterwards."""
    before, after = _value(one["before"], key), _value(one["after"], key)
    if not one["before"] or not one["after"]:
        return before if one["before"] else after
    return before if before == after else f"{before} → {after}"


def _value(payload: Mapping[str, Any], key: str) -> str:
    return short(json.dumps(payload[key], ensure_ascii=False, default=str), _VALUE) if key in payload else "–"
