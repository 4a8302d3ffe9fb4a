"""What people do on the pages, by clicks alone, with JavaScript and without: look, run, hold, cut over, go back, approve."""

from __future__ import annotations

import csv
import json
import time

import httpx
import pytest
from tests.browser.conftest import listening
from tests.conftest import clean
from tests.harness import ADD, CREATE, INDEX, Deployment, make_point, write
from tests.scenarios.cli import call
from tests.scenarios.console_states import States
from tests.scenarios.test_approvals import ruled
from tests.scenarios.test_console import PATHS, Served

from qmigrate.commands import jobs, overview, upgrade
from qmigrate.engine import executor, figures
from qmigrate.ports import Silent

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def states(tmp_path_factory):
    """Local mode and SQLite: one collection served with a way back, one held, one failed, one pending."""
    root = tmp_path_factory.mktemp("states")
    made = Deployment(root / "project", {"path": str(root / "qdrant")}, f"sqlite:///{root}/ledger.db")
    return States(made)


@pytest.fixture(scope="module")
def shown(states):
    """The console of it."""
    with listening(states.made) as found:
        yield found


def worked(made: Deployment) -> None:
    """What a worker does."""
    assert jobs.work(made.settings(), once=True).ended == 1


def renewed(page, scripts: bool) -> None:
    """A page without scripts is as of when it was loaded."""
    if not scripts:
        page.reload()


def test_who_is_on_call_sees_users_first_and_is_two_clicks_from_going_back(states, shown, opened, scripts):
    """The parts are in their order; the price is counted; the way back is a page that asks."""
    page = opened(shown)
    heads = page.locator("main h2").all_inner_texts()
    wanted = ["Every name is served", "The way back", "failed", "held", "The last 24 hours", "Pending, drift, kept"]
    places = [next(place for place, head in enumerate(heads) if one in head) for one in wanted]
    assert places == sorted(places)
    assert page.locator(".bad").count() == 0, "red is for users who are hurt"
    if not scripts:
        page.get_by_role("link", name="Count later writes").click()
    page.get_by_text("3 later writes can be carried").wait_for()
    failed = page.get_by_role("region", name="stopped in fill")
    for words in ("can't be given vector 'c'", "qmigrate upgrade", "Not touched: g0001 serves as before"):
        assert words in failed.inner_text()
    assert page.get_by_role("region", name="waits as g0002").locator("code", has_text="qmigrate cutover").count() == 1
    page.get_by_role("link", name=f"Roll back… {states.served}").click()
    page.get_by_role("heading", name=f"Roll back {states.served} to 0001").wait_for()
    assert page.get_by_role("radio", name="is carried back").is_checked()
    page.get_by_role("link", name="Overview").last.click()
    page.get_by_role("heading", name="Every name is served").wait_for()
    assert not jobs.jobs(states.made.settings()).rows


def test_a_command_is_copied(states, shown, opened, scripts):
    """The button is there where scripts are, and says that it has copied."""
    page = opened(shown, permissions=["clipboard-read", "clipboard-write"])
    button = page.get_by_role("region", name="waits as g0002").locator("button.copy")
    if not scripts:
        assert not button.is_visible(), "what does nothing is not shown"
        return
    button.click()
    page.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == f"qmigrate cutover {states.held}"


def test_a_collection_is_read(states, shown, opened):
    """Schema, revisions with what each did, generations, days: from the list, by its name."""
    page = opened(shown, "viewer")
    page.get_by_role("link", name="Collections").click()
    page.get_by_role("link", name=states.served).click()
    vectors = page.get_by_role("table", name="Vectors").get_by_role("row")
    assert [row.split()[:4] for row in vectors.all_inner_texts()[1:]] == [["a", "dense", "8", "Cosine"], ["b", "dense", "16", "Cosine"]]
    steps = page.locator("ol.graph > li")
    assert [one.split()[0] for one in steps.all_inner_texts()] == ["0002", "0001"]
    for words in ("add vector b 16 cosine", "copy in", "40 points"):
        assert words in steps.first.inner_text()
    rows = page.get_by_role("table", name="Generations").get_by_role("row").all_inner_texts()[1:]
    assert [row.split()[:2] for row in rows] == [["g0002", "live"], ["g0001", "retired"]]


