"""Jobs whose worker died: what was done before isn't done again, what wasn't is, and people have had the last word."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import text
from tests.harness import ADD, CREATE, audit, make_point, write
from tests.scenarios.cli import call
from tests.scenarios.test_console import PRESETS, QUEUED, served, tokens  # noqa: F401  fixtures
from tests.scenarios.test_jobs import more, queue  # noqa: F401  fixtures

from qmigrate import op
from qmigrate.commands import cutover, erase, gc, jobs, rollback, status, upgrade, vectors
from qmigrate.errors import LeaseHeldError, LedgerError, UnknownNameError
from qmigrate.ledger.job_queue import ATTEMPT, JOB, JobQueue

HELD = """
def upgrade():
    return [op.RenameVector("{name}", "a", "b", cutover="hold")]
"""
HELD_AGAIN = HELD.replace('"b"', '"c"').replace('"a"', '"b"')


def write_at(made, name, number, path):
    """A point with a path."""
    point = make_point(number)
    point.payload["path"] = path
    store = made.store()
    write(store, name, [point])
    store.close()
    return point.id


class DiesAt:
    """A worker that dies at a phase of a collection."""

    def __init__(self, collection, phase):
        self.at = (collection, phase)

    def begin(self, collection, phase, total, done=0):
        if (collection, phase) == self.at:
            raise SystemExit

    def advance(self, count, note=""): ...
    def end(self, summary=""): ...
    def say(self, line): ...


def asked(settings, queue, kind, **given):  # noqa: F811
    """A job that a worker has taken which is dead by now."""
    found, _ = jobs.submit(settings, kind, given)
    assert queue.take("dead", -1.0).id == found.id
    return found.id, settings.acting("kim", {JOB: found.id, ATTEMPT: 1})


def test_a_rollback_that_was_done_is_not_done_again(served, queue):  # noqa: F811
    """What was applied again and written to since would be lost by the second one."""
    served.made.revise("0002", ADD)
    settings = served.made.settings()
    upgrade.upgrade(settings)
    job, acting = asked(settings, queue, "rollback", target="0001", writes="discard")
    rollback.rollback(acting, "0001", writes="discard")
    upgrade.upgrade(settings)
    late = more(served, "/photos/2024/later.jpg")
    assert jobs.work(settings, once=True).ended == 1
    assert late in served.made.contents()
    assert served.made.row().revision == "0002"
    assert jobs.job(settings, job).state == "completed"


def test_an_upgrade_that_was_done_is_not_done_again(served, queue):  # noqa: F811
    """A person has gone back since: that stays."""
    served.made.revise("0002", ADD)
    settings = served.made.settings()
    job, acting = asked(settings, queue, "upgrade", target="head")
    upgrade.upgrade(acting)
    rollback.rollback(settings, "0001")
    assert jobs.work(settings, once=True).ended == 1
    assert served.made.row().revision == "0001"
    assert jobs.job(settings, job).state == "completed"


def test_a_job_whose_run_was_aborted_is_not_begun_again(served, queue):  # noqa: F811
    """A person has ended what it had begun: that stays."""
    served.made.revise("0002", ADD)
    settings = served.made.settings()
    job, acting = asked(settings, queue, "upgrade", target="head")
    with pytest.raises(SystemExit):
        upgrade.upgrade(acting, progress=DiesAt(served.made.name, "fill"))
    rollback.abort(settings)
    assert jobs.work(settings, once=True).ended == 1
    assert served.made.row().revision == "0001"
    assert jobs.job(settings, job).state == "failed"


def test_a_retraining_is_queued_although_its_worker_died(served, queue, monkeypatch):  # noqa: F811
    """The points are gone by then, and nothing else would train them again."""
    served.made.extra["console"] = {**served.made.extra["console"], "queue": "tests.scenarios.test_console:enqueue"}
    served.made.__post_init__()
    settings = served.made.settings()
    QUEUED.clear()
    job, acting = asked(settings, queue, "retrain", path_prefix="/photos/2023", category_id=3, reason="x")
    with monkeypatch.context() as patch:
        patch.setattr(vectors, "function_of", lambda *_: _dies)
        with pytest.raises(SystemExit):
            vectors.retrain_directory(acting, "/photos/2023", 3, reason="x")
    assert jobs.work(settings, once=True).ended == 1
    found = jobs.job(settings, job)
    assert found.state == "completed", found.error
    assert QUEUED == [("/photos/2023", 3, "x")]
    assert found.result["job"] == "job-uuid-123"


def _dies(**_):
    raise SystemExit


def test_a_deletion_in_several_collections_is_finished_in_those_that_are_left(served, queue):  # noqa: F811
    """One row of the audit doesn't show that all collections of a glob had their turn."""
    made = served.made
    made.revise("0002", CREATE.replace("{name}", "{name}b"))
    every = {**PRESETS["folder"], "collection": f"{made.name}*"}
    made.extra["fixes"] = {"presets": {**made.extra["fixes"]["presets"], "folder": every}}
    made.__post_init__()
    settings = made.settings()
    upgrade.upgrade(settings)
    write_at(made, made.name, 500, "/photos/late/0")
    write_at(made, f"{made.name}b", 500, "/photos/late/1")
    job, acting = asked(settings, queue, "delete", endpoint="directory", value="/photos/late", reason="x")
    with pytest.raises(SystemExit):
        vectors.delete(acting, "directory", "/photos/late", reason="x", progress=DiesAt(f"{made.name}b", "select"))
    assert len(audit(made)) == 1
    again = write_at(made, made.name, 501, "/photos/late/again")
    assert jobs.work(settings, once=True).ended == 1
    found = jobs.job(settings, job)
    assert (found.state, found.result["deleted"]) == ("completed", 2), found.error
    assert again in served.made.contents(), "the first collection has had its turn"


