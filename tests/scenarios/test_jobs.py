"""Jobs: asked for over HTTP, done by any worker, each at most once, whatever dies in between."""

from __future__ import annotations

import threading

import pytest
from tests.harness import ADD, CREATE, audit, make_point, write
from tests.scenarios.cli import call
from tests.scenarios.test_console import OPERATOR, PATHS, SESSIONS, VIEWER, Served, served, tokens  # noqa: F401  fixtures

from qmigrate.commands import fix, jobs, vectors
from qmigrate.errors import LeaseHeldError, StoppedError, UnknownNameError, UsageError
from qmigrate.ledger import Ledger
from qmigrate.ledger.job_queue import JOB, JobQueue

#: Where the functions of the application are.
CONSOLE = "tests.scenarios.test_console"
LATER = {"Prefer": "respond-async"}
BODY = {"pathPrefix": "/photos/2024/", "confirm": True, "deletionReason": "moved"}
URL = "/api/v1/vectors/by-directory"


@pytest.fixture
def queue(served):  # noqa: F811
    """The jobs of its ledger."""
    ledger = Ledger.open(served.made.ledger_url)
    ledger.prepare()
    yield JobQueue(ledger)
    ledger.close()


def more(served: Served, path: str, start: int = 100) -> int:  # noqa: F811
    """A point that is written later."""
    point = make_point(start)
    point.payload["path"] = path
    store = served.made.store()
    write(store, served.made.name, [point])
    store.close()
    return point.id


def test_a_deletion_is_done_by_a_worker(served):  # noqa: F811
    """A deletion is done by a worker."""
    client = served.client()
    asked = client.request("DELETE", URL, json=BODY, headers=LATER)
    assert asked.status_code == 202, asked.text
    job = asked.json()
    assert (job["status"], job["kind"], job["actor"], job["progress"]) == ("pending", "delete", "otto", 0)
    assert asked.headers["location"] == f"/api/v1/jobs/{job['id']}"
    assert asked.headers["preference-applied"] == "respond-async"
    assert served.paths() == set(PATHS), "no worker has done it yet"
    assert jobs.work(served.made.settings(), once=True).ended == 1
    done = client.get(asked.headers["location"]).json()
    assert (done["status"], done["progress"], done["error"]) == ("completed", 100, None)
    assert done["result"] == {"deleted": 3, "log": audit(served.made)[0].id}
    assert served.paths() == set(PATHS[3:])
    row = audit(served.made)[0]
    assert (row.actor, row.reason, row.told.own[JOB]) == ("otto", "moved", job["id"])
    assert jobs.work(served.made.settings(), once=True).ended == 0


#: What takes longer than a request may, one after the other: the path, how many points go, and the paths that are left.
LONGER = (
    ("DELETE", "/api/v1/sessions/1?delete_vectors=false", 0, PATHS),
    ("DELETE", "/api/v1/vectors/by-asset/{id}", 1, PATHS[1:]),
    ("DELETE", "/api/v1/sessions/0/vectors", 1, PATHS[2:]),
    ("DELETE", "/api/v1/sessions/1", 2, PATHS[4:]),
    ("POST", "/api/v1/vectors/cleanup", 1, PATHS[4:5]),
    ("DELETE", "/api/v1/vectors/reset?confirm=true", 1, []),
)


def test_what_may_take_long_is_a_job_on_every_path(served):  # noqa: F811
    """Also on the older paths, and where there is no body; the same key is the same job there, too."""
    served.run("DELETE FROM image_assets WHERE path = :path", [{"path": PATHS[5]}])
    client = served.client(delete_session=f"{CONSOLE}:delete_session", has_session=f"{CONSOLE}:has_session")
    before = PATHS
    for number, (method, path, points, left) in enumerate(LONGER):
        SESSIONS.add(1)
        path = path.format(id=served.ids[0])
        asked = [client.request(method, path, headers={**LATER, "Idempotency-Key": f"k{number}"}) for _ in range(2)]
        assert [one.status_code for one in asked] == [202, 202], asked[0].text
        assert len({one.json()["id"] for one in asked}) == 1
        assert (served.paths(), SESSIONS) == (set(before), {1, 7}), path
        assert client.request(method, path, headers={"Idempotency-Key": f"k{number}"}).status_code == 422
        assert jobs.work(served.made.settings(), once=True).ended == 1
        done = client.get(asked[0].headers["location"]).json()
        assert (done["status"], done["error"], done["result"]["deleted"]) == ("completed", None, points), path
        assert served.paths() == set(left), path
        assert (1 in SESSIONS) == ("sessions/1" not in path), path
        before = left
    SESSIONS.discard(1)
    asked = client.delete("/api/v1/sessions/1", headers=LATER)
    jobs.work(served.made.settings(), once=True)
    done = client.get(asked.headers["location"]).json()
    assert (done["status"], done["error"]["message"]) == ("failed", "there is no training session 1")


