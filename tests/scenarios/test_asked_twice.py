"""What two clicks, a second command, or an old page ask for: it is done once, and to what was meant."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from tests.harness import ADD, CREATE, Deployment, audit, make_point, write
from tests.scenarios.test_approvals import asked_by, ruled, strict  # noqa: F401  fixtures
from tests.scenarios.test_console import APPROVER, PATHS, Served, served, tokens  # noqa: F401  fixtures

from qmigrate import op
from qmigrate.commands import fix, jobs, requests, reset, rollback, upgrade
from qmigrate.commands.overview import overview
from qmigrate.console.access import COOKIE
from qmigrate.errors import RefusedError
from qmigrate.ports import PayloadEdit


def approved(served: Served, kind: str, **arguments) -> int:  # noqa: F811
    """A request that a job has asked for, and that another person has approved."""
    settings = served.made.settings()
    jobs.submit(asked_by(served, "otto"), kind, arguments)
    jobs.work(settings, once=True)
    number = requests.requests(settings).rows[0].id
    requests.approve(asked_by(served, "anna"), number)
    return number


KINDS = {"delete": {"endpoint": "directory", "value": "/photos/2024", "reason": "r"}, "reset": {"reason": "r"}}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_approval_that_is_run_by_two_clicks_is_one_job(strict, kind):  # noqa: F811
    """An approval that is run by two clicks is one job, and one that has come to nothing can be run again."""
    number = approved(strict, kind, **KINDS[kind])
    first, second = (jobs.submit_approved(asked_by(strict, name), number) for name in ("anna", "otto"))
    assert first.id == second.id
    jobs.cancel(strict.made.settings(), first.id)
    third = jobs.submit_approved(asked_by(strict, "otto"), number)
    assert third.id != first.id
    assert jobs.work(strict.made.settings(), once=True).ended == 1
    done = jobs.job(strict.made.settings(), third.id)
    assert (done.state, done.result["deleted"]) == ("completed", len(PATHS) if kind == "reset" else 3)
    with pytest.raises(RefusedError, match="done"):
        jobs.submit_approved(asked_by(strict, "otto"), number)


def test_what_was_approved_once_is_not_done_by_the_command_and_by_the_job(strict):  # noqa: F811
    """Who asked types the command again while the job of the approval waits: the job leaves what came since."""
    number = approved(strict, "reset", reason="r")
    waiting = jobs.submit_approved(asked_by(strict, "anna"), number)
    there = {"expect": len(PATHS), "confirm": reset.PHRASE}
    done = reset.reset(asked_by(strict, "otto"), strict.made.name, reason="r", **there)
    store = strict.made.store()
    write(store, strict.made.name, [make_point(77)])
    store.close()
    assert jobs.work(strict.made.settings(), once=True).ended == 1
    found = jobs.job(strict.made.settings(), waiting.id)
    run = requests.request(strict.made.settings(), number).run
    assert (found.state, found.result) == ("completed", {"request": number, "run": run})
    assert len(strict.made.contents()) == 1, "the point that was written since"
    assert [row.id for row in audit(strict.made)] == [done.log]


def test_a_job_of_an_approval_that_was_taken_back_does_nothing(strict):  # noqa: F811
    """Also where what is left would need none by itself."""
    number = approved(strict, "delete", **KINDS["delete"])
    waiting = jobs.submit_approved(asked_by(strict, "anna"), number)
    requests.reject(asked_by(strict, "anna"), number, reason="no")
    ruled(strict, above="100 points")
    assert jobs.work(strict.made.settings(), once=True).ended == 1
    found = jobs.job(strict.made.settings(), waiting.id)
    assert (found.state, "was rejected by anna" in found.error["message"]) == ("failed", True)
    assert strict.paths() == set(PATHS)


def test_a_job_aborts_the_run_that_was_shown_and_no_later_one(tmp_path):
    """Between the page and the worker another run may have begun."""
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
    settings = made.settings()
    made.revise("0001", CREATE)
    upgrade.upgrade(settings)
    made.load(3)
    made.revise("0002", ADD)

    def held() -> list[int]:
        return [one.run for one in overview(settings).held]

    upgrade.upgrade(settings, hold=True)
    (shown,) = held()
    job, _ = jobs.submit(settings, "abort", {"collection": made.name, "run": shown})
    rollback.abort(settings, made.name)
    upgrade.upgrade(settings, hold=True)
    (later,) = held()
    assert later != shown
    assert jobs.work(settings, once=True).ended == 1
    found = jobs.job(settings, job.id)
    assert found.state == "failed"
    assert f"is {later}, and not {shown}" in found.error["message"]
    assert held() == [later]
    job, _ = jobs.submit(settings, "abort", {"collection": made.name, "run": later})
    assert jobs.work(settings, once=True).ended == 1
    assert (jobs.job(settings, job.id).state, held()) == ("completed", [])


@pytest.mark.parametrize("kind", ["delete", "set"])
def test_a_fix_is_undone_once(deployment, monkeypatch, kind):
    """Two who ask at once both see that it was not undone yet, and the second one waits for the lease."""
    settings, name = deployment.settings(), deployment.name
    deployment.revise("0001", CREATE)
    upgrade.upgrade(settings)
    deployment.load(30)
    one = {"must": [{"has_id": [1]}]}
    written = op.SetPayload(name, {"kind": "new"}, filter=one, reason="r")
    first = fix.fix(settings, op.DeletePoints(name, ids=[1, 2], reason="r") if kind == "delete" else written)
    fix.undo(settings, first.log)
    store = deployment.store()
    if kind == "delete":
        store.delete(name, [1])
    else:
        store.edit_payloads(name, [PayloadEdit([1], {"kind": "new"}, [])])
    store.close()
    since, rows = deployment.contents(), len(audit(deployment))
    monkeypatch.setattr(fix, "fixed", lambda opened, log: opened.ledger.deletion(log))
    with pytest.raises(RefusedError, match="was undone already, by fix 2"):
        fix.undo(settings, first.log)
    assert (deployment.contents(), len(audit(deployment))) == (since, rows), "what was written since the first undo"


def test_a_role_that_was_taken_away_is_not_kept_by_a_cookie(served):  # noqa: F811
    """A log-in lasts for hours, and the settings are read again at a restart."""
    client = TestClient(served.client(None).app, base_url="https://testserver")
    entered = client.post("/login", data={"token": APPROVER}, follow_redirects=False)
    cookie = {COOKIE: entered.headers["set-cookie"].split("=", 1)[1].split(";")[0]}

    def role(**console) -> str | None:
        again = TestClient(served.client(None, **console).app, base_url="https://testserver", cookies=cookie)
        return again.get("/api/v1/me").json().get("role")

    assert role() == "approver", "another console with the same settings knows it"
    tokens_ = [{"role": "viewer", "user": "anna", "env": "TEST_APPROVER"}]
    assert role(tokens=[*served.made.extra["console"]["tokens"][:2], *tokens_]) is None
