"""What needs another person's approval: asked for by every way there is, and run only once another person agreed."""

from __future__ import annotations

import json

import pytest
from tests.harness import audit, make_point, write
from tests.scenarios.cli import call
from tests.scenarios.test_console import APPROVER, OPERATOR, PATHS, VIEWER, Served, served, tokens  # noqa: F401  fixtures

from qmigrate import fix as program
from qmigrate import op
from qmigrate.commands import erase, fix, jobs, requests, reset, upgrade
from qmigrate.errors import ApprovalNeededError, CountMovedError, RefusedError
from qmigrate.model.approval import CONSOLE, Person

LATER = {"Prefer": "respond-async"}
BODY = {"pathPrefix": "/photos/2024/", "confirm": True, "deletionReason": "moved"}
URL = "/api/v1/vectors/by-directory"
#: Three of six points are in the folder.
RULE = {"above": "2 points", "tolerance": "40 %"}


def ruled(served: Served, **rule) -> Served:  # noqa: F811
    """The same with a rule."""
    served.made.extra["fixes"] = {**served.made.extra["fixes"], "approval": {**RULE, **rule}}
    served.made.__post_init__()
    return served


@pytest.fixture
def strict(served):  # noqa: F811
    """A deployment in which two points may go by one person's decision."""
    return ruled(served)


def asked_by(served: Served, name: str, **proven):  # noqa: F811
    """The settings of a person whom the console has logged in."""
    return served.made.settings().acting(name).called_by(proven.get("proven", CONSOLE))


def delete(served: Served, name: str = "otto", **more):  # noqa: F811
    """A deletion of the three points in the folder."""
    wish = op.DeletePoints(served.made.name, prefix="/photos/2024", reason="moved", max_share=1, **more)
    return fix.fix(asked_by(served, name), wish)


def asked(served: Served, name: str = "otto", **more) -> int:  # noqa: F811
    """The request that a deletion is."""
    with pytest.raises(ApprovalNeededError) as caught:
        delete(served, name, **more)
    assert served.paths() == set(PATHS), "nothing was changed"
    return caught.value.facts["request"]


def test_a_deletion_runs_once_after_another_person(strict):
    """A deletion above the bound is asked for, approved by another person, and run once; the audit names both."""
    number = asked(strict)
    assert asked(strict) == number, "the same wish is the same request"
    row = requests.request(strict.made.settings(), number)
    assert (row.state, row.changes, row.points, row.asked_by, row.allowed) == ("pending", 3, 6, "otto", (2, 4))
    assert "path below /photos/2024" in row.words
    assert requests.approve(asked_by(strict, "anna"), number).state == "approved"
    result = delete(strict)
    assert (result.changed, strict.paths()) == (3, set(PATHS[3:]))
    told = audit(strict.made)[0].told
    assert told.approval == {"request": number, "asked_by": "otto", "approved_by": "anna"}
    row = requests.request(strict.made.settings(), number)
    assert (row.state, row.log, row.command) == ("done", audit(strict.made)[0].id, f"qmigrate fix undo {row.log}")
    fix.undo(asked_by(strict, "otto"), row.log)
    assert asked(strict) != number, "it is used once"


WAYS = {
    "the function": lambda one: fix.fix(asked_by(one, "otto"), _wish(one)),
    "several at once": lambda one: fix.fix(asked_by(one, "otto"), _wish(one, "/photos/2024/vacation"), _wish(one, "/photos/2024")),
    "qmigrate.fix": lambda one: program.run(_wish(one), settings=asked_by(one, "otto")),
    "softly": lambda one: fix.fix(asked_by(one, "otto"), _wish(one, soft=True)),
    "an erasure": lambda one: erase.erase(asked_by(one, "otto"), _wish(one)),
    "a reset": lambda one: reset.reset(asked_by(one, "otto"), one.made.name, reason="r", expect=6, confirm=reset.PHRASE),
    "orphans": lambda one: _orphans(one),
    "a revision": lambda one: _revision(one, 'op.DeletePoints("{name}", prefix="/photos/2024", reason="r", max_share=1)'),
    "a dropped collection": lambda one: _revision(one, 'op.DropCollection("{name}")'),
    "a rollback to nothing": lambda one: _rollback(one),
    "a job": lambda one: _job(one),
}


def _wish(served: Served, prefix: str = "/photos/2024", **more):  # noqa: F811
    return op.DeletePoints(served.made.name, prefix=prefix, reason="moved", max_share=1, **more)


