"""What decides an embedder's output, as one short digest and in words. It computes no vectors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

#: What shows which model it is, before what only differs.
_LEADING = ("type", "model", "function")
_LONGEST = 40


def fingerprint_digest(fingerprint: Mapping[str, Any]) -> str:
    """32 hexadecimal digits that are equal exactly when the fingerprints are.

    Args:
        fingerprint: what ``Embedder.fingerprint()`` returned; plain JSON, the order of keys doesn't matter.
    """
    canonical = json.dumps(
        fingerprint, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def fingerprint_words(fingerprint: Mapping[str, Any], other: Mapping[str, Any] | None = None) -> str:
    """``hashing, 256 values``: which model it is, and in what else it differs from another one.

    Args:
        fingerprint: what ``Embedder.fingerprint()`` returned.
        other: the one that it is shown next to.
    """
    words = [str(fingerprint[key]) for key in _LEADING if fingerprint.get(key)]
    if fingerprint.get("size"):
        words.append(f"{fingerprint['size']} values")
    for key in sorted(fingerprint.keys() | (other or {}).keys()):
        if other is None or key in (*_LEADING, "size") or fingerprint.get(key) == other.get(key):
            continue
        # What the other doesn't have at all doesn't count: it is another library.
        if key in fingerprint and key in other:
            value = str(fingerprint[key])
            words.append(f"{key} {value if len(value) <= _LONGEST else value[: _LONGEST - 1] + '…'}")
    return ", ".join(words)
