"""Pictures for the README and the pages: real commands in a real terminal, stored as SVG, and the console in a browser.

``python scripts/pictures.py`` makes a project in a temporary folder (local mode, SQLite, a slow model), types the
commands in a pseudo-terminal and writes docs/images/{plan,upgrade,status}.svg; work under way is taken while it is.
A headless Chromium of this machine shows the first page of the same project's console: docs/images/console.png, which
also holds what the page says as text, so that a test can compare it with today's. No font and nothing else is loaded
from elsewhere.
"""

from __future__ import annotations

import html
import io
import os
import re
import select
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

if TYPE_CHECKING:
    import pyte
    from fastapi.testclient import TestClient

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
#: Columns and lines of the terminal: what is longer would be wrapped at the name of the temporary folder.
WIDTH, HEIGHT = 132, 40
#: Columns of a picture, at least.
LEAST = 84
POINTS = 480
CONFIG = """
qdrant: {path: .qmigrate/qdrant}
ledger: {url: "sqlite:///.qmigrate/ledger.db"}
embedders:
  words: {type: hashing, size: 64}
  large: {type: callable, function: "slow:model", size: 96, max_batch: 16}
"""
#: As fast as a model without a GPU, so that there is something to see.
MODEL = """
import time

import numpy as np


def model(items):
    time.sleep(0.1)
    return np.stack([np.cos(np.arange(96) + len(item)) for item in items]).astype("float32")
"""
FIRST = '''
"""Articles and notes, searched by their words."""
from qdrant_client.models import Distance, VectorParams
from qmigrate import op

revision = "0001"
down_revision = None


def upgrade():
    words = {"words": VectorParams(size=64, distance=Distance.COSINE)}
    return [op.CreateCollection(name, words, payload_indexes={"kind": "keyword"}) for name in ("articles", "notes")]
'''
SECOND = '''
"""A larger vector next to the small one."""
from qdrant_client.models import Distance, VectorParams
from qmigrate import Embed, op

revision = "0002"
down_revision = "0001"


def upgrade():
    large = VectorParams(size=96, distance=Distance.COSINE)
    return [op.AddVector(name, "large", large, values=Embed("large", text="text")) for name in ("articles", "notes")]
'''
LOAD = f"""
from qdrant_client import QdrantClient
from qdrant_client.models import Distance, PointStruct, VectorParams
from qmigrate import embed

words = embed.load("words", {{"type": "hashing", "size": 64}})
client = QdrantClient(path=".qmigrate/qdrant")
client.create_collection("drafts", vectors_config=VectorParams(size=64, distance=Distance.COSINE))
for name, count in (("articles", {POINTS}), ("notes", 40), ("drafts", 12)):
    texts = [f"{{name}}, entry {{number}}" for number in range(count)]
    rows = words.embed(texts).tolist()
    client.upsert(name, [
        PointStruct(id=number, payload={{"text": text}}, vector=row if name == "drafts" else {{"words": row}})
        for number, (text, row) in enumerate(zip(texts, rows))
    ])
client.close()
"""
#: What an application writes after the cut-over: the price of the way back.
LATER = LOAD.partition("client.create_collection")[0] + """
client.set_payload("articles", {"text": "corrected"}, points=[1, 2])
client.delete("articles", [3])
client.close()
"""
#: The first page, with later writes counted; its size in CSS pixels, and the colours of its picture.
PAGE, PAGE_SIZE, COLOURS_OF_PAGE = "/?count=1", (1120, 760), 96
#: Names that pyte has for colours -> names that rich has.
COLOURS = {"brown": "yellow", "brightbrown": "bright_yellow"}
THEME = TerminalTheme(
    (24, 27, 33),
    (214, 219, 228),
    [(86, 92, 104), (238, 108, 112), (135, 201, 120), (229, 186, 98),
     (104, 164, 240), (196, 140, 230), (92, 192, 200), (200, 205, 214)],
    [(120, 126, 138), (246, 132, 136), (155, 216, 140), (240, 204, 126),
     (132, 184, 250), (212, 164, 242), (118, 212, 218), (240, 243, 248)],
)  # fmt: skip
#: As rich's own, without fonts of another host, and with a name for those who hear it.
FORMAT = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: system-ui, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


