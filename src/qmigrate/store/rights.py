"""What a key may do, found by trying: requests that a server authorises and that then have nothing to do.

- *reads everything*: ``GET /cluster``, which asks for the right to read all collections.
- *manages*: removing an alias that can't exist. Every upgrade begins with the same request.
- *one collection*: deleting a snapshot that can't exist (``rw``), else deleting a point under a shard key that can't
  exist (``prw``), else its description (``r``). Neither gets as far as a shard, so operation ids don't move.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

from qmigrate.errors import DeniedError, NotFoundError
from qmigrate.model.health import KeyRights
from qmigrate.model.names import PROBE_PREFIX
from qmigrate.store import aliases
from qmigrate.store.collection import path_of
from qmigrate.store.faults import RefusedRequestError
from qmigrate.store.nodes import physical_names
from qmigrate.store.rest import Rest, segment

#: Most collections that a limited key is tried on, one by one.
MOST_COLLECTIONS = 50


def tried(node: Rest, *, sent: bool) -> KeyRights:
    """What the key of a connection may do.

    Args:
        node: carries the key.
        sent: whether there is one.

    Raises:
        StoreError: the server can't be reached; nothing is known then.
    """
    try:
        names = physical_names(node)
    except DeniedError as error:
        return KeyRights(sent=sent, accepted=False, reason=error.message)
    unknown = f"{PROBE_PREFIX}{uuid.uuid4().hex}"
    reads, reason = _allowed(lambda: node.get("/cluster"))
    manages, refused = _allowed(lambda: aliases.drop(node, unknown))
    found = {} if reads else {name: _access(node, name, unknown) for name in names[:MOST_COLLECTIONS]}
    return KeyRights(
        sent=sent, accepted=True, reads=reads, manages=manages, collections=found, reason=reason or refused
    )


def _access(node: Rest, name: str, unknown: str) -> str:
    """What a limited key may do with one collection that it sees."""
    path = path_of(name)
    snapshot = f"{path}/snapshots/{segment(unknown)}"
    if _allowed(lambda: node.call("DELETE", snapshot, params={"wait": "true"}, retry=False))[0]:
        return "rw"
    body = {"points": [str(uuid.uuid4())], "shard_key": unknown}
    if _allowed(lambda: node.call("POST", f"{path}/points/delete", body, params={"wait": "true"}, retry=False))[0]:
        return "prw"
    return "r" if _allowed(lambda: node.get(path))[0] else "none"


def _allowed(request: Callable[[], object]) -> tuple[bool, str]:
    """Whether a request is let through, and the refusal; what it was let through to and found missing doesn't count."""
    try:
        request()
    except DeniedError as error:
        return False, error.message
    except (NotFoundError, RefusedRequestError):
        pass
    return True, ""
