"""No page, answer or log record of the console has a token, or a field of a payload that the settings don't name."""

from __future__ import annotations

import re

import pytest
from tests.harness import ADD, Deployment
from tests.scenarios.test_approval_pages import browser, send
from tests.scenarios.test_approvals import asked, ruled
from tests.scenarios.test_console import APPROVER, OPERATOR, VIEWER, Served, tokens  # noqa: F401  fixtures
from tests.scenarios.test_secrets import heard as heard

from qmigrate.commands import jobs, upgrade
from qmigrate.commands.runs import runs

#: What every point has in a field that no setting names, and a part of it.
KEPT_BACK = "the text number"


@pytest.fixture
def strict(tmp_path) -> Served:
    """A rule that lets two points go, whose examples show one field; a password in the ledger's URL has no place here."""
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
    return ruled(Served(made, f"sqlite:///{tmp_path}/app.db"), fields=["session_id"])


def addresses(client, served: Served) -> list[str]:
    """Every page and every answer that only reads, with names and numbers that are there."""
    name = served.made.name
    found = {path for path in client.app.state.site.paths if "{" not in path and path not in ("/login", "/plan/abort")}
    found |= {path for path, methods in client.app.openapi()["paths"].items() if "get" in methods and "{" not in path}
    found |= {f"{start}/collections/{name}" for start in ("", "/api/v1")} | {"/?count=1", "/requests/1", "/api/v1/requests/1"}
    found |= {f"{start}/runs/{one.id}{end}" for one in runs(served.made.settings()).rows for start in ("", "/api/v1") for end in ("", "/figures")}
    found |= {f"{start}/jobs/{one.id}" for one in jobs.jobs(served.made.settings()).rows for start in ("", "/api/v1")}
    found |= {"/audit/export?format=csv", "/audit/export?format=jsonl", "/directories/delete?path=/photos/", "/metrics"}
    found |= {f"/plan/rollback?target=0001&only={name}", "/nothing-of-that-name"}
    return sorted(found - {"/logout"})


def test_nothing_shows_a_token_or_a_field_that_is_not_named(strict, heard, capfd):
    """After a copy, a deletion that was approved, an examination and requests that failed: all that can be read."""
    strict.made.revise("0002", ADD)
    upgrade.upgrade(strict.made.settings())
    number = asked(strict)
    anna = browser(strict, APPROVER)
    assert send(anna, f"/requests/{number}", f"/requests/{number}/approve", seen="yes").status_code == 200
    jobs.submit(strict.made.settings(), "examine", {"collection": strict.made.name})
    assert jobs.work(strict.made.settings(), once=True).ended == 2
    assert anna.get(f"/requests/{number}").text.count("read back as gone") == 1
    seen = addresses(anna, strict)
    assert len(seen) > 35
    for client in (anna, browser(strict, VIEWER)):
        for address in seen:
            for accept in ("text/html", "application/json"):
                found = client.get(address, headers={"Accept": accept})
                assert found.status_code < 500, (address, found.text)
                for word in (KEPT_BACK, VIEWER, OPERATOR, APPROVER):
                    assert word not in found.text, address
    strict.client("x" * 40).get("/api/v1/collections")
    strict.client(None).post("/login", data={"token": OPERATOR + "x"})
    printed = capfd.readouterr()
    for place in ("\n".join(heard), printed.out, printed.err):
        for word in (KEPT_BACK, VIEWER, OPERATOR, APPROVER, "x" * 40):
            assert not re.search(re.escape(word), place)
    assert any("vectors of a sample" in line for line in heard), "what is logged is received"