def _orphans(served: Served) -> None:  # noqa: F811
    served.run("DELETE FROM image_assets WHERE id <= :id", [{"id": served.ids[2]}])
    wish = op.DeleteOrphans(served.made.name, "SELECT id FROM image_assets", reason="r", grace=0, max_share=1)
    fix.fix(asked_by(served, "otto"), wish)


def _revision(served: Served, text: str) -> None:  # noqa: F811
    if not list(served.made.settings().scripts.glob("versions/0002*")):
        served.made.revise("0002", f"def upgrade():\n    return [{text}]\n", down="0001")
    upgrade.upgrade(asked_by(served, "otto"))


def _rollback(served: Served) -> None:  # noqa: F811
    from qmigrate.commands.rollback import rollback

    rollback(asked_by(served, "otto"), "base", writes="discard")


def _job(served: Served) -> None:  # noqa: F811
    made, _ = jobs.submit(asked_by(served, "otto"), "delete", {"endpoint": "directory", "value": "/photos/2024", "reason": "r"})
    assert jobs.work(served.made.settings(), once=True).ended == 1
    error = jobs.job(served.made.settings(), made.id).error
    assert (error["type"], error["exitCode"]) == ("ApprovalNeededError", 10)
    raise ApprovalNeededError(error["message"], facts={"request": 1})


@pytest.mark.parametrize("way", sorted(WAYS))
def test_no_way_leads_around_it(strict, way):
    """Every way to take points away asks, changes nothing, and is done once another person has approved it."""
    with pytest.raises(ApprovalNeededError) as caught:
        WAYS[way](strict)
    assert strict.paths() == set(PATHS)
    for one in requests.requests(strict.made.settings(), ["pending"]).rows:
        requests.approve(asked_by(strict, "anna"), one.id)
    if way == "a job":
        jobs.submit_approved(asked_by(strict, "anna"), caught.value.facts["request"])
        assert jobs.work(strict.made.settings(), once=True).ended == 1
    else:
        WAYS[way](strict)
    rows = requests.requests(strict.made.settings()).rows
    assert {one.state for one in rows} == {"done"}, rows


RUN_ALONE = sorted(set(WAYS) - {"a revision", "a dropped collection", "a rollback to nothing", "a job", "several at once"})


@pytest.mark.parametrize("way", RUN_ALONE)
def test_what_was_approved_runs_from_its_request(strict, way):
    """`requests run` does what was asked for, from what the ledger has of it, and nothing else."""
    with pytest.raises(ApprovalNeededError) as caught:
        WAYS[way](strict)
    number = caught.value.facts["request"]
    with pytest.raises(RefusedError, match="waits for another person"):
        requests.run(asked_by(strict, "otto"), number)
    requests.approve(asked_by(strict, "anna"), number)
    done = requests.run(asked_by(strict, "otto"), number)
    assert done.changed == (6 if way == "a reset" else 3)
    assert strict.paths() == (set(PATHS) if way == "softly" else set() if way == "a reset" else set(PATHS[3:]))
    assert requests.request(strict.made.settings(), number).state == "done"
    with pytest.raises(RefusedError, match="used once"):
        requests.run(asked_by(strict, "otto"), number)


def test_below_the_bound_no_user_is_asked(strict):
    """Below the bound no user is asked."""
    result = fix.fix(asked_by(strict, "otto"), _wish(strict, "/photos/2024/vacation"))
    assert result.changed == 2
    assert requests.requests(strict.made.settings()).rows == ()


def test_small_ones_add_up_where_the_settings_say_so(served):  # noqa: F811
    """With `within` a large deletion can't be split; what another person has approved doesn't count."""
    ruled(served, within="1h")
    fix.fix(asked_by(served, "otto"), _wish(served, "/photos/2024/vacation"))
    with pytest.raises(ApprovalNeededError) as caught:
        fix.fix(asked_by(served, "otto"), _wish(served, "/photos/2024"))
    requests.approve(asked_by(served, "anna"), caught.value.facts["request"])
    assert fix.fix(asked_by(served, "otto"), _wish(served, "/photos/2024")).changed == 1


NOT_ALLOWED = {
    "who asked": (Person("otto", CONSOLE), {}, "otto asked for it"),
    "who asked, by another token": (Person("OTTO ", CONSOLE), {}, "asked for it"),
    "a terminal, where the console is asked for": (Person("anna"), {"by": "console"}, "fixes.approval.by is console"),
    "the application, where the console is asked for": (Person("anna", "application"), {"by": "console"}, "fixes.approval.by is console"),
    "who is not in the list": (Person("anna", CONSOLE), {"approvers": ["max"]}, "anna is not among"),
    "who only says to be in the list": (Person("max"), {"approvers": ["max"]}, "is not among"),
}