def test_a_cut_over_releases_nothing_that_waits_since(served, queue):  # noqa: F811
    """What waits by now was held later, and no user has agreed to it."""
    made = served.made
    made.revise("0002", HELD)
    settings = made.settings()
    upgrade.upgrade(settings)
    job, acting = asked(settings, queue, "cutover", names=[made.name])
    cutover.cutover(acting, [made.name])
    made.revise("0003", HELD_AGAIN)
    upgrade.upgrade(settings)
    assert jobs.work(settings, once=True).ended == 1
    assert made.row().revision == "0002", "what waits by now no user has released"
    found = jobs.job(settings, job)
    assert (found.state, found.error["exitCode"]) == ("failed", 10)
    assert jobs.submit(settings, "cutover", {"names": [made.name]}, key="k")[1]
    assert not jobs.submit(settings, "cutover", {"names": [made.name]}, key="k")[1], "what was held then is not compared"
    assert jobs.work(settings, once=True).ended == 1
    assert made.row().revision == "0003"


def test_a_worker_that_wakes_up_begins_nothing(served, queue):  # noqa: F811
    """What the ledger refuses right where a run would begin: who took the job over has looked for runs already."""
    settings = served.made.settings()
    job, acting = asked(settings, queue, "delete", endpoint="directory", value="/photos/2024", reason="x")
    assert jobs.work(settings, once=True).ended == 1
    late = more(served, "/photos/2024/later.jpg")
    with pytest.raises(LeaseHeldError):
        vectors.delete(acting, "directory", "/photos/2024", reason="x")
    assert late in served.made.contents()
    assert not queue.begun(job), "nor is anything left that another command would finish"
    assert status.status(settings).collections[0].state != "interrupted"


def test_a_job_that_was_cancelled_while_its_worker_was_silent_stops(served, queue):  # noqa: F811
    """The next worker knows it from the beginning."""
    settings = served.made.settings()
    job, acting = asked(settings, queue, "delete", endpoint="directory", value="/photos/2024", reason="x")
    with pytest.raises(SystemExit):
        vectors.delete(acting, "directory", "/photos/2024", reason="x", progress=DiesAt(served.made.name, "select"))
    assert jobs.cancel(settings, job).state == "processing"
    assert jobs.work(settings, once=True).ended == 1
    found = jobs.job(settings, job)
    assert (found.state, found.error["hint"]) == ("failed", "qmigrate history --all")
    assert not queue.begun(job), "what the first one had begun is undone"
    assert len(served.made.contents()) == 6