def test_held_cut_over_and_back_by_clicks(tmp_path, opened, scripts):
    """Each button leads to a page that says what will happen; without its consent the browser sends nothing."""
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(20)
    made.revise("0002", "\nirreversible = 'it is agreed to'\n" + ADD)
    with listening(made) as console:
        page = opened(console)
        page.get_by_role("link", name="Plan").click()
        page.get_by_text("add vector b 16 cosine").wait_for()
        page.get_by_role("link", name="Build and hold…").click()
        page.get_by_text("no name moves before its cut-over").wait_for()
        page.get_by_role("button", name="Build and hold").click()
        assert not jobs.jobs(made.settings()).rows, "the browser holds a form back whose box is not ticked"
        page.get_by_role("checkbox", name="Revision 0002 has no way back").check()
        page.get_by_role("button", name="Build and hold").click()
        page.get_by_role("status").filter(has_text="Asked for: upgrade 0002").wait_for()
        worked(made)
        renewed(page, scripts)
        page.get_by_text("Done.").wait_for()
        page.get_by_role("link", name="Plan").click()
        page.get_by_role("link", name="Cut over…").click()
        page.get_by_role("checkbox", name=made.name).uncheck()
        page.get_by_role("button", name="Cut over").click()
        page.get_by_text("no collection was chosen").wait_for()
        page.go_back()
        page.reload()
        page.get_by_role("button", name="Cut over").click()
        page.get_by_role("status").filter(has_text="Asked for: cutover").wait_for()
        worked(made)
        renewed(page, scripts)
        page.get_by_text("Done.").wait_for()
        assert made.row().generation == "g0002"
        made.load(2, start=20)
        page.get_by_role("link", name="Plan").click()
        page.get_by_role("link", name="Roll back…").click()
        page.get_by_role("link", name=f"Roll back… {made.name} to 0001").click()
        assert "2 points written since" in page.get_by_role("region", name="Consent").inner_text()
        page.get_by_role("radio", name="is lost").check()
        page.get_by_role("button", name=f"Roll back {made.name}").click()
        page.get_by_text("type 'discard' to agree").wait_for()
        page.go_back()
        page.get_by_role("radio", name="is carried back").check()
        page.get_by_role("button", name=f"Roll back {made.name}").click()
        page.get_by_role("status").filter(has_text="Asked for: rollback 0001").wait_for()
        worked(made)
        renewed(page, scripts)
        page.get_by_text("Done.").wait_for()
    assert (made.row().generation, made.row().points) == ("g0001", 22)
    assert {one.actor for one in jobs.jobs(made.settings()).rows} == {"kim"}


def test_a_plan_is_run_by_clicks(tmp_path, opened, scripts):
    """Read, asked about, run by a worker, and the run is a click away from its job; then there is nothing more to run."""
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(20)
    made.revise("0002", ADD)
    with listening(made) as console:
        vera, page = opened(console, "viewer", "vera"), opened(console)
        vera.get_by_role("link", name="Plan").click()
        vera.get_by_text("add vector b 16 cosine").wait_for()
        assert vera.get_by_role("link", name="Run…").count() == 0, "who may only look has no button"
        page.get_by_role("link", name="Plan").click()
        page.get_by_role("link", name="Run…").first.click()
        page.get_by_role("heading", name="Run the plan").wait_for()
        said = page.locator("main").inner_text()
        for words in ("is built next to the one that serves", "add vector b 16 cosine", "nothing changes for them", "20 points"):
            assert words in said, words
        page.get_by_role("link", name="Back to the plan").click()
        assert not jobs.jobs(made.settings()).rows, "looking asks for nothing"
        page.get_by_role("link", name="Run…").first.click()
        page.get_by_role("button", name="Run 1 collection").click()
        page.get_by_role("status").filter(has_text="Asked for: upgrade 0002").wait_for()
        assert made.row().generation == "g0001"
        worked(made)
        renewed(page, scripts)
        page.get_by_text("Done.").wait_for()
        assert (made.row().generation, made.row().revision) == ("g0002", "0002")
        page.get_by_role("link", name="Runs").click()
        page.get_by_role("row", name="upgrade").first.get_by_role("link").click()
        page.get_by_text("20 of 20 points of").wait_for()
        page.get_by_role("link", name="Plan").click()
        page.get_by_text("Nothing to do").first.wait_for()
        assert page.get_by_role("link", name="Run…").count() == 0
    assert [one.actor for one in jobs.jobs(made.settings()).rows] == ["kim"]


