"""A console as a browser without JavaScript meets it: log-in by a cookie, links, forms, redirects."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from fastapi.testclient import TestClient
from tests.harness import Deployment

from qmigrate.console import create_app
from qmigrate.console.access import Access

#: As a browser sends it.
BROWSER = {"Accept": "text/html,application/xhtml+xml", "Sec-Fetch-Site": "same-origin"}


class Parsed(HTMLParser):
    """What a test asks of a page: its words, links, forms, and what each element is."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.forms: list[tuple[dict, list[dict]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.elements.append((tag, given))
        if tag == "form":
            self.forms.append((given, []))
        if tag in ("input", "select", "textarea", "button") and self.forms and given.get("name"):
            self.forms[-1][1].append(given)

    def handle_data(self, data):
        if data.strip():
            self.words.append(" ".join(data.split()))

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def links(self) -> list[str]:
        return [given["href"] for tag, given in self.elements if tag == "a" and "href" in given]


class Browser:
    """One person with a role, at one console."""

    def __init__(self, made: Deployment, role: str | None = "operator", *, user: str = "kim", app=None, access=None) -> None:
        self.access = access or Access.of(made.settings())
        self.app = app or create_app(made.settings(), access=self.access)
        self.client = TestClient(self.app, base_url="https://testserver", headers=BROWSER)
        if role is not None:
            token = self.access.link_token(user, role)
            entered = self.client.get("/login", params={"token": token}, follow_redirects=False)
            assert entered.status_code == 303, entered.text

    def get(self, path: str, status: int = 200) -> Parsed:
        found = self.client.get(path)
        assert found.status_code == status, found.text
        assert found.headers["content-type"].startswith("text/html")
        assert found.headers["cache-control"] == "no-store"
        self.raw = found.text
        return Parsed(found.text)

    def send(self, path: str, action: str, status: int = 200, **fields) -> Parsed:
        """Fill in the form of a page, and send it; the fields that are hidden go along."""
        page = self.get(path)
        given, inputs = next((one, fields) for one, fields in page.forms if one.get("action") == action)
        assert given["method"] == "post"
        values = {one["name"]: one.get("value", "") for one in inputs if one.get("type") == "hidden"}
        assert set(fields) <= {one["name"] for one in inputs}, (fields, inputs)
        found = self.client.post(action, data={**values, **fields})
        assert found.status_code == status, found.text
        self.raw = found.text
        return Parsed(found.text)


def loads(text: str) -> set[str]:
    """Everything that a page makes a browser load."""
    return set(re.findall(r'(?:src|href|action|hx-get|hx-post|hx-sse:connect)="([^"]*)"', text))