def test_a_session_whose_worker_died_between_points_and_rows_is_finished(served, queue):  # noqa: F811
    """Its points are gone by then: nothing else would delete its rows, and nothing is deleted twice."""
    SESSIONS.add(1)
    served.client(delete_session=f"{CONSOLE}:delete_session", has_session=f"{CONSOLE}:has_session")
    settings = served.made.settings()
    asked, _ = jobs.submit(settings, "session", {"session": 1, "vectors": True, "reason": "gone"})
    assert queue.take("dead", -1.0).id == asked.id
    vectors.delete(settings.acting("kim", {JOB: asked.id}), "session", 1, reason="gone")
    later = more(served, "/photos/2024/later.jpg")
    assert jobs.work(settings, once=True).ended == 1
    found = jobs.job(settings, asked.id)
    assert (found.state, found.result["deleted"], 1 in SESSIONS) == ("completed", 2, False)
    assert later in served.made.contents()


def test_the_same_key_is_the_same_job(served):  # noqa: F811
    """The same key is the same job."""
    client = served.client()
    keyed = {**LATER, "Idempotency-Key": "k-1"}
    first = client.request("DELETE", URL, json=BODY, headers=keyed).json()["id"]
    again = client.request("DELETE", URL, json=BODY, headers=keyed)
    assert (again.status_code, again.json()["id"]) == (202, first)
    other = client.request("DELETE", URL, json={**BODY, "pathPrefix": "/photos/2023"}, headers=keyed)
    assert other.status_code == 422
    assert "belongs to another request" in other.json()["detail"]
    assert client.request("DELETE", URL, json=BODY, headers={"Idempotency-Key": "k-1"}).status_code == 422
    assert jobs.work(served.made.settings(), once=True).ended == 1
    assert client.request("DELETE", URL, json=BODY, headers=keyed).json()["status"] == "completed"
    assert [one["id"] for one in client.get("/api/v1/jobs").json()] == [first]


def test_two_requests_with_one_key_at_once_make_one_job(served, queue):  # noqa: F811
    """Two requests with one key at once make one job."""
    gate, found = threading.Barrier(4), []

    def ask() -> None:
        gate.wait()
        found.append(jobs.submit(served.made.settings(), "reset", {"reason": "x"}, key="same")[0].id)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert len(queue.listed()) == 1


def test_a_job_whose_worker_died_after_its_work_is_not_done_again(served, queue):  # noqa: F811
    """A job whose worker died after its work is not done again."""
    settings = served.made.settings()
    asked, _ = jobs.submit(settings, "delete", {"endpoint": "directory", "value": "/photos/2024", "reason": "moved"})
    taken = queue.take("dead", -1.0)
    assert taken.id == asked.id
    vectors.delete(settings.acting("kim", {JOB: asked.id}), "directory", "/photos/2024", reason="moved")
    log = audit(served.made)[0].id
    late = more(served, "/photos/2024/later.jpg")
    assert jobs.work(settings, once=True).ended == 1
    assert jobs.job(settings, asked.id).result == {"deleted": 3, "log": log}
    assert late in served.made.contents(), "what was written after the first deletion was not asked about"
    assert audit(served.made)[0].id == log


def test_a_job_whose_worker_died_in_its_work_is_finished(served, queue):  # noqa: F811
    """A job whose worker died in its work is finished."""
    class Dies:
        def begin(self, collection: str, phase: str, total: int | None, done: int = 0) -> None:
            if phase.startswith(("delete", "change")):
                raise SystemExit

        def advance(self, count: int, note: str = "") -> None: ...
        def end(self, summary: str = "") -> None: ...
        def say(self, line: str) -> None: ...

    settings = served.made.settings()
    asked, _ = jobs.submit(settings, "delete", {"endpoint": "directory", "value": "/photos/2024", "reason": "moved"})
    queue.take("dead", -1.0)
    with pytest.raises(SystemExit):
        vectors.delete(settings.acting("kim", {JOB: asked.id}), "directory", "/photos/2024", reason="moved", progress=Dies())
    assert list(queue.begun(asked.id)) == [served.made.name]
    assert not queue.begun("another")
    late = more(served, "/photos/2024/later.jpg")
    assert jobs.work(settings, once=True).ended == 1
    found = jobs.job(settings, asked.id)
    assert (found.state, found.result["deleted"], found.attempts) == ("completed", 3, 2)
    assert late in served.made.contents()
    assert not queue.begun(asked.id)


