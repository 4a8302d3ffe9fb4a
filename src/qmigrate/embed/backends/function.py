"""A user's own function as an embedder. It adds names to failures and changes no value."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

from qmigrate.embed.options import Options
from qmigrate.embed.staged import out_of_memory
from qmigrate.errors import EmbedError, QmigrateError
from qmigrate.model.schema import JsonObject
from qmigrate.ports import Embedder
from qmigrate.text import counted

DEFAULT_BATCH = 256


def build(options: Options) -> Embedder:
    """From ``{type: callable, function: "module:attr", size: 384, max_batch: 256, version: "1", sys_path: [.]}``.

    Only ``function`` is required. Its module is looked for in the folders of ``sys_path`` first, by default that of the
    settings file. It takes a list of items and returns one vector per item: an array (n, d),
    lists, or sparse vectors. ``version`` names the state of the model; without it, a change of the function's
    source counts as another model.

    Raises:
        EmbedError: the function can't be imported.
    """
    spec = options.text("function")
    if spec is None:
        raise EmbedError(
            f"embedder {options.name!r} names no function",
            hint='add function: "module:attr" to it in qmigrate.yaml',
        )
    return _Function(
        options.name,
        spec,
        _imported(options.name, spec, options.texts("sys_path")),
        size=options.integer("size", None),
        max_batch=options.integer("max_batch", DEFAULT_BATCH) or DEFAULT_BATCH,
        version=options.text("version"),
    )


def put_first(folders: Sequence[str]) -> None:
    """Have modules looked for in these folders first, from now on: a function may import more when it is called."""
    for folder in reversed(folders):
        if folder not in sys.path:
            sys.path.insert(0, folder)


def _imported(name: str, spec: str, folders: Sequence[str]) -> Callable[[list[Any]], Any]:
    module, _, attributes = spec.partition(":")
    if not module or not attributes:
        raise EmbedError(f'embedder {name!r}: function must be "module:attr", not {spec!r}')
    put_first(folders)
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:  # whatever a user's module raises while it is imported
        raise EmbedError(
            f"embedder {name!r}: module {module!r} can't be imported: {type(error).__name__}: {error}",
            hint="put it next to qmigrate.yaml, name its folder (sys_path: [FOLDER]), or install it",
        ) from error
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            raise EmbedError(f"embedder {name!r}: {module} has no {attributes}")
        found = getattr(found, attribute)
    if not callable(found):
        raise EmbedError(f"embedder {name!r}: {spec} is not a function but {type(found).__name__}")
    function: Callable[[list[Any]], Any] = found
    return function


class _Function:
    """Calls the user's function."""

    def __init__(
        self,
        name: str,
        spec: str,
        function: Callable[[list[Any]], Any],
        *,
        size: int | None,
        max_batch: int,
        version: str | None,
    ) -> None:
        self._name = name
        self._spec = spec
        self._function = function
        self._version = version
        self.size = size
        self.max_batch = max_batch

    def fingerprint(self) -> JsonObject:
        """Its name and version; without one, a digest of its source, or None where that can't be read."""
        parts: JsonObject = {
            "type": "callable",
            "function": self._spec,
            "size": self.size,
            "normalisation": None,
        }
        if self._version is not None:
            parts["version"] = self._version
        else:
            parts["source"] = _source_digest(self._function)
        return parts

    def embed(self, items: Sequence[Any]) -> Any:
        """One call of the function.

        Raises:
            EmbedError: it raised, or returned something that has no length.
        """
        try:
            made = self._function(list(items))
        except QmigrateError:
            raise
        except Exception as error:  # whatever the user's code raises is about these items
            if out_of_memory(error):
                # About how many there are, which the caller can change.
                raise
            raise EmbedError(
                f"{self._spec} failed for {_shown(items)}: {type(error).__name__}: {error}"
            ) from error
        if not hasattr(made, "__len__"):
            raise EmbedError(f"{self._spec} returned {type(made).__name__} instead of one vector per item")
        return made


def _shown(items: Sequence[Any]) -> str:
    if len(items) != 1:
        return counted(len(items), "item")
    text = repr(items[0])
    return text if len(text) <= 80 else f"{text[:77]}..."


def _source_digest(function: Callable[..., Any]) -> str | None:
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        return None
    return hashlib.sha256(source.encode()).hexdigest()[:16]
