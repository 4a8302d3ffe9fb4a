"""The pages: every ``qmigrate`` command on them parses, every option belongs to its verb, every block of settings loads."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import click
import pytest
import yaml

from qmigrate.cli.app import root
from qmigrate.commands import presets
from qmigrate.embed import _BACKENDS
from qmigrate.settings.load import Settings

ROOT = Path(__file__).parents[3]
PAGES = sorted(
    [
        *(ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "src/qmigrate/templates/AGENTS.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
    ]
)
FENCE = re.compile(r"^[ >]*```(\w*)[^\n]*\n(.*?)^[ >]*```", re.MULTILINE | re.DOTALL)
#: Words of a page for what a reader puts there, and something that parses in their place.
STANDS_FOR = {"N": "1", "NUMBER": "1", "DURATION": "5m", "TIME": "1h", "AGE": "30d", "JSON": "{}", "VERB": "status"}
#: What ends a command in a shell, and what is left out of one in a text.
ENDS, LEFT_OUT = {"|", "||", "&&", ";", ">", ">>", "2>", "&"}, {"…", "..."}
#: Keys that say that a YAML block is of another program.
OTHERS = {"apiVersion", "jobs", "services", "groups", "repos"}


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """(language, text) of every code block of a page."""
    yield from FENCE.findall(page.read_text(encoding="utf-8"))


def words_of(line: str) -> list[str] | None:
    """The arguments of ``qmigrate`` in a line of a shell; None where the line is another command, or none."""
    try:
        words = shlex.split(line.strip().removeprefix("$ "), comments=True)
    except ValueError:
        return None
    while words and (re.fullmatch(r"[A-Z_]+=.*", words[0]) or words[0] in ("sudo", "exec")):
        words = words[1:]
    if not words or words[0] != "qmigrate":
        return None
    end = next((at for at, word in enumerate(words) if word in ENDS), len(words))
    return words[1:end]


def in_blocks(page: Path) -> Iterator[list[str]]:
    """Commands that can be typed as they stand: in blocks of a shell, in workflows, in containers."""
    for language, text in blocks(page):
        for line in re.sub(r"\\\n\s*", " ", text).splitlines():
            bare = re.sub(r"^\s*(?:-\s*)?run:\s*", "", line) if language == "yaml" else line
            if language in ("", "console", "sh", "shell", "bash", "yaml") and (words := words_of(bare)) is not None:
                yield words
        if language == "yaml":
            for command, args in re.findall(r"(?:command: \[(qmigrate)\]\s+)?args: \[([^\]]*)\]", text):
                listed = yaml.safe_load(f"[{args}]")
                if command or listed[:1] == ["qmigrate"]:
                    yield listed[not command :]


def in_text(page: Path) -> Iterator[list[str]]:
    """Commands within a sentence or a table: words may stand for something, and arguments be left out."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for found in re.findall(r"`(qmigrate [^`]+)`", re.sub(r"\s*\n\s*", " ", text)):
        words = words_of(found.replace("\\|", "|"))
        assert words is not None, f"{page.name}: {found}"
        values = {at + 1 for at, word in enumerate(words) if word.startswith("-")}
        yield [STANDS_FOR.get(word, word) for at, word in enumerate(words) if word not in LEFT_OUT or at in values]


def why_not(words: list[str], *, whole: bool) -> str | None:
    """Why the command line doesn't take these arguments; without `whole`, what is missing is not a reason."""
    command: click.Command = root
    name, rest, parent = "qmigrate", words, None
    with ExitStack() as stack:
        try:
            while True:
                context = stack.enter_context(command.make_context(name, list(rest), parent=parent))
                rest = [*context._protected_args, *context.args]
                if not isinstance(command, click.Group) or not rest:
                    return None
                name, command, rest = command.resolve_command(context, rest)
                parent = context
        except click.exceptions.Exit:
            return None
        except click.MissingParameter as error:
            return error.format_message() if whole else None
        except click.ClickException as error:
            return error.format_message()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_parses(page, tmp_path, monkeypatch):
    """In a block as it stands; within a text, arguments may be left out. The files that are named are there."""
    monkeypatch.chdir(tmp_path)
    for word in {word for words in (*in_blocks(page), *in_text(page)) for word in words}:
        if re.fullmatch(r"[\w-]+\.(txt|sql|json)", word):
            Path(word).touch()
    wrong = {shlex.join(words): why_not(words, whole=True) for words in in_blocks(page)}
    wrong |= {shlex.join(words): why_not(words, whole=False) for words in in_text(page)}
    assert {words: why for words, why in wrong.items() if why is not None} == {}


def verbs(group: click.Group = root, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every verb with the words before it, the longest first where one begins with another."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from verbs(command, f"{before}{name} ")
        yield f"{before}{name}", command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_option_that_a_page_names_with_its_verb_is_one(page):
    """Also where the command is named without ``qmigrate``: ``fix delete --soft``."""
    text = re.sub(r"\s*\n\s*", " ", FENCE.sub("", page.read_text(encoding="utf-8")))
    known, odd = dict(verbs()), []
    for code in re.findall(r"`([a-z][^`]*? --[^`]*)`", text):
        verb = next((one for one in sorted(known, key=len, reverse=True) if f"{code} ".startswith(f"{one} ")), None)
        if verb is None:
            continue
        taken = {option for one in (known[verb], root) for part in one.params for option in (*part.opts, *part.secondary_opts)}
        odd += [f"{code}: {one}" for one in re.findall(r"(?<=\s)--[a-z][a-z-]*", code) if one not in taken | {"--help"}]
    assert odd == []


def settings_blocks() -> list[tuple[str, str]]:
    """(where, text) of every YAML block that is of this program."""
    return [
        (f"{page.relative_to(ROOT)}-{number}", text)
        for page in PAGES
        for number, (language, text) in enumerate(blocks(page))
        if language == "yaml" and not OTHERS & set(next(yaml.safe_load_all(text)))
    ]


@pytest.mark.parametrize(("where", "text"), settings_blocks(), ids=[where for where, _ in settings_blocks()])
def test_every_block_of_settings_loads(where, text, tmp_path):
    """By itself, with a server and a ledger where it names none; embedders and presets have keys of their kind."""
    config = tmp_path / "qmigrate.yaml"
    config.write_text(text)
    ledger = f"sqlite:///{tmp_path}/ledger.db"
    given = {"qdrant_url": "http://localhost:6333", "ledger_url": ledger}
    environ = dict.fromkeys(re.findall(r"\b[A-Z][A-Z_]+\b", text), "x")
    data = yaml.safe_load(text)
    for section, key in (("qdrant", "qdrant_url"), ("ledger", "ledger_url")):
        if {"url", "path", "url_env"} & set(data.get(section) or ()):
            given.pop(key)
    settings = Settings.load(config=config, environ={**environ, "DATABASE_URL": "postgresql+psycopg://a:b@localhost/c"}, **given)
    for name, embedder in settings.embedders.items():
        assert set(embedder) - {"type"} <= _BACKENDS[str(embedder["type"])].keys, name
    for name, entry in settings.fixes.presets.items():
        presets._entry(settings, name, entry.get("kind", "deletion"))
