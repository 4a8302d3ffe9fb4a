"""What a server has and local mode has not: operation ids, fences, snapshots. It pretends nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from qmigrate.errors import StoreError
from qmigrate.model.schema import JsonObject
from qmigrate.ports import Beat, OperationIds, Recovery, Snapshot


class Absent(ABC):
    """The part of :class:`qmigrate.ports.Store` that has nothing to do where one process owns the files."""

    @abstractmethod
    def must_exist(self, name: str) -> None:
        """Raise where there is no such collection."""

    def barrier(self, name: str) -> OperationIds:
        """Nothing: the file lock proves that no other process writes."""
        return self.operation_ids(name)

    def operation_ids(self, name: str) -> OperationIds:
        """None; the collection must be there."""
        self.must_exist(name)
        return {}

    def fence(self, name: str) -> JsonObject:
        """Nothing: no other process can write."""
        self.must_exist(name)
        return {}

    def take_tokens(self, name: str) -> int:
        """None passed: there is no limiter."""
        self.must_exist(name)
        return 0

    def lift_fence(self, name: str, prior: JsonObject) -> None:  # noqa: B027
        """Nothing to lift."""

    def create_snapshot(self, name: str) -> Snapshot:
        """Local mode has none.

        Raises:
            StoreError: always.
        """
        raise self._no_snapshots(name)

    def recover_snapshot(self, target: str, source: str, snapshot: Snapshot, location: str, tick: Beat) -> Recovery:  # noqa: ARG002
        """Local mode has none.

        Raises:
            StoreError: always.
        """
        raise self._no_snapshots(source)

    def recovering(self, target: str) -> bool | None:  # noqa: ARG002
        """Never."""
        return False

    def disk_size(self) -> int | None:
        """Not looked up: nothing here needs it."""
        return None

    def list_snapshots(self, name: str) -> list[Snapshot]:
        """None; the collection must be there."""
        self.must_exist(name)
        return []

    def delete_snapshot(self, name: str, snapshot: str) -> None:  # noqa: B027
        """Nothing: there can't be one."""

    def read_snapshot(self, name: str, snapshot: str) -> Iterator[bytes]:  # noqa: ARG002
        """Local mode has none.

        Raises:
            StoreError: always.
        """
        raise self._no_snapshots(name)

    def _no_snapshots(self, name: str) -> StoreError:
        return StoreError(
            f"no snapshot of {name}: local mode has none",
            hint="qmigrate snapshot create writes an archive instead",
        )
