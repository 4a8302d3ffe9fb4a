"""plan --out and upgrade --plan, --max-estimate, --only: what was reviewed is done, or nothing is."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from tests.harness import ADD, CREATE, INDEX, Deployment
from tests.scenarios.cli import call, left, refused
from tests.scenarios.test_rollback import RENAME, target_of

from qmigrate.commands import estimate as estimate_command
from qmigrate.commands import gc, plan_file, sql_gate, upgrade
from qmigrate.errors import DriftError, ForeignLedgerError, PendingError, RefusedError, UsageError
from qmigrate.ledger import Ledger
from qmigrate.planner import estimate

POINTS = 40


@pytest.fixture
def made(deployment):
    """A loaded collection at 0001 with a rebuild and an in-place revision pending."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(POINTS)
    deployment.revise("0002", ADD)
    deployment.revise("0003", INDEX)
    return deployment


def written(made: Deployment, target: str = "head") -> Path:
    """A plan file."""
    path = made.root / "reviewed.json"
    plan_file.plan_to(made.settings(), path, target)
    return path


def edit(path: Path, change) -> None:
    """Change what is in a plan file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_plan_file_is_done_as_it_was_reviewed(made):
    """The same jobs, run once; the file is for its owner only, and writing it changed nothing."""
    before = left(made)
    path = written(made, "0002")
    assert left(made) == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    result = plan_file.upgrade_planned(made.settings(), path)
    assert [outcome.revisions for outcome in result.outcomes] == [("0002",)]
    assert made.row().revision == "0002"
    assert len(made.contents()) == POINTS


def test_the_same_file_again_has_nothing_left_to_do(made):
    """An entrypoint that restarts runs it again and gets 0."""
    path = written(made)
    plan_file.upgrade_planned(made.settings(), path)
    again = plan_file.upgrade_planned(made.settings(), path)
    assert (again.outcomes, again.resumed) == ((), ())
    assert made.row().revision == "0003"


def test_an_interrupted_plan_goes_on_with_the_same_file(made, monkeypatch):
    """The stored job is the one of the file: it is resumed, not refused as moved."""
    path = written(made)
    from qmigrate.engine.golive import golive

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(golive, "swap", stop)
    with pytest.raises(KeyboardInterrupt):
        plan_file.upgrade_planned(made.settings(), path)
    monkeypatch.undo()
    result = plan_file.upgrade_planned(made.settings(), path)
    assert len(result.resumed) == 1
    assert (made.row().revision, made.row().state) == ("0003", "ready")


def test_a_state_that_moved_is_refused_and_nothing_is_begun(made):
    """Another user upgraded since: exit 10 names the collection, and there is no new plan."""
    path = written(made)
    upgrade.upgrade(made.settings(), "0002")
    before = left(made)
    with pytest.raises(RefusedError, match=f"{made.name} moved since") as caught:
        plan_file.upgrade_planned(made.settings(), path)
    assert "plan --out" in caught.value.hint
    assert left(made) == before
    refused(made.root, ("upgrade", "--plan", str(path)), 10, "moved since the plan was made")


def test_a_rollback_makes_a_done_plan_a_moved_one(made):
    """It was done once; what stands there now is another state."""
    from qmigrate.commands import rollback as back

    path = written(made, "0002")
    plan_file.upgrade_planned(made.settings(), path)
    back.rollback(made.settings(), "0001")
    with pytest.raises(RefusedError, match="moved since"):
        plan_file.upgrade_planned(made.settings(), path)


def test_a_state_that_moves_under_way_is_refused_too(made, monkeypatch):
    """Between the check and the lease another process was faster."""
    from qmigrate.commands import run_plan

    path = written(made)
    original = run_plan.run_job

    def late(session, *args, **kwargs):
        session.store.create_alias(f"{made.name}_more", f"{made.name}__g0001")
        return original(session, *args, **kwargs)

    monkeypatch.setattr(run_plan, "run_job", late)
    with pytest.raises(RefusedError, match="moved since"):
        plan_file.upgrade_planned(made.settings(), path)
    assert not left(made).open_runs
    assert made.row().revision == "0001"


def test_a_changed_revision_file_is_refused(made):
    """Pending, so nothing else would notice: exit 4, before anything is written."""
    path = written(made)
    file = made.root / "qdrant_migrations" / "versions" / "0002_rev.py"
    file.write_text(file.read_text() + "\n# changed\n")
    before = left(made)
    with pytest.raises(DriftError, match="was changed since the plan was made"):
        plan_file.upgrade_planned(made.settings(), path)
    assert left(made) == before


def test_a_revision_file_that_is_gone_is_refused(made):
    """Likewise."""
    path = written(made)
    (made.root / "qdrant_migrations" / "versions" / "0003_rev.py").unlink()
    with pytest.raises(DriftError, match="revision 0003 is gone"):
        plan_file.upgrade_planned(made.settings(), path)


def test_another_ledger_is_refused(made, tmp_path):
    """Its revisions and generations are not those of the plan: exit 7."""
    path = written(made)
    made.ledger_url = f"sqlite:///{tmp_path}/another.db"
    made.__post_init__()
    with pytest.raises(ForeignLedgerError, match="another ledger"):
        plan_file.upgrade_planned(made.settings(), path)


def test_another_qdrant_is_refused(made, tmp_path):
    """A plan of staging is not for production: exit 7."""
    path = written(made)
    made.qdrant = {"path": str(tmp_path / "elsewhere")}
    made.__post_init__()
    with pytest.raises(ForeignLedgerError, match="the plan was made for"):
        plan_file.upgrade_planned(made.settings(), path)


def test_a_plan_of_an_empty_ledger_works_once_the_ledger_is_made(deployment):
    """A first deployment is reviewed before there are any tables."""
    deployment.revise("0001", CREATE)
    path = written(deployment)
    assert not left(deployment).generations
    result = plan_file.upgrade_planned(deployment.settings(), path)
    assert [outcome.revisions for outcome in result.outcomes] == [("0001",)]
    assert deployment.row().state == "ready"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data["plan"]["collections"][0]["job"].update(basis="0"), "was changed after it was written"),
        (lambda data: data.update(qdrant="Qdrant elsewhere"), "was changed after it was written"),
        (lambda data: data.pop("digest"), "was changed after it was written"),
        (lambda data: data.update(version=2), "a plan of version 2"),
        (lambda data: data.update(format="terraform"), "is not a plan of qmigrate"),
    ],
    ids=["job", "place", "no digest", "version", "format"],
)
def test_a_file_that_was_edited_or_is_of_another_version_is_refused(made, change, words):
    """Exit 2, and what is wrong with it."""
    path = written(made)
    edit(path, change)
    with pytest.raises(UsageError, match=words):
        plan_file.upgrade_planned(made.settings(), path)
    assert made.row().revision == "0001"


@pytest.mark.parametrize(
    ("content", "words"),
    [("", "is not a plan"), ("[1]", "is not a plan"), ("{", "is not a plan"), ("\udcff", "is not a plan"), (None, "can't be read")],
)
def test_what_is_no_plan_is_refused(made, content, words):
    """Empty, cut off, binary or absent: a message, not a traceback."""
    path = made.root / "reviewed.json"
    if content is not None:
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
    refused(made.root, ("upgrade", "--plan", str(path)), 2, words)


def test_a_correctly_signed_file_of_unknown_content_is_refused(made):
    """A newer qmigrate may write steps that this one doesn't know."""
    from qmigrate.commands import plan_file

    path = written(made)
    content = json.loads(path.read_text())
    content["plan"]["collections"][0]["job"]["steps"][0]["kind"] = "teleport"
    content.pop("digest")
    content["digest"] = plan_file._digest(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match="can't be understood"):
        plan_file.upgrade_planned(made.settings(), path)