def test_a_lease_that_is_held_lets_the_job_wait(served, queue, monkeypatch):  # noqa: F811
    """A lease that is held lets the job wait."""
    def held(*_, **__):
        raise LeaseHeldError("another process works on it", hint="qmigrate status")

    settings = served.made.settings()
    asked, _ = jobs.submit(settings, "reset", {"reason": "x"})
    with monkeypatch.context() as patch:
        patch.setattr(vectors, "delete_all", held)
        assert jobs.work(settings, once=True).ended == 0
    waiting = jobs.job(settings, asked.id)
    assert (waiting.state, waiting.attempts, waiting.error["exitCode"]) == ("pending", 1, 6)
    assert queue.take("other", 30.0) is None, "not due yet"
    monkeypatch.setattr(jobs, "MOST_TRIES", 1)
    queue.put_back(_taken(queue, asked.id), "other", -1.0)


def _taken(queue: JobQueue, identifier: str):
    found = queue.get(identifier)
    assert found is not None
    return found


def test_what_fails_says_why(served):  # noqa: F811
    """What fails says why."""
    client = served.client()
    asked = client.post("/api/v1/rollback", json={"target": "9999"}).json()
    assert jobs.work(served.made.settings(), once=True).ended == 1
    found = client.get(f"/api/v1/jobs/{asked['id']}").json()
    assert (found["status"], found["result"]) == ("failed", None)
    assert found["error"]["exitCode"] == 2
    assert "9999" in found["error"]["message"]


def test_a_function_that_raises_fails_the_job_and_not_the_worker(served, monkeypatch):  # noqa: F811
    """A function that raises fails the job and not the worker."""
    def broken(*_, **__):
        raise ZeroDivisionError("token=abc123secret")

    settings = served.made.settings()
    asked, _ = jobs.submit(settings, "reset", {"reason": "x"})
    monkeypatch.setattr(vectors, "delete_all", broken)
    assert jobs.work(settings, once=True).ended == 1
    error = jobs.job(settings, asked.id).error
    assert error["message"] == "unexpected ZeroDivisionError: token=***"


@pytest.mark.parametrize(
    ("kind", "arguments", "told"),
    [
        ("rollback", {"target": "-1"}, "is relative"),
        ("upgrade", {"target": "0001+1"}, "is relative"),
        ("deletee", {}, 'did you mean "delete"?'),
        ("delete", {"endpoint": "asset", "value": 1}, "needs 'reason'"),
        ("reset", {"reason": "x", "category_id": 1}, "has no 'category_id'"),
    ],
)
def test_jobs_that_can_not_be(served, kind, arguments, told):  # noqa: F811
    """Jobs that can't be."""
    with pytest.raises(UsageError) as caught:
        jobs.submit(served.made.settings(), kind, arguments)
    assert told in caught.value.message


def test_a_job_that_waits_is_cancelled_at_once(served, queue):  # noqa: F811
    """A job that waits is cancelled at once."""
    client = served.client()
    asked = client.post("/api/v1/vectors/reset", json={"confirm": True, "confirmationText": "DELETE ALL VECTORS"}, headers=LATER).json()
    ended = client.post(f"/api/v1/jobs/{asked['id']}/cancel").json()
    assert (ended["status"], ended["cancelledBy"]) == ("failed", "otto")
    assert ended["error"]["message"] == "cancelled by otto before it had begun"
    assert jobs.work(served.made.settings(), once=True).ended == 0
    assert served.paths() == set(PATHS)
    assert client.post("/api/v1/jobs/none/cancel").status_code == 404
    with pytest.raises(UnknownNameError):
        jobs.job(served.made.settings(), "none")


