"""What all pages of the console have in common: files, headers, log-in, forms, errors. Each page has tests of its own."""

from __future__ import annotations

import gzip
import hashlib
from importlib import resources

import pytest
from fastapi.testclient import TestClient
from starlette.routing import Route
from tests.harness import CREATE, Deployment
from tests.scenarios.console import BROWSER, Browser, Parsed, loads

from qmigrate.commands import upgrade
from qmigrate.console import create_app
from qmigrate.console.access import COOKIE, MOST_FAILURES, Access
from qmigrate.console.pages.assets import ASSETS
from qmigrate.console.pages.site import FLASH, MOST
from qmigrate.settings.load import Settings

FOLDER = resources.files("qmigrate.console") / "assets"


@pytest.fixture
def made(tmp_path):
    """A deployment with one collection."""
    found = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
    found.revise("0001", CREATE)
    upgrade.upgrade(found.settings())
    return found


def test_all_that_pages_load_is_small():
    """At most 45 kB in all, compressed."""
    assert sum(len(one.packed) for one in ASSETS.files.values()) <= 45_000


def test_the_files_of_others_are_those_of_their_packages():
    """The files of others are those of their packages, and each licence is there."""
    rows = [line.split() for line in (FOLDER / "VERSIONS").read_text().splitlines() if not line.startswith("#")]
    assert {row[0] for row in rows} == {name for name in ASSETS.files if ".min." in name}
    for name, package, _, _, digest in rows:
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest, name
        assert "permission" in (FOLDER / "licences" / f"{package.removesuffix('.org')}.txt").read_text().lower()