def test_who_cancels_a_job_that_was_tried_is_told_to_look(served, queue):  # noqa: F811
    """An earlier try may have begun something."""
    settings = served.made.settings()
    job, _ = asked(settings, queue, "reset", reason="x")
    queue.put_back(queue.get(job), "dead", 60.0)
    error = jobs.cancel(settings, job).error
    assert "before it had begun" not in error["message"]
    assert error["hint"] == "qmigrate status"


def test_a_ledger_that_is_away_for_a_while_ends_no_worker(served, queue, monkeypatch):  # noqa: F811
    """Else `qmigrate serve` would take jobs that nothing does any more."""
    settings, taken, stop = served.made.settings(), JobQueue.take, threading.Event()
    jobs.submit(settings, "reset", {"reason": "x"})
    calls = []

    def take(self, *given):
        calls.append(given)
        if len(calls) == 1:
            raise LedgerError("the database restarts")
        if len(calls) > 2:
            stop.set()
        return taken(self, *given)

    monkeypatch.setattr(JobQueue, "take", take)
    monkeypatch.setattr(jobs, "_BEAT", 0.01)
    assert jobs.work(settings, stop=stop).ended == 1
    assert not served.made.contents()


def test_what_was_cancelled_between_two_tries_is_not_begun(served, queue):  # noqa: F811
    """Nothing is left then that would have to be aborted."""
    settings = served.made.settings()
    job, _ = asked(settings, queue, "reset", reason="x")
    assert jobs.cancel(settings, job).state == "processing"
    assert jobs.work(settings, once=True).ended == 1
    assert jobs.job(settings, job).state == "failed"
    assert not queue.begun(job)
    assert len(served.made.contents()) == 6


def test_a_job_that_takes_its_workers_with_it_fails(served, queue):  # noqa: F811
    """A job whose workers die one after the other is tried so often and no more; then it fails, and says why."""
    settings = served.made.settings()
    job, _ = asked(settings, queue, "reset", reason="x")
    for silent in range(1, 4):
        end_of_lease(queue, job)
        taken = queue.take(f"worker {silent}", 30.0, retries=3)
        assert (taken.id, taken.error["silent"]) == (job, silent)
    end_of_lease(queue, job)
    assert queue.take("worker 4", 30.0, retries=3) is None
    found = jobs.job(settings, job)
    assert (found.state, found.error["hint"]) == ("failed", "qmigrate status")
    assert found.error["message"] == "4 workers in a row were silent at it: killed, or out of memory"
    assert len(served.made.contents()) == 6


def test_a_worker_that_gives_a_job_back_has_not_died(served, queue):  # noqa: F811
    """Only those in a row count."""
    settings = served.made.settings()
    job, _ = asked(settings, queue, "reset", reason="x")
    for _ in range(5):
        end_of_lease(queue, job)
        taken = queue.take("worker", 30.0, retries=1)
        assert taken.id == job
        assert queue.put_back(taken, "worker", 0.0)
        assert queue.take("worker", 30.0, retries=1).error is None


def end_of_lease(queue, job):  # noqa: F811
    """As if its worker had been silent for long enough."""
    with queue._database.writing() as connection:
        connection.execute(text("UPDATE qdrant_jobs SET free_at = created_at WHERE id = :id"), {"id": job})


@pytest.mark.parametrize("kind", ["delete", "reset"])
def test_what_a_cancelled_job_has_begun_is_undone(served, queue, kind):  # noqa: F811
    """Nothing is left that blocks, or that the next command would finish although it was cancelled."""
    settings = served.made.settings()
    given = {"reason": "x"} | ({"endpoint": "directory", "value": "/photos/2024"} if kind == "delete" else {})
    job, acting = asked(settings, queue, kind, **given)
    begin = {
        "delete": lambda: vectors.delete(acting, "directory", "/photos/2024", reason="x", progress=DiesAt(served.made.name, "verify")),
        "reset": lambda: vectors.delete_all(acting, reason="x", progress=DiesAt(served.made.name, "swap")),
    }
    with pytest.raises(SystemExit):
        begin[kind]()
    assert queue.begun(job)
    jobs.cancel(settings.acting("kim"), job)
    assert jobs.work(settings, once=True).ended == 1
    found = jobs.job(settings, job)
    assert (found.state, found.error["message"]) == ("failed", f"cancelled by kim; what was begun for {served.made.name} is undone")
    assert not queue.begun(job)
    assert len(served.made.contents()) == 6, "what was deleted so far is back"
    assert vectors.delete(settings, "directory", "/photos/2023", reason="y").deleted == 3, "nothing is in the way"
    assert len(served.made.contents()) == 3