class Terminal:
    """A pseudo-terminal with a screen, in a project's folder."""

    def __init__(self, folder: Path) -> None:
        import pyte

        self.folder = folder
        self.screen = pyte.Screen(WIDTH, HEIGHT)
        self.stream = pyte.ByteStream(self.screen)

    def type(self, command: str, until: Callable[[list[str]], bool] | None = None, ends: int = 0) -> Text:
        """Run a command.

        Args:
            until: take the picture as soon as the screen is so, while the command runs on.
            ends: the exit code that it has to end with.

        Returns:
            The screen with the command above it.
        """
        # Not on every system; what only reads the pictures doesn't need them.
        import fcntl
        import pty
        import struct
        import termios

        self.screen.reset()
        main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
        words = [sys.executable, "-m", "qmigrate", *command.split()[1:]]
        environ = {name: one for name, one in os.environ.items() if not name.startswith("QMIGRATE_")}
        environ |= {"TERM": "xterm-256color", "QMIGRATE_ACTOR": "kim"}
        environ["PYTHONPATH"] = f"{ROOT / 'src'}{os.pathsep}{self.folder}"
        for name in ("NO_COLOR", "COLUMNS", "LINES", "CI"):
            environ.pop(name, None)
        process = subprocess.Popen(words, cwd=self.folder, stdin=side, stdout=side, stderr=side, env=environ)
        os.close(side)
        seen: Text | None = None
        while self._feed(main):
            if until is not None and seen is None and until(list(self.screen.display)):
                seen = self._text(command)
        os.close(main)
        if process.wait() != ends:
            raise SystemExit(f"{command} ended with {process.returncode}:\n" + "\n".join(self.screen.display))
        if until is not None and seen is None:
            raise SystemExit(f"{command} ended before the picture could be taken")
        return seen or self._text(command)

    def _feed(self, main: int) -> bool:
        select.select([main], [], [], 60)
        try:
            found = os.read(main, 4096)
        except OSError:
            # On Linux a terminal without a process on its other side is an error to read.
            return False
        self.stream.feed(found)
        return bool(found)

    def _text(self, command: str) -> Text:
        shown = Text.assemble(("$ ", "bright_black"), (command, "bold"), "\n")
        lines = [self._line(number) for number in range(HEIGHT)]
        while lines and not lines[-1].plain.strip():
            lines.pop()
        shown.append_text(Text("\n").join(lines))
        # The folder differs from run to run, and is nothing to read.
        for folder in {str(self.folder), str(self.folder.resolve())}:
            while (at := shown.plain.find(f"{folder}/")) >= 0:
                shown = shown[:at] + shown[at + len(folder) + 1 :]
        return shown

    def _line(self, number: int) -> Text:
        line = Text()
        row = self.screen.buffer[number]
        for style, run in groupby(range(WIDTH), key=lambda column: _style(row[column])):
            line.append("".join(row[column].data for column in run), style)
        line.rstrip()
        return line


def _style(one: pyte.screens.Char) -> Style:
    """The look of a character, in the words of rich."""
    colour = f"#{one.fg}" if re.fullmatch(r"[0-9a-f]{6}", one.fg) else COLOURS.get(one.fg, one.fg)
    colour = re.sub(r"^bright(?=[a-z])", "bright_", colour)
    return Style(color=None if one.fg == "default" else colour, bold=one.bold or None)


def project(folder: Path) -> Terminal:
    """Two collections at 0001 with points, one that is not under management, and a revision to come."""
    versions = folder / "qdrant_migrations" / "versions"
    versions.mkdir(parents=True)
    for name, text in (("qmigrate.yaml", CONFIG), ("slow.py", MODEL), ("load.py", LOAD)):
        (folder / name).write_text(textwrap.dedent(text).lstrip(), encoding="utf-8")
    (versions / "0001_articles.py").write_text(FIRST.lstrip(), encoding="utf-8")
    terminal = Terminal(folder)
    terminal.type("qmigrate upgrade")
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    subprocess.run([sys.executable, "load.py"], cwd=folder, env=environ, check=True)
    (versions / "0002_large.py").write_text(SECOND.lstrip(), encoding="utf-8")
    return terminal


def filling(lines: list[str]) -> bool:
    """Whether a vector is being filled, about halfway."""
    found = re.search(r"fill .* (\d+) %", "\n".join(lines))
    return found is not None and 45 <= int(found[1]) <= 80 and "left" in "\n".join(lines)