def test_a_place_that_cannot_be_written_is_refused(made):
    """The folder isn't there: exit 2, and nothing half-written."""
    refused(made.root, ("plan", "--out", "no/such/folder/plan.json"), 2, "can't be written")


def test_a_plan_file_does_not_collect_first(made):
    """gc: auto would move the state that was planned on."""
    made.extra["rebuild"] = {"holdover": 0, "gc": "off"}
    made.__post_init__()
    upgrade.upgrade(made.settings())
    made.extra["rebuild"] = {"holdover": 0, "gc": "auto"}
    made.__post_init__()
    made.revise("0004", RENAME)
    path = written(made)
    plan_file.upgrade_planned(made.settings(), path)
    assert made.row().revision == "0004"
    assert [one.generation for one in gc.review(made.settings(), made.name).going] == [
        f"{made.name}__g0001",
        f"{made.name}__g0002",
    ]


def test_the_command_line_refuses_what_does_not_go_with_a_plan(made):
    """TARGET and --only are in the plan; a second opinion is a mistake."""
    path = written(made)
    for extra in (("0002",), ("--only", made.name), ("--dry-run",), ("--rehearse", "5")):
        answer = call(made.root, "upgrade", "--plan", str(path), *extra)
        assert (answer.code, "can't go with --plan" in answer.err) == (2, True), answer.text
    shown = call(made.root, "plan", "--out", "again.json")
    assert "Run it: qmigrate upgrade --plan again.json" in shown.out
    done = call(made.root, "upgrade", "--plan", "again.json", "--json")
    assert (done.code, done.json["schema"]) == (0, "qmigrate.upgrade/1")
    assert made.row().revision == "0003"


