"""The HTTP API. Every request calls one verb of `commands`: it decides nothing, and keeps no state of its own.

Needs the extra: ``pip install 'qdrant-migrations[console]'``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qmigrate.console.app import create_app
    from qmigrate.console.contract import vectors_router
    from qmigrate.console.reports import report

__all__ = ["create_app", "report", "vectors_router"]
_HOMES = {
    "create_app": "qmigrate.console.app",
    "report": "qmigrate.console.reports",
    "vectors_router": "qmigrate.console.contract",
}
#: What needs the extra, where that is not the HTTP API.
_NEEDING = {"report": "a report"}


def __getattr__(name: str) -> Any:
    """What is exported, imported when it is asked for.

    Raises:
        ConfigError: the extra is not installed.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    from qmigrate.errors import ConfigError

    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "qmigrate":
            raise
        raise ConfigError(
            f"{_NEEDING.get(name, 'the HTTP API')} needs {error.name}, which is not installed",
            hint="pip install 'qdrant-migrations[console]'",
        ) from error
