"""What an ``Embed`` takes from a payload, as every caller of an embedder gets it. It embeds nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from qmigrate.embed.inputs import ImageName, read_input
from qmigrate.embed.stream import Failure
from qmigrate.model.transform import Payload
from qmigrate.operations.values import Embed


def embed_input(
    filling: Embed, payload: Payload, alone: Callable[[], AbstractContextManager[object]] = nullcontext
) -> Any:
    """The item that an embedder gets for a payload: a text, the name of an image, or bytes.

    Args:
        filling: what is embedded.
        payload: plain values.
        alone: gives what a function of the revision is called in; it may not be thread-safe.

    Returns:
        The item; None where there is nothing to embed; a failure where a function of the revision raises, or returns
        something else.
    """
    item = _called(filling.spec, payload, alone) if callable(filling.spec) else read_input(payload, filling.spec)
    return ImageName(item) if filling.image is not None and isinstance(item, str) else item


def _called(
    function: Callable[[Payload], Any], payload: Payload, alone: Callable[[], AbstractContextManager[object]]
) -> Any:
    name = getattr(function, "__name__", "?")
    with alone():
        try:
            found = function(payload)
        except Exception as error:  # whatever the user's code raises is about this point; a stop while waiting is not
            return Failure(0, "read", f"{name} failed for its payload: {type(error).__name__}: {error}")
    if found is None or (isinstance(found, str | bytes) and not found.strip()):
        return None
    if not isinstance(found, str | bytes):
        return Failure(0, "read", f"{name} returned {type(found).__name__} instead of a string or bytes")
    return found
