"""The pages of approvals and of the audit: by forms alone, with only what may be shown, and for who may."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from PIL import Image
from tests.harness import audit, make_point, write
from tests.scenarios.test_approvals import BODY, URL, asked, asked_by, delete, ruled
from tests.scenarios.test_console import APPROVER, OPERATOR, PATHS, VIEWER, Served, served, tokens  # noqa: F401  fixtures

from qmigrate.commands import examples, jobs, requests
from qmigrate.errors import ApprovalNeededError

HTML = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def strict(served):  # noqa: F811
    """A deployment with a rule, whose examples show one field."""
    return ruled(served, fields=["session_id"])


def browser(served: Served, token: str):  # noqa: F811
    """A client that has logged in by the form, as a browser without scripts does."""
    client = served.client(None)
    client.headers.update(HTML)
    answer = client.post("/login", data={"token": token}, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    return client


def send(client, path: str, action: str, **fields: str):
    """Fill in a form of a page as it is there, and send it."""
    page = client.get(path)
    found = re.search(rf'<form method="post" action="{re.escape(action)}".*?</form>', page.text, re.DOTALL)
    assert found, f"{path} has no form for {action}"
    csrf = re.search(r'name="csrf" value="([^"]*)"', found[0])[1]
    return client.post(action, data={"csrf": csrf, **fields})


def test_asked_approved_run_and_undone_by_forms(strict):
    """What an operator has asked for, an approver sees whole and approves; it runs, is proven, and is undone."""
    otto, anna = browser(strict, OPERATOR), browser(strict, APPROVER)
    number = strict.client(OPERATOR).request("DELETE", URL, json=BODY).json()["requestId"]
    at = f"/requests/{number}"
    listed = anna.get("/requests").text
    assert f'<a href="{at}">{number}</a>' in listed
    page = anna.get(at).text
    for said in (
        "3 of 6 points", "50 %", "2 points", "otto, logged in by the console", "moved", "path below /photos/2024",
        "2 to 4", "Examples", "session_id", "older generations keep their points", "from an export",
    ):  # fmt: skip
        assert said in page, said
    assert not re.search(r"vacation/[ab]\.jpg", page), "no field that is not named"
    assert "You can&#39;t approve it" not in page
    mine = otto.get(at).text
    assert "Approve" not in mine.replace("approve", "")
    assert f'action="{at}/approve"' not in mine
    assert send(anna, at, f"{at}/approve").status_code == 400, "the box has to be ticked"
    done = send(anna, at, f"{at}/approve", seen="yes", reason="checked")
    assert (done.status_code, f"Request {number} is approved" in done.text) == (200, True)
    assert jobs.work(strict.made.settings(), once=True).ended == 1
    assert strict.paths() == set(PATHS[3:])
    page = anna.get(at).text
    for said in ("Its run", "read back as gone", "anna, logged in by the console", "checked", "The way back ends"):
        assert said in page, said
    assert send(otto, at, f"{at}/undo", seen="yes").status_code == 200
    assert jobs.work(strict.made.settings(), once=True).ended == 1
    assert strict.paths() == set(PATHS)
    assert "Undone by fix" in anna.get(at).text


def test_who_asked_can_not_approve_and_is_told_why(strict):
    """The page says why, and the form is not there; sent all the same, it is refused."""
    anna = browser(strict, APPROVER)
    number = strict.client(APPROVER).request("DELETE", URL, json=BODY).json()["requestId"]
    at = f"/requests/{number}"
    page = anna.get(at).text
    assert "anna asked for it" in page
    assert f'action="{at}/approve"' not in page
    csrf = re.search(r'name="csrf" value="([^"]*)"', page)[1]
    assert anna.post(f"{at}/approve", data={"csrf": csrf, "seen": "yes"}).status_code == 409
    assert send(anna, at, f"{at}/reject", reason="a slip").status_code == 200
    assert requests.request(strict.made.settings(), number).state == "rejected"


ROUTES = ("approve", "reject", "run", "undo")


@pytest.mark.parametrize("route", ROUTES)
def test_a_viewer_and_a_page_of_another_site_decide_nothing(strict, route):
    """A viewer gets 403, and so does a form without its proof, also of an approver."""
    number = asked(strict)
    vera, anna = browser(strict, VIEWER), browser(strict, APPROVER)
    path = f"/requests/{number}/{route}"
    csrf = re.search(r'name="csrf" value="([^"]*)"', vera.get("/requests").text)[1]
    assert vera.post(path, data={"csrf": csrf, "seen": "yes", "reason": "x"}).status_code == 403
    assert anna.post(path, data={"seen": "yes", "reason": "x"}).status_code == 403
    own = re.search(r'name="csrf" value="([^"]*)"', anna.get("/requests").text)[1]
    other = {"Sec-Fetch-Site": "cross-site"}
    assert anna.post(path, data={"csrf": own, "seen": "yes", "reason": "x"}, headers=other).status_code == 403
    assert requests.request(strict.made.settings(), number).state == "pending"
    assert strict.client(None).get(f"/requests/{number}").status_code == 401


def test_what_moved_is_said_before_it_is_approved(strict):
    """The page counts now, and warns where an approval would be void."""
    number = asked(strict)
    store = strict.made.store()
    points = [make_point(one) for one in (60, 61, 62)]
    for point in points:
        point.payload["path"] = "/photos/2024/new.jpg"
    write(store, strict.made.name, points)
    store.close()
    page = browser(strict, APPROVER).get(f"/requests/{number}").text
    assert "There are 6 points now" in page
    found = examples.review(strict.made.settings(), number)
    assert (found.now, found.points, len(found.examples)) == (6, 9, 6)


def test_examples_are_random_newest_and_oldest(served):  # noqa: F811
    """By a field with a time; at most twenty, each once."""
    ruled(served, time="category_id", fields=["category_id"])
    number = asked(served)
    found = examples.review(served.made.settings(), number).examples
    assert {one.why for one in found} == {"all"}, "of three points all are shown"
    drawn = examples._Drawn(served.made.settings().fixes.approval)
    drawn.add([(one, float(one)) for one in range(1000)])
    chosen = drawn.chosen()
    kinds = {why: sorted(one for one, each in chosen.items() if each == why) for why in ("newest", "oldest", "random")}
    assert (kinds["newest"], kinds["oldest"]) == (list(range(993, 1000)), list(range(7)))
    assert len(chosen) == 20
    assert len(kinds["random"]) == 6


def test_pictures_stay_below_their_roots(served, tmp_path):  # noqa: F811
    """A small picture is sent, of examples alone, of files below image_roots alone, links resolved."""
    roots = tmp_path / "pictures"
    roots.mkdir()
    Image.new("RGB", (400, 200), "red").save(roots / "a.png")
    (tmp_path / "secret.png").write_bytes((roots / "a.png").read_bytes())
    (roots / "link.png").symlink_to(tmp_path / "secret.png")
    (roots / "text.png").write_text("no picture")
    ruled(served, picture="photo", image_roots=[str(roots)])
    photos = ["a.png", "link.png", "../secret.png"]
    store = served.made.store()
    points = []
    for place, photo in enumerate([*photos, str(tmp_path / "secret.png"), "text.png"]):
        point = make_point(place if place < 3 else 70 + place)
        point.payload.update(path=f"/photos/2024/{place}.jpg", photo=photo)
        points.append(point)
    write(store, served.made.name, points)
    store.close()
    with pytest.raises(ApprovalNeededError):
        delete(served)
    client = browser(served, VIEWER)
    page = client.get("/requests/1").text
    found = re.findall(r'<img src="([^"]+)" alt="Picture of point (\d+)"', page)
    assert len(found) == 5
    got = {int(point): client.get(src.replace("&amp;", "&")) for src, point in found}
    good = points[0].id
    assert {point for point, answer in got.items() if answer.status_code == 200} == {good}
    assert got[good].headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(got[good].content)) as small:
        assert max(small.size) <= 160
    src = found[0][0].replace("&amp;", "&").partition("?")[0]
    assert client.get(src).status_code == 404, "an address that no page gave out"
    assert str(roots) not in page
    assert "a.png" not in page, "the path itself is not a field that is named"


def test_the_audit_is_filtered_paged_and_exported(served):  # noqa: F811
    """By forms and links alone; the files have every row that fits."""
    api = served.client(OPERATOR)
    for path in ("/photos/2024/vacation", "/photos/2023"):
        assert api.request("DELETE", URL, json={**BODY, "pathPrefix": path, "deletionReason": f"=of {path}"}).status_code == 200
    client = browser(served, VIEWER)
    page = client.get("/audit").text
    assert "/photos/2024/vacation" in page
    assert "/photos/2023" in page
    assert 'href="/audit/export?format=csv"' in page
    only = client.get("/audit?target=2023&kind=directory&actor=otto&since=2020-01-01").text
    assert "/photos/2024/vacation" not in only
    assert "No row fits" in client.get("/audit?actor=kim").text
    assert "No row fits" in client.get("/audit?page=2").text
    assert client.get("/audit?since=not-a-day&collection=").status_code == 200
    lines = client.get("/audit/export?format=jsonl&target=2023").text.splitlines()
    assert [json.loads(line)["target"] for line in lines] == ["/photos/2023"]
    rows = list(csv.DictReader(io.StringIO(client.get("/audit/export?format=csv").text)))
    assert [row["id"] for row in rows] == [str(row.id) for row in audit(served.made)]
    assert rows[0]["reason"].startswith("'="), "no text is a formula"
    assert client.get("/audit/export?format=xml").status_code in (404, 422)
    assert len(client.get("/api/v1/deletions?format=jsonl").text.splitlines()) == 2


def test_the_audit_names_who_approved(strict):
    """With a link to the request."""
    number = asked(strict)
    requests.approve(asked_by(strict, "anna"), number)
    requests.run(asked_by(strict, "otto"), number)
    assert f'<a href="/requests/{number}">anna</a>' in browser(strict, VIEWER).get("/audit").text


def test_the_list_is_filtered_and_paged(strict):
    """By state and collection."""
    number = asked(strict)
    client = browser(strict, VIEWER)
    assert f"/requests/{number}" in client.get(f"/requests?state=pending&collection={strict.made.name}").text
    assert "No request fits" in client.get("/requests?state=done").text
    assert "No request fits" in client.get("/requests?page=2").text
    assert client.get("/requests/99").status_code == 404
