"""The table of docs/adopt.md, from which a newcomer takes the first operation: each is one that fits such a collection."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from qdrant_client import models

import qmigrate
from qmigrate import op

PAGE = (Path(__file__).parents[3] / "docs" / "adopt.md").read_text(encoding="utf-8")
TABLE = PAGE.partition("| you want |")[2].partition("\n\n")[0]
ROWS = [(line.split("|")[1].strip(), re.findall(r"`(op\.[^`]*)`", line)) for line in TABLE.splitlines()[2:]]
NAMES = {
    **{name: getattr(models, name) for name in dir(models) if name[0].isupper()},
    **{name: getattr(qmigrate, name) for name in qmigrate.__all__},
    "my_function": dict,
}


@pytest.mark.parametrize(("wanted", "calls"), ROWS, ids=[wanted for wanted, _ in ROWS])
def test_an_operation_of_the_table_fits(wanted, calls):
    """It can be made as it stands, with imports from the two places that are named, and changes an adopted collection."""
    assert calls
    vector = models.VectorParams(size=384, distance=models.Distance.COSINE)
    named = "has a name" in wanted
    schema = op.CreateCollection("articles", {"text": vector} if named else vector).apply(None)
    for call in calls:
        made = eval(call, dict(NAMES))  # noqa: S307  the page's own code
        made.check(schema)
        assert made.apply(schema) != schema or made.edit() is not None or made.rewrites_payload or made.filled()
        if (edit := made.edit()) is not None:
            # It is about every point: on default settings, the cap of a tenth would refuse it.
            assert edit.get("filter") or edit["max_share"] == 1
