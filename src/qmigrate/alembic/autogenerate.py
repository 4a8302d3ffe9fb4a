"""Keeps the ledger's tables out of Alembic's autogenerate and check. It reads names only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qmigrate.ledger import TABLE_NAMES
from qmigrate.ledger.tables import metadata

Filter = Callable[..., bool]


def hides(own: Filter | None) -> Filter:
    """A value for ``include_object`` that leaves out what only the ledger uses.

    A table that the application's models have too, and that the ledger has extended, stays visible: only the
    columns and indexes that are the ledger's alone are left out.

    Args:
        own: the user's filter.
    """

    def include(object: Any, name: str | None, type_: str, reflected: bool, compare_to: Any) -> bool:  # noqa: A002
        if reflected and compare_to is None and _is_ours(object, name, type_):
            return False
        return own is None or bool(own(object, name, type_, reflected, compare_to))

    return include


def _is_ours(found: Any, name: str | None, kind: str) -> bool:
    if kind == "table":
        return name in TABLE_NAMES
    table = metadata.tables.get(getattr(getattr(found, "table", None), "name", ""))
    if table is None:
        return False
    if kind == "column":
        return name is not None and name in table.columns
    return kind == "index" and name in {index.name for index in table.indexes}
