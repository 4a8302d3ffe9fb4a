"""What a server says at once, or not at all: its version and its names, within a second. Nothing else waits for it.

For what must not fail or hang because a server does: ``--version``, and the completion of a shell.
"""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from qmigrate.store.address import ConnectionSettings
from qmigrate.store.server.rest import Rest

#: Seconds for the answer, with the connection.
PATIENCE = 1.0


def version(settings: ConnectionSettings) -> str | None:
    """The version of the server; None where it doesn't answer in time."""
    found = _asked(settings, "/")
    return str(found["version"]) if isinstance(found, dict) and "version" in found else None


def names(settings: ConnectionSettings) -> list[str]:
    """Collections and aliases, of a server or of a folder of local mode; none where it doesn't answer in time."""
    if settings.url is None:
        return _local(Path(settings.path or ""))
    found: list[str] = []
    for path, key, name in (("/collections", "collections", "name"), ("/aliases", "aliases", "alias_name")):
        answer = _asked(settings, path)
        result = answer.get("result") if isinstance(answer, dict) else None
        found += [str(one[name]) for one in (result or {}).get(key, [])]
    return found


def _local(folder: Path) -> list[str]:
    """What the client's local mode has listed; its lock is left alone."""
    try:
        found = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        return [*found["collections"], *found.get("aliases", {})]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _asked(settings: ConnectionSettings, path: str) -> Any:
    """The JSON of one answer; None for whatever else may happen."""
    found: list[Any] = []

    def ask() -> None:
        try:
            rest = Rest(settings.url or "", replace(settings, timeout=PATIENCE))
            try:
                found.append(json.loads(rest.send("GET", path).content))
            finally:
                rest.close()
        except Exception:  # noqa: S110  a server that is down, a certificate, a page of a proxy: nothing is known
            pass

    # A name that takes long to look up can't be given a limit otherwise.
    asking = threading.Thread(target=ask, daemon=True, name="quick")
    asking.start()
    asking.join(PATIENCE)
    return found[0] if found else None
