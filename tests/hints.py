"""Commands in texts: found in the code, and parsed as the command line would."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click

from qmigrate.cli.app import root
from qmigrate.cli.help import ALIASES
from qmigrate.cli.shell import Options

SOURCE = Path(__file__).resolve().parents[1] / "src" / "qmigrate"
#: Stands for what is filled in at run time: a name, and as well a number.
FILLED = "1"
#: Where a clause of a sentence ends.
_END = re.compile(r"[;:,](?=\s|$)|\.(?=\s|$)|[)\n→`]| \(|$")
#: What may stand behind the verb besides options, names in capitals, numbers and what is filled in or quoted.
_WORDS = re.compile(r"-.*|[A-Z0-9*+…'\"].*|head|heads|base|bash|zsh|fish")
#: Words behind the name of the tool in sentences about it.
ABOUT = frozenset(
    ["a", "alembic", "applied", "can't", "creates", "did", "doesn't", "fences", "has", "import", "keeps", "makes", "nearer", "needs", "puts", "reads", "records", "that", "works"]
)


def texts(file: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every string of a module but docstrings; what is filled in is :data:`FILLED`."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    nested = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            nested |= {id(part) for part in node.values}
            nested |= {id(one) for part in node.values if isinstance(part, ast.FormattedValue) for one in ast.walk(part)}
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            nested.add(id(node.value))
    for node in ast.walk(tree):
        if id(node) in nested:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = (str(part.value) if isinstance(part, ast.Constant) else FILLED for part in node.values)
            yield node.lineno, "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def commands(text: str) -> Iterator[str]:
    """Every command of ours in a text: from ``qmigrate`` to the end of the clause."""
    for match in re.finditer(r"(?<![\w/.-])qmigrate (?=[a-z-])", text):
        rest = text[match.start() :]
        # A quoted argument may hold what would end a clause.
        quoted = re.compile(r"(['\"]).*?\1")
        plain = quoted.sub(lambda one: "q" * len(one.group()), rest)
        clause = rest[: _END.search(plain).start()].rstrip()
        if clause.split()[1] not in ABOUT:
            yield _typed(clause)


def _typed(clause: str) -> str:
    """What of a clause is the command: ``qmigrate status shows what is there``."""
    words = re.findall(r"(?:[^\s'\"]|'[^']*'|\"[^\"]*\")+", clause)
    found, chosen = root, 1
    while isinstance(found, click.Group) and chosen < len(words):
        name = ALIASES.get(words[chosen], words[chosen])
        if name not in found.commands:
            break
        found, chosen = found.commands[name], chosen + 1
    if chosen == 1:
        # No verb at all: the first word is judged.
        return " ".join(words[:2])
    while chosen < len(words) and _WORDS.fullmatch(words[chosen]):
        chosen += 1
    return " ".join(words[:chosen])


def problem(command: str) -> str | None:
    """Why a command can't be typed as it stands; None where it can."""
    if "…" in command:
        return "it leaves something out"
    try:
        _, *args = shlex.split(command)
    except ValueError as error:
        return str(error)
    found, words = root, ["qmigrate"]
    with click.Context(root, info_name="qmigrate", obj=Options()) as top:
        while isinstance(found, click.Group) and args and not args[0].startswith("-"):
            name = ALIASES.get(args[0], args[0])
            if name not in found.commands:
                return f"there is no verb {' '.join([*words[1:], name])}"
            found, args, words = found.commands[name], args[1:], [*words, name]
        try:
            with found.make_context(words[-1], list(args), parent=None if found is root else top, obj=top.obj):
                return None
        except click.exceptions.Exit:
            return None
        except click.ClickException as error:
            return error.format_message().partition("\n")[0]
