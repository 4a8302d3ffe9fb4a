"""Whether REST and gRPC reach the same Qdrant: each has an address of its own, and either may be that of another one.

What is read over gRPC would then be another server's points under the same names. Writes need no such look: they go
through aliases that only one of the two has.
"""

from __future__ import annotations

import time
from typing import Any

import grpc
from qdrant_client import grpc as messages

from qmigrate.errors import ConfigError, NotFoundError, StoreError
from qmigrate.store.rest import Rest, segment
from qmigrate.store.shapes import SEAL

#: How often both are asked, and the seconds in between: a name may be on its way from generation to generation.
LOOKS, PAUSE = 10, 0.2
#: The marks of a collection: its ledger and generation; empty where it has none.
_Says = tuple[str, int] | tuple[()]


class Same:
    """Compares one collection by both ways, once per connection.

    Args:
        rest: of the asked node.
        channel: of gRPC.
        label: of gRPC, for messages.
        metadata: of every gRPC request.
        timeout: of one, in seconds.
    """

    def __init__(self, rest: Rest, channel: Any, label: str, metadata: Any, timeout: float) -> None:
        self._rest = rest
        self._collections = messages.CollectionsStub(channel)
        self._label = label
        self._options = {"metadata": metadata, "timeout": timeout}
        self._known = False

    def check(self, name: str) -> None:
        """Stop where a collection is another one over gRPC; what is unknown is not a reason.

        Raises:
            ConfigError: the two are different servers.
        """
        if self._known:
            return
        for look in range(LOOKS):
            if look:
                time.sleep(PAUSE)
            found = self._is_same(name)
            if found is None:
                return
            if found:
                self._known = True
                return
        raise ConfigError(
            f"Qdrant at {self._label} (gRPC, for points) is not the one at {self._rest.label} (REST): {name} is "
            "not the same collection there",
            hint="qdrant.grpc_port and grpc_host in qmigrate.yaml, or QMIGRATE_QDRANT_GRPC_PORT and "
            "QMIGRATE_QDRANT_GRPC_HOST, must lead to the server of the URL",
        )

    def _is_same(self, name: str) -> bool | None:
        """None where one of the two doesn't say."""
        try:
            config = self._rest.get(f"/collections/{segment(name)}").get("config") or {}
        except (NotFoundError, StoreError):
            # The request itself will show what is wrong.
            return None
        seal = (config.get("metadata") or {}).get(SEAL) or {}
        over_rest: _Says = (str(seal.get("ledger")), int(seal.get("generation") or 0)) if seal else ()
        try:
            answer = self._collections.Get(messages.GetCollectionInfoRequest(collection_name=name), **self._options)
        except grpc.RpcError as error:
            return False if error.code() == grpc.StatusCode.NOT_FOUND else None
        fields = answer.result.config.metadata[SEAL].struct_value.fields if answer.result.config.metadata else {}
        if not fields:
            return None if over_rest else True
        return over_rest == (fields["ledger"].string_value, fields["generation"].integer_value)
