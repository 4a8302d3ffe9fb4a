"""What ``alembic -x qdrant=…`` asks for. It runs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from alembic.util import CommandError

from qmigrate.errors import QmigrateError, UsageError
from qmigrate.settings.values import is_bare_number, parse_duration
from qmigrate.text import did_you_mean, visible


class BridgeError(CommandError):
    """What Alembic prints as ``FAILED: …``; it ends with exit code 255, as all its errors do.

    Attributes:
        error: ours, with its own exit code, hint and facts.
    """

    def __init__(self, error: QmigrateError) -> None:
        hint = "".join(f"\n  → {line}" for line in (error.hint or "").splitlines())
        # Alembic writes it to the terminal as it is.
        super().__init__(visible(f"{error.message}{hint}"))
        self.error = error


@contextmanager
def shown_by_alembic() -> Iterator[None]:
    """Turn our errors into one that Alembic shows."""
    try:
        yield
    except QmigrateError as error:
        raise BridgeError(error) from error


class Mode(StrEnum):
    """How the directives of this run behave."""

    REQUIRE = "require"
    RUN = "run"
    PLAN = "plan"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Wish:
    """The arguments of ``-x`` that are ours.

    Attributes:
        mode: REQUIRE when nothing was asked for.
        max_estimate: seconds that one vector step may be expected to take; None for no limit.
        lock_timeout: seconds to wait for another Alembic run; None for the setting.
    """

    mode: Mode = Mode.REQUIRE
    max_estimate: float | None = None
    lock_timeout: float | None = None


#: Keys of ``-x`` that are ours; nothing else may begin like one.
_KEYS = ("qdrant", "qdrant_max_estimate", "qdrant_lock_timeout")


def wish(arguments: Mapping[str, object]) -> Wish:
    """Read them from what ``context.get_x_argument(as_dictionary=True)`` gives; other keys are the user's own.

    Raises:
        UsageError: an unknown mode or key, or no duration; nothing has run.
    """
    for key in arguments:
        if key.lower().startswith(("qdrant", "qmigrate")) and key not in _KEYS:
            close = did_you_mean(key.lower(), _KEYS)
            raise UsageError(f"alembic -x {key}=… is unknown{close}", hint=f"known: {', '.join(_KEYS)}")
    chosen = arguments.get("qdrant", Mode.REQUIRE.value)
    known = [mode.value for mode in Mode]
    if chosen not in known:
        raise UsageError(
            f"alembic -x qdrant={chosen} is unknown{did_you_mean(str(chosen), known)}",
            hint=f"use one of: {', '.join(known)}",
        )
    return Wish(
        mode=Mode(str(chosen)),
        max_estimate=_seconds(arguments, "qdrant_max_estimate"),
        lock_timeout=_seconds(arguments, "qdrant_lock_timeout"),
    )


def _seconds(arguments: Mapping[str, object], key: str) -> float | None:
    if key not in arguments:
        return None
    found = parse_duration(str(arguments[key]))
    if found is None:
        why = "has no unit" if is_bare_number(str(arguments[key])) else "is not a duration"
        raise UsageError(f"alembic -x {key}={arguments[key]} {why}", hint="write it as 60s, 10m or 2h")
    return found
