"""Pictures and tables of docs/performance.md, made of the figures that ``scripts/bench copy --json`` has written.

``python scripts/plots.py`` reads tests/bench/results/*.json, writes docs/images/{copy-rate,copy-cpu,growth}.svg and the
tables between the marks of the page. The figures of one picture are of one run; nothing is loaded from elsewhere.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "tests" / "bench" / "results"
IMAGES = ROOT / "docs" / "images"
PAGE = ROOT / "docs" / "performance.md"
#: Workloads with their titles, in the order of the page.
TITLES = {
    "512": "512-d, three fields",
    "512-payload": "512-d, nine fields",
    "named": "512-d, 384-d and sparse, UUIDs",
    "1536": "1536-d, three fields",
}
OURS, OTHER, LIMIT, SERVER = "#2b6cb0", "#a0aec0", "#d69e2e", "#cbd5e0"
INK, PALE = "#1a202c", "#e2e8f0"
FONT = "ui-sans-serif, system-ui, sans-serif"
_WIDTH, _LABEL, _ROW, _TOP = 760, 270, 20, 40


class Bar(NamedTuple):
    """One line of a picture: parts next to each other, and what is written behind them."""

    label: str
    parts: tuple[tuple[float, str], ...]
    said: str


def text(x: float, y: float, words: str, *, size: int = 12, anchor: str = "start", weight: str = "normal") -> str:
    """Words at a place."""
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
        f'fill="{INK}">{html.escape(words)}</text>'
    )


def picture(title: str, height: float, body: Sequence[str]) -> str:
    """The whole of it, which reads on a dark page too."""
    return "\n".join(
        [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" role="img" '
                f'font-family="{FONT}" aria-label="{html.escape(title)}">'
            ),
            f"<title>{html.escape(title)}</title>",
            f'<rect width="{_WIDTH}" height="{height:.0f}" fill="#ffffff"/>',
            text(12, 24, title, size=15, weight="bold"),
            *body,
            "</svg>\n",
        ]
    )


def bars(title: str, groups: dict[str, list[Bar]], note: str) -> str:
    """Groups of bars over one another, each group on a scale of its own."""
    body: list[str] = []
    y = float(_TOP)
    room = _WIDTH - _LABEL - 110
    for name, lines in groups.items():
        most = max((sum(value for value, _ in one.parts) for one in lines), default=1.0)
        y += _ROW
        body.append(text(12, y, name, weight="bold"))
        for one in lines:
            y += _ROW
            body.append(text(_LABEL - 8, y, one.label, anchor="end"))
            x = float(_LABEL)
            for value, colour in one.parts:
                width = max(1.0, value / most * room)
                body.append(f'<rect x="{x:.1f}" y="{y - 11:.0f}" width="{width:.1f}" height="14" fill="{colour}"/>')
                x += width
            body.append(text(x + 6, y, one.said))
        y += 8
    body.append(text(12, y + 22, note, size=11))
    return picture(title, y + 34, body)


def _colour(way: str) -> str:
    if way in ("read", "write"):
        return LIMIT
    return OURS if way in ("bytes", "vector", "payload", "clone") else OTHER


def rates(found: dict[str, Any]) -> str:
    """Points per second."""
    groups = {
        TITLES[name]: [
            Bar(one["label"], ((one["rate"], _colour(way)),), f"{one['rate']:,.0f} /s") for way, one in rows.items()
        ]
        for name, rows in found["workloads"].items()
    }
    return bars("Points per second, until the last acknowledged write", groups, _note(found))


def processor(found: dict[str, Any]) -> str:
    """Time of the processor per point: of the client, and behind it of the server."""
    groups = {
        TITLES[name]: [
            Bar(
                one["label"],
                ((one["client"], _colour(way)), (one["server"], SERVER)),
                f"{one['client']:.0f} + {one['server']:.0f} µs",
            )
            for way, one in rows.items()
        ]
        for name, rows in found["workloads"].items()
    }
    return bars("Processor time per point: client + server", groups, _note(found))


def _note(found: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    return f"{found['points']:,} points, medians of {found['rounds']} rounds in one run; {versions}"


def growth(found: dict[str, Any]) -> str:
    """Memory and time per point by size, both against a logarithmic scale of points."""
    rows = found["growth"]
    left, right, top, bottom = 80.0, 670.0, 60.0, 300.0
    low, high = (math.log10(rows[place]["points"]) for place in (0, -1))
    most = max(200.0, max(one["peak"] for one in rows) * 1.2)
    used = [(one["fill processor"] + one["converge processor"]) / one["points"] * 1e6 for one in rows]
    # Below the other line, so that neither hides the other's figures.
    top_used = max(used) * 3

    def at(points: float) -> float:
        return left + (math.log10(points) - low) / max(high - low, 1e-9) * (right - left)

    body = []
    for step in range(5):
        y = bottom - (bottom - top) * step / 4
        body.append(f'<line x1="{left:.0f}" y1="{y:.0f}" x2="{right:.0f}" y2="{y:.0f}" stroke="{PALE}"/>')
        body.append(text(left - 6, y + 4, f"{most * step / 4:.0f}", anchor="end", size=11))
        body.append(text(right + 6, y + 4, f"{top_used * step / 4:.0f}", size=11))
    lines = (([one["peak"] for one in rows], OURS, most, -8), (used, LIMIT, top_used, 18))
    for values, colour, limit, beside in lines:
        sizes = [one["points"] for one in rows]
        places = [
            (at(size), bottom - value / limit * (bottom - top)) for size, value in zip(sizes, values, strict=True)
        ]
        line = " ".join(f"{x:.0f},{y:.0f}" for x, y in places)
        body.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        body += [f'<circle cx="{x:.0f}" cy="{y:.0f}" r="4" fill="{colour}"/>' for x, y in places]
        for (x, y), value in zip(places, values, strict=True):
            body.append(text(x, y + beside, f"{value:.0f}", anchor="middle", size=11))
    body += [text(at(one["points"]), bottom + 18, f"{one['points']:,}", anchor="middle", size=11) for one in rows]
    body.append(text(left, 44, "MB at most (blue, left)", size=11))
    body.append(text(right, 44, "µs of the processor per point, copy and proof (yellow, right)", size=11, anchor="end"))
    title = "Memory and time per point by number of points"
    return picture(title, bottom + 34, body)


def drawn() -> dict[str, str]:
    """Name of a picture -> what it is."""
    copy = _stored("copy")
    return {"copy-rate": rates(copy), "copy-cpu": processor(copy), "growth": growth(_stored("growth"))}


def tables(found: dict[str, Any]) -> str:
    """Each workload, with the ratios that count."""
    made = []
    for name, rows in found["workloads"].items():
        made.append(f"**{TITLES[name]}** (load {found['loads'][name]:.0f}; {_note(found)})\n")
        made.append("| | points/s | from – to | client | server | bytes | peak |")
        made.append("|---|---|---|---|---|---|---|")
        for one in rows.values():
            low, high = one["rates"]
            made.append(
                f"| {one['label']} | {one['rate']:,.0f} | {low:,.0f} – {high:,.0f} | {one['client']:.0f} µs | "
                f"{one['server']:.0f} µs | {one['bytes']:,.0f} | {one['peak']:.0f} MB |"
            )
            if "proof seconds" in one:
                made.append(
                    f"| – its proof | {1e6 / one['proof seconds']:,.0f} | | {one['proof client']:.0f} µs | "
                    f"{one['proof server']:.0f} µs | | |"
                )
        made.append(f"\n{'; '.join(found['ratios'][name])}.\n")
    return "\n".join(made)


def grown(found: dict[str, Any]) -> str:
    """One line per size."""
    made = ["| points | copy | proof | peak |", "|---|---|---|---|"]
    for one in found["growth"]:
        size = one["points"]
        fill, proof = (one[f"{phase} processor"] / size * 1e6 for phase in ("fill", "converge"))
        made.append(f"| {size:,} | {fill:.1f} µs | {proof:.1f} µs | {one['peak']:.0f} MB |")
    return "\n".join(made)


def page(before: str) -> str:
    """docs/performance.md with the tables of the stored figures."""
    made = {"copy": tables(_stored("copy")), "growth": grown(_stored("growth"))}
    for name, body in made.items():
        head, _, rest = before.partition(f"<!-- {name} -->\n")
        _, end, tail = rest.partition(f"<!-- /{name} -->")
        before = f"{head}<!-- {name} -->\n{body}\n{end}{tail}"
    return before


def _stored(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return found


def main() -> None:
    """Write all of them."""
    for name, made in drawn().items():
        (IMAGES / f"{name}.svg").write_text(made, encoding="utf-8")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
