"""Typed reading of one embedder's settings, with errors that name it. It depends on no backend."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qmigrate.errors import EmbedError
from qmigrate.settings.values import parse_timeout

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


class Options:
    """The settings of one embedder.

    Args:
        name: of the embedder, for messages.
        config: its settings; keys are checked by the caller, values here.
        size: of its vectors where the settings give none; None where only the model knows.
    """

    def __init__(self, name: str, config: Mapping[str, Any], *, size: int | None = None) -> None:
        self.name = name
        self._config = config
        self._size = size

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

    def number(self, key: str) -> float | None:
        """A number that is not negative; None where it is absent.

        Raises:
            EmbedError: it is something else.
        """
        value = self._config.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise self.wrong(key, "a number of at least 0", value)
        return float(value)

    def size(self, *, lowest: int) -> int:
        """The size of its vectors: ``size`` of the settings, else that of its type.

        Raises:
            EmbedError: it is something else, or there is none.
        """
        found = self.integer("size", self._size, lowest=lowest)
        if found is None:
            raise self.wrong("size", "given", found)
        return found

    def text(self, key: str) -> str | None:
        """A text that is not blank, or None where it is absent.

        Raises:
            EmbedError: it is something else.
        """
        value = self._config.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(key, "a string", value)
        return value.strip()

    def verbatim(self, key: str) -> str | None:
        """A text with its blanks as they are: those at the end of a prompt are part of it. None where it is absent.

        Raises:
            EmbedError: it is something else.
        """
        value = self._config.get(key)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, "a string", value)
        return value or None

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
            raise self.wrong(key, "a list of strings", value)
        return tuple(value)

    def table(self, key: str) -> dict[str, Any]:
        """Names and their values, as plain JSON; empty where it is absent.

        Raises:
            EmbedError: it is something else.
        """
        value = self._config.get(key)
        if value is None:
            return {}
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            value = repr(value)
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            raise self.wrong(key, "names and their values", value)
        return dict(value)

    def flag(self, key: str, default: bool | None) -> bool | None:
        """True or false; `default` where it is absent.

        Raises:
            EmbedError: it is something else.
        """
        value = self._config.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false", value)
        return value

    def choice(self, key: str, known: tuple[str, ...]) -> str:
        """One of some words; the first one where it is absent.

        Raises:
            EmbedError: it is something else.
        """
        value = self._config.get(key, known[0])
        if value not in known:
            raise self.wrong(key, " or ".join(known), value)
        return str(value)

    def seconds(self, key: str, default: float) -> float:
        """A duration above zero (``60``, ``60s``, ``5m``), in seconds.

        Raises:
            EmbedError: it is something else.
        """
        value = self._config.get(key)
        if value is None:
            return default
        found = parse_timeout(value)
        if not found:
            raise self.wrong(key, "a duration such as 30s or 5m", value)
        return found

    def secret(self, key: str) -> str | None:
        """What the variable of ``<key>_env`` or the file of ``<key>_file`` holds; None where neither is given.

        Raises:
            EmbedError: both are given, the variable is not set, the file can't be read, or there is nothing in it.
                The secret itself is in no message.
        """
        variable, file = self.text(f"{key}_env"), self.text(f"{key}_file")
        if variable and file:
            raise EmbedError(f"embedder {self.name!r} has both {key}_env and {key}_file", hint="keep one of them")
        if variable:
            found = os.environ.get(variable, "").strip()
            place, why = f"the environment variable {variable}", "is empty" if variable in os.environ else "is not set"
        elif file:
            place, why = f"the file {file}", "is empty"
            try:
                found = Path(file).expanduser().read_text(encoding="utf-8-sig").strip()
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not text"
                found, why = "", f"can't be read: {reason}"
        else:
            return None
        if not found:
            raise EmbedError(
                f"embedder {self.name!r}: {place}, which {key}_{'env' if variable else 'file'} names, {why}",
                hint="put the key there and run the same command again",
            )
        if any(not "!" <= sign <= "~" for sign in found):
            raise EmbedError(f"embedder {self.name!r}: what {place} holds is not a key: it has a blank or odd sign")
        return found

    def wrong(self, key: str, wanted: str, found: object) -> EmbedError:
        """The error for a value of a wrong kind."""
        return EmbedError(
            f"embedder {self.name!r}: {key} must be {wanted}, not {found!r}",
            hint="correct embedders in qmigrate.yaml",
        )


def speed_key(name: str, config: Mapping[str, Any]) -> str:
    """What the speed of an embedder is known by: its name and a digest of its settings, without what opens anything.

    No model is loaded for it; another device or batch size is another speed.
    """
    told = {key: value for key, value in config.items() if not any(word in key.lower() for word in _OPENING)}
    text = json.dumps(told, sort_keys=True, default=str)
    return f"{name}:{hashlib.sha256(text.encode()).hexdigest()[:12]}"


#: Parts of the names of settings that hold secrets.
_OPENING = ("key", "token", "secret", "password")