def test_files_are_kept_by_browsers_under_their_digest(made):
    """Files are kept by browsers under their digest, and need no log-in."""
    client = TestClient(create_app(made.settings()), base_url="https://testserver")
    for name, file in ASSETS.files.items():
        found = client.get(ASSETS.path(name))
        assert (found.status_code, found.content) == (200, file.content)
        assert "immutable" in found.headers["cache-control"]
        assert found.headers["x-content-type-options"] == "nosniff"
        assert gzip.decompress(file.packed) == file.content
    bare = client.get(ASSETS.path("qmigrate.css"), headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in bare.headers
    assert client.get("/assets/000000000000/qmigrate.css").status_code == 404
    assert client.get(f"/assets/{ASSETS.files['qmigrate.css'].digest}/VERSIONS").status_code == 404


def test_a_page_loads_nothing_of_another_host_and_has_no_script_of_its_own(made):
    """A page loads nothing of another host, and has no script or style within."""
    browser = Browser(made)
    for path in sorted(path for path in browser.app.state.site.paths if "{" not in path and path != "/login"):
        found = browser.client.get(path)
        assert "default-src 'self'" in found.headers["content-security-policy"]
        assert all(one.startswith(("/", "#")) and not one.startswith("//") for one in loads(found.text)), path
        page = Parsed(found.text)
        assert not [given for _, given in page.elements if any(name == "style" or name.startswith(("on", "hx-on")) for name in given)]
        assert all(given.get("src") for tag, given in page.elements if tag == "script")
        assert "style" not in {tag for tag, _ in page.elements}


def test_who_has_not_logged_in_is_shown_how(made):
    """Who has not logged in is shown how, as a page; a program gets JSON."""
    browser = Browser(made, None)
    page = browser.get("/", 401)
    assert "qmigrate serve" in page.text
    assert page.forms[0][0]["action"] == "/login"
    assert "Collections" not in page.text
    found = browser.client.get("/", headers={"Accept": "application/json"})
    assert (found.status_code, found.json()["detail"]) == (401, "log in first, or send a token")
    # What is for programs answers programs, whatever a browser accepts.
    assert browser.client.get("/api/v1/collections").json()["detail"] == "log in first, or send a token"


def test_a_token_logs_in_by_a_form_and_the_cookie_is_gone_after_leaving(made, monkeypatch):
    """A token logs in by a form, and the cookie is gone after leaving."""
    monkeypatch.setenv("KIM", "k" * 40)
    made.extra["console"] = {"tokens": [{"role": "operator", "user": "kim", "env": "KIM"}]}
    made.__post_init__()
    browser = Browser(made, None)
    foreign = browser.client.post("/login", data={"token": "k" * 40}, headers={"Sec-Fetch-Site": "cross-site"})
    assert foreign.status_code == 403
    assert browser.client.post("/login", data={"token": "wrong"}).status_code == 401
    page = Parsed(browser.client.post("/login", data={"token": "k" * 40}).text)
    assert "kim" in page.text
    assert "k" * 40 not in browser.client.get("/").text
    browser.send("/", "/logout", 401)
    assert COOKIE not in browser.client.cookies
    for _ in range(MOST_FAILURES):
        browser.client.post("/login", data={"token": "wrong"})
    late = browser.client.post("/login", data={"token": "k" * 40})
    assert (late.status_code, "wait a minute" in late.text.lower()) == (429, True)


def forms() -> list[str]:
    """Every path that takes a form of a caller."""
    site = create_app(Settings(), access=Access((), None, b"key")).state.site
    return sorted(
        route.path for route in site.routes if isinstance(route, Route) and "POST" in (route.methods or ()) and route.path != "/login"
    )


@pytest.mark.parametrize("path", forms())
def test_a_form_of_another_page_changes_nothing(made, path):
    """Without the token of the page, from another host, or without a log-in a form is refused."""
    path = path.replace("{name:path}", "x").replace("{number:int}", "7").replace("{", "").replace("}", "")
    browser = Browser(made, "approver")
    csrf = browser.client.get("/api/v1/me").json()["csrf"]
    for fields, headers in (({}, {}), ({"csrf": "0" * 64}, {}), ({"csrf": csrf}, {"Sec-Fetch-Site": "cross-site"}), ({"csrf": csrf}, {"Sec-Fetch-Site": "same-site"})):
        found = browser.client.post(path, data=fields, headers=headers)
        assert found.status_code == 403, (fields, found.text)
        assert "not from a page of this console" in found.text
    assert Browser(made, None).client.post(path, data={"csrf": csrf}).status_code == 401


@pytest.mark.parametrize("path", [path for path in forms() if path != "/logout"])
def test_who_may_only_look_sends_no_form(made, path):
    """Who may only look sends no form."""
    path = path.replace("{name:path}", "x").replace("{number:int}", "7").replace("{", "").replace("}", "")
    browser = Browser(made, "viewer")
    found = browser.client.post(path, data={"csrf": browser.client.get("/api/v1/me").json()["csrf"]})
    assert found.status_code == 403
    assert "and kim has viewer" in Parsed(found.text).text


def test_forms_that_are_none(made):
    """Forms that are none: another kind, too long, no UTF-8, too many fields."""
    browser = Browser(made)
    send = browser.client.post
    assert send("/logout", content="{}", headers={"Content-Type": "application/json"}).status_code == 415
    assert send("/logout", data={"x": "y" * MOST}).status_code == 413
    assert send("/logout", content=b"\xff", headers={"Content-Type": "application/x-www-form-urlencoded"}).status_code == 400
    assert send("/logout", content="&".join(["a=b"] * 3000), headers={"Content-Type": "application/x-www-form-urlencoded"}).status_code == 400


def test_what_was_done_is_said_once_and_only_by_this_console(made):
    """What was done is said once, and only by this console."""
    from starlette.requests import Request

    browser = Browser(made)
    site = browser.app.state.site
    request = Request({"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""})
    cookie = site.done(request, "/", said="Job 7 was asked for <b>now</b>").headers["set-cookie"]
    value = cookie.split(";")[0].split("=", 1)[1].strip('"')
    assert all(word in cookie.lower() for word in ("httponly", "secure", "samesite=strict", "path=/"))
    browser.client.cookies.set(FLASH, value, domain="testserver.local")
    page = browser.get("/")
    assert "Job 7 was asked for <b>now</b>" in page.text
    assert "&lt;b&gt;now&lt;/b&gt;" in browser.raw
    assert "Job 7" not in browser.get("/").text
    browser.client.cookies.set(FLASH, value[:-1] + ("0" if value[-1] != "0" else "1"), domain="testserver.local")
    assert "Job 7" not in browser.get("/").text


def test_an_error_of_a_verb_is_a_page_with_the_next_command(made):
    """An error of a verb is a page with the next command."""
    browser = Browser(made)
    made.ledger_url = "postgresql://app:hush@127.0.0.1:9/none"
    made.__post_init__()
    broken = Browser(made, app=create_app(made.settings(), access=browser.access), access=browser.access)
    page = broken.get("/", 503)
    assert "127.0.0.1:9" in page.text
    assert "hush" not in broken.raw
    assert "exit code 9" in page.text
    found = broken.client.get("/", headers={"Accept": "*/*"})
    assert (found.status_code, found.json()["exitCode"]) == (503, 9)


def test_a_fault_shows_no_traceback(made, monkeypatch):
    """A fault shows no traceback."""
    import qmigrate.commands.overview as first

    def broken(*_, **__):
        raise ZeroDivisionError("of pw=secret")

    browser = Browser(made)
    monkeypatch.setattr(first, "overview", broken)
    page = browser.get("/", 500)
    assert "the log of the server has it" in page.text
    assert "secret" not in page.text
    assert "Traceback" not in page.text


def test_an_address_that_is_none_is_a_page(made):
    """An address that is none is a page."""
    page = Browser(made).get("/nothing/<script>", 404)
    assert "Not found" in page.text
    assert "script" in {tag for tag, given in page.elements if given.get("src")}
    assert all(given.get("src") for tag, given in page.elements if tag == "script")


def test_mounted_below_a_path_all_links_are_below_it(made):
    """Mounted in another application below a path, all links are below it."""
    from fastapi import FastAPI

    access = Access.of(made.settings())
    outer = FastAPI()
    outer.mount("/qmigrate", create_app(made.settings(), access=access))
    client = TestClient(outer, base_url="https://testserver", headers=BROWSER)
    found = client.get("/qmigrate/login", params={"token": access.link_token("kim", "operator")})
    assert found.status_code == 200, found.text
    assert all(one.startswith(("/qmigrate/", "#")) for one in loads(found.text))
    assert client.get(next(one for one in loads(found.text) if one.endswith("qmigrate.css"))).status_code == 200