@pytest.mark.server
def test_drift_is_found_read_and_its_command_copied(qdrant_server, tmp_path, opened, scripts):
    """From the first page to what is recorded, what is live, and the command; once that has run the page says so."""
    made = Deployment(tmp_path / "project", {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port}, f"sqlite:///{tmp_path}/ledger.db")
    made.revise("0001", CREATE)
    made.revise("0002", INDEX)
    try:
        upgrade.upgrade(made.settings())
        httpx.delete(f"{qdrant_server.url}/collections/{made.name}/index/kind", params={"wait": "true"}).raise_for_status()
        with listening(made) as console:
            page = opened(console, "viewer", "vera", permissions=["clipboard-read", "clipboard-write"])
            page.get_by_role("listitem").filter(has_text="drift").get_by_text("payload_indexes.kind is missing").wait_for()
            page.get_by_role("link", name=made.name).first.click()
            row = page.get_by_role("table", name="What differs").get_by_role("row", name="payload_indexes.kind")
            said = row.inner_text()
            for words in ("type keyword", "–", "restore it:", f"qmigrate repair --schema {made.name}", "accept it:"):
                assert words in said, words
            if scripts:
                row.get_by_role("button", name="Copy").first.click()
                page.get_by_text("Copied").first.wait_for()
                typed = page.evaluate("navigator.clipboard.readText()")
                assert typed == f"qmigrate repair --schema {made.name}"
            assert call(made.root, "repair", "--schema", made.name, "--yes").code == 0
            page.reload()
            assert page.get_by_role("table", name="What differs").count() == 0
            page.locator(".badge", has_text="ready").first.wait_for()
    finally:
        clean(made)


def test_a_failed_run_is_aborted_by_clicks(tmp_path, opened):
    """From the first page: what it says, and the page behind its button."""
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
    states = States(made)
    with listening(made) as console:
        page = opened(console)
        stopped = page.get_by_role("region", name="stopped in fill")
        stopped.get_by_role("link", name="run 7").click()
        page.get_by_text("or, to end it").wait_for()
        page.get_by_role("link", name="Overview").click()
        stopped.get_by_role("link", name="Abort…").click()
        page.get_by_role("button", name="Abort run").click()
        page.get_by_role("status").filter(has_text="Asked for: abort").wait_for()
        worked(made)
        page.get_by_role("link", name="Overview").first.click()
        page.get_by_role("heading", name="The way back").wait_for()
        assert page.get_by_role("region", name="stopped in fill").count() == 0
    assert made.settings() is not None
    assert [one for one in overview.overview(made.settings()).stopped if one.collection == states.failed] == []


def test_vectors_are_examined_by_clicks(tmp_path, opened, scripts):
    """Nothing is known before; a job examines them, and the page has what it found, for as long as the job is kept."""
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(30)
    store = made.store()
    zero = make_point(7)
    zero.vectors["a"] = [0.0] * 8
    write(store, made.name, [zero])
    store.close()
    with listening(made) as console:
        page, vera = opened(console), opened(console, "viewer", "vera")
        for one in (page, vera):
            one.get_by_role("link", name="Collections").click()
            one.get_by_role("link", name=made.name).click()
            one.get_by_text("Not known: it was not asked for here").wait_for()
        assert vera.get_by_role("button", name="Examine").count() == 0
        page.get_by_role("button", name="Examine").click()
        page.get_by_role("status").filter(has_text="A job examines its vectors").wait_for()
        page.get_by_text("examines a sample now").wait_for()
        worked(made)
        renewed(page, scripts)
        page.get_by_text("30 of 30 points seen").wait_for()
        row = page.get_by_role("table", name="What is odd about vectors").get_by_role("row", name="zero")
        assert "all zeros" in row.inner_text()
        assert "(ids" not in row.inner_text(), "an erasure would have to find them"
        vera.reload()
        vera.get_by_text("for kim: 30 of 30 points seen").wait_for()


