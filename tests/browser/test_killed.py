"""A console that dies in the middle of its own job and is started again: the page that asked for it loses nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.conftest import clean
from tests.conftest_qdrant import free_port
from tests.harness import loaded_on
from tests.scenarios import gated_embedder
from tests.scenarios.cli import SOURCE, environment

from qmigrate.commands import jobs, runs
from qmigrate.console import access

TOKEN = "o" * 40
#: More than the silence after which a worker counts as dead.
LONG = 120_000
ADDING = """
def upgrade():
    return [op.AddVector("{name}", "b", VectorParams(size=768, distance=Distance.COSINE), values=Embed("gate", text="text"))]
"""

pytestmark = [pytest.mark.nightly, pytest.mark.server, pytest.mark.timeout(400)]


@contextmanager
def serving(made, port: int, gate) -> Iterator[subprocess.Popen]:
    """`qmigrate serve` in a process of its own; killed at the end."""
    command = [sys.executable, "-m", "qmigrate", "serve", "--port", str(port)]
    path = f"{SOURCE}{os.pathsep}{SOURCE.parent}"
    variables = environment({"PYTHONPATH": path, "TEST_TOKEN": TOKEN, "GATE": str(gate)})
    with subprocess.Popen(command, cwd=made.root, env=variables, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr.readline().startswith("Listening on ")
            yield process
        finally:
            process.kill()


def test_a_console_is_killed_in_the_middle_of_its_job_and_started_again(qdrant_server, tmp_path, monkeypatch, chromium, scripts):
    """The job is asked for on the page, half done, and finished by the next process; the log-in and the page still hold."""
    monkeypatch.setenv("TEST_TOKEN", TOKEN)
    embedder = {"type": "callable", "function": "tests.scenarios.gated_embedder:embed", "size": gated_embedder.SIZE, "max_batch": 10}
    made = loaded_on(
        qdrant_server, tmp_path, 200, embedders={"gate": embedder},
        console={"tokens": [{"role": "operator", "user": "kim", "env": "TEST_TOKEN"}]},
    )  # fmt: skip
    made.revise("0002", ADDING)
    gate, port = tmp_path / "gate", free_port()
    gate.mkdir()
    context = chromium.new_context(java_script_enabled=scripts)
    page = context.new_page()
    page.set_default_timeout(LONG)
    try:
        with serving(made, port, gate) as process:
            page.goto(f"http://localhost:{port}/plan/run")
            page.get_by_label("Token").fill(TOKEN)
            page.get_by_role("button", name="Log in").click()
            page.get_by_role("link", name="Plan").click()
            page.get_by_role("link", name="Run…").click()
            page.get_by_role("button", name="Run 1 collection").click()
            page.get_by_role("status").filter(has_text="Asked for: upgrade 0002").wait_for()
            address = page.url
            until = time.monotonic() + LONG / 1000
            while not (gate / "asked").exists():
                assert time.monotonic() < until
                time.sleep(0.05)
            process.kill()
            process.wait()
        if scripts:
            page.get_by_text("No answer from the console since").wait_for()
        (gate / "open").touch()
        with serving(made, port, gate):
            until = time.monotonic() + LONG / 1000
            while not scripts and "Done." not in page.content():
                assert time.monotonic() < until
                page.goto(address)
                time.sleep(0.5)
            page.get_by_text("Done.").wait_for()
            page.get_by_role("link", name="Runs").click()
            page.get_by_role("row", name="2 upgrade").get_by_text("done").wait_for()
        (job,) = jobs.jobs(made.settings()).rows
        assert (job.state, job.attempts, job.actor) == ("completed", 2, "kim")
        ran = [one for one in runs.runs(made.settings()).rows if one.revisions == ("0002",)]
        assert [one.state for one in ran] == ["done"], "one run, which was resumed"
        assert (made.row().revision, made.row().points) == ("0002", 200)
        cookie = next(one for one in context.cookies() if one["name"] == access.COOKIE)
        assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"], cookie["path"]) == (True, True, "Strict", "/")
    finally:
        context.close()
        clean(made)
