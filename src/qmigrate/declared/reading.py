"""The declaration, from Python or from YAML, checked. It imports what the settings name, and asks no server."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from qmigrate.declared.adapters import collections_of
from qmigrate.declared.collection import LATER, Collection, Wanted
from qmigrate.embed.backends.function import put_first
from qmigrate.errors import ConfigError, NotConfiguredError, PlanError, QmigrateError
from qmigrate.model.schema import JsonObject
from qmigrate.operations.app_sql import Checksum, WriteBack
from qmigrate.operations.collection import CreateCollection
from qmigrate.operations.values import CopyOf, Embed, Empty, Value
from qmigrate.operations.variables import read_variable
from qmigrate.parameters.catalogue import catalogue
from qmigrate.settings.load import Settings
from qmigrate.text import did_you_mean

#: The declaration where the settings name none.
DEFAULT = "collections.yaml"
_FILES = (".yaml", ".yml", ".json")
#: What `qmigrate schema` tells about a collection besides its schema: read by people, and not compared.
TOLD = ("source", "revision", "physical", "points", "changelog")
#: What a collection of the file may have.
KEYS = ("vectors", "sparse_vectors", "payload_indexes", "settings", "aliases", "embedders", "renamed_from")


def where(settings: Settings) -> str:
    """What is declared and where: ``app.schema:collections`` or a file, for people.

    Raises:
        NotConfiguredError: nothing is.
    """
    if settings.declared is not None:
        return settings.declared
    if (settings.folder / DEFAULT).is_file():
        return DEFAULT
    raise NotConfiguredError(
        f"nothing is declared: the settings have no declared:, and there is no {DEFAULT} next to them",
        hint=f"qmigrate schema --revision head > {DEFAULT} declares what the revisions make; "
        'or declared: "app.schema:collections" in qmigrate.yaml',
    )


def read(settings: Settings) -> tuple[Wanted, ...]:
    """Every declared collection, sorted by name.

    Raises:
        NotConfiguredError: nothing is declared.
        ConfigError: the declaration can't be read, or says what Qdrant would not take; names where.
    """
    place = where(settings)
    found = _of_file(settings.folder / place) if place.endswith(_FILES) else _of_python(place, settings.folder)
    names = [one.name for one in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"{place} declares {twice} twice")
    return tuple(sorted(found, key=lambda one: one.name))


def _of_python(place: str, folder: Path) -> list[Wanted]:
    module, _, attributes = place.partition(":")
    if not module or not attributes:
        raise ConfigError(
            f'declared must be "module:attribute" or a file that ends in .yaml, not {place!r}',
            hint='declared: "app.schema:collections"',
        )
    put_first([str(folder)])
    try:
        found: Any = importlib.import_module(module)
        for attribute in attributes.split("."):
            found = getattr(found, attribute)
        return [one.wanted() for one in collections_of(found)]
    except QmigrateError as error:
        raise ConfigError(f"declared {place}: {error.message}", hint=error.hint) from error
    except Exception as error:  # whatever a user's module raises while it is imported or called
        raise ConfigError(
            f"declared {place}: {type(error).__name__}: {error}",
            hint="it is imported from the folder of qmigrate.yaml, and must need no server",
        ) from error


def _of_file(file: Path) -> list[Wanted]:
    import yaml

    try:
        content = file.read_text(encoding="utf-8-sig")
        data = json.loads(content, object_pairs_hook=_once) if file.suffix == ".json" else _yaml(content)
    except OSError as error:
        raise ConfigError(f"{file} can't be read: {error.strerror}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{file} can't be read: {error}", hint="qmigrate schema prints one that can") from error
    return list(of_plain(data, file.name))


def _once(pairs: list[tuple[str, Any]]) -> JsonObject:
    """An object in which no key is given twice.

    Raises:
        ValueError: one is.
    """
    found: JsonObject = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {name!r} is given twice")
        found[name] = value
    return found


def _yaml(content: str) -> Any:
    """YAML whose keys are names as they are written: collections, vectors and fields may be called ``no`` or ``007``.

    Raises:
        yaml.YAMLError: it is none, or a key is given twice: the other value would be left out silently.
    """
    import yaml

    class Named(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            names = [key.value for key, _ in node.value]
            for key, _ in node.value:
                why = "no name" if not isinstance(key, yaml.ScalarNode) else "given twice"
                if why == "no name" or names.count(key.value) > 1:
                    odd = f"the key {key.value!r:.60} is {why}"
                    raise yaml.constructor.ConstructorError(None, None, odd, key.start_mark)
            # What an anchor brings in comes first, so that what is written here wins.
            self.flatten_mapping(node)
            return {key.value: self.construct_object(value, deep=deep) for key, value in node.value}

    return yaml.load(content, Loader=Named)  # noqa: S506  a safe one


def of_plain(data: Any, place: str) -> Iterable[Wanted]:
    """What ``qmigrate schema`` prints, read back.

    Args:
        data: ``{"collections": {name: …}}``.
        place: for messages.

    Raises:
        ConfigError: it is something else, or says what Qdrant would not take.
    """
    found = _object(data, place)
    _known(found, ("collections",), place)
    for name, body in _object(found.get("collections"), f"{place}: collections").items():
        at = f"{place}: collections.{name}"
        try:
            yield _one(str(name), _object(body, at), at)
        except PlanError as error:
            raise ConfigError(f"{place}: {error.message}", hint=error.hint) from error


def _one(name: str, body: JsonObject, at: str) -> Wanted:
    _known(body, (*KEYS, *TOLD), at)
    settings = {key: _number(value) for key, value in _object(body.get("settings"), f"{at}.settings").items()}
    known = (*CreateCollection.settings(), *LATER)
    unsaid = tuple(f"{key} = {value!r}" for key, value in settings.items() if _is_newer(key))
    settings = {key: value for key, value in settings.items() if not _is_newer(key)}
    _known(settings, known, f"{at}.settings")
    fillers = _object(body.get("embedders"), f"{at}.embedders")
    renamed = body.get("renamed_from")
    if renamed is not None and not isinstance(renamed, str | dict):
        raise ConfigError(
            f"{at}.renamed_from must map vectors to their names before, or be the collection's name before"
        )
    aliases = body.get("aliases") or []
    if not isinstance(aliases, list):
        raise ConfigError(f"{at}.aliases must be a list of names, not {aliases!r}")
    for key, names in (("aliases", aliases), ("renamed_from", renamed.values() if isinstance(renamed, dict) else ())):
        odd = next((one for one in names if not isinstance(one, str)), "")
        if odd != "":
            raise ConfigError(f"{at}.{key}: {odd!r} is not a text", hint="put it into quotes")
    made = Collection(
        name,
        _object(body.get("vectors"), f"{at}.vectors"),
        _object(body.get("sparse_vectors"), f"{at}.sparse_vectors"),
        _object(body.get("payload_indexes"), f"{at}.payload_indexes"),
        values={str(key): _filler(value, f"{at}.embedders.{key}") for key, value in fillers.items()},
        aliases=aliases,
        renamed_from=renamed,
        **settings,
    )
    return replace(made.wanted(), unsaid=unsaid)


def _is_newer(key: str) -> bool:
    """A setting that Qdrant has, and no operation."""
    expressible = {*CreateCollection.settings(), *LATER}
    return key in catalogue().create.known and key not in expressible


def _filler(value: Any, at: str) -> Value | str:
    """What fills a vector: the words of ``qmigrate schema``, or an object that says it."""
    if isinstance(value, str):
        return value
    body = dict(_object(value, at))
    if set(body) == {"copy_of"}:
        return CopyOf(body["copy_of"])
    if set(body) == {"empty"}:
        return Empty()
    _known(body, ("embedder", "text", "image", "on_failure", "checksum", "write_back"), at)
    for key, kind in (("checksum", Checksum), ("write_back", WriteBack)):
        if key in body:
            further = dict(_object(body[key], f"{at}.{key}"))
            body[key] = kind(further.pop("sql", ""), **further)
    try:
        return Embed(body.pop("embedder", ""), **body)
    except TypeError as error:
        raise ConfigError(f"{at}: {error}") from error


def _number(value: Any) -> Any:
    """``${DOCS_SHARDS:-1}`` as the number that it stands for, at every depth."""
    if isinstance(value, str):
        found = read_variable(value)
        return value if found is None else found
    return {key: _number(one) for key, one in value.items()} if isinstance(value, Mapping) else value


def _object(value: Any, at: str) -> JsonObject:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{at} must be an object, not {value!r:.80}")
    return value


def _known(found: Mapping[str, Any], known: Iterable[str], at: str) -> None:
    names = tuple(known)
    for key in found:
        if key not in names:
            raise ConfigError(
                f"{at} has no key {key!r}{did_you_mean(key, names)}", hint=f"known keys here: {', '.join(names)}"
            )