def pictures() -> dict[str, str | bytes]:
    """File -> SVG or PNG, of a project that is made for them."""
    with TemporaryDirectory() as made:
        terminal = project(Path(made) / "shop")
        plan = terminal.type("qmigrate plan")
        upgrade = terminal.type("qmigrate upgrade --only articles", until=filling)
        status = terminal.type("qmigrate status")
        held(terminal)
        made_of_page = console(terminal.folder)
    texts = {"plan": plan, "upgrade": upgrade, "status": status}
    return {f"{name}.svg": svg(name, text) for name, text in texts.items()} | {"console.png": made_of_page}


def held(terminal: Terminal) -> None:
    """Something to see on the first page: later writes, and a generation that waits for its cut-over."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    subprocess.run([sys.executable, "-c", LATER], cwd=terminal.folder, env=environ, check=True)
    terminal.type("qmigrate upgrade --hold", ends=11)


def console(folder: Path) -> bytes:
    """The first page of a project's console, as a browser shows it; its text is in the picture, too."""
    from fastapi.testclient import TestClient
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo
    from playwright.sync_api import Route, sync_playwright

    client, browser = entered(folder), shutil.which("chromium") or shutil.which("google-chrome")
    assert isinstance(client, TestClient)

    def answer(route: Route) -> None:
        """From the console itself, without a port; the folder differs from run to run, and is nothing to read."""
        found = client.get(route.request.url.removeprefix("http://console"))
        kind = found.headers["content-type"]
        body = cut(found.text) if "html" in kind else found.content
        route.fulfill(status=found.status_code, content_type=kind, body=body)

    def cut(text: str) -> str:
        return text.replace(f"{folder.resolve()}/", "")

    said = cut(client.get(PAGE).text)
    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        context = opened.new_context(
            java_script_enabled=False, color_scheme="light", viewport={"width": PAGE_SIZE[0], "height": PAGE_SIZE[1]}
        )
        page = context.new_page()
        page.route("**/*", answer)
        page.goto(f"http://console{PAGE}")
        taken = page.screenshot(full_page=True)
        opened.close()
    text = PngInfo()
    text.add_itxt("Description", "\n".join(words(said)), zip=True)
    made = io.BytesIO()
    few = Image.open(io.BytesIO(taken)).convert("RGB").quantize(COLOURS_OF_PAGE, dither=Image.Dither.NONE)
    few.save(made, "PNG", optimize=True, pnginfo=text)
    return made.getvalue()


def entered(folder: Path) -> TestClient:
    """A browser at the console of a project, which has logged in."""
    from fastapi.testclient import TestClient

    from qmigrate.console import create_app
    from qmigrate.console.access import Access
    from qmigrate.settings.load import Settings

    settings = Settings.load(config=folder / "qmigrate.yaml")
    access = Access.of(settings)
    app = create_app(settings, access=access)
    client = TestClient(app, base_url="https://console", headers={"Accept": "text/html"})
    client.get("/login", params={"token": access.link_token("kim", "operator")})
    return client


def words(page: str) -> list[str]:
    """What a page says, text by text."""
    main = page[page.index("<main") : page.index("</main>")]
    texts = (html.unescape(one) for one in re.findall(r">([^<]+)<", main))
    return [" ".join(one.split()) for one in texts if one.strip()]


def svg(name: str, shown: Text) -> str:
    """A screen as a picture."""
    width = max(LEAST, *(len(line) + 1 for line in shown.plain.splitlines()))
    console = Console(record=True, width=width, file=io.StringIO(), legacy_windows=False, force_terminal=True)
    console.print(shown, soft_wrap=True)
    text = console.export_svg(title=f"qmigrate {name}", theme=THEME, code_format=FORMAT, unique_id=name)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def lines(picture: str) -> list[str]:
    """What a picture says, line by line."""
    rows: dict[float, list[tuple[float, str]]] = {}
    for attributes, text in re.findall(r"<text([^>]*)>([^<]*)</text>", picture):
        if "-title" in attributes:
            continue
        x, y = (float(re.search(rf'\b{name}="([\d.]+)"', attributes)[1]) for name in "xy")  # type: ignore[index]
        rows.setdefault(y, []).append((x, html.unescape(text).replace("\xa0", " ")))
    return ["".join(text for _, text in sorted(rows[y])).rstrip() for y in sorted(rows)]


def main() -> None:
    """Make the pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures().items():
        (IMAGES / name).write_bytes(picture if isinstance(picture, bytes) else picture.encode())
        print(f"wrote docs/images/{name}")


if __name__ == "__main__":
    main()
