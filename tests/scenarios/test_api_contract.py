"""docs/api-contract.md, the OpenAPI document and what is answered agree: every example, on both stores."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import jsonschema
import pytest
from tests.scenarios.test_console import served, tokens  # noqa: F401  fixtures

from qmigrate.console import create_app

PAGE = (Path(__file__).parents[2] / "docs" / "api-contract.md").read_text(encoding="utf-8")


@dataclass
class Endpoint:
    """One endpoint of the page.

    Attributes:
        query: what stands behind its path.
        request: the example of a body; None where it has none.
        answers: status -> the example of an answer; None where it has no body.
    """

    method: str
    path: str
    query: str
    request: dict | None = None
    answers: dict[int, dict | list | None] = field(default_factory=dict)


def endpoints() -> list[Endpoint]:
    """Every endpoint of the page, in its order."""
    found = []
    for part in re.split(r"^#### ", PAGE, flags=re.MULTILINE)[1:]:
        method, path, query = re.match(r"`(\w+) ([^`?]+)\??([^`]*)`", part).groups()
        made = Endpoint(method, path, query)
        for kind, status, text in re.findall(r"^\*\*(Request|Response)\*\*(?: `(\d+)`)?\n(?:\n```json\n(.*?)```)?", part, re.MULTILINE | re.DOTALL):
            body = json.loads(text) if text else None
            if kind == "Request":
                made.request = body
            else:
                made.answers[int(status)] = body
        found.append(made)
    return found


ENDPOINTS = endpoints()
NAMES = [f"{one.method} {one.path}" for one in ENDPOINTS]


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    """The OpenAPI document of an application."""
    from tests.harness import Deployment

    root = tmp_path_factory.mktemp("described")
    made = Deployment(root / "project", {"path": str(root / "qdrant")}, f"sqlite:///{root}/ledger.db")
    return create_app(made.settings()).openapi()


def test_the_page_has_every_endpoint_of_the_contract(described):
    """None more and none less; and what the settings' page names is there."""
    tagged = {
        f"{method.upper()} {path}"
        for path, methods in described["paths"].items()
        for method, one in methods.items()
        if any("Vector Management" in tag for tag in one.get("tags", ()))
    }
    assert set(NAMES) == tagged
    assert len(NAMES) == len(set(NAMES)) == 12


@pytest.mark.parametrize("one", ENDPOINTS, ids=NAMES)
def test_every_example_fits_the_openapi_document(described, one):
    """Bodies and answers of the page are what the document describes, with the same parameters."""
    operation = described["paths"][one.path][one.method.lower()]
    named = {given["name"]: given for given in operation.get("parameters", ())}
    assert {name for name, given in named.items() if given["in"] == "path"} == set(re.findall(r"\{(\w+)\}", one.path))
    assert {part.partition("=")[0] for part in one.query.split("&") if part} <= set(named)

    def check(example, schema) -> None:
        jsonschema.validate(example, {**schema, "components": described["components"]})
        if isinstance(example, dict) and "$ref" in schema:
            known = described["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["properties"]
            assert set(example) == set(known), "the page names all of it"

    if one.request is None:
        assert "requestBody" not in operation
    else:
        check(one.request, operation["requestBody"]["content"]["application/json"]["schema"])
    for status, example in one.answers.items():
        told = operation["responses"].get(str(status))
        if status >= 400:
            assert set(example) == {"detail"}
            continue
        assert told is not None
        if example is None:
            assert "content" not in told
        else:
            check(example, told["content"]["application/json"]["schema"])


@pytest.mark.nightly
def test_every_example_is_answered_as_the_page_has_it(served):  # noqa: F811
    """In the order of the page: unconfirmed first, then confirmed; keys, kinds of values and texts are those of it."""
    module = "tests.scenarios.test_console"
    client = served.client(delete_session=f"{module}:delete_session", has_session=f"{module}:has_session")
    served.run("INSERT INTO training_sessions VALUES (3, '/photos/2024', 'completed', NULL)")
    numbers = {"asset_id": [served.ids[3], served.ids[3]], "session_id": [2, 0, 7, 7], "category_id": [1]}
    for one in ENDPOINTS:
        body = {"json": one.request} if one.request is not None else {}
        named = re.findall(r"\{(\w+)\}", one.path)
        path = re.sub(r"\{(\w+)\}", lambda found: str(numbers[found[1]].pop(0)), one.path)
        if 400 in one.answers:
            wrong = {"json": {**one.request, "confirm": False}} if one.request else {}
            query = "?confirm=false" if one.method == "DELETE" and not one.request else ""
            _same(client.request(one.method, path + query, **wrong), 400, one.answers[400])
        status, example = next(iter(one.answers.items()))
        _alike(client.request(one.method, f"{path}?{one.query}".rstrip("?"), **body), status, example)
        if 404 in one.answers:
            again = re.sub(r"\{\w+\}", str(numbers[named[0]].pop(0)), one.path)
            found = client.request(one.method, again)
            assert found.json() == {"detail": re.sub(r"\b17\b", again.rpartition("/")[2], one.answers[404]["detail"])}
            assert found.status_code == 404


def _same(found, status: int, example: dict) -> None:
    assert (found.status_code, found.json()) == (status, example)


def _alike(found, status: int, example) -> None:
    assert found.status_code == status, found.text
    if example is None:
        assert not found.content
        return
    answer, wanted = found.json(), example
    if isinstance(example, list):
        assert answer
        answer, wanted = answer[0], example[0]
    assert set(answer) == set(wanted)
    for name, value in wanted.items():
        assert answer[name] is None or type(answer[name]) is type(value), name