@pytest.fixture
def strict(tmp_path) -> Served:
    """Two points may go by one person's decision; its examples show one field."""
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
    return ruled(Served(made, f"sqlite:///{tmp_path}/app.db"), fields=["session_id"])


def test_asked_approved_run_proven_and_undone_by_clicks(strict, opened, scripts):
    """One person asks on the page of directories, another one approves; the audit names both, and it is undone."""
    with listening(strict.made) as console:
        kim, anna = opened(console), opened(console, "approver", "anna")
        kim.get_by_role("link", name="Directories").click()
        kim.get_by_role("row", name="2024/").first.get_by_role("link", name="Delete").click()
        asked = kim.locator("dialog #ask" if scripts else "main #ask")
        asked.get_by_label("Reason").fill("moved to 2025")
        asked.get_by_role("checkbox").check()
        asked.get_by_role("button", name="Delete").click()
        kim.get_by_role("status").filter(has_text="does it").wait_for()
        worked(strict.made)
        renewed(kim, scripts)
        kim.get_by_role("link", name="Request 1").click()
        kim.get_by_role("heading", name="Request 1").wait_for()
        assert kim.get_by_role("button", name="Approve and run").count() == 0, "who has asked for it does not approve it"
        assert strict.paths() == set(PATHS)
        anna.get_by_role("link", name="Requests").click()
        anna.get_by_role("row", name="pending").get_by_role("link", name="1").click()
        said = anna.locator("main").inner_text()
        for words in ("3 of 6 points", "50 %", "kim, logged in by the console", "moved to 2025", "counted now", "session_id", "from an export"):
            assert words in said, words
        assert not [path for path in PATHS if path in said], "no field that is not named"
        anna.get_by_role("button", name="Approve and run").click()
        assert strict.paths() == set(PATHS), "the browser holds a form back whose box is not ticked"
        anna.get_by_role("checkbox", name="I have checked what would go").check()
        anna.get_by_role("button", name="Approve and run").click()
        anna.get_by_role("status").filter(has_text="Request 1 is approved").wait_for()
        worked(strict.made)
        renewed(anna, scripts)
        anna.get_by_text("read back as gone").wait_for()
        assert strict.paths() == set(PATHS[3:])
        anna.get_by_role("link", name="Audit").click()
        assert "kim" in anna.get_by_role("row", name="DIRECTORY").inner_text()
        anna.get_by_role("row", name="DIRECTORY").get_by_role("link", name="anna").click()
        kim.reload()
        kim.get_by_role("checkbox", name="Bring the points back").check()
        kim.get_by_role("button", name="Undo").click()
        kim.get_by_role("status").filter(has_text="undoes fix").wait_for()
        worked(strict.made)
        kim.reload()
        kim.get_by_text("Undone by fix").wait_for()
    assert strict.paths() == set(PATHS)


def test_the_audit_is_filtered_and_exported_by_clicks(tmp_path, opened):
    """The filter stays in its fields; the files have the rows that fit, and nothing else."""
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
    served = Served(made, f"sqlite:///{tmp_path}/app.db")
    for path in ("/photos/2024/vacation", "/photos/2023"):
        given = {"endpoint": "directory", "value": path, "reason": f"of {path}"}
        jobs.submit(made.settings().acting("kim"), "delete", given)
        worked(made)
    with listening(served.made) as console:
        page = opened(console, "viewer", "vera")
        page.get_by_role("link", name="Audit").click()
        assert page.get_by_role("row", name="DIRECTORY").count() == 2
        page.get_by_label("Target").fill("2023")
        page.get_by_role("button", name="Filter").click()
        page.wait_for_url("**target=2023**")
        assert page.get_by_label("Target").input_value() == "2023"
        assert page.get_by_role("row", name="DIRECTORY").count() == 1
        with page.expect_download() as sent:
            page.get_by_role("link", name="CSV").click()
        assert [row["target"] for row in csv.DictReader(sent.value.path().read_text().splitlines())] == ["/photos/2023"]
        with page.expect_download() as sent:
            page.get_by_role("link", name="JSON Lines").click()
        assert [json.loads(line)["actor"] for line in sent.value.path().read_text().splitlines()] == ["kim"]
        page.get_by_label("Who").fill("lou")
        page.get_by_role("button", name="Filter").click()
        page.get_by_text("No row fits.").wait_for()
        page.get_by_role("link", name="Show all").click()
        page.get_by_role("row", name="vacation").wait_for()


