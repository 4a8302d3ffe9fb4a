"""Typed reading of one embedder's settings, with errors that name it. It knows no backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qmigrate.errors import EmbedError


class Options:
    """The settings of one embedder.

    Args:
        name: of the embedder, for messages.
        config: its settings; keys are checked by the caller, values here.
    """

    def __init__(self, name: str, config: Mapping[str, Any]) -> None:
        self.name = name
        self._config = config

    def integer(self, key: str, default: int | None, *, lowest: int = 1, highest: int = 65536) -> int | None:
        """A whole number within bounds; `default` where it is absent.

        Raises:
            EmbedError: it is something else.
        """
        value = self._config.get(key)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
            raise self.wrong(key, f"a whole number from {lowest:,} to {highest:,}", value)
        return value

    def text(self, key: str) -> str | None:
        """A text that is not blank, or None where it is absent.

        Raises:
            EmbedError: it is something else.
        """
        value = self._config.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(key, "a text", value)
        return value.strip()

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, empty where it is absent.

        Raises:
            EmbedError: it is something else, also a lone text: that would be read letter by letter.
        """
        value = self._config.get(key)
        if value is None:
            return ()
        if not isinstance(value, list | tuple) or not all(
            isinstance(item, str) and item.strip() for item in value
        ):
            raise self.wrong(key, "a list of texts", value)
        return tuple(value)

    def wrong(self, key: str, wanted: str, found: object) -> EmbedError:
        """The error for a value of a wrong kind."""
        return EmbedError(
            f"embedder {self.name!r}: {key} must be {wanted}, not {found!r}",
            hint="mend embedders in qmigrate.yaml",
        )
