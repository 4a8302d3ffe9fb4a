"""Overview, collection, plan and cut-over, on a deployment in the states that real runs have left it in."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event
from tests.conftest import clean
from tests.harness import CREATE, Deployment
from tests.scenarios.console import Browser, Parsed
from tests.scenarios.console_states import States

from qmigrate.commands import counts, jobs, pace, status, upgrade
from qmigrate.commands.collection import collection
from qmigrate.commands.overview import overview
from qmigrate.commands.session import opened_ledger
from qmigrate.engine import executor
from qmigrate.errors import RefusedError, UsageError
from qmigrate.ledger import summary, tables
from qmigrate.ledger.counts import counted_by_day, counted_last
from qmigrate.ledger.reader import present

SECRET = "hunter2hunter2hunter2"


@pytest.fixture(scope="module")
def states(tmp_path_factory):
    """Local mode and SQLite: one collection served with a way back, one held, one failed, one pending."""
    root = tmp_path_factory.mktemp("states")
    made = Deployment(root / "project", {"path": str(root / "qdrant")}, f"sqlite:///{root}/ledger.db")
    return States(made)


@pytest.fixture
def fresh(tmp_path):
    """Nothing yet."""
    return Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")


def test_with_nothing_there_each_page_says_what_to_do(fresh):
    """With nothing there each page says what to do."""
    browser = Browser(fresh)
    assert "Nothing is under management yet" in browser.get("/").text
    assert "qmigrate revision" in browser.get("/collections").text
    assert "There are no revisions yet" in browser.get("/plan").text
    assert "Nothing is applied" in browser.get("/plan/rollback").text
    assert "Nothing was asked for" in browser.get("/jobs").text
    assert "Nothing is held" in browser.get("/plan/cutover").text
    assert "There is nothing to run" in browser.get("/plan/run").text
    page = browser.get("/collections/nothing", 404)
    assert "nothing" in page.text


def test_the_overview_has_its_parts_in_their_order(states):
    """Users first, then the way back, then what stopped, what is held, the day, and what is pending."""
    page = Browser(states.made).get("/")
    parts = ["Every name is served", "The way back", "upgrade stopped", "waits as g0002", "The last 24 hours", "Pending, drift, kept"]
    places = [page.text.index(part) for part in parts]
    assert places == sorted(places)
    found = overview(states.made.settings())
    assert [one.name for one in found.serving if not one.serves] == []
    assert {one.name for one in found.serving} == {states.served, states.held, states.failed, states.ran}
    assert all(one.since is not None for one in found.serving)
    (failed,) = found.stopped
    assert (failed.collection, failed.state, failed.is_open) == (states.failed, "failed", True)
    assert failed.untouched == "g0001 serves as before: none of its points was changed, and its name did not move"
    (held,) = found.held
    assert (held.collection, held.generation, held.revisions, held.stale) == (states.held, "g0002", ("0003",), False)
    assert held.command == f"qmigrate cutover {states.held}"
    assert {run.collection for run in found.recent} >= {states.served, states.held, states.failed}
    assert [(old.collection, old.generation, old.revision) for old in found.old] == [(states.served, "g0001", "0001")]


def test_the_way_back_has_its_price_where_it_is_counted(states):
    """Without counting it is there at once; counted it says what would be carried, and how long that takes."""
    browser = Browser(states.made)
    page = browser.get("/")
    assert "Count later writes" in page.text
    assert "can be carried" not in page.text
    counted = browser.get("/?count=1")
    assert "3 later writes can be carried" in counted.text
    assert "3 added, 0 changed, 0 deleted" in counted.text
    assert "Count later writes" not in counted.text
    way = next(one for one in overview(states.made.settings(), count=True).back if one.collection == states.served)
    assert (way.target, way.writes, way.refused) == ("0001", 3, None)
    assert way.command == f"qmigrate rollback 0001 --only {states.served} --carry-writes"
    refused = next(one for one in overview(states.made.settings()).back if one.collection == states.held)
    assert "its run comes first" in str(refused.refused)


def test_what_others_wrote_is_text_on_every_page(states):
    """Titles, errors and reasons with markup are shown, and are none."""
    browser = Browser(states.made)
    for path in ("/", "/?count=1", "/collections", f"/collections/{states.failed}", "/plan", "/jobs", f"/plan/abort?name={states.failed}"):
        page = browser.get(path)
        assert "<img" not in browser.raw
        assert "‮" not in browser.raw, "what turns the direction of writing is shown as an escape"
        assert "<b>" not in browser.raw
        assert not [given for tag, given in page.elements if tag == "script" and not given.get("src")]
    assert "<img src=x onerror=alert(1)>" in browser.get("/").text
    assert "\\u202e" in browser.get("/").text
    assert "<b>a title</b>" in browser.get(f"/collections/{states.failed}").text


def test_a_name_may_hold_anything(tmp_path):
    """A name with what URLs and pages take for their own is one page, and links to it lead there."""
    name = "a b&lt;i&gt;'c'&x=1#z% +;é"
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db", name="plain")
    made.revise("0001", "\ndef upgrade():\n    return [op.CreateCollection(" + repr(name).replace("{", "{{") + ", {{'a': VectorParams(size=4, distance=Distance.DOT)}})]\n")
    upgrade.upgrade(made.settings())
    browser = Browser(made)
    link = next(one for one in browser.get("/").links() if one.startswith("/collections/"))
    page = browser.get(link)
    assert name in page.text
    assert "<i>" not in browser.raw
    assert "&amp;lt;i&amp;gt;" in browser.raw


def test_a_collection_shows_all_of_it(states):
    """Schema, revisions with what each did, generations with sizes, days."""
    page = Browser(states.made).get(f"/collections/{states.served}")
    for words in ("Schema", "Revisions", "Generations", "Points per day, the last 30 days", "40 – 0 2", "Vectors' health", "Not known: it was not asked for here within 30 d", "add vector b 16 cosine", "copy in", "43", "cosine" if "cosine" in page.text else "Cosine"):
        assert words in page.text, words
    found = collection(states.made.settings(), states.served)
    assert [(one.revision, one.state) for one in found.revisions if one.state != "passed"] == [("0002", "applied"), ("0001", "applied")]
    newest = found.revisions[[one.revision for one in found.revisions].index("0002")]
    assert (newest.last.strategy, newest.last.points, newest.down) == ("copy", 40, ("0001",))
    assert newest.last.seconds > 0
    assert [(one.name, one.state, one.points, one.parent) for one in found.generations] == [("g0002", "live", 43, 1), ("g0001", "retired", 40, None)]
    assert all(one.size > 0 for one in found.generations)
    assert found.generations[1].held_until is not None
    assert sum(day.applied for day in found.days) == 2


def test_a_collection_is_answered_whole(states):
    """For programs: revision, generation, points, what was written since, the way back and until when, health."""
    client = Browser(states.made).client
    found = client.get(f"/api/v1/collections/{states.served}").json()
    status = found["status"]
    assert (status["revision"], status["generation"], status["points"]) == ("0002", "g0002", 43)
    assert {name: status["written_since"][name] for name in ("added", "changed", "deleted")} == {"added": 3, "changed": 0, "deleted": 0}
    assert (found["back"]["target"], found["back"]["refused"]) == ("0001", None)
    assert datetime.fromisoformat(found["back"]["until"]) > datetime.now(UTC)
    assert found["back"]["command"] == f"qmigrate rollback 0001 --only {states.served} --carry-writes"
    assert found["health"] is None
    held = client.get(f"/api/v1/collections/{states.held}").json()
    assert held["back"]["refused"] == "its run comes first"


def test_points_are_counted_by_day(states, monkeypatch):
    """A worker that has nothing to do counts once an hour; the page draws the days, and says how many more there are."""
    settings = states.made.settings()
    monkeypatch.setattr(jobs, "FIRST_COUNT", 0.0)
    over = threading.Event()
    worker = threading.Thread(target=jobs.work, args=(settings,), kwargs={"stop": over})
    worker.start()
    with opened_ledger(settings) as ledger:
        wait_for(lambda: counted_last(ledger) is not None)
        over.set()
        worker.join(60)
        now = present(ledger)
        (today,) = counted_by_day(ledger, states.served, now).items()
        assert today[1] == 43
        assert counts.count(settings) == {}, "a worker has just done so"
        days = [{"collection": states.served, "day": f"{now - timedelta(days=ago):%Y-%m-%d}", "points": points, "counted_at": now - timedelta(days=ago)} for ago, points in ((3, 50), (2, 41))]
        with ledger.database.writing() as connection:
            connection.execute(tables.counts.insert(), days)
        page = Browser(states.made).get(f"/collections/{states.served}")
        assert ("svg", "Points: 43") in [(tag, given.get("aria-label")) for tag, given in page.elements]
        for words in ("43 +2", "41 −9", "50 –"):
            assert words in page.text, page.text
        with ledger.database.writing() as connection:
            connection.execute(tables.counts.update().values(counted_at=now - timedelta(days=1)))
        found = counts.count(settings)
        with ledger.database.writing() as connection:
            connection.execute(tables.counts.delete())
    assert found[states.served] == 43
    assert set(found) == {states.served, states.held, states.failed, states.ran}


def test_drift_is_shown_with_both_values_and_the_command(tmp_path):
    """Drift is shown with both values, and the command that repairs it."""
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
    made.revise("0001", CREATE)
    made.revise("0002", "\ndef upgrade():\n    return [op.AddVector('{name}', 'b', VectorParams(size=16, distance=Distance.COSINE), values=Empty())]\n")
    upgrade.upgrade(made.settings())
    from qmigrate.ledger import tables
    from qmigrate.ledger.database import Database

    database = Database(made.ledger_url)
    with database.writing() as connection:
        row = connection.execute(tables.views.select()).mappings().first()
        declared = json.loads(json.dumps(row["declared"]).replace('"size": 16', '"size": 24'))
        connection.execute(tables.views.update().values(declared=declared))
    database.close()
    page = Browser(made).get(f"/collections/{made.name}")
    assert "Recorded and live" in page.text
    assert "vectors.b.size" in page.text
    row = next(one for one in collection(made.settings(), made.name).findings if one.path == "vectors.b.size")
    assert (row.recorded, row.live) == (24, 16)
    assert row.fixes[0] in page.text
    assert "drift" in Browser(made).get("/").text


def test_no_page_has_a_secret(tmp_path, monkeypatch):
    """Neither a password of a URL nor a token is on any page."""
    monkeypatch.setenv("KIM", SECRET)
    monkeypatch.setenv("QDRANT_KEY", SECRET)
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant"), "api_key_env": "QDRANT_KEY"}, f"sqlite:///{tmp_path}/ledger.db")
    made.extra["console"] = {"tokens": [{"role": "operator", "user": "kim", "env": "KIM"}]}
    made.__post_init__()
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    browser = Browser(made)
    for path in sorted(path for path in browser.app.state.site.paths if "{" not in path and path not in ("/login", "/plan/abort")):
        browser.client.get(path)
        assert SECRET not in browser.client.get(path).text, path
    assert SECRET not in browser.client.get(f"/collections/{made.name}").text


def test_who_may_only_look_sees_no_buttons(states):
    """Who may only look sees no buttons, and gets no page behind one."""
    browser = Browser(states.made, "viewer")
    for path in ("/", "/plan"):
        page = browser.get(path)
        assert [given for given, _ in page.forms if given["action"] != "/logout"] == []
        assert not [link for link in page.links() if link.startswith("/plan/")]
    for path in ("/plan/run", "/plan/cutover", "/plan/rollback", f"/plan/abort?name={states.failed}"):
        assert "needs the role operator" in browser.get(path, 403).text


def worked(made: Deployment) -> None:
    """What a worker does."""
    jobs.work(made.settings(), once=True)


def filled_in(browser: Browser, path: str, action: str) -> dict:
    """The fields of a form, as the page has them."""
    page = browser.get(path)
    return {one["name"]: one.get("value", "") for given, inputs in page.forms if given["action"] == action for one in inputs}


def test_a_plan_is_run_by_forms_alone(fresh):
    """Look, ask, agree, and a worker does it: without a script."""
    fresh.revise("0001", CREATE)
    browser = Browser(fresh)
    assert "1 name to come: nothing is there yet" in browser.get("/").text
    assert f"create collection {fresh.name}" in browser.get("/plan").text
    assert "/plan/run?target=head" in browser.get("/plan").links()
    done = browser.send("/plan/run?target=head", "/plan/run")
    assert "Asked for: upgrade 0001" in done.text
    assert "It waits for a worker" in done.text
    job = jobs.jobs(fresh.settings()).rows[0]
    assert (job.kind, job.arguments, job.actor) == ("upgrade", {"target": "0001"}, "kim")
    worked(fresh)
    assert "completed" in browser.get(f"/jobs/{job.id}").text
    assert fresh.row().state == "ready"
    assert "Nothing to do" in browser.get("/plan").text
    assert status.history(fresh.settings()).rows[0].actor == "kim"


def test_two_clicks_are_one_job(fresh):
    """The same form twice is one job; the plan read again is another one."""
    fresh.revise("0001", CREATE)
    browser = Browser(fresh)
    fields = filled_in(browser, "/plan/run", "/plan/run")
    first = browser.client.post("/plan/run", data=fields)
    second = browser.client.post("/plan/run", data=fields)
    assert first.url == second.url
    assert "asked for already" in second.text
    assert len(jobs.jobs(fresh.settings()).rows) == 1


def test_what_has_changed_since_it_was_shown_is_not_run(fresh):
    """Another revision has come since: the form names the plan that was shown, and is refused."""
    fresh.revise("0001", CREATE)
    browser = Browser(fresh)
    fields = filled_in(browser, "/plan/run", "/plan/run")
    fresh.revise("0002", "\ndef upgrade():\n    return [op.CreatePayloadIndex('{name}', 'kind', PayloadSchemaType.KEYWORD)]\n")
    found = browser.client.post("/plan/run", data=fields)
    assert found.status_code == 409
    assert "not what was shown" in found.text
    assert jobs.jobs(fresh.settings()).rows == ()


def test_a_revision_without_a_way_back_is_agreed_to_by_name(fresh):
    """The box names the revision and why; without it nothing is asked for."""
    fresh.revise("0001", CREATE)
    upgrade.upgrade(fresh.settings())
    fresh.revise("0002", "\nirreversible = 'the old values are gone'\n\ndef upgrade():\n    return [op.CreatePayloadIndex('{name}', 'kind', PayloadSchemaType.KEYWORD)]\n")
    browser = Browser(fresh)
    assert "Revision 0002 has no way back: the old values are gone" in browser.get("/plan/run").text
    refused = browser.send("/plan/run", "/plan/run", 422)
    assert "agreed to by name" in refused.text
    assert jobs.jobs(fresh.settings()).rows == ()
    browser.send("/plan/run", "/plan/run", irreversible="0002")
    worked(fresh)
    assert fresh.row().revision == "0002"


def test_hold_cut_over_and_back(tmp_path):
    """Built and held by a form, cut over by another, and back with what was written since."""
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(20)
    made.revise("0002", "\ndef upgrade():\n    return [op.AddVector('{name}', 'b', VectorParams(size=16, distance=Distance.COSINE), values=Embed('words', text='text'))]\n")
    browser = Browser(made)
    browser.send("/plan/run?hold=true", "/plan/run")
    worked(made)
    assert (made.row().state, made.row().generation) == ("held", "g0001")
    assert "Built, proven and held" in browser.get("/plan").text
    browser.send("/plan/cutover", "/plan/cutover", name=made.name)
    worked(made)
    assert (made.row().state, made.row().generation) == ("ready", "g0002")
    made.load(2, start=20)
    path = f"/plan/rollback?target=0001&only={made.name}"
    assert f"/plan/rollback?target=0001&only={made.name}" in browser.get("/plan/rollback").links()
    assert "2 points written since" in browser.get(path).text
    assert "type 'discard' to agree" in browser.send(path, "/plan/rollback", 422, writes="discard").text
    assert "one of refuse" in browser.send(path, "/plan/rollback", 422, writes="anything").text
    assert len(jobs.jobs(made.settings()).rows) == 2
    browser.send(path, "/plan/rollback", writes="carry")
    worked(made)
    assert (made.row().generation, made.row().points) == ("g0001", 22)


def test_a_cut_over_of_something_else_is_refused(states):
    """What is held now is not what was shown."""
    browser = Browser(states.made)
    fields = filled_in(browser, "/plan/cutover", "/plan/cutover")
    found = browser.client.post("/plan/cutover", data={**fields, "seen": "0" * 32})
    assert (found.status_code, "not what was shown" in found.text) == (409, True)
    none = browser.client.post("/plan/cutover", data={**fields, "name": ""})
    assert (none.status_code, "no collection was chosen" in none.text) == (422, True)


def test_a_failed_run_is_aborted_by_a_form(tmp_path):
    """A failed run is aborted by a form, which names the run that was shown."""
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
    states = States(made)
    browser = Browser(made)
    path = f"/plan/abort?name={states.failed}"
    fields = filled_in(browser, path, "/plan/abort")
    other = browser.client.post("/plan/abort", data={**fields, "run": "999"})
    assert (other.status_code, "another one than was shown" in other.text) == (409, True)
    browser.send(path, "/plan/abort")
    worked(made)
    assert overview(made.settings()).stopped == ()
    assert browser.get(path, 404)


def test_a_job_that_waits_is_cancelled_by_a_form(fresh):
    """A job that waits is cancelled by a form."""
    fresh.revise("0001", CREATE)
    browser = Browser(fresh)
    browser.send("/plan/run", "/plan/run")
    job = jobs.jobs(fresh.settings()).rows[0]
    page = browser.send(f"/jobs/{job.id}", f"/jobs/{job.id}/cancel")
    assert "cancelled by kim" in page.text
    assert "failed" in browser.get("/jobs").text


def test_what_can_be_asked_of_a_run_that_is_none(states):
    """What no process works on can't be paused."""
    with pytest.raises(RefusedError, match="no process works on"):
        pace.pace(states.made.settings(), states.failed, "pause")
    with pytest.raises(RefusedError, match="has no unfinished run"):
        pace.pace(states.made.settings(), states.served, "stop")
    with pytest.raises(UsageError, match="can't be asked to 'pauze'; did you mean \"pause\""):
        pace.pace(states.made.settings(), states.served, "pauze")
    with pytest.raises(UsageError, match="above zero"):
        pace.pace(states.made.settings(), states.served, "slower", rate=0)


