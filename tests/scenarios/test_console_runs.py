"""The pages of runs: what is shown of each state, live and without scripts, and nothing that may not be shown."""

from __future__ import annotations

import json

import pytest
from tests.harness import ADD, CREATE, Deployment
from tests.scenarios.console import Browser
from tests.scenarios.test_run_events import held_open

from qmigrate.commands import runs, upgrade
from qmigrate.console.pages.runs import ADVICE
from qmigrate.engine import figures
from qmigrate.ledger import Carry, Doubt, Ledger
from qmigrate.model.facts.figures import Figures, Sample
from qmigrate.model.report import KEPT, MAY_UNDO

HOSTILE = "<img src=x onerror=alert(1)>\u202e"
DIGESTS = bytes(range(32))


@pytest.fixture
def local(tmp_path, monkeypatch) -> Deployment:
    """Local mode with a collection that was filled once."""
    # However slow this machine is: a test has the figures that it makes.
    monkeypatch.setattr(figures, "FIRST_PAUSE", 1e6)
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(20)
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())
    return made


def sampled(count: int) -> Figures:
    """This many samples."""
    found = Figures(pause=2.0)
    for number in range(1, count + 1):
        found = found.with_one(Sample(number, 1_700_000_000.0 + 2 * number, "fill", "fill", number * 5, 20, 2.5, {"read": 0.2, "write": 0.9}, 3, 50_000_000))
    return found


def test_the_list_has_every_run_and_its_filters(local):
    """Newest first; a form that works without scripts."""
    browser = Browser(local, "viewer")
    page = browser.get("/runs")
    assert "2 in all" in page.text
    assert [one for one in page.links() if one.startswith("/runs/")] == ["/runs/2", "/runs/1"]
    assert "0002" in page.text
    for query, words in (("state=failed", "No run fits these filters."), ("collection=none", "0 in all"), ("state=odd", "2 in all"), ("offset=1", "Newer")):
        assert words in browser.get(f"/runs?{query}").text, query
    assert ("option", {"selected": None}) in browser.get("/runs?state=done").elements
    browser.get("/runs?offset=x", 404)


def test_a_run_that_is_done(local):
    """Stages, phases, proof; nothing asks for more of what is over."""
    browser = Browser(local, "viewer")
    page = browser.get("/runs/2")
    for words in ("Run 2: upgrade of", "snapshot", "converge", "20 of 20 points proven", "holds"):
        assert words in page.text, words
    assert "hx-sse" not in browser.raw
    assert "Figures" not in page.text
    browser.get("/runs/999", 404)
    browser.get("/runs/0", 404)
    browser.get("/runs/x", 404)


def test_a_run_that_is_worked_on(local):
    """How far, how fast, what limits it; live by its stream, and by a link without scripts."""
    browser = Browser(local, "viewer")
    with held_open(local) as (lease, number):
        lease.journal(number, 0, "fill", "running")
        empty = browser.get(f"/runs/{number}")
        assert "There are none yet" in empty.text
        lease.keep_figures(number, sampled(3))
        page = browser.get(f"/runs/{number}")
        for words in ("running", "15 of 20", "2.5/s", "2.0 s", "write 90 % busy", "heartbeat", "load it again", "up to 2/s", "Memory of the process"):
            assert words in page.text, words
        bar = next(given for tag, given in page.elements if tag == "progress")
        assert bar["value"] == "75.0"
        live = next(given for _, given in page.elements if "hx-sse:connect" in given)
        assert live["hx-sse:connect"] == f"/runs/{number}/events"
        drawing = next(given for tag, given in page.elements if tag == "svg")
        assert drawing["aria-label"] == "Points per second: 2/s"
        got = json.loads(browser.client.get(f"/runs/{number}/figures").text)
        assert [one["name"] for one in got["plots"]][:2] == ["Points per second", "Busy share per stage"]
        assert all(len(line["values"]) == len(got["at"]) == 3 for one in got["plots"] for line in one["lines"])


def test_the_stream_of_a_page_is_the_part_that_moves(local):
    """As HTML, which is put in place as it is; the end is said, so that the browser asks no more."""
    browser = Browser(local, "viewer")
    with browser.client.stream("GET", "/runs/2/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = list(answer.iter_lines())
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert any("Run 2: upgrade of" in line for line in data)
    assert not any("<html" in line for line in data)
    assert [line for line in lines if line.startswith("event: ")] == ["event: end"]
    assert browser.client.get("/runs/999/events").status_code == 404


def test_a_run_that_failed_says_what_to_do(local):
    """The message, what was not touched, and the commands; whatever the message holds."""
    browser = Browser(local, "viewer")
    with held_open(local) as (lease, number):
        lease.journal(number, 0, "fill", "running")
        lease.finish_run(number, "failed", f"the disk is full {HOSTILE}")
        page = browser.get(f"/runs/{number}")
        for words in ("failed", "the disk is full <img src=x onerror=alert(1)>", "serves", "qmigrate upgrade", f"qmigrate abort {local.name}"):
            assert words in page.text, words
        assert "<img src=x" not in browser.raw
        assert "\u202e" not in browser.raw
        assert "the disk is full" in browser.get("/runs").text


@pytest.mark.parametrize("fields", [(), ("kind",)])
def test_late_writes_are_shown_with_both_values_and_what_to_do(local, fields):
    """Of the payloads only what may be shown, on the page and in the answer for programs."""
    local.extra["console"] = {"fields": list(fields)}
    local.__post_init__()
    ledger = Ledger.open(local.ledger_url)
    job = runs.run(local.settings(), 2)
    golive = next(one.step for one in job.phases if one.phase == "sweep")
    with ledger.hold(local.name, timeout=0) as lease:
        lease.carry_all(
            2,
            golive,
            [
                Carry(1, DIGESTS, DIGESTS, "listed", Doubt(KEPT, DIGESTS[:16])),
                Carry(2, DIGESTS, DIGESTS, "done", Doubt(MAY_UNDO, DIGESTS[:16])),
                Carry(4, DIGESTS, DIGESTS, "done", Doubt(None, DIGESTS[:16])),
            ],
        )
    ledger.close()
    browser = Browser(local, "viewer")
    page = browser.get("/runs/2")
    for words in ("Late writes to check", "may undo delete", "kept", ADVICE["kept"], ADVICE["may_undo_delete"]):
        assert words in page.text, words
    assert "the text number" not in browser.raw
    assert ('{"kind": "even"}' in page.text) == bool(fields)
    assert ("name those that may be" in page.text) == (not fields)
    found = browser.client.get("/api/v1/runs/2").json()["conflicts"]
    assert [row["id"] for row in found["rows"]] == [2, 1]
    assert found["counts"] == {"may_undo_delete": 1, "kept": 1}
    assert found["rows"][1]["new"]["now"] == ('{"kind": "even"}' if fields else "{}")