@pytest.mark.parametrize("name", sorted(NOT_ALLOWED))
def test_who_can_not_approve(served, name):  # noqa: F811
    """Who can't approve: nothing is decided, and the deletion still asks."""
    person, rule, why = NOT_ALLOWED[name]
    number = asked(ruled(served, **rule))
    with pytest.raises(RefusedError, match=why):
        requests.approve(asked_by(served, person.actor, proven=person.proven), number)
    assert requests.request(served.made.settings(), number).state == "pending"
    assert asked(served) == number


def test_an_assistant_approves_nothing(strict):
    """An assistant approves nothing, whatever person it names, and asks in the name of a person."""
    number = asked(strict)
    done = call(
        strict.made.root, "approve", str(number), "--yes", "--requested-by", "Anna: ticket 7", env={"CLAUDECODE": "1"}
    )
    assert done.code == 10
    assert "an assistant approves nothing" in done.err
    with pytest.raises(RefusedError, match="assistant"):
        requests.approve(asked_by(strict, "anna"), number, agent="cursor")


def test_one_account_is_one_person_whatever_it_says(strict):
    """On the command line another name for the same account of the system is no other person."""
    wish = ("fix", "delete", strict.made.name, "--prefix", "/photos/2024", "--reason", "moved", "--yes", "--expect", "3", "--max-share", "1")
    done = call(strict.made.root, *wish, "--actor", "otto")
    assert (done.code, strict.paths()) == (10, set(PATHS))
    assert "another person has to approve" in done.err
    done = call(strict.made.root, "approve", "1", "--yes", "--actor", "anna")
    assert done.code == 10
    assert "may be the same person" in done.err
    requests.approve(asked_by(strict, "anna"), 1)
    assert call(strict.made.root, *wish, "--actor", "otto").code == 0
    assert strict.paths() == set(PATHS[3:])


def test_the_settings_of_the_moment_it_runs_count(served):  # noqa: F811
    """An approval that today's settings don't accept is none."""
    number = asked(ruled(served))
    requests.approve(asked_by(served, "anna"), number)
    ruled(served, approvers=["max"])
    with pytest.raises(ApprovalNeededError):
        delete(served)
    ruled(served)
    assert delete(served).changed == 3


def test_it_is_counted_again_when_it_runs(strict):
    """More points than it allows: refused, and void; a new request is made of the same command."""
    number = asked(strict)
    requests.approve(asked_by(strict, "anna"), number)
    points = [make_point(50), make_point(51)]
    for point in points:
        point.payload["path"] = "/photos/2024/new.jpg"
    store = strict.made.store()
    write(store, strict.made.name, points)
    store.close()
    with pytest.raises(CountMovedError) as caught:
        delete(strict)
    assert caught.value.facts == {"request": number, "approved": 3, "changes": 5, "points": 8}
    row = requests.request(strict.made.settings(), number)
    assert (row.state, row.found) == ("moved", 5)
    with pytest.raises(ApprovalNeededError) as again:
        delete(strict)
    assert again.value.facts["request"] != number


OTHERS = {
    "another folder": lambda one: _wish(one, "/photos"),
    "another reason": lambda one: op.DeletePoints(one.made.name, prefix="/photos/2024", reason="other", max_share=1),
    "without an export": lambda one: _wish(one, export=False),
    "softly": lambda one: _wish(one, soft=True),
    "more conditions": lambda one: _wish(one, filter={"must": [{"key": "path", "match": {"any": PATHS}}]}),
}


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_an_approval_is_for_just_this(strict, name):
    """Another selection, reason, or way to delete has no approval."""
    requests.approve(asked_by(strict, "anna"), asked(strict))
    with pytest.raises(ApprovalNeededError):
        fix.fix(asked_by(strict, "otto"), OTHERS[name](strict))
    assert strict.paths() == set(PATHS)


