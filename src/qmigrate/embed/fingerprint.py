"""One short digest of what decides an embedder's output. It computes no vectors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def fingerprint_digest(fingerprint: Mapping[str, Any]) -> str:
    """32 hexadecimal digits that are equal exactly when the fingerprints are.

    Args:
        fingerprint: what ``Embedder.fingerprint()`` returned; plain JSON, the order of keys doesn't matter.
    """
    canonical = json.dumps(
        fingerprint, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]