def test_an_estimate_is_shown_and_compared(made):
    """Plan shows how long; --max-estimate refuses what is longer with exit 3, and lets the rest through."""
    made.extra["estimates"] = {"step": "300s"}
    made.__post_init__()
    [item] = upgrade.plan(made.settings()).collections
    assert item.seconds > 600
    assert item.speed == "assumed"
    assert item.unmeasured == ("words",)
    said = call(made.root, "plan", "--no-trial").out
    assert "time unknown" in said
    assert "words has not filled enough vectors here to tell; qmigrate plan --trial tries some items" in said
    data = call(made.root, "plan", "--no-trial", "--json").json["data"]["collections"][0]
    assert (data["seconds"], data["speed"]) == (item.seconds, "assumed")
    data = call(made.root, "plan", "--json").json["data"]["collections"][0]
    assert (data["speed"], data["unmeasured"], data["costs"][0]["speed"]) == ("a trial", [], "a trial")
    assert data["costs"][0]["seconds"] < 60, "it needs no service, so it is tried"
    before = left(made)
    words = ("expected to take", "5 min of --max-estimate", made.name, "QMIGRATE_MAX_ESTIMATE=")
    refused(made.root, ("upgrade", "--max-estimate", "5m"), 3, *words)
    assert left(made) == before
    with pytest.raises(PendingError):
        plan_file.upgrade_planned(made.settings(), written(made), max_estimate=300)
    assert call(made.root, "upgrade", "--max-estimate", "2h").code == 0
    assert made.row().revision == "0003"
    assert call(made.root, "upgrade", "--max-estimate", "1s").code == 0