def test_a_job_that_waits_for_another_try_is_undone_by_a_worker(served, queue):  # noqa: F811
    """Cancelled while it waits, it isn't over before what it had begun is undone."""
    settings = served.made.settings()
    job, acting = asked(settings, queue, "delete", endpoint="directory", value="/photos/2024", reason="x")
    with pytest.raises(SystemExit):
        vectors.delete(acting, "directory", "/photos/2024", reason="x", progress=DiesAt(served.made.name, "verify"))
    assert queue.put_back(queue.get(job), "dead", 600.0)
    found = jobs.cancel(settings.acting("kim"), job)
    assert (found.state, found.cancelled_by) == ("pending", "kim")
    assert jobs.work(settings, once=True).ended == 1, "it is due at once"
    assert "is undone" in jobs.job(settings, job).error["message"]
    assert not queue.begun(job)
    assert len(served.made.contents()) == 6


def test_the_history_has_jobs_that_are_over(served, queue):  # noqa: F811
    """With --all, what came of a job is there, be there a run of it or not."""
    settings = served.made.settings()
    jobs.submit(settings.acting("kim"), "delete", {"endpoint": "directory", "value": "/photos/2024", "reason": "x"})
    jobs.submit(settings, "rollback", {"target": "9999"})
    assert jobs.work(settings, once=True).ended == 2
    rows = [row for row in status.history(settings, attempts=True).rows if row.direction.startswith("job ")]
    assert {(row.direction, row.state, row.collection) for row in rows} == {("job delete", "done", served.made.name), ("job rollback", "failed", "")}
    assert all(not row.direction.startswith("job ") for row in status.history(settings).rows)
    listed = call(served.made.root, "history", "--all")
    assert listed.code == 0
    assert "job rollback failed" in listed.out


def test_an_erasure_reaches_what_jobs_have_kept(served, queue):  # noqa: F811
    """Neither what a job was asked for nor what it has answered names an erased point."""
    settings, (first, *_) = served.made.settings(), served.ids
    served.run("DELETE FROM image_assets WHERE id = :id", [{"id": first}])
    made, _ = jobs.submit(settings, "orphans", {"reason": "x"})
    other, _ = jobs.submit(settings, "delete", {"endpoint": "asset", "value": first, "reason": "x"})
    assert jobs.work(settings, once=True).ended == 2
    assert str(first) in str(jobs.job(settings, made.id).result)
    erase.erase(settings, op.DeletePoints(served.made.name, ids=[first], reason="asked", max_share=1))
    assert jobs.job(settings, made.id).result["ids"] == []
    assert jobs.job(settings, other.id).arguments["value"] is None
    assert jobs.job(settings, made.id).result["deleted"] == 1


def test_gc_removes_jobs_that_ended_long_ago(served, queue):  # noqa: F811
    """Those that have not ended, or not long ago, stay."""
    settings = served.made.settings()
    made, _ = jobs.submit(settings, "rollback", {"target": "9999"})
    assert gc.gc(settings).jobs == 0
    assert jobs.work(settings, once=True).ended == 1
    assert gc.gc(settings).jobs == 0
    with queue._database.writing() as connection:
        connection.execute(text("UPDATE qdrant_jobs SET updated_at = '2020-01-01 00:00:00'"))
    jobs.submit(settings, "rollback", {"target": "9999"})
    assert gc.gc(settings).jobs == 1
    assert [one.state for one in jobs.jobs(settings).rows] == ["pending"]
    with pytest.raises(UnknownNameError):
        jobs.job(settings, made.id)
