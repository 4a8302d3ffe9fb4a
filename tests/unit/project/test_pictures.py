"""The pictures of the README: what they show is what the commands print today, but for figures."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from tests.scenarios.cli import SOURCE, call, environment
from tests.scenarios.pages import shape

ROOT = Path(__file__).parents[3]
PICTURES = runpy.run_path(str(ROOT / "scripts" / "pictures.py"))
IMAGES = {file.stem: file.read_text(encoding="utf-8") for file in sorted((ROOT / "docs" / "images").glob("*.svg"))}


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What the same commands print in the same project, with fewer points and without waiting for the model."""
    folder = tmp_path_factory.mktemp("shop")
    versions = folder / "qdrant_migrations" / "versions"
    versions.mkdir(parents=True)
    load = PICTURES["LOAD"].replace(str(PICTURES["POINTS"]), "20")
    model = re.sub(r"time\.sleep\(.*\)", "pass", PICTURES["MODEL"])
    for name, text in (("qmigrate.yaml", PICTURES["CONFIG"]), ("slow.py", model), ("load.py", load)):
        (folder / name).write_text(text.lstrip(), encoding="utf-8")
    (versions / "0001_articles.py").write_text(PICTURES["FIRST"].lstrip(), encoding="utf-8")
    assert call(folder, "upgrade").code == 0
    path = os.pathsep.join([str(SOURCE), str(folder)])
    variables = environment({"PYTHONPATH": path})
    subprocess.run([sys.executable, "load.py"], cwd=folder, env=variables, check=True, timeout=60)
    (versions / "0002_large.py").write_text(PICTURES["SECOND"].lstrip(), encoding="utf-8")
    wide = {"COLUMNS": str(PICTURES["WIDTH"]), "PYTHONPATH": path}
    plan = call(folder, "plan", env=wide).out
    upgrade = subprocess.run(
        [sys.executable, "-m", "qmigrate", "upgrade", "--only", "articles"],
        cwd=folder, env=environment(wide), check=True, timeout=60, capture_output=True, text=True,
    ).stderr  # fmt: skip
    status = call(folder, "status", env=wide).out
    return {"plan": plan, "upgrade": upgrade, "status": status.replace(f"{folder}/", ""), "folder": folder}


def form(line: str) -> str:
    """A line without figures, and without what was written since, which is a figure in words."""
    return re.sub(r"(?<=written since: ).*", "…", shape(line))


@pytest.mark.parametrize("name", ["plan", "status"])
def test_a_picture_shows_what_is_printed(said, name):
    """Line by line; who changes the output runs scripts/pictures.py."""
    first, *shown = [form(line) for line in PICTURES["lines"](IMAGES[name]) if line.strip()]
    assert first == f"$ qmigrate {name}"
    # On a terminal, lines are wrapped at words.
    assert " ".join(shown).split() == " ".join(form(line) for line in said[name].splitlines()).split()


def test_the_picture_of_work_under_way_shows_its_phases(said):
    """A bar of a phase that the run has, with what is known of it, and the phases before it."""
    shown = PICTURES["lines"](IMAGES["upgrade"])
    assert shown[:2] == ["$ qmigrate upgrade --only articles", "articles"]
    phases = list(dict.fromkeys(re.findall(r"articles: (\w+)", said["upgrade"])))
    # What turns in front of the phase that is at work is one of the Braille patterns.
    names = [re.sub(r"^[\u2800-\u28ff] ", "", line).split()[0] for line in shown[2:]]
    assert names == phases[: len(names)]
    assert re.search(r"fill +━+.* \d+ %, [\d,]+ of [\d,]+, [\d.,]+/s, .* left, ", shown[-1])


@pytest.mark.parametrize("file", sorted((ROOT / "docs" / "images").glob("*.svg")), ids=lambda file: file.stem)
def test_a_picture_asks_no_other_host(file):
    """Neither fonts nor images nor styles from elsewhere, and no script."""
    text = file.read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\"'<> )]+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<script|@import|@font-face|<image|xlink", text)


#: A picture of a page takes no longer to load than the page.
LARGEST = 150_000


def page() -> list[str]:
    """What the console's first page said when its picture was made."""
    with Image.open(ROOT / "docs" / "images" / "console.png") as found:
        assert found.format == "PNG"
        assert found.width == PICTURES["PAGE_SIZE"][0]
        return found.text["Description"].splitlines()


def test_the_picture_of_the_console_is_small_and_names_nobody():
    """Made by the script, of its own project: names, states and commands, and no folder of a machine."""
    assert 10_000 < (ROOT / "docs" / "images" / "console.png").stat().st_size <= LARGEST
    said = page()
    for words in ("Every name is served", "3 later writes can be carried", "qmigrate cutover notes", "The last 24 hours"):
        assert words in said
    assert "kim" in " ".join(said)
    assert not re.search(r"/tmp|/dev/shm|/home|root@", " ".join(said))


@pytest.mark.nightly
def test_the_picture_of_the_console_shows_what_the_page_says(said, monkeypatch):
    """Text by text, but for figures; who changes the page runs scripts/pictures.py."""
    monkeypatch.setenv("QMIGRATE_ACTOR", "kim")
    terminal = SimpleNamespace(folder=said["folder"], type=lambda command, ends: typed(said["folder"], command, ends))
    PICTURES["held"](terminal)
    client = PICTURES["entered"](said["folder"])
    now = PICTURES["words"](client.get(PICTURES["PAGE"]).text.replace(f"{said['folder'].resolve()}/", ""))
    # The project's first commands here were typed by the user who runs the tests.
    by = [re.sub(r"^in 0, \S+$", "in 0, kim", shape(one)) for one in now]
    assert [shape(one) for one in page()] == by


def typed(folder: Path, command: str, ends: int) -> None:
    """Type a command of the script, as its terminal does."""
    path = os.pathsep.join([str(SOURCE), str(folder)])
    variables = environment({"PYTHONPATH": path, "QMIGRATE_ACTOR": "kim"})
    words = [sys.executable, "-m", "qmigrate", *command.split()[1:]]
    assert subprocess.run(words, cwd=folder, env=variables, timeout=60, check=False, capture_output=True).returncode == ends


def test_every_picture_is_shown():
    """No file is left of a picture that no page has, and the README has those of the terminal."""
    pages = {page: page.read_text(encoding="utf-8") for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]}
    used = {Path(name).stem for text in pages.values() for name in re.findall(r"images/([\w-]+\.(?:svg|png))", text)}
    assert used == {*IMAGES, "console"}
    assert {"plan", "upgrade", "status", "console"} <= set(re.findall(r"images/(\w+)\.\w", pages[ROOT / "README.md"]))