def test_a_first_copy_is_tried_by_reading(deployment):
    """Where no run shows how fast it is, a little of what is there is read; without that, the time is unknown."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(POINTS)
    deployment.revise("0002", 'def upgrade():\n    return [op.TransformPoints("{name}", lambda point: point.payload)]\n')
    before = left(deployment)
    tried = call(deployment.root, "plan", "--json").json["data"]["collections"][0]
    assert (tried["speed"], tried["unmeasured"]) == ("a trial", [])
    assert tried["seconds"] > 0
    assert "time unknown" not in call(deployment.root, "plan").out
    unknown = " ".join(call(deployment.root, "plan", "--no-trial").out.split())
    assert f"the time of {deployment.name} is unknown: no run and no trial has shown how fast it is here" in unknown
    assert call(deployment.root, "plan", "--no-trial", "--json").json["data"]["collections"][0]["speed"] == "assumed"
    assert left(deployment) == before
    # What is assumed would be far too long, and is not what the guard goes by.
    deployment.extra["estimates"] = {"local": 0.01, "copy": 0.01}
    deployment.__post_init__()
    assert call(deployment.root, "upgrade", "--max-estimate", "10m").code == 0


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
def test_speeds_are_kept_per_embedder(made):
    """Once an embedder has run, its own speed counts, in every collection; that of another one is unknown again."""
    made.load(estimate.FEWEST_POINTS, start=1000, uuids=False)
    upgrade.upgrade(made.settings())
    body = 'return [op.AddVector("{name}", "%s", VectorParams(size=16, distance=Distance.COSINE), values=Embed("%s", text="text"))]'
    made.extra["embedders"] = {"words": {"type": "hashing", "size": 16}, "more": {"type": "hashing", "size": 16}}
    made.__post_init__()
    for embedder, unknown in (("words", ()), ("more", ("more",))):
        made.revise("0004", "def upgrade():\n    " + body % (embedder, embedder), down="0003")
        plan = upgrade.plan(made.settings())
        (item,) = plan.collections
        assert item.unmeasured == unknown
        assert item.speed == ("assumed" if unknown else "earlier runs")
        assert ("the time is unknown: more" in call(made.root, "plan", "--no-trial").out) == bool(unknown)


def test_the_guard_measures_what_has_never_run(made, monkeypatch):
    """An assumption that is too good lets nothing in: a model that is slower than assumed is found out before it starts."""
    made.extra["estimates"] = {"embed": 1e9, "copy": 1e12, "index": 1e12, "local": 1e9}
    made.__post_init__()
    monkeypatch.setattr(estimate_command, "_measured", lambda *_: 0.01)
    before = left(made)
    refused(made.root, ("upgrade", "--max-estimate", "5m"), 3, "expected to take")
    assert left(made) == before
    monkeypatch.setattr(estimate_command, "_measured", lambda *_: 1e9)
    assert call(made.root, "upgrade", "--max-estimate", "5m").code == 0


def test_a_plan_that_has_aged_is_estimated_as_of_today(made):
    """What was quick when it was planned may take hours by now."""
    made.extra["estimates"] = {"step": "1s"}
    made.__post_init__()
    path = written(made)
    made.extra["estimates"] = {"step": "300s"}
    made.__post_init__()
    with pytest.raises(PendingError, match="expected to take"):
        plan_file.upgrade_planned(made.settings(), path, max_estimate=300)
    assert made.row().revision == "0001"


def test_a_plan_waits_for_sql_that_has_gone_back_since(made, monkeypatch):
    """requires_sql holds when the plan is done, not only when it was made."""
    made.revise("0004", 'requires_sql = "s1"\n' + INDEX.replace('"kind"', '"n"'))
    heads = ["s1"]
    monkeypatch.setattr(sql_gate, "sql_heads", lambda *_: tuple(heads))
    path = written(made)
    heads.clear()
    refused(made.root, ("upgrade", "--plan", str(path)), 3, "0004 waits for the SQL revision s1", "alembic upgrade s1")
    assert made.row().revision == "0001"
    heads.append("s1")
    assert call(made.root, "upgrade", "--plan", str(path)).code == 0
    assert made.row().revision == "0004"


@pytest.mark.parametrize("target", ["-1", "base"])
def test_no_upgrade_goes_back(made, target):
    """It would say that everything is there already."""
    for verb in ("plan", "upgrade"):
        refused(made.root, (verb, target), 2, "an upgrade doesn't go back", "qmigrate rollback does")
    refused(made.root, ("plan", target, "--out", "plan.json"), 2, "an upgrade doesn't go back")
    assert made.row().revision == "0001"


@pytest.mark.parametrize("readable", [True, False])
def test_an_assumed_speed_keeps_nothing_out_that_a_sample_shows_to_be_quick(made, readable):
    """Points are embedded to measure the model before an assumption refuses; where none can be, the assumption holds."""
    made.extra["estimates"] = {"embed": 0.01}
    if not readable:
        file = next(made.root.glob("qdrant_migrations/versions/0002*"))
        file.write_text(file.read_text().replace('text="text"', 'text="no_such_field"'))
    made.__post_init__()
    [item] = upgrade.plan(made.settings()).collections
    assert (item.seconds > 600, item.speed) == (True, "assumed")
    before = left(made)
    if readable:
        assert call(made.root, "upgrade", "--max-estimate", "5m").code == 0
        assert made.row().revision == "0003"
    else:
        refused(made.root, ("upgrade", "--max-estimate", "5m"), 3, "expected to take")
        assert left(made) == before


def test_an_interrupted_run_counts_with_what_is_left(made, monkeypatch):
    """The guard of an entrypoint doesn't start what will not be done in time because it was begun before."""
    made.extra["estimates"] = {"local": 0.1, "copy": 100, "index": 10, "step": "1s"}
    made.__post_init__()
    whole = upgrade.plan(made.settings(), "0002").collections[0].seconds
    from qmigrate.engine.golive import golive

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(golive, "swap", stop)
    with pytest.raises(KeyboardInterrupt):
        upgrade.upgrade(made.settings(), "0002")
    monkeypatch.undo()
    # All of it is copied and proven: what is left is the go-live.
    assert whole > 20
    upgrade.guard(made.settings(), "0002", None, 20)
    with pytest.raises(PendingError):
        upgrade.guard(made.settings(), "0002", None, 0.5)


