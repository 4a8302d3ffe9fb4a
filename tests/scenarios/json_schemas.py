"""Holds an answer of ``--json`` against the schema of its verb that docs/reference has, more strictly than a reader may."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema

SCHEMAS = Path(__file__).parents[2] / "docs" / "reference" / "schemas"


def check(answer: Any, *, complete: bool = True) -> None:
    """Raise when the answer has a key that its schema lacks, or a value of another type.

    Args:
        complete: also where it lacks a key; an answer of an earlier version may.
    """
    file = SCHEMAS / f"{answer['schema'].replace('/', '-')}.json"
    schema = _strict(json.loads(file.read_text(encoding="utf-8")), complete=complete)
    jsonschema.Draft202012Validator(schema).validate(answer)


def _strict(schema: Any, *, complete: bool) -> Any:
    if isinstance(schema, list):
        return [_strict(one, complete=complete) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: _strict(one, complete=complete) for name, one in schema.items()}
    if isinstance(made.get("required"), list) and set(made["required"]) == set(made.get("properties", ())):
        made["additionalProperties"] = False
        if not complete:
            del made["required"]
    return made
