"""The page of directories, as a person uses it without JavaScript: look, say why, press, see what became of it."""

from __future__ import annotations

import re

import pytest
from tests.harness import make_point, write
from tests.scenarios.console import Browser
from tests.scenarios.test_console import PATHS, Served

from qmigrate.commands import jobs
from qmigrate.commands.reset import PHRASE
from qmigrate.commands.vectors import Directory, folders


@pytest.fixture
def served(tmp_path, deployment) -> Served:
    """A deployment with six points in three directories."""
    return Served(deployment, f"sqlite:///{tmp_path}/app.db")


def test_the_tree_has_counts_of_its_own_and_of_what_is_below(served):
    """Every directory is a row, with what a deletion of it would take."""
    page = Browser(served.made).get("/directories")
    text = page.text
    assert "/photos/ 0 6" in text
    assert "2024/ 1 3" in text
    assert "vacation/ 2 2" in text
    assert re.search(r"2023/ 3 3 2 \d+ d \d+ h ago", text)
    assert any(given["datetime"].startswith("2024-12-18") for tag, given in page.elements if tag == "time")
    assert "4 directories, 6 points" in text


def test_a_directory_is_shown_alone_with_what_is_below(served):
    """Also where it is written without a slash, and where there is none."""
    browser = Browser(served.made)
    assert "2 directories, 3 points" in browser.get("/directories?below=/photos/2024").text
    assert "There is no point below" in browser.get("/directories?below=/photos/20").text


@pytest.mark.parametrize(
    ("paths", "shown"),
    [
        (["/a/b/"], [("/a/b/", 0)]),
        (["/a/b/", "/a/c/"], [("/a/", 0), ("b/", 1), ("c/", 1)]),
        (["/a/", "/a/b/c/"], [("/a/", 0), ("b/c/", 1)]),
        (["/a/", "/a-b/", "/a/c/"], [("/", 0), ("a/", 1), ("c/", 2), ("a-b/", 1)]),
        (["x/", "y/z/"], [("x/", 0), ("y/z/", 0)]),
        (["/"], [("/", 0)]),
        (["/", "/a/"], [("/", 0), ("a/", 1)]),
        (["s3://bucket/a/", "s3://bucket/b/"], [("s3://bucket/", 0), ("a/", 1), ("b/", 1)]),
    ],
)
def test_a_tree_of_paths(paths, shown):
    """A directory that only leads to a single other one is not a row."""
    found = folders([Directory(path, 1, 0, None) for path in paths])
    assert [(one.name, one.depth) for one in found] == shown
    assert sum(one.vectors for one in found) == len(paths)
    for one in found:
        assert one.below == sum(path.startswith(one.path) for path in paths)


def test_a_directory_is_deleted_in_two_clicks_and_a_reason(served):
    """The page says type, target, count and share; the job is shown with its undo; a form that is sent twice is one job."""
    browser = Browser(served.made, user="kim")
    asked = browser.get("/directories/delete?path=/photos/2023/")
    for told in ("DIRECTORY", "/photos/2023/", "Points 3 of 6", "50 %", "Recorded as kim"):
        assert told in asked.text
    sent = {"reason": "scanned again", "seen": "yes"}
    given, inputs = next(one for one in asked.forms if one[0]["action"] == "/directories/delete")
    values = {one["name"]: one.get("value", "") for one in inputs if one.get("type") == "hidden"} | sent
    for _ in range(2):
        assert browser.client.post(given["action"], data=values, follow_redirects=False).status_code == 303
    (job,) = jobs.jobs(served.made.settings()).rows
    assert (job.kind, job.actor, job.arguments["value"], job.arguments["reason"]) == ("delete", "kim", "/photos/2023/", "scanned again")
    assert "pending" in browser.get("/directories").text
    jobs.work(served.made.settings(), once=True)
    page = browser.get("/directories")
    assert "2 directories, 3 points" in page.text
    assert "3 points, fix 1" in page.text
    assert "qmigrate fix undo 1" in page.text


@pytest.mark.parametrize("action", ["delete", "retrain", "orphans", "reset"])
def test_no_more_goes_than_was_shown(served, action):
    """Points that came between the page and the job are not agreed to: nothing is deleted, and the job says why."""
    served.run("DELETE FROM image_assets WHERE path = :path", [{"path": PATHS[3]}])
    browser, where = Browser(served.made), f"/directories/{action}?path=/photos/2023/"
    given = {"reason": "why", **({"phrase": PHRASE} if action == "reset" else {"seen": "yes"})}
    browser.send(where, f"/directories/{action}", **given, **({"category": "3"} if action == "retrain" else {}))
    late = make_point(90)
    late.payload["path"] = "/photos/2023/late.jpg"
    store = served.made.store()
    write(store, served.made.name, [late])
    store.close()
    jobs.work(served.made.settings(), once=True)
    (job,) = jobs.jobs(served.made.settings()).rows
    assert (job.state, job.error["exitCode"]) == ("failed", 10), job
    assert "7 points" in browser.get("/directories").text


