"""The reference of the command line: every verb, argument and option, from the click commands; and of the functions."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import click
import markdown as md
from json_pages import file_of, named
from results import commands, results

import qmigrate.commands
from qmigrate import errors
from qmigrate.cli.app import EPILOG, root

#: What no class of the error tree has.
OTHER_CODES = {
    0: "done, or nothing to do",
    3: "pending, or too long for `--max-estimate`",
    8: "the lint found an error (`check --offline`)",
    11: "built and held",
    12: "a first look was kept; the second comes later",
    130: "stopped at a checkpoint by Ctrl-C",
    143: "stopped at a checkpoint by SIGTERM",
}


def pages() -> dict[str, str]:
    """Path below docs/ -> text."""
    return {"reference/cli.md": md.page(*_parts()), "reference/functions.md": md.page(*_functions())}


def _parts() -> Iterator[str]:
    rows = [
        [f"[`{words}`](#qmigrate-{words.replace(' ', '-')})", md.sentence(_short(one))] for words, one in commands()
    ]
    yield f"""# Command line

{md.paragraphs(root.help or "")}

{md.table(["verb", "what it does"], rows)}

**Targets** of `plan`, `upgrade` and `rollback`: `head`, `base`, a revision id or its beginning, `+1`, `-1`.
**Names** may be globs in quotes (`'memory_*'`) where an argument is called PATTERN or GLOB, and with `--only`; a
text that is
the name of a collection means that collection. **Durations** have a unit: `60s`, `5m`, `24h`, `7d`.

{" ".join(line for line in EPILOG.splitlines() if line.startswith("Also understood"))}"""
    yield f"## Options of every verb\n\nBefore or after the verb.\n\n{_options(root)}"
    yield f"## Exit codes\n\n{_codes()}"
    for words, command in commands():
        yield "\n\n".join(_command(words, command))


def _short(command: click.Command) -> str:
    return command.short_help or command.get_short_help_str(200)


def _command(words: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=words, parent=click.Context(root, info_name="qmigrate"))
    usage = " ".join(["qmigrate", words, *command.collect_usage_pieces(context)])
    yield f"## qmigrate {words}"
    yield md.block("text", usage)
    yield _help(command.help or _short(command))
    yield _options(command)
    links = named(results(words, command), "json.md")
    if links:
        yield f"`--json`: {links} ([schema](schemas/{file_of(words)}))."


def _help(text: str) -> str:
    """The help of a verb; what is not to be wrapped there stays as it is."""
    parts = []
    for part in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        kept = part.startswith("\b")
        parts.append(md.block("text", textwrap.dedent(part.lstrip("\b\n"))) if kept else md.plain(part))
    return "\n\n".join(parts)


def _options(command: click.Command) -> str:
    rows = []
    for one in command.params:
        if not isinstance(one, click.Option) or one.hidden:
            continue
        if command is not root and any(one.name == other.name and one.opts == other.opts for other in root.params):
            continue
        rows.append([f"`{_spelling(one)}`", md.sentence(_meaning(one))])
    return md.table(["option", "meaning"], rows)


def _spelling(option: click.Option) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    if option.is_flag or option.count:
        return names
    shown = option.metavar
    if shown is None and isinstance(option.type, click.Choice):
        shown = "|".join(str(one) for one in option.type.choices)
    return f"{names} {shown or option.type.name.upper()}"


def _meaning(option: click.Option) -> str:
    said = md.plain(option.help or "")
    # What click would add to it, and what the text has in brackets already.
    if option.show_default and option.default is not None:
        said = f"{said.rstrip('.')}. Default: `{option.default}`"
    if option.multiple and "repeat" not in said:
        said = f"{said.rstrip('.')}; may be repeated"
    if option.required:
        said = f"{said.rstrip('.')}. Must be given"
    said = re.sub(r"\s*\[([^\]]*)\]$", lambda found: f" {found[1][:1].upper()}{found[1][1:]}", said)
    return re.sub(r"\b(QMIGRATE_\w+|NO_COLOR)\b", r"`\1`", said)


def _codes() -> str:
    found: dict[int, list[str]] = {code: [said] for code, said in OTHER_CODES.items()}
    for kind in dict.fromkeys(_tree(errors.QmigrateError)):
        found.setdefault(kind.exit_code, [])
        found[kind.exit_code].append(f"`{kind.__name__}`: {md.first_line(kind)}")
    rows = [[f"**{code}**", "<br>".join(md.sentence(one) for one in said)] for code, said in sorted(found.items())]
    missing = {int(one) for one in re.findall(r"\b(\d+) [a-z]", EPILOG)} - set(found)
    assert not missing, missing
    return (
        "The class is what a Python program catches (`qmigrate.errors`). "
        "[Troubleshooting](../troubleshooting.md) has the messages by exit code.\n\n"
        + md.table(["code", "meaning"], rows)
    )


def _tree(kind: type[errors.QmigrateError]) -> Iterator[type[errors.QmigrateError]]:
    yield kind
    for one in kind.__subclasses__():
        if one.__module__ == errors.__name__:
            yield from _tree(one)


def _functions() -> Iterator[str]:
    """Every function of `qmigrate.commands` that a verb is, with its signature."""
    yield """# Functions