def test_the_contract_answers_202_and_runs_after_an_approval(strict):
    """Over HTTP: 202 with the request, then approval by another token, a job, and its place in the audit."""
    otto, anna, vera = (strict.client(token) for token in (OPERATOR, APPROVER, VIEWER))
    answer = otto.request("DELETE", URL, json=BODY)
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert (body["code"], body["state"], body["exitCode"], "deletedCount" in body) == ("approval_needed", "pending", 10, False)
    at = f"/api/v1/requests/{body['requestId']}"
    assert answer.headers["location"] == at
    assert strict.paths() == set(PATHS)
    assert vera.get(at).json()["askedAs"] == "otto, logged in by the console"
    assert vera.post(f"{at}/approve", json={}).status_code == 403
    assert otto.post(f"{at}/approve", json={}).status_code == 403
    done = anna.post(f"{at}/approve", json={"reason": "seen"})
    assert done.status_code == 200, done.text
    assert (done.json()["request"]["decidedBy"], done.json()["job"]["kind"], done.json()["job"]["actor"]) == ("anna", "delete", "otto")
    assert anna.post(f"{at}/approve", json={}).status_code == 409
    assert jobs.work(strict.made.settings(), once=True).ended == 1
    found = vera.get(at).json()
    assert (found["state"], found["log"], found["undo"]) == ("done", audit(strict.made)[0].id, True)
    assert strict.paths() == set(PATHS[3:])
    row = audit(strict.made)[0]
    assert (row.actor, row.told.approval["approved_by"]) == ("otto", "anna")


def test_an_approver_does_not_approve_their_own(strict):
    """An approver who has asked doesn't approve, nor with another token of theirs."""
    anna = strict.client(APPROVER)
    number = anna.request("DELETE", URL, json=BODY).json()["requestId"]
    refused = anna.post(f"/api/v1/requests/{number}/approve", json={})
    assert (refused.status_code, "anna asked for it" in refused.json()["detail"]) == (409, True)


def test_who_asked_may_withdraw_and_nobody_else_below_an_approver(strict):
    """Who asked may withdraw; another operator may not."""
    otto, anna = strict.client(OPERATOR), strict.client(APPROVER)
    mine = otto.request("DELETE", URL, json=BODY).json()["requestId"]
    other = anna.request("DELETE", URL, json={**BODY, "deletionReason": "other"}).json()["requestId"]
    assert otto.post(f"/api/v1/requests/{mine}/reject", json={"reason": "a slip"}).json()["state"] == "rejected"
    assert otto.post(f"/api/v1/requests/{other}/reject", json={"reason": "no"}).status_code == 403
    assert otto.post(f"/api/v1/requests/{other}/reject", json={}).status_code == 422
    assert otto.request("DELETE", URL, json=BODY).json()["requestId"] not in (mine, other)


def test_without_the_setting_nothing_is_different(served):  # noqa: F811
    """Without the setting the contract answers as it did, and the records have nothing new."""
    answer = served.client().request("DELETE", URL, json=BODY)
    assert (answer.status_code, sorted(answer.json())) == (200, ["deletedCount", "logId", "pathPrefix"])
    assert audit(served.made)[0].told.approval is None
    assert served.client().get("/api/v1/requests").json() == []


def test_the_command_line_shows_decides_and_runs(strict):
    """The list, one request, its approval, rejection and run in the terminal."""
    number = asked(strict)
    listed = call(strict.made.root, "requests")
    assert "pending" in listed.out
    assert "path below /photos/2024" in listed.out
    assert json.loads(call(strict.made.root, "requests", "--state", "pending", "--json").out)["data"]["rows"][0]["id"] == number
    shown = call(strict.made.root, "requests", "show", str(number))
    assert "3 of 6 points (50 %)" in shown.out
    assert call(strict.made.root, "requests", "run", str(number), "--yes").code == 10
    assert call(strict.made.root, "approve", str(number)).code == 10, "without a terminal it needs --yes"
    done = call(strict.made.root, "approve", str(number), "--yes", "--reason", "seen")
    assert done.code == 0, done.err
    assert call(strict.made.root, "requests", "run", str(number), "--yes").code == 0
    assert strict.paths() == set(PATHS[3:])
    assert call(strict.made.root, "requests", "run", str(number), "--yes").code == 10, "it is used once"
    assert call(strict.made.root, "reject", str(number), "--reason", "late").code == 10
    assert call(strict.made.root, "requests", "show", "99").code == 2
    assert call(strict.made.root, "requests", "--state", "open").code == 2


class DiesAt:
    """A process that dies at a phase."""

    def __init__(self, phase: str) -> None:
        self.phase = phase

    def begin(self, collection, phase, total, done=0):
        if phase == self.phase:
            raise SystemExit

    def advance(self, count, note=""): ...
    def end(self, summary=""): ...
    def say(self, line): ...


