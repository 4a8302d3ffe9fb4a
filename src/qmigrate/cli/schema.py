"""schema: collections documented, for a wiki, for git, for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC
from typing import TYPE_CHECKING, Any

import click

from qmigrate.cli.layout import note_lines
from qmigrate.cli.shell import Shell, with_shell
from qmigrate.operations.variables import Variable
from qmigrate.text import aware, counted, to_plain, visible_json

if TYPE_CHECKING:
    from qmigrate.commands.schema import ChangelogEntry, Document, Schemas


#: Fields of a vector that have a column of their own.
_COLUMNS = ("size", "distance", "datatype", "multivector_config")


def as_plain(result: Schemas, *, changelog: bool) -> dict[str, Any]:
    """Plain values, empty parts left out."""
    return {"collections": {found.name: _plain(found, changelog=changelog) for found in result.collections}}


def as_yaml(result: Schemas, *, changelog: bool) -> str:
    """YAML that ``yaml.safe_load`` reads back."""
    import yaml

    plain = as_plain(result, changelog=changelog)
    found: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=110, default_flow_style=False)
    # The library writes the unnamed vector as "? ''" in a line of its own, which people don't know.
    if "? ''" in found:
        plainer = re.sub(r"^( *)\? ''\n\1: ", r"\1'':\n\1  ", found, flags=re.MULTILINE)
        found = plainer if yaml.safe_load(plainer) == plain else found
    return found.rstrip("\n")


def as_json(result: Schemas, *, changelog: bool) -> str:
    """The same as JSON."""
    return visible_json(json.dumps(as_plain(result, changelog=changelog), indent=2, ensure_ascii=False))


def as_markdown(result: Schemas, *, changelog: bool) -> str:
    """One chapter per collection, with tables as a wiki shows them."""
    return "\n\n".join(_chapter(found, changelog=changelog) for found in result.collections)


def _plain(found: Document, *, changelog: bool) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "source": found.source,
        "revision": found.revision,
        "physical": found.physical,
        "points": found.points,
        "vectors": _sorted(found.schema.vectors),
        "sparse_vectors": _sorted(found.schema.sparse),
        "payload_indexes": _sorted(found.schema.indexes),
        "settings": _sorted(found.schema.config),
        "aliases": _further(found),
        "embedders": _sorted(found.embedders),
        "changelog": [_entry(one) for one in found.changelog] if changelog else [],
    }
    return {key: value for key, value in parts.items() if value not in (None, {}, [])}


def _sorted(value: Any) -> Any:
    """Objects by key, at every depth; the unnamed vector comes first."""
    if isinstance(value, Mapping):
        return {str(key): _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [_sorted(item) for item in value]
    # Read back, it is the same variable.
    return value.written if isinstance(value, Variable) else to_plain(value)


def _further(found: Document) -> list[str]:
    return [alias for alias in found.schema.aliases if alias != found.name]


def _entry(one: ChangelogEntry) -> dict[str, Any]:
    parts = {
        "revision": one.revision,
        "at": _when(one),
        "doc": one.doc,
        "direction": one.direction,
        "strategy": one.strategy,
        "by": one.actor,
        "changes": list(one.changes),
    }
    return {key: value for key, value in parts.items() if value not in (None, "", [])}


def _when(one: ChangelogEntry) -> str | None:
    """UTC, since a document is read in more than one place."""
    if one.at is None:
        return None
    return f"{aware(one.at).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _chapter(found: Document, *, changelog: bool) -> str:
    parts = [f"# {_text(found.name)}", _about(found)]
    schema = found.schema
    if schema.vectors:
        rows = [
            (
                _code(name or "(unnamed)"),
                params.get("size", ""),
                params.get("distance", ""),
                _kind(params),
                _rest(params, _COLUMNS),
            )
            for name, params in sorted(schema.vectors.items())
        ]
        parts.append(_table("Vectors", ("vector", "size", "distance", "stored as", "settings"), rows))
    if schema.sparse:
        sparse = [(_code(name), _rest(params, ())) for name, params in sorted(schema.sparse.items())]
        parts.append(_table("Sparse vectors", ("vector", "settings"), sparse))
    if schema.indexes:
        indexes = [
            (_code(name), params.get("type", ""), _rest(params, ("type",)))
            for name, params in sorted(schema.indexes.items())
        ]
        parts.append(_table("Payload indexes", ("field", "type", "settings"), indexes))
    if schema.config:
        settings = [(_code(path), _value(value)) for path, value in _flat("", schema.config)]
        parts.append(_table("Settings", ("setting", "value"), settings))
    if _further(found):
        parts.append(_table("Aliases", ("alias",), [(_code(alias),) for alias in _further(found)]))
    if found.embedders:
        filled = [(_code(name or "(unnamed)"), words) for name, words in sorted(found.embedders.items())]
        parts.append(_table("Filled by", ("vector", "with"), filled))
    if changelog and found.changelog:
        parts.append(_changelog(found))
    return "\n\n".join(parts)


def _about(found: Document) -> str:
    source = {"live": "as it is live", "recorded": "as it is recorded", "revision": "as the revisions declare it"}
    words = [f"Schema {source[found.source]}"]
    words += [f"revision {_code(found.revision)}"] if found.revision else []
    words += [f"collection {_code(found.physical)}"] if found.physical else []
    words += [counted(found.points, "point")] if found.points is not None else []
    return f"{', '.join(words)}."


def _kind(params: Mapping[str, Any]) -> str:
    parts = [str(params.get("datatype") or "float32")]
    multi = params.get("multivector_config")
    if multi:
        parts.append(f"multivector ({multi.get('comparator', '')})")
    return ", ".join(parts)


def _rest(params: Mapping[str, Any], shown: tuple[str, ...]) -> str:
    left = {key: value for key, value in params.items() if key not in shown}
    return ", ".join(f"{path} = {_value(value)}" for path, value in _flat("", left)) if left else ""


def _flat(path: str, value: Any) -> list[tuple[str, Any]]:
    """(path, value) of every leaf, by path; the user's metadata key by key."""
    if isinstance(value, Mapping) and value:
        return [leaf for key in sorted(value) for leaf in _flat(f"{path}.{key}" if path else str(key), value[key])]
    return [(path, value)]


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(to_plain(value), ensure_ascii=False, sort_keys=True)