Every verb is a function that takes `Settings` first and returns a frozen dataclass; [Python](python.md) shows how
they are
used. What they return is in [the JSON of each command](json.md): the same names, as values of Python.
Nothing here prints, asks or exits; what `qmigrate` would end with is an exception of `qmigrate.errors` with its
`exit_code`."""
    for name, module in _modules():
        found = [one for one in vars(module).values() if _is_verb(one, module.__name__)]
        if found:
            yield f"## {name}"
            yield from (_function(one) for one in sorted(found, key=_line))


def _modules() -> Iterator[tuple[str, Any]]:
    """Modules that the command line imports, by name."""
    used = _used()
    for one in pkgutil.iter_modules(qmigrate.commands.__path__, "qmigrate.commands."):
        if one.name in used:
            yield one.name, importlib.import_module(one.name)


def _used() -> frozenset[str]:
    """Modules of `qmigrate.commands` that the verbs name in their code."""
    import qmigrate.cli

    found: set[str] = set()
    for one in pkgutil.iter_modules(qmigrate.cli.__path__, "qmigrate.cli."):
        source = inspect.getsource(importlib.import_module(one.name))
        found |= {f"qmigrate.commands.{name}" for name in re.findall(r"from qmigrate\.commands import (\w+)", source)}
        found |= set(re.findall(r"from (qmigrate\.commands\.\w+) import", source))
    return frozenset(found)


def _is_verb(thing: Any, module: str) -> bool:
    if not isinstance(thing, FunctionType) or thing.__module__ != module or thing.__name__.startswith("_"):
        return False
    return next(iter(inspect.signature(thing).parameters), "") == "settings"


def _line(function: FunctionType) -> int:
    return function.__code__.co_firstlineno


def _function(function: FunctionType) -> str:
    signature = inspect.signature(function)
    parts, starred = [], False
    for one in signature.parameters.values():
        if one.kind is one.KEYWORD_ONLY and not starred:
            parts.append("*")
            starred = True
        default = "" if one.default is one.empty else f" = {one.default!r}"
        stars = {one.VAR_KEYWORD: "**", one.VAR_POSITIONAL: "*"}.get(one.kind, "")
        parts.append(f"{stars}{one.name}: {one.annotation}{default}")
    returned = f" -> {signature.return_annotation}"
    written = f"def {function.__name__}({', '.join(parts)}){returned}: ..."
    if len(written) > 100:
        written = f"def {function.__name__}(\n" + "".join(f"    {part},\n" for part in parts) + f"){returned}: ..."
    said = md.entries(function)
    known = "\n".join(f"- `{name}`: {md.sentence(meaning)}" for name, meaning in said.items() if name != "settings")
    raised = md.entries(function, "Raises")
    errors_ = "\n".join(f"- raises `{name}`: {md.sentence(meaning)}" for name, meaning in raised.items())
    listed = "\n".join(one for one in (known, errors_) if one)
    return "\n\n".join(
        part for part in (f"### {function.__name__}", md.block("python", written), md.lead(function), listed) if part
    )