def test_a_job_that_is_worked_on_stops_at_a_checkpoint(served, queue, monkeypatch):  # noqa: F811
    """A job that is worked on stops at a checkpoint."""
    settings = served.made.settings()
    begun = threading.Event()

    def long(*_, progress, **__):
        progress.begin("docs", "delete", 100)
        begun.set()
        while True:
            progress.advance(0)

    monkeypatch.setattr(vectors, "delete_all", long)
    monkeypatch.setattr(jobs, "_BEAT", 0.01)
    asked, _ = jobs.submit(settings, "reset", {"reason": "x"})
    worker = threading.Thread(target=jobs.work, args=(settings,), kwargs={"once": True})
    worker.start()
    begun.wait(30)
    assert jobs.cancel(settings.acting("kim"), asked.id).state == "processing"
    worker.join(60)
    assert not worker.is_alive()
    found = jobs.job(settings, asked.id)
    assert (found.state, found.cancelled_by) == ("failed", "kim")
    assert found.error["message"] == "cancelled by kim; stopped at a checkpoint"
    assert found.stage == "docs: delete"


def test_a_worker_that_is_to_end_leaves_its_job_to_another(served, queue, monkeypatch):  # noqa: F811
    """A worker that is to end leaves its job to another."""
    def stopped(*_, **__):
        raise StoppedError("stopped at a checkpoint, as asked", signal_number=15)

    settings = served.made.settings()
    asked, _ = jobs.submit(settings, "reset", {"reason": "x"})
    with monkeypatch.context() as patch:
        patch.setattr(vectors, "delete_all", stopped)
        assert jobs.work(settings).ended == 0, "it ends by itself"
    assert jobs.job(settings, asked.id).state == "pending"
    assert jobs.work(settings, once=True).ended == 1
    assert jobs.job(settings, asked.id).state == "completed"
    assert not served.made.contents()


def test_a_worker_that_was_silent_ends_no_job_of_another(served, queue):  # noqa: F811
    """A worker that was silent ends no job of another."""
    asked, _ = jobs.submit(served.made.settings(), "reset", {"reason": "x"})
    mine = queue.take("slow", -1.0)
    theirs = queue.take("quick", 30.0)
    assert (mine.id, theirs.attempts) == (asked.id, 2)
    assert not queue.end(mine, "slow", "completed", result={})
    assert not queue.put_back(mine, "slow", 0.0)
    with pytest.raises(LookupError):
        queue.beat(mine, "slow", 30.0)
    assert queue.beat(theirs, "quick", 30.0, stage="s", done=1, total=4) is None
    assert queue.get(asked.id).progress == 25
    assert queue.take("third", 30.0) is None


def test_upgrades_and_undo_are_jobs(served):  # noqa: F811
    """Upgrades and undo are jobs."""
    client = served.client()
    served.made.revise("0002", ADD)
    up = client.post("/api/v1/upgrade", json={"target": "head"}).json()
    client.delete("/api/v1/vectors/by-session/0?confirm=true")
    log = audit(served.made)[0].id
    undo = client.post(f"/api/v1/deletions/{log}/undo").json()
    assert jobs.work(served.made.settings(), once=True).ended == 2
    assert client.get(f"/api/v1/jobs/{up['id']}").json()["status"] == "completed"
    assert client.get(f"/api/v1/jobs/{undo['id']}").json()["status"] == "completed", client.get(f"/api/v1/jobs/{undo['id']}").text
    assert served.made.row().revision == "0002"
    assert served.paths() == set(PATHS)


def test_jobs_in_the_terminal(served):  # noqa: F811
    """Jobs in the terminal."""
    here = served.made.root
    assert "There are no jobs." in call(here, "jobs").out
    asked, _ = jobs.submit(served.made.settings().acting("kim"), "orphans", {"reason": "x"})
    shown = call(here, "jobs").out
    assert asked.id in shown
    assert "pending" in shown
    assert call(here, "jobs", asked.id, "--cancel").code == 0
    assert [call(here, *words).code for words in (("jobs", "--state", "done"), ("jobs", "--cancel"), ("jobs", "unknown"))] == [2, 2, 2]
    ended = call(here, "worker", "--once")
    assert (ended.code, ended.out.strip()) == (0, "0 jobs done.")


def test_fixes_and_the_contract_share_one_undo(served):  # noqa: F811
    """What a job has deleted, `fix undo` gives back like any other deletion."""
    settings = served.made.settings()
    jobs.submit(settings, "delete", {"endpoint": "session", "value": 1, "reason": "x"})
    jobs.work(settings, once=True)
    fix.undo(settings, audit(served.made)[0].id)
    assert served.paths() == set(PATHS)
    assert CREATE
