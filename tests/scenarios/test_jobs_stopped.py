"""A run that a background job does, and that a person stops: nothing continues it, and its worker does the next job."""

from __future__ import annotations

import pytest
from tests.harness import ADD, CREATE, audit
from tests.scenarios.test_jobs import queue, served  # noqa: F401  fixtures
from tests.scenarios.test_jobs_after_death import DiesAt, asked

from qmigrate.commands import jobs, pace, upgrade, vectors
from qmigrate.commands.pace import unfinished
from qmigrate.commands.session import opened_ledger
from qmigrate.embed.backends import function
from qmigrate.engine import executor
from qmigrate.engine.fixes.delete import Removal


def asks_to_stop(monkeypatch, made, target, name: str) -> None:
    """The first call of a method has kim stop the run that it belongs to."""
    real, asked = getattr(target, name), []

    def call(self, *given, **more):
        if not asked:
            asked.append(pace.pace(made.settings().acting("kim"), made.name, "stop"))
        return real(self, *given, **more)

    monkeypatch.setattr(executor, "ASKED_EVERY", 0.0)
    monkeypatch.setattr(target, name, call)


@pytest.fixture
def filling(deployment, monkeypatch):
    """An upgrade that kim stops while it fills."""
    deployment.extra["embedders"] = {"words": {"type": "callable", "function": "tests.harness:flat", "size": 16}}
    deployment.__post_init__()
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(300)
    deployment.revise("0002", ADD)
    asks_to_stop(monkeypatch, deployment, function._Function, "embed")
    return deployment


def test_what_a_person_has_stopped_is_not_continued_by_the_next_worker(filling):
    """The job has failed, what it began waits for a decision, and the worker goes on with the job behind it."""
    settings = filling.settings()
    job, _ = jobs.submit(settings, "upgrade", {})
    jobs.submit(settings, "undo", {"log": 999})
    assert jobs.work(settings, once=True).ended == 2
    found = jobs.job(settings, job.id)
    assert (found.state, found.error["message"]) == ("failed", "stopped at a checkpoint, as kim has asked")
    assert "continued or aborted" in found.error["hint"]
    assert found.attempts == 1


def test_stop_and_then_abort_is_an_abort(filling):
    """As the page does it: the run is asked to stop, and a job aborts it."""
    settings = filling.settings()
    jobs.submit(settings, "upgrade", {})
    jobs.work(settings, once=True)
    run = unfinished(settings, filling.name)
    assert run is not None
    jobs.submit(settings, "abort", {"collection": filling.name, "run": run.id})
    jobs.work(settings, once=True)
    assert (filling.row().state, filling.row().revision) == ("pending", "0001")
    assert unfinished(settings, filling.name) is None


def test_a_deletion_that_a_person_has_stopped_deletes_nothing_more(served, monkeypatch):  # noqa: F811
    """Also where other workers wait for a job."""
    settings, before = served.made.settings(), served.paths()
    monkeypatch.setattr(Removal, "portion", lambda _self: 1)
    asks_to_stop(monkeypatch, served.made, Removal, "write")
    given = {"endpoint": "directory", "value": "/photos/2024", "reason": "r"}
    job, _ = jobs.submit(settings, "delete", given)
    jobs.work(settings, once=True)
    left = served.paths()
    assert left != before
    assert jobs.work(settings, once=True).ended == 0
    assert (jobs.job(settings, job.id).state, served.paths()) == ("failed", left)
    with opened_ledger(settings) as ledger:
        assert [run.job.collection for run in ledger.open_runs()] == [served.made.name]
    assert not audit(served.made)


def test_a_cancelled_job_takes_back_its_own_run_and_no_later_one(served, queue, monkeypatch):  # noqa: F811
    """Between the look and the lease a person may have ended it, and begun something else."""
    settings, name = served.made.settings(), served.made.name
    job, acting = asked(settings, queue, "delete", endpoint="directory", value="/photos/2024", reason="x")
    with pytest.raises(SystemExit):
        vectors.delete(acting, "directory", "/photos/2024", reason="x", progress=DiesAt(name, "verify"))
    jobs.cancel(settings.acting("kim"), job)
    served.made.revise("0009", 'def upgrade():\n    return [op.AddVector("{name}", "late", VectorParams(size=2, distance=Distance.DOT), values=Empty())]')
    real = jobs.abort

    def late(acting, collection, **more):
        real(settings, collection)
        upgrade.upgrade(settings, hold=True)
        return real(acting, collection, **more)

    monkeypatch.setattr(jobs, "abort", late)
    jobs.work(settings, once=True)
    assert "and not" in jobs.job(settings, job).error["hint"]
    assert unfinished(settings, name).state == "held"
