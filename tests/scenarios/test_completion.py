"""Completion in real shells: verbs, options, collections, revisions; and that it never fails aloud or waits."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from qdrant_client import QdrantClient, models
from tests.scenarios.cli import CLEARED, SOURCE, call

REVISION = '''"""{doc}"""
from qmigrate import op
revision = "{id}"
down_revision = {down!r}
def upgrade():
    return [op.CreateCollection("{name}", {{"size": 2, "distance": "Dot"}})]
'''


@pytest.fixture
def project(tmp_path):
    """Two revisions, one of which is broken beyond its docstring, a preset, and a collection that no revision knows."""
    (tmp_path / "qmigrate.yaml").write_text(
        "qdrant: {path: q}\nfixes: {presets: {folder: {collection: docs, prefix: ':value'}}}\n"
    )
    versions = tmp_path / "qdrant_migrations" / "versions"
    versions.mkdir(parents=True)
    (versions / "0001_a.py").write_text(REVISION.format(doc="First: docs", id="0001", down=None, name="docs"))
    second = REVISION.format(doc="Second", id="0002", down="0001", name="documents")
    # It is not run, so a mistake in it hides no other name.
    (versions / "0002_b.py").write_text(second + "raise SystemExit(3)\n")
    client = QdrantClient(path=str(tmp_path / "q"))
    for name in ("docs__g0001", "donkeys", "odd name"):
        client.create_collection(name, models.VectorParams(size=2, distance=models.Distance.DOT))
    client.close()
    program = tmp_path / "bin" / "qmigrate"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nPYTHONPATH={SOURCE} exec {sys.executable} -P -m qmigrate \"$@\"\n")
    program.chmod(0o755)
    return tmp_path


def environment(project: Path) -> dict[str, str]:
    """That of a person in the project."""
    env = {name: value for name, value in os.environ.items() if not name.endswith(CLEARED)}
    return env | {"PATH": f"{project / 'bin'}:{env['PATH']}", "HOME": str(project / "home")}


def bash(project: Path, *words: str) -> list[str]:
    """What bash offers for the last word of a line."""
    line = " ".join(f"'{word}'" for word in words)
    code = (
        'eval "$(qmigrate completion bash)"\n'
        f"COMP_WORDS=(qmigrate {line}); COMP_CWORD={len(words)}\n"
        # Inside of a completion this changes its options; there is none here.
        "compopt() { :; }\n"
        '_qmigrate_completion qmigrate; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", code], cwd=project, env=environment(project), capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


def zsh(project: Path, *words: str) -> list[str]:
    """The same of zsh; what would put the words on the line prints them."""
    line = " ".join(f"'{word}'" for word in words)
    code = (
        "compdef() { : }; _path_files() { : }\n"
        "compadd() { print -l -- ${(P)@[-1]} }\n"
        "_describe() { print -l -- ${${(P)3}%%:*} }\n"
        'eval "$(qmigrate completion zsh)"\n'
        f"words=(qmigrate {line}); CURRENT={len(words) + 1}\n"
        "_qmigrate_completion"
    )
    done = subprocess.run(["zsh", "-f", "-c", code], cwd=project, env=environment(project), capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.split()


def fish(project: Path, *words: str) -> list[str]:
    """The same of fish, which has a command for it."""
    code = f"qmigrate completion fish | source\ncomplete -C 'qmigrate {' '.join(words)}'"
    done = subprocess.run(["fish", "--no-config", "-c", code], cwd=project, env=environment(project), capture_output=True, text=True, check=True)
    return [line.split("\t")[0] for line in done.stdout.splitlines()]


LINES = [
    (("up",), {"upgrade"}),
    (("s",), {"stamp", "status", "show", "schema", "serve", "snapshot", "squash"}),
    (("fix", "re"), {"reset", "retrain"}),
    (("upgrade", "--no-s"), {"--no-snapshot"}),
    (("upgrade", "--only", "do"), {"docs", "documents", "donkeys"}),
    (("upgrade", "00"), {"0001", "0002"}),
    (("upgrade", "h"), {"head", "heads"}),
    (("rollback", "b"), {"base"}),
    (("downgrade", "b"), {"base"}),
    (("repair", "--accept", "0"), {"0001", "0002"}),
    (("repair", "--vanished", "d"), {"docs__g0001"}),
    (("gc", "don"), {"donkeys"}),
    (("fix", "delete", "docs", "--preset", "f"), {"folder"}),
    (("check", "--format", "s"), {"sarif"}),
    (("completion", "z"), {"zsh"}),
    (("upgrade", "--only", "odd"), set()),
    (("no-such-verb", "x"), set()),
]


#: Every line in bash; those that differ in what is offered in the others.
CASES = [
    pytest.param(
        shell, words, offered, id=f"{shell.__name__}: {' '.join(words)}",
        marks=pytest.mark.skipif(shutil.which(shell.__name__) is None, reason=f"no {shell.__name__} on PATH"),
    )
    for shell in (bash, zsh, fish)
    for words, offered in LINES
    if shell is bash or words[0] in ("up", "upgrade", "repair")
]


@pytest.mark.parametrize(("shell", "words", "offered"), CASES)
def test_a_shell_offers_what_fits(project, shell, words, offered):
    """Verbs, options, words of options, collections of Qdrant and of revisions, revision ids, generations, presets."""
    assert set(shell(project, *words)) == offered


def test_files_are_left_to_the_shell(project):
    """An option that takes a file offers files: click's word for it reaches the shell."""
    env = environment(project) | {"_QMIGRATE_COMPLETE": "bash_complete", "COMP_WORDS": "qmigrate plan --out x", "COMP_CWORD": "3"}
    done = subprocess.run(["qmigrate"], cwd=project, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "file,x"


@pytest.mark.parametrize("settings", ["qdrant: {url: 'http://127.0.0.1:%d'}", "nonsense: {", "qdrant: {url: x}"])
def test_it_is_silent_and_does_not_wait(project, settings):
    """A server that accepts and never answers, and settings that can't be read: names of files come within seconds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (project / "qmigrate.yaml").write_text(settings % silent.getsockname()[1] if "%d" in settings else settings)
        started = time.monotonic()
        found = bash(project, "upgrade", "--only", "d")
        # The limit of the test is far above what two questions of a second each take.
        assert time.monotonic() - started < 60
    assert set(found) == ({"docs", "documents"} if "%d" in settings else set())


def test_installing(project, monkeypatch):
    """Each script lies where its shell looks, and what is printed is what is installed."""
    env = {"HOME": str(project / "home"), "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": ""}
    places = {
        "bash": ".local/share/bash-completion/completions/qmigrate",
        "zsh": ".zfunc/_qmigrate",
        "fish": ".config/fish/completions/qmigrate.fish",
    }
    for shell, place in places.items():
        said = call(project, "completion", shell, "--install", env=env)
        assert said.code == 0, said.text
        file = project / "home" / place
        assert file.read_text() == call(project, "completion", shell).out
        assert str(file) in said.out
    # zsh reads the first line.
    assert (project / "home" / places["zsh"]).read_text().startswith("#compdef qmigrate\n")
    (project / "home" / ".config").rename(project / "home" / "x")
    (project / "home" / ".config").write_text("no folder")
    assert call(project, "completion", "fish", "--install", env=env).code == 9


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on PATH")
def test_bash_finds_what_was_installed(project):
    """The file is sound by itself: sourced, it registers the function."""
    env = environment(project)
    subprocess.run(["qmigrate", "completion", "bash", "--install"], cwd=project, env=env, check=True, capture_output=True)
    code = "source ~/.local/share/bash-completion/completions/qmigrate; complete -p qmigrate"
    done = subprocess.run(["bash", "--norc", "-c", code], env=env, capture_output=True, text=True, check=True)
    assert "-F _qmigrate_completion qmigrate" in done.stdout