def test_earlier_runs_say_how_long_the_next_one_takes(deployment, monkeypatch):
    """The speed of the last rebuild is kept with its history row, and taken instead of assumed rates."""
    monkeypatch.setattr(estimate, "FEWEST_POINTS", 30)
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(POINTS)
    deployment.revise("0002", ADD)
    upgrade.upgrade(deployment.settings())
    ledger = Ledger.open(deployment.ledger_url)
    speed = ledger.history(deployment.name)[0].report["speed"]
    ledger.close()
    assert (speed["points"], speed["total"], speed["embeds"]) == (POINTS, POINTS, 1)
    assert speed["fill"] > 0
    deployment.revise("0003", ADD.replace('"b"', '"c"'))
    [item] = upgrade.plan(deployment.settings()).collections
    assert item.speed == "earlier runs"


def test_only_restricts_the_work_to_names(deployment):
    """Exact names and globs; the others stay where they are."""
    name = deployment.name
    bodies = "\n".join(
        f'    op.CreateCollection("{name}_{one}", {{"a": VectorParams(size=4, distance=Distance.DOT)}}),' for one in "abc"
    )
    deployment.revise("0001", "def upgrade():\n    return [\n" + bodies.replace("{", "{{").replace("}", "}}") + "\n    ]\n")
    result = upgrade.upgrade(deployment.settings(), only=[f"{name}_a"])
    assert [outcome.collection for outcome in result.outcomes] == [f"{name}_a"]
    done = call(deployment.root, "upgrade", "--only", f"{name}_[bc]", "--json")
    assert [entry["collection"] for entry in done.json["data"]["outcomes"]] == [f"{name}_b", f"{name}_c"]


def test_only_with_a_name_that_nothing_knows_is_refused(made):
    """A typing mistake is not "nothing to do", and the message names what was probably meant, or where the names are."""
    before = left(made)
    refused(made.root, ("upgrade", "--only", "nobody_knows_this"), 2, "nobody_knows_this", "qmigrate status")
    refused(made.root, ("upgrade", "--only", f"{made.name}x"), 2, f'did you mean "{made.name}"?')
    refused(made.root, ("plan", "--only", "nobody_*"), 2, "nobody_*")
    refused(made.root, ("rollback", "--only", "nobody_knows_this"), 2, "nobody_knows_this")
    assert left(made) == before


def test_the_pending_target_of_only_is_kept(made):
    """--only with a known name that has nothing to do is nothing to do."""
    upgrade.upgrade(made.settings())
    assert call(made.root, "upgrade", "--only", made.name).code == 0
    assert target_of(made) == f"{made.name}__g0002"
