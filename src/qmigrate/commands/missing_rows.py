"""Ids of rows without a point, passed to a function of the application. It finds none itself."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from qmigrate import scratch
from qmigrate.commands.fix import Narrow
from qmigrate.embed.backends.function import put_first
from qmigrate.engine.fixes.orphans import JSON_LINES
from qmigrate.errors import UsageError
from qmigrate.model.transform import PointId
from qmigrate.sequences import parts
from qmigrate.settings.load import Settings

#: Ids of one call.
AT_ONCE = 1000

#: Gets up to :data:`AT_ONCE` ids at a time; may get an id again in a later run, while no point has it.
Taker = Callable[[list[PointId]], object]


@contextmanager
def handed(narrow: Narrow, taker: Taker | None) -> Iterator[Narrow]:
    """What to look with, so that `taker` gets the missing ids once the block has ended well.

    They wait in a file, so that a function that is slow or fails holds no lease and undoes nothing.

    Raises:
        UsageError: a file was asked for too.
        UnavailableError: there is no room for the file.
    """
    if taker is None:
        yield narrow
        return
    if narrow.missing_to is not None:
        raise UsageError("missing ids go to a file or to a function, not to both")
    with scratch.own_folder() as folder:
        file = folder / f"missing{JSON_LINES}"
        yield replace(narrow, missing_to=str(file))
        # There is none where a first look was kept: its ids were passed on then.
        if file.exists():
            with file.open(encoding="utf-8") as lines:
                ids = (json.loads(line) for line in lines)
                for batch in parts(ids, AT_ONCE):
                    taker(batch)


def function_of(settings: Settings, spec: str) -> Taker:
    """The function that ``module:attr`` names; its module may be next to the settings file.

    Raises:
        UsageError: there is none.
    """
    module, _, attributes = spec.partition(":")
    if not module or not attributes:
        raise UsageError(f'expected a function as "module:attr", got {spec!r}')
    put_first([str(settings.folder)] if settings.config else [])
    try:
        found: Any = importlib.import_module(module)
        for attribute in attributes.split("."):
            found = getattr(found, attribute)
    except Exception as error:  # whatever a user's module raises while it is imported
        raise UsageError(
            f"{spec} can't be imported: {type(error).__name__}: {error}",
            hint="put it next to qmigrate.yaml, or install it",
        ) from error
    if not callable(found):
        raise UsageError(f"{spec} is not a function but {type(found).__name__}")
    taker: Taker = found
    return taker