def _changelog(found: Document) -> str:
    dated = any(one.at for one in found.changelog)
    if not dated:
        rows = [(_code(one.revision), one.doc, "; ".join(one.changes)) for one in found.changelog]
        return _table("Changelog", ("revision", "what", "changes"), rows)
    entries = [
        (_when(one) or "", _code(one.revision), one.doc, one.direction, one.strategy or "", one.actor or "")
        for one in found.changelog
    ]
    return _table("Changelog", ("when", "revision", "what", "direction", "how", "who"), entries)


def _table(title: str, header: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    lines = [f"## {title}", "", _row(header), _row(tuple("---" for _ in header))]
    return "\n".join([*lines, *(_row(row) for row in rows)])


def _row(cells: tuple[Any, ...]) -> str:
    return "| " + " | ".join(_text(str(cell)).replace("|", "\\|") for cell in cells) + " |"


def _code(text: str) -> str:
    return f"`{text}`" if "`" not in text else text


def _text(text: str) -> str:
    """One line."""
    return " ".join(text.split())


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--live", is_flag=True, help="As Qdrant has it; the default, where it can be reached.")
@click.option("--recorded", is_flag=True, help="As the ledger has it: what revisions declared and nothing else.")
@click.option("--revision", metavar="REV", help="As this revision declares it; asks neither Qdrant nor the ledger.")
@click.option(
    "--format",
    "form",
    type=click.Choice(("yaml", "markdown", "json")),
    default="yaml",
    show_default=True,
    help="How it is written.",
)
@click.option("--changelog/--no-changelog", default=None, help="With its history.  [default: in markdown]")
@click.option("--settings", "of_settings", is_flag=True, help="Instead: the JSON schema of qmigrate.yaml, for editors.")
@click.option("--declaration", is_flag=True, help="Instead: the JSON schema of collections.yaml, for editors.")
@with_shell
def schema(  # noqa: PLR0913  the options of the command
    shell: Shell,
    names: tuple[str, ...],
    live: bool,
    recorded: bool,
    revision: str | None,
    form: str,
    changelog: bool | None,
    of_settings: bool,
    declaration: bool,
) -> None:
    """Document the collections NAME (or globs), or all: vectors, payload indexes, settings, aliases, models."""
    if of_settings or declaration:
        alone = not (names or live or recorded or revision or changelog is not None or (of_settings and declaration))
        _show_editors(shell, declaration=declaration, alone=alone)
        return
    import qmigrate.commands.schema as command

    if live + recorded + (revision is not None) > 1:
        raise click.UsageError("choose one of --live, --recorded and --revision", click.get_current_context())
    source = "live" if live else "recorded" if recorded else None
    found = command.schema(shell.settings(stores=revision is None), names, source=source, revision=revision)
    for note in note_lines(found.notes):
        if not shell.options.quiet:
            shell.console(stderr=True).print(note)
    writers = {"yaml": as_yaml, "markdown": as_markdown, "json": as_json}
    wanted = form == "markdown" if changelog is None else changelog
    shell.show(found, lambda _, result: shell.document(writers[form](result, changelog=wanted)))


def _show_editors(shell: Shell, *, declaration: bool, alone: bool) -> None:
    """What an editor checks qmigrate.yaml or collections.yaml by."""
    option = "--declaration" if declaration else "--settings"
    if not alone:
        raise click.UsageError(f"{option} is about no collection: it stands alone", click.get_current_context())
    if declaration:
        from qmigrate.declared.editors import declaration_schema, declaration_schema_text

        shell.show(declaration_schema(), lambda _, __: shell.document(declaration_schema_text(), end=""))
        return
    from qmigrate.commands.settings_schema import settings_schema, settings_schema_text

    shell.show(settings_schema(), lambda _, __: shell.document(settings_schema_text(), end=""))