@pytest.mark.server
def test_two_browsers_see_one_run(qdrant_server, tmp_path, monkeypatch, opened, scripts):
    """Paused, slowed and resumed by one person, and seen by the other: by events with scripts, and after a reload without."""
    made = Deployment(tmp_path / "project", {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "timeout": 5}, f"sqlite:///{tmp_path}/ledger.db")
    states = States(made, points=200)
    monkeypatch.setattr(executor, "ASKED_EVERY", 0.0)
    monkeypatch.setattr(figures, "FIRST_PAUSE", 0.1)
    lines: list[str] = []
    try:
        with listening(made) as console, states.running(tmp_path / "gate", monkeypatch, say=lines.append) as ended:
            kim, vera = opened(console), opened(console, "viewer", "vera")
            for page in (kim, vera):
                page.get_by_role("region", name="running").get_by_role("link", name="run").click()
                page.locator(".badge", has_text="running").first.wait_for()
            assert vera.locator("#controls button").count() == 0
            for wish, answer in (("Slower", "at most"), ("Pause", "pauses at its next checkpoint")):
                kim.get_by_role("button", name=wish).click()
                kim.get_by_role("status").filter(has_text=answer).wait_for()
                kim.get_by_text("kim has asked it to").wait_for()
            (tmp_path / "gate" / "open").touch()
            wait_for(lambda: any(f"{states.ran}: paused" in line for line in lines))
            assert not ended
            for wish in ("Go on", "Full speed"):
                kim.get_by_role("button", name=wish).click()
                kim.get_by_role("status").filter(has_text="goes on").wait_for()
            wait_for(lambda: ended)
            for page in (kim, vera):
                renewed(page, scripts)
                page.locator("#run h1 + .badge", has_text="done").wait_for()
                page.get_by_text("200 of 200 points of").wait_for()
                assert page.locator("#plots .plot").count() >= 2
                renewed(page, scripts)
                assert page.locator("#controls button").count() == 0
    finally:
        clean(made)


@pytest.mark.server
def test_a_run_is_stopped_and_ended_by_clicks(qdrant_server, tmp_path, monkeypatch, opened, scripts):
    """Stopped at a checkpoint from its own page, and then aborted: what serves stays as it is."""
    made = Deployment(tmp_path / "project", {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "timeout": 5}, f"sqlite:///{tmp_path}/ledger.db")
    states = States(made, points=200)
    monkeypatch.setattr(executor, "ASKED_EVERY", 0.0)
    try:
        with listening(made) as console, states.running(tmp_path / "gate", monkeypatch, say=Silent().say) as ended:
            page = opened(console)
            page.get_by_role("region", name="running").get_by_role("link", name="run").click()
            page.get_by_role("button", name="Stop at a checkpoint").click()
            page.get_by_role("status").filter(has_text="stops at its next checkpoint").wait_for()
            (tmp_path / "gate" / "open").touch()
            wait_for(lambda: ended)
            renewed(page, scripts)
            page.locator("#run h1 + .badge", has_text="interrupted").wait_for()
            page.get_by_role("link", name="Overview").click()
            page.get_by_role("region", name=f"{states.ran} upgrade stopped").get_by_role("link", name="Abort…").click()
            page.get_by_role("button", name="Abort run").click()
            page.get_by_role("status").filter(has_text="Asked for: abort").wait_for()
            worked(made)
            page.get_by_role("link", name="Overview").first.click()
            page.get_by_role("heading", name="The way back").wait_for()
            assert page.get_by_role("region", name=f"{states.ran} upgrade stopped").count() == 0
        found = next(one for one in overview.overview(made.settings()).serving if one.name == states.ran)
        assert (found.serves, found.standing.generation) == (True, "g0001")
    finally:
        clean(made)


def wait_for(what, seconds: float = 60.0) -> None:
    """Until it is so."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.1)