def test_how_often_the_first_page_asks_sql(states, monkeypatch):
    """A bound on statements: it doesn't grow with rows, and hardly with collections."""
    from sqlalchemy.engine import Engine

    seen = []

    def count(connection, cursor, statement, *rest):
        seen.append(statement)

    settings = states.made.settings()
    overview(settings)
    event.listen(Engine, "before_cursor_execute", count)
    try:
        overview(settings)
    finally:
        event.remove(Engine, "before_cursor_execute", count)
    assert len([one for one in seen if one.lstrip().upper().startswith("SELECT")]) <= 60, "\n".join(seen)


def test_the_history_is_folded_by_what_decides(states, monkeypatch):
    """Schemas and reports are read of rows that count, and the answer is that of all rows."""
    with opened_ledger(states.made.settings()) as ledger:
        applied = ledger.all_applied()
        assert [one.revision for one in applied[states.served]] == ["0001", "0002"]
        assert applied[states.served][1].left == f"{states.served}__g0001"
        monkeypatch.setattr("qmigrate.ledger.reader.AT_ONCE", 1)
        assert ledger.all_applied() == applied
        assert summary.went_live(ledger)[states.served] == max(row.created_at for row in ledger.history(states.served))


@pytest.mark.server
class TestRunning:
    """A run that a process works on, on a server: two processes can't have the folder of local mode."""

    @pytest.fixture
    def running(self, qdrant_server, tmp_path, monkeypatch):
        made = Deployment(tmp_path / "project", {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "timeout": 2}, f"sqlite:///{tmp_path}/ledger.db")
        states = States(made, points=200)
        # As fast as the machine may be: the run is not over before it has learned what is asked of it.
        monkeypatch.setattr(executor, "ASKED_EVERY", 0.0)
        lines: list[str] = []
        with states.running(tmp_path / "gate", monkeypatch, say=lines.append) as ended:
            yield states, tmp_path / "gate" / "open", ended, lines
        clean(made)

    def test_a_run_is_shown_paused_slowed_and_stopped_from_a_page(self, running):
        """What is asked for by a form is what the run does at its next checkpoint."""
        states, gate, ended, lines = running
        browser = Browser(states.made)
        page = browser.get("/")
        (found,) = overview(states.made.settings()).underway
        assert (found.collection, found.verb, found.revisions, found.paused) == (states.ran, "upgrade", ("0005",), False)
        assert [word for word, at in found.stages if at == "now"] == ["fill"]
        assert found.heartbeat is not None
        assert found.heartbeat < states.made.settings().limits.lease_ttl
        assert ("li", {"class": "now", "aria-current": "step"}) in page.elements
        words = {given["value"] for _, inputs in page.forms for given in inputs if given["name"] == "ask"}
        assert words == {"pause", "slower", "stop"}
        csrf = browser.client.get("/api/v1/me").json()["csrf"]

        def ask(word: str, **more) -> str:
            found = browser.client.post("/pace", data={"csrf": csrf, "name": states.ran, "ask": word, **more})
            assert found.status_code == 200, found.text
            return Parsed(found.text).text

        other = browser.client.post("/pace", data={"csrf": csrf, "name": states.ran, "ask": "stop", "run": "999"})
        assert (other.status_code, "and not 999: nothing was asked of it" in other.text) == (409, True)
        hidden = [given["value"] for _, inputs in page.forms for given in inputs if given["name"] == "run"]
        assert set(hidden) == {str(found.run)}
        assert "at most 50 points/s" in ask("slower", rate="50", run=str(found.run))
        assert "pauses at its next checkpoint" in ask("pause")
        (asked,) = overview(states.made.settings()).underway
        assert (asked.paused, asked.limit, asked.asked_by) == (True, 50.0, "kim")
        gate.touch()
        wait_for(lambda: f"{states.ran}: paused, as kim has asked" in lines)
        assert not ended
        assert "goes on" in ask("resume")
        wait_for(lambda: f"{states.ran}: at most 50/s, as kim has asked" in lines)
        (asked,) = overview(states.made.settings()).underway
        assert (asked.paused, asked.limit) == (False, 50.0)
        assert "stops at its next checkpoint" in ask("stop")
        wait_for(lambda: ended)
        assert "stopped at a checkpoint, as kim has asked" in str(ended[0])
        (left,) = [one for one in overview(states.made.settings()).stopped if one.collection == states.ran]
        assert (left.state, left.command) == ("interrupted", "qmigrate upgrade")
        # What was asked of the process before doesn't bind the one that resumes it.
        assert upgrade.upgrade(states.made.settings(), only=[states.ran]).outcomes[-1].revisions == ("0005",)


def wait_for(what, seconds: float = 60.0) -> None:
    """Until it is so."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.1)
