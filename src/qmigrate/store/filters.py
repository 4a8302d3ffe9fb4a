"""Filters of points: from plain JSON in REST shape to what the client and the wire take. It sends nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qmigrate.errors import UsageError
from qmigrate.model.schema import JsonObject
from qmigrate.model.transform import PointId


def model_of(where: JsonObject) -> Any:
    """The client's own object of a filter.

    Raises:
        UsageError: it is not a Qdrant filter; the message names what is wrong.
    """
    # Only here: importing the client's models takes most of a second.
    from pydantic import ValidationError
    from qdrant_client import models

    try:
        return models.Filter.model_validate(where)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"][:3])
        raise UsageError(
            f"the filter is not valid for Qdrant: {place}: {problem['msg']}",
            hint="https://qdrant.tech/documentation/concepts/filtering/ shows the syntax",
        ) from None


def wire_of(where: JsonObject) -> Any:
    """The message of a filter.

    Raises:
        UsageError: it is not a Qdrant filter, or a value in it is one that Qdrant has no place for.
    """
    from qdrant_client.conversions.conversion import RestToGrpc

    model = model_of(where)
    try:
        return RestToGrpc.convert_filter(model)
    except ValueError as error:
        raise UsageError(
            f"the filter contains what Qdrant filters can't have: {error}",
            hint="integers are signed 64-bit there; larger ones are compared by range, as doubles",
        ) from None


def visible(where: Any, flag: str) -> Any:
    """The client's own object of a filter that leaves out what is marked as deleted.

    Args:
        where: a further filter, as JSON or as the client's object; None for none.
        flag: payload key of the mark.
    """
    from qdrant_client import models

    unmarked = models.IsEmptyCondition(is_empty=models.PayloadField(key=f"{flag}.at"))
    if where is None:
        return models.Filter(must=[unmarked])
    return models.Filter(must=[unmarked, model_of(where) if isinstance(where, dict) else where])


def among(where: JsonObject, ids: Sequence[PointId]) -> JsonObject:
    """The same filter for these points only."""
    return {"must": [{"has_id": list(ids)}, where]}
