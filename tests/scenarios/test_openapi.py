"""The API and its description agree: whatever is asked, no fault, and every answer is one that is described."""

from __future__ import annotations

import itertools
import json
import re

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from sqlalchemy import create_engine, text
from tests.harness import ADD, CREATE, Deployment, make_point, write
from tests.scenarios.test_console import APPROVER, CONSOLE, PATHS, PRESETS, TABLES

from qmigrate.commands import upgrade
from qmigrate.console import create_app

#: Each is also asked for what it doesn't take.
EXAMPLES = 12


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """A console of local mode and SQLite whose settings stand for every endpoint."""
    root = tmp_path_factory.mktemp("console")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TEST_APPROVER", APPROVER)
        url = f"sqlite:///{root}/app.db"
        engine = create_engine(url)
        with engine.begin() as connection:
            for table in TABLES:
                connection.execute(text(table.format(zoned="TIMESTAMP")))
        engine.dispose()
        made = Deployment(root / "project", {"path": str(root / "qdrant")}, f"sqlite:///{root}/ledger.db")
        made.extra.update(
            databases={"app": {"url": url}},
            fixes={"presets": {name: {"collection": made.name, **one} for name, one in PRESETS.items()}},
            console={
                "collection": made.name,
                **CONSOLE,
                "delete_session": "tests.scenarios.test_console:delete_session",
                "has_session": "tests.scenarios.test_console:has_session",
                "tokens": [{"role": "approver", "user": "anna", "env": "TEST_APPROVER"}],
            },
        )
        made.__post_init__()
        made.revise("0001", CREATE)
        upgrade.upgrade(made.settings())
        points = [make_point(number) for number in range(len(PATHS))]
        for number, (point, path) in enumerate(zip(points, PATHS, strict=True)):
            point.payload.update(path=path, session_id=number // 2, category_id=2 - number // 3)
        store = made.store()
        write(store, made.name, points)
        store.close()
        made.revise("0002", ADD)
        upgrade.upgrade(made.settings())
        yield create_app(made.settings())


CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore")
def test_every_answer_is_one_that_is_described(app):
    """Whatever is asked for, also what no endpoint takes: never a fault, and the form that the description has."""
    described = schemathesis.openapi.from_asgi("/api/v1/openapi.json", app)
    operations = [one.ok() for one in described.get_all_operations()]
    assert len(operations) > 25
    failed = []
    for operation, mode in itertools.product(operations, (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)):

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
        def ask(case: Case) -> None:
            answer = case.call(headers={"Authorization": f"Bearer {APPROVER}"})
            case.validate_response(answer, checks=CHECKS)

        try:
            ask()
        except Unsatisfiable:
            # There is nothing that it doesn't take.
            assert mode is GenerationMode.NEGATIVE, operation.label
        except FailureGroup as found:
            failed.append(f"{operation.label}: {found.exceptions}")
    assert not failed, "\n".join(failed)


def test_every_endpoint_says_what_it_answers(app):
    """A schema for each success, the form of an error for each failure, and no reference that leads nowhere."""
    document = app.openapi()
    known = document["components"]["schemas"]
    assert set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document))) <= set(known)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            answers = operation["responses"]
            found = {status: one.get("content", {}) for status, one in answers.items()}
            successes = {status for status in found if status.startswith("2")}
            assert successes, (path, method)
            for status in successes - {"204"}:
                assert found[status], (path, method, status)
                assert all(one.get("schema") for one in found[status].values()), (path, method, status)
            for status in ("401", "403", "404", "409", "422", "503"):
                assert found[status]["application/json"]["schema"] == {"$ref": "#/components/schemas/Problem"}, (path, method, status)
            assert operation["summary"] or operation["description"], (path, method)


def test_pages_are_no_part_of_it(app):
    """They are for people."""
    assert all(path.startswith(("/api/v1/", "/metrics")) for path in app.openapi()["paths"])


@pytest.mark.parametrize("body", [b'{"names": NaN}', b'{"target": 1e999}', b'{"target": "\\ud800"}', b'{"a\\ud800": 1}', b'"\\ud800"', b"\xff", b"[", b'{"names": ["\\u0000"]}'])
@pytest.mark.parametrize("verb", ["upgrade", "cutover", "vectors/reset"])
def test_no_body_is_a_fault(app, verb, body):
    """Numbers that JSON lacks and halves of characters are said back in the error, or are names like any other."""
    client = TestClient(app, headers={"Authorization": f"Bearer {APPROVER}", "Content-Type": "application/json"}, base_url="https://testserver")
    answer = client.post(f"/api/v1/{verb}", content=body)
    assert answer.status_code in (202, 400, 422), answer.text
    assert json.loads(answer.content)