def test_killed_behind_its_claim_a_run_goes_on_under_it(strict):
    """Killed between the claim and the first deletion, the same run goes on under the same approval, and only that."""
    number = asked(strict)
    requests.approve(asked_by(strict, "anna"), number)
    with pytest.raises(SystemExit):
        fix.fix(asked_by(strict, "otto"), _wish(strict), progress=DiesAt("delete"))
    row = requests.request(strict.made.settings(), number)
    assert (row.state, row.changes, row.found) == ("running", 3, 3)
    assert strict.paths() == set(PATHS)
    with pytest.raises(RefusedError, match="runs already"):
        requests.reject(asked_by(strict, "anna"), number)
    with pytest.raises(RefusedError, match="runs already"):
        requests.run(asked_by(strict, "otto"), number)
    result = delete(strict)
    assert [one.run for one in result.resumed] == [row.run]
    assert strict.paths() == set(PATHS[3:])
    done = requests.request(strict.made.settings(), number)
    assert (done.state, done.run) == ("done", row.run)
    assert audit(strict.made)[0].told.approval["approved_by"] == "anna"


def test_a_way_back_is_not_deleted_early_by_one_person(strict):
    """A `gc --now` would take the undo of an approved reset away: before the holdover ends it asks, too."""
    from qmigrate.commands import gc

    with pytest.raises(ApprovalNeededError) as caught:
        WAYS["a reset"](strict)
    requests.approve(asked_by(strict, "anna"), caught.value.facts["request"])
    WAYS["a reset"](strict)
    spared = gc.gc(asked_by(strict, "otto"), now=True).spared
    assert ["another person has to approve" in one.reason for one in spared] == [True]
    (waiting,) = requests.requests(strict.made.settings(), ["pending"]).rows
    assert (waiting.kind, waiting.changes) == ("gc", 6)
    approved, name = requests.approve(asked_by(strict, "anna"), waiting.id), strict.made.name
    left = approved.what["generation"]
    assert approved.command == f"qmigrate gc {name} --now --generation {left}", "no other one was approved"
    assert len(gc.gc(asked_by(strict, "otto"), name, now=True, generations=[left]).collected) == 1
    assert requests.request(strict.made.settings(), waiting.id).state == "done"


def test_a_plan_says_what_needs_an_approval(strict):
    """A plan shows what an upgrade would refuse, asks for nothing, and uses no approval up."""
    with pytest.raises(ApprovalNeededError) as caught:
        WAYS["a dropped collection"](strict)
    found = upgrade.plan(strict.made.settings())
    assert [one.type for one in found.refusals] == ["ApprovalNeededError"]
    requests.approve(asked_by(strict, "anna"), caught.value.facts["request"])
    for _ in range(2):
        assert upgrade.plan(strict.made.settings()).refusals == ()
    assert upgrade.upgrade(asked_by(strict, "otto")).outcomes


RULES = {
    "1000 points": (1000, None),
    "1_000 points": (1000, None),
    "1 point": (1, None),
    "1 %": (None, 0.01),
    "0.5% or 10 points": (10, 0.005),
    "1000 points or 1 %": (1000, 0.01),
}


@pytest.mark.parametrize("said", sorted(RULES))
def test_how_a_bound_is_written(said):
    """How a bound is written."""
    from qmigrate.settings.approval import bound

    assert tuple(bound(said, "at")) == RULES[said]


def test_what_went_before_and_the_steps_of_a_plan_are_counted_together(served):  # noqa: F811
    """Two points went alone, and the steps take one each: nothing of them is begun before another person agrees."""
    ruled(served, above="3 points", within="1d")
    fix.fix(asked_by(served, "otto"), _wish(served, "/photos/2024/vacation"))
    with pytest.raises(ApprovalNeededError):
        fix.fix(asked_by(served, "otto"), _wish(served, "/photos/2024/c.jpg"), _wish(served, "/photos/2023/d.jpg"))
    assert served.paths() == set(PATHS[2:]), "nothing was changed"


@pytest.mark.parametrize("said", sorted(["", "1000", "1 % or 2 %", "101 %", "-1 points", "1 points and 2 %", "points"]))
def test_what_is_no_bound(said):
    """A wrong bound is refused, and never taken for none."""
    from qmigrate.errors import ConfigError
    from qmigrate.settings.approval import bound

    with pytest.raises(ConfigError, match="1000 points"):
        bound(said, "fixes.approval.above")


EXCEEDED = {"1 point more": (11, 1000, True), "as many": (10, 1000, False), "the share": (4, 39, True), "of few": (3, 30, False)}


@pytest.mark.parametrize("name", sorted(EXCEEDED))
def test_whichever_is_reached_first(name):
    """Whichever is reached first."""
    from qmigrate.settings.approval import Bound

    changes, points, above = EXCEEDED[name]
    assert Bound(10, 0.1).is_exceeded(changes, points) is above
