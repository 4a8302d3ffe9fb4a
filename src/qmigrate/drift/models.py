"""Models that filled vectors against the ones that are configured now. Pure: it loads none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from qmigrate.drift.finding import Finding, drift, note
from qmigrate.operations.base import Operation


def embedders_of(operations: Iterable[Operation]) -> dict[str, str]:
    """Vector -> name of the embedder that fills it, after these operations of one collection in their order."""
    found: dict[str, str] = {}
    for operation in operations:
        # Whatever else fills the vector again takes the place of the embedder.
        for vector in operation.filled():
            found.pop(vector, None)
        found.update({vector: value.embedder for vector, value in operation.embeds().items()})
    return found


def fingerprint_findings(
    recorded: Mapping[str, Any],
    embedders: Mapping[str, str],
    now: Mapping[str, Mapping[str, Any]],
    broken: Mapping[str, str],
) -> Iterator[Finding]:
    """Vectors that the configured model would not fill in the same way again.

    Args:
        recorded: vector -> fingerprint of the model that filled it.
        embedders: vector -> name of its embedder.
        now: embedder -> fingerprint; those that are not configured are left out.
        broken: embedder -> why it can't be loaded.
    """
    for vector, then in sorted(recorded.items()):
        name = embedders.get(vector)
        if name is None:
            continue
        path = f"embedders.{vector or '(unnamed)'}"
        if name in broken:
            yield drift("embedder", path, f"embedder {name} can't be loaded: {broken[name]}", "qmigrate doctor")
        elif name not in now:
            yield note(
                "embedder",
                path,
                f"embedder {name}, which filled {vector or '(unnamed)'}, is not configured any more",
                "bring it back under embedders: in qmigrate.yaml before the vector is filled again",
            )
        else:
            yield from _compared(path, name, then, now[name])


def _compared(path: str, name: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Finding]:
    for key in sorted(set(then) | set(now)):
        if then.get(key) != now.get(key):
            yield drift(
                "embedder",
                f"{path}.{key}",
                f"embedder {name} is not the model that filled the vector",
                f"give embedders.{name} in qmigrate.yaml its former {key}",
                "fill the vector again in a revision: op.Reembed(…)",
                recorded=then.get(key),
                live=now.get(key),
            )
