"""A console that runs, and a headless Chromium of this machine in front of it: by clicks, with JavaScript and without."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.conftest_qdrant import free_port
from tests.harness import Deployment

from qmigrate.console import create_app
from qmigrate.console.access import Access
from qmigrate.console.server import config_of

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def pytest_collection_modifyitems(items):
    """Without a browser each of them is skipped with one line."""
    for item in items:
        if "tests/browser/" in str(item.path) and CHROMIUM is None:
            item.add_marker(pytest.mark.skip(reason="no Chromium on PATH: apt install chromium"))


@pytest.fixture(scope="module")
def chromium():
    """One browser for the tests of a module: while it is there, no other test of the process can start an event loop."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        # Root, as in a container of CI, has no sandbox of its own there.
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=[True, False], ids=["scripts", "no-scripts"])
def scripts(request) -> bool:
    """Whether the browser runs JavaScript."""
    return request.param


class Console:
    """A console that listens on a port of this machine."""

    def __init__(self, made: Deployment, port: int, access: Access) -> None:
        self.made, self.access = made, access
        self.url = f"http://localhost:{port}"

    def link(self, role: str = "operator", user: str = "kim") -> str:
        """A link that logs in once, as `qmigrate serve` prints it."""
        return f"{self.url}/login?token={self.access.link_token(user, role)}"


@contextmanager
def listening(made: Deployment) -> Iterator[Console]:
    """Serve until the block ends."""
    import uvicorn

    access, port = Access.of(made.settings()), free_port()
    config = config_of(create_app(made.settings(), access=access))
    config.host, config.port = "127.0.0.1", port
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        thread.join(0.02)
    try:
        yield Console(made, port, access)
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture
def opened(chromium, scripts):
    """Open pages of a console as a person; what the browser complains about fails the test."""
    contexts, complaints = [], []

    def open_(console: Console, role: str = "operator", user: str = "kim", **how):
        context = chromium.new_context(java_script_enabled=scripts, **how)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" and "status of 4" not in said.text else None)
        page.on("request", lambda asked: complaints.append(asked.url) if not asked.url.startswith(console.url) else None)
        page.goto(console.link(role, user))
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not complaints