def test_a_directory_is_trained_again(served):
    """With the statements that would be run, and the number that the queue takes."""
    browser = Browser(served.made)
    page = browser.get("/directories/retrain?path=/photos/2023/")
    assert "UPDATE training_sessions SET status" in page.text
    browser.send("/directories/retrain?path=/photos/2023/", "/directories/retrain", reason="new model", category="3", seen="yes")
    jobs.work(served.made.settings(), once=True)
    assert served.run("SELECT value, category_id FROM training_queue") == [("/photos/2023", 3)]
    assert served.run("SELECT count(*) FROM training_sessions WHERE status = 'RESET'") == [(2,)]


def test_points_without_a_row_are_shown_and_deleted(served):
    """How many, and which; nothing to press where there is none."""
    browser = Browser(served.made)
    assert "There is nothing to delete" in browser.get("/directories/orphans").text
    served.run("DELETE FROM image_assets WHERE path = :path", [{"path": PATHS[0]}])
    page = browser.get("/directories/orphans")
    assert "Points 1 of 6" in page.text
    assert str(served.ids[0]) in page.text
    browser.send("/directories/orphans", "/directories/orphans", reason="gone from the archive", seen="yes")
    jobs.work(served.made.settings(), once=True)
    assert "5 points" in browser.get("/directories").text


def test_starting_over_takes_the_phrase(served):
    """Nothing else than what the command asks for."""
    browser = Browser(served.made)
    refused = browser.send("/directories/reset", "/directories/reset", 400, reason="why", phrase=PHRASE.lower())
    assert PHRASE in refused.text
    assert not jobs.jobs(served.made.settings()).rows
    browser.send("/directories/reset", "/directories/reset", reason="why", phrase=PHRASE)
    jobs.work(served.made.settings(), once=True)
    assert "No point has a path" in browser.get("/directories").text


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"seen": "yes", "path": "/photos/"}, "say why"),
        ({"seen": "yes", "path": "/photos/", "reason": "x" * 2001}, "say why"),
        ({"reason": "why", "path": "/photos/"}, "tick that you have checked"),
        ({"reason": "why", "seen": "yes"}, "no directory is named"),
    ],
)
def test_what_is_missing_in_a_form_is_said_and_nothing_is_done(served, fields, told):
    """A browser checks the same; a program that sends forms may not."""
    browser = Browser(served.made)
    csrf = next(one["value"] for _, inputs in browser.get("/").forms for one in inputs if one["name"] == "csrf")
    found = browser.client.post("/directories/delete", data={"csrf": csrf, **fields})
    assert found.status_code == 400
    assert told in found.text
    assert not jobs.jobs(served.made.settings()).rows


def test_a_viewer_sees_the_tree_and_no_button(served):
    """What would go is looked up only for those who may delete."""
    browser = Browser(served.made, "viewer")
    page = browser.get("/directories")
    assert "Delete" not in page.text
    assert "Danger zone" not in page.text
    browser.get("/directories/delete?path=/photos/", 403)


def test_names_are_shown_as_text(served):
    """A directory may be called anything."""
    hostile = "<script>alert(1)</script>&\"'"
    store = served.made.store()
    store.overwrite_payload(served.made.name, served.ids[0], {"path": f"/x/{hostile}/a.jpg"})
    store.close()
    browser = Browser(served.made)
    page = browser.get("/directories")
    assert "<script>alert" not in browser.raw
    (link,) = (one for one in page.links() if "alert" in one and "/delete" in one)
    assert hostile in browser.get(link).text


def test_without_settings_it_says_what_to_name(deployment):
    """No collection is named under console."""
    deployment.revise("0001", "def upgrade():\n    return []\n")
    assert "console.collection of the settings names no collection" in Browser(deployment).get("/directories").text


def test_a_hundred_directories_take_one_look_at_the_collection(served, monkeypatch):
    """Whatever their number: one statement to SQL, and one reading of the collection."""
    from qmigrate.commands import stats

    seen = []
    monkeypatch.setattr(stats, "stats", lambda *given, _real=stats.stats, **more: seen.append(given) or _real(*given, **more))
    Browser(served.made).get("/directories")
    assert len(seen) == 1
