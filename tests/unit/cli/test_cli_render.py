"""Results as people read them: order of facts, numbers with units, 80 columns, and names that are never cut."""

from __future__ import annotations

import functools
import io
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from qmigrate.cli import gc
from qmigrate.cli.fix import deletion
from qmigrate.cli.inspect import show_doctor, show_history, show_status
from qmigrate.cli.layout import columns, labelled, short
from qmigrate.cli.plans import show_plan, show_upgrade, strategy
from qmigrate.cli.results import show_init, show_revision, show_verification, show_waited
from qmigrate.cli.snapshot import show_snapshots
from qmigrate.commands.fix import Preview, Review
from qmigrate.commands.gc import GcResult
from qmigrate.commands.results import (
    Check,
    CollectionStatus,
    Doctor,
    History,
    HistoryEntry,
    InitResult,
    Outcome,
    Resumed,
    RevisionResult,
    SnapshotEntry,
    Snapshots,
    Status,
    UpgradeResult,
    Waited,
    in_all,
)
from qmigrate.model.plan import Build, Closing, CollectionPlan, GoLive, InPlace, Job, Plan, Retire
from qmigrate.model.report import VerificationReport
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.state import KeptSnapshot
from qmigrate.planner.gc import Verdict
from qmigrate.text import counted, moment, number, rate, size, tallied, took

AT = datetime(2025, 11, 21, 14, 2, tzinfo=UTC)
EMPTY = CollectionSchema()


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    """Local time is UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def shown(function, *values, width: int = 80) -> list[str]:
    """The lines that a renderer prints."""
    file = io.StringIO()
    console = Console(file=file, width=width, highlight=False, markup=False, emoji=False, soft_wrap=True)
    function(console, *values)
    return file.getvalue().splitlines()


def row(name: str, state: str, **more) -> CollectionStatus:
    """One collection."""
    base = CollectionStatus(name, "0002", "emotion", "g0003", 12030, state)
    return replace(base, **more)


STATUS = Status(
    "Qdrant 1.18.3 at qdrant:6333",
    "postgresql app@db/app",
    "0003",
    (
        row("image_assets", "ready", points=1204118, detail="can return to 0002 until Nov 28"),
        row("faces", "failed", generation="plain", detail="out of disk", next_command="qmigrate doctor"),
        row("memory_ada", "pending", pending=("0003",), detail="1 pending", next_command="qmigrate upgrade"),
        row("memory_bob", "running", phase="fill", percent=61.2, eta_seconds=180.0, host="web-7"),
        row("memory_cli", "interrupted", phase="fill", detail="upgrade of 14:00 on web-7", host="web-7",
            next_command="qmigrate upgrade"),
        row("new", "unmanaged", revision=None, revision_doc=None, generation=None, points=None,
            next_command="qmigrate adopt new"),
    ),
    1,
    ("2 heads",),
)  # fmt: skip


def test_status_on_80_columns():
    """Details stand below the row where they don't fit next to it; the next command stands last."""
    assert shown(show_status, STATUS) == [
        "Qdrant 1.18.3 at qdrant:6333 · ledger postgresql app@db/app",
        "6 collections, 1 pending, 1 running, 1 interrupted, 1 failed · head 0003",
        "",
        "  collection    revision      generation     points  state",
        "  image_assets  0002 emotion  g0003       1,204,118  ready",
        "      can return to 0002 until Nov 28",
        "  faces         0002 emotion  plain          12,030  failed",
        "      out of disk",
        "  memory_ada    0002 emotion  g0003          12,030  pending",
        "      0003  → qmigrate upgrade",
        "  memory_bob    0002 emotion  g0003          12,030  running",
        "      fill 61 % · 3 min left · host web-7",
        "  memory_cli    0002 emotion  g0003          12,030  interrupted",
        "      fill · upgrade of 14:00 on web-7  → qmigrate upgrade",
        "  new           –             –                   –  unmanaged",
        "      → qmigrate adopt new",
        "",
        "note: 2 heads",
        "",
        "Next: qmigrate doctor",
    ]


def test_ids_that_are_moments_keep_their_titles():
    """On 80 columns a detail moves to a line of its own before the title goes, since the id says nothing to a person."""
    first, second = "20261130201512", "20261130201733"
    rows = (row("docs", "pending", revision=first, revision_doc="adopt docs", pending=(second,), detail="1 pending"),)
    assert shown(show_status, Status("q", "l", second, rows, 1))[3:] == [
        "  collection  revision                   generation  points  state",
        "  docs        20261130201512 adopt docs  g0003       12,030  pending",
        "      20261130201733",
    ]
    # A number goes without it, in one line.
    several = {"pending": ("0002", "0003", "0004"), "detail": "3 pending"}
    numbered = replace(rows[0], revision="0001", revision_doc="adopt all of docs", **several)
    lines = shown(show_status, Status("q", "l", "0002", (numbered,), 1))
    assert lines[4:] == ["  docs        0001      g0003       12,030  pending: 0002, 0003, 0004"]
    entries = tuple(
        HistoryEntry(AT, "docs", one, "upgrade", "copy", "docs__g0002", 7, "app@web-7", id=12, title=title)
        for one, title in ((f"{first}_{second}", "squashed"), (first, "adopt docs"))
    )
    lines = shown(show_history, History(entries), width=80)
    assert max(map(len, lines)) <= 80
    assert [any(title in line for line in lines) for title in ("squashed", "adopt docs")] == [True, True]


def test_what_fails_comes_before_what_waits():
    """The next command is that of the outage; without one, that of what is interrupted, then of what is pending."""
    found = []
    rows = list(STATUS.collections)
    while rows:
        lines = shown(show_status, replace(STATUS, collections=tuple(rows)))
        found.append(lines[-1].removeprefix("Next: ") if lines[-1].startswith("Next: ") else None)
        order = ("failed", "interrupted", "pending", "unmanaged", "running", "ready")
        rows.remove(min(rows, key=lambda one: order.index(one.state)))
    assert found == ["qmigrate doctor", "qmigrate upgrade", "qmigrate upgrade", "qmigrate adopt new", None, None]


def test_status_on_a_wide_terminal():
    """Where there is room, a collection is one line."""
    lines = shown(show_status, STATUS, width=120)
    assert "  memory_bob    0002 emotion  g0003          12,030  running: fill 61 % · 3 min left · host web-7" in lines
    assert "  memory_ada    0002 emotion  g0003          12,030  pending: 0003  → qmigrate upgrade" in lines
    assert "  new           –             –                   –  unmanaged  → qmigrate adopt new" in lines


def test_names_are_never_cut():
    """A long collection name stays complete on a narrow terminal, since it is there to be copied."""
    name = "a_very_long_collection_name_of_some_tenant_" + "x" * 40
    assert any(name in line for line in shown(show_status, replace(STATUS, collections=(row(name, "ready"),))))


def test_status_without_collections():
    """An empty deployment is one line."""
    assert shown(show_status, Status("q", "l", None, (), 0)) == ["q · ledger l", "0 collections"]


def build(name: str) -> Job:
    """A rebuild of one collection."""
    steps = (
        Build((), f"{name}__g0003", f"{name}__g0004", 4, EMPTY, "copy", "values change"),
        GoLive((), f"{name}__g0003", f"{name}__g0004", (name,)),
    )
    return Job(name, "basis", steps, (Closing(1, "0003", "upgrade", "sum", EMPTY, EMPTY),))


def planned(name: str, points: int) -> CollectionPlan:
    """A collection's part of a plan."""
    return CollectionPlan(
        build(name),
        ("0003  add vector relationship 384 cosine ← embed minilm(content)",),
        ("0003  copy: values change for every point",),
        points,
        points * 3800,
        (),
        "to 0002 in milliseconds, while memory__g0003 is kept",
    )


PLAN = Plan("upgrade", ("0003",), (planned("memory_ada", 12030), planned("memory_bob", 9771)), ("a note",))


def test_a_plan_groups_what_is_alike():
    """Collections that the same is done to share their lines; the command to run stands last."""
    assert shown(show_plan, PLAN, "qmigrate upgrade") == [
        "upgrade: 2 collections, 1 revision (0003)",
        "",
        "memory_ada  copy  12,030 points  ~ 46 MB",
        "memory_bob  copy   9,771 points  ~ 37 MB",
        "  0003  add vector relationship 384 cosine ← embed minilm(content)",
        "  why      0003  copy: values change for every point",
        "  readers  nothing changes for them",
        "  back     to 0002 in milliseconds, while memory__g0003 is kept",
        "",
        "note: a note",
        "",
        "Nothing was written. Run it: qmigrate upgrade",
    ]


def test_a_plan_names_what_readers_meet():
    """A reader-incompatible change is listed instead of the all-clear, and splits the group."""
    first, second = PLAN.collections
    changed = replace(PLAN, collections=(first, replace(second, incompatible=("0003  size changes", "0003  renamed"))))
    lines = shown(show_plan, changed, "qmigrate upgrade")
    assert lines.count("  readers  nothing changes for them") == 1
    place = lines.index("  readers  0003  size changes")
    assert lines[place + 1] == "           0003  renamed"


def test_a_plan_names_what_readers_see():
    """What a function makes of payloads is shown after what fails, and does not take that back."""
    first, second = PLAN.collections
    changed = replace(PLAN, collections=(replace(first, shows=("0003  see more",)), replace(second, incompatible=("0003  size changes",), shows=("0003  see more",))))
    lines = shown(show_plan, changed, "qmigrate upgrade")
    assert "  readers  0003  see more" in lines
    assert lines[lines.index("  readers  0003  size changes") + 1] == "           0003  see more"
    assert not [line for line in lines if "nothing changes" in line]


def test_a_plan_says_which_part_of_the_time_is_unknown():
    """Only where the copy is known: else it is the time as a whole, and a model that was not tried has its own note."""
    first, second = PLAN.collections
    index = replace(first, seconds=9.0, speed="assumed", unknown=("index",))
    whole = replace(second, seconds=9.0, speed="assumed", unknown=("copy", "proof", "index"))
    lines = shown(show_plan, replace(PLAN, collections=(index, whole)), "qmigrate upgrade")
    assert [line.partition("time")[2] for line in lines[2:4]] == [" of the index unknown", " unknown"]
    note = " ".join(" ".join(lines).split())
    assert "the time of memory_ada (index), memory_bob is unknown: no run and no trial has shown" in note


def test_a_plan_back_claims_nothing_of_readers():
    """A rollback is not judged for readers, so it shows what they will meet, and how to apply it again."""
    lines = shown(show_plan, replace(PLAN, verb="rollback"), "qmigrate rollback")
    assert "  readers  meet the earlier schema" in lines
    assert "  forth    to 0002 in milliseconds, while memory__g0003 is kept" in lines


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (Plan("upgrade", ("0003",), ()), "Nothing to do: every collection is at 0003."),
        (Plan("upgrade", (), ()), "Nothing to do: there are no revisions yet. Make one: qmigrate revision -m"),
        (Plan("rollback", (), ()), "Nothing to roll back."),
        (Plan("abort", (), ()), "Nothing to abort: no run is unfinished."),
    ],
)
def test_an_empty_plan_says_why(plan, said):
    """Nothing to do is an answer, with its reason."""
    assert shown(show_plan, plan, "x")[-1].startswith(said)
    assert shown(show_upgrade, UpgradeResult(plan, (), ()))[-1].startswith(said)


@pytest.mark.parametrize(("only", "said"), [(("c",), "c is"), (("c", "d_*"), "c, d_* are")])
def test_an_empty_plan_speaks_of_what_was_asked_for(only, said):
    """Of all others nothing is known: they may be behind."""
    plan = Plan("upgrade", ("0003",), ())
    wanted = f"Nothing to do: {said} at 0003."
    assert shown(functools.partial(show_plan, only=only), plan, "x")[-1] == wanted
    assert shown(functools.partial(show_upgrade, only=only), UpgradeResult(plan, (), ()))[-1] == wanted


@pytest.mark.parametrize(
    ("steps", "word"),
    [
        (build("c").steps, "copy"),
        ((Build((), None, "c__g0001", 1, EMPTY, "empty", ""), GoLive((), None, "c__g0001", ("c",))), "create"),
        ((GoLive((), "c__g0001", None, ("c",)),), "drop"),
        ((GoLive((), "c__g0002", "c__g0001", ("c",), back=True),), "alias back"),
        ((InPlace((), "c", (), ""),), "in place"),
        ((Retire("c__g0001", "old"),), "retire"),
        ((), "record only"),
    ],
)
def test_strategies_in_words(steps, word):
    """How a job works is one word."""
    assert strategy(steps) == word


REPORT = {
    "0.converge": {
        "report": {"proven": 12030, "points": 12030, "passes": 2, "sampled": 200, "lowest_cosine": 0.99996,
                   "without_vector": 3}
    },
    "1.swap": {"milliseconds": 5.1, "at": "2025-11-21T14:02:00+00:00"},
    "1.sweep": {"sweep": {"carried": 1, "listed": {"count": 2, "named": [[7, "a"], ["9d3c", "b"]]}}},
}  # fmt: skip


def test_an_upgrade_says_what_was_proven_and_how_to_go_back():
    """Resumed runs first, then one block per collection, then the way back."""
    outcomes = (
        Outcome("memory_ada", ("0003",), "memory_ada__g0004", 36.2, REPORT, ("mind this",)),
        Outcome("memory_bob", ("0003",), "memory_bob__g0004", 36.2),
    )
    resumed = (Resumed("memory_bob", 3, "fill", AT, "web-7", 6000, 9771),)
    result = UpgradeResult(PLAN, resumed, outcomes, back=("qmigrate rollback -1",))
    assert shown(show_upgrade, result) == [
        "Resumed memory_bob: fill, 6,000 of 9,771 points",
        "  the run of 2025-11-21 14:02 on host web-7",
        "memory_ada  0003  36 s",
        "  proven   12,030 of 12,030 points · 200 embedded again, cosine ≥ 0.9999",
        "           after 2 passes over what was written during the run",
        "           3 left without the vector on purpose",
        "  late     1 late write carried over",
        "  review   2 ids may differ on the two sides: 7, 9d3c",
        "           all of them: qmigrate history --carried 0003",
        '           why: "What remains under writes: converge" in docs/safety.md of the documentation',
        "  live     memory_ada__g0004, name moved in 5 ms",
        "  note     mind this",
        "  back     to 0002 in milliseconds, while memory__g0003 is kept",
        "memory_bob  0003  36 s",
        "  live     memory_bob__g0004",
        "  back     to 0002 in milliseconds, while memory__g0003 is kept",
        "note: a note",
        "Done: 2 collections at 0003 in 1 min 12 s. To roll back: qmigrate rollback -1",
    ]


def test_an_upgrade_says_how_a_clone_was_had_or_why_not():
    """The way of the clone is one line, and so is the reason why it became a copy."""
    reports = {"0.shadow": {"cloned": "from its own folder"}}, {"0.snapshot": {"copied_because": "no room"}}
    outcomes = tuple(Outcome("c", ("0003",), "c__g0004", 1.0, report) for report in reports)
    lines = shown(show_upgrade, UpgradeResult(PLAN, (), outcomes))
    assert [lines[1], lines[4]] == ["  cloned   by the server, from its own folder", "  copied   not cloned: no room"]


def test_a_rollback_says_how_to_go_forth():
    """What was undone is named, newest first, with the command that applies it again."""
    outcome = Outcome("c", ("0003", "0002"), None, 0.04)
    lines = shown(show_upgrade, UpgradeResult(Plan("rollback", ("0001",), ()), (), (outcome,)))
    assert lines == [
        "c  without 0003, 0002  40 ms",
        "  live     nothing: the name is gone",
        "Rolled back: 1 collection in 40 ms. To apply it again: qmigrate upgrade 0003",
    ]


def test_an_abort_says_where_it_stands():
    """An abort ends with what is true now."""
    outcome = Outcome("c", (), "c__g0001", 1.0)
    lines = shown(show_upgrade, UpgradeResult(Plan("abort", (), ()), (), (outcome,)))
    assert lines[-1] == "Aborted: 1 collection in 1.0 s. They are as they were before."


def test_history():
    """One line per revision and collection, newest first as it came."""
    rows = (
        HistoryEntry(AT, "image_assets", "0003", "upgrade", "copy", "image_assets__g0002", 7, "app@web-7"),
        HistoryEntry(AT, "faces", "0002", "rollback", None, "faces", 6, None),
    )
    assert shown(show_history, History(rows)) == [
        "no  when (UTC)        collection    revision  what           serves  who",
        " –  2025-11-21 14:02  image_assets  0003      upgrade, copy  g0002   app@web-7",
        " –  2025-11-21 14:02  faces         0002      rollback       plain   –",
    ]
    assert shown(show_history, History(())) == ["Nothing is recorded."]


def test_history_where_there_is_less_room():
    """Number, title, points, reason, duration: what is least needed has a line of its own; an attempt says how it ended."""
    more = {"title": "faces by another model", "points": 1204118, "reason": "asked for by the team", "seconds": 4320.0}
    rows = (
        HistoryEntry(AT, "image_assets", "0004", "upgrade", None, None, 8, "app@web-7", reason="no room", state="failed"),
        HistoryEntry(AT, "image_assets", "0003", "upgrade", "copy", "image_assets__g0002", 7, "app@web-7", id=12, **more),
    )
    assert shown(show_history, History(rows), width=80) == [
        "no  when (UTC)        collection    revision  what            serves     points",
        " –  2025-11-21 14:02  image_assets  0004      upgrade failed  –               –",
        "    by app@web-7 · “no room”",
        "12  2025-11-21 14:02  image_assets  0003      upgrade, copy   g0002   1,204,118",
        "    faces by another model · 1 h 12 min · by app@web-7 · “asked for by the team”",
    ]
    wide = shown(show_history, History(rows), width=200)
    assert len(wide) == 3
    assert wide[2].endswith("1,204,118  1 h 12 min  app@web-7  faces by another model  asked for by the team")


def test_what_gc_deletes_names_the_snapshots_with_it():
    """All of them are counted: those of no run of this ledger are marked."""
    made = tuple(KeptSnapshot(name, 10, None, own=own) for name, own in (("a.snapshot", True), ("b.snapshot", False)))
    going = Verdict("docs", "docs__g0001", True, "retired", "past", snapshots=made)
    lines = [line.plain.strip() for line in gc.preview(GcResult((going,), ()))]
    assert [line.removeprefix("snapshot ").strip() for line in lines if ".snapshot" in line] == [
        "a.snapshot  10 B", "b.snapshot  10 B  (not made by a run of this ledger)"
    ]
    assert gc.generations_of([going], kept=False) == "1 generation with 2 snapshots"
    assert gc.generations_of([going], kept=True) == "1 generation with 2 snapshots (exported first)"


def test_snapshots():
    """The name comes last and complete."""
    name = "image_assets__g0002-" + "1" * 60 + ".snapshot"
    entry = SnapshotEntry("image_assets", "image_assets__g0002", name, 1234567890, None, None)
    assert shown(show_snapshots, Snapshots((entry,)))[-1].split() == ["–", "image_assets", "–", "–", "1.2", "GB", "–", "–", name]
    made = replace(entry, kind="archive", generation="g0002", revision="0003", points=1204, checksum="ab" * 16)
    made = replace(made, created_at=datetime.now(UTC) - timedelta(days=3, hours=4), kept_until=AT)
    words = shown(show_snapshots, Snapshots((made,)))[-1]
    assert words.startswith("3 d 4 h  image_assets  0003 g0002   1,204  1.2 GB  abababab  2025-11-21 ")
    assert shown(show_snapshots, Snapshots(())) == ["No snapshots."]


def test_doctor():
    """What failed stands first and names its repair; words say what colours say; long lines are wrapped, not cut."""
    long = "word " * 20 + "and-a-name-that-is-there-to-be-copied-and-is-longer-than-any-line-of-the-terminal-may-be"
    checks = (
        Check("ledger", True, "fine"),
        Check("qdrant", False, "down", "start it"),
        Check("lease c", None, "held"),
        Check("rights", None, long, "qmigrate doctor", warns=True),
    )
    lines = shown(show_doctor, Doctor(checks, seconds=1.5))
    assert lines[:4] == ["Failed", "FAILED   qdrant: down", "         → start it", ""]
    assert lines[4:6] == ["May block an upgrade", "warning  rights: word word word word word word word word word word word word"]
    assert [line for line in lines if len(line) > 80] == ["         " + long.split()[-1]]
    assert lines[-9:] == [
        *("         → qmigrate doctor", "", "Notes", "note     lease c: held"),
        *("", "OK", "ok       ledger: fine", "", "1 check failed, 1 warning (1.5 s)."),
    ]
    assert shown(show_doctor, Doctor(checks[:1])) == ["OK", "ok       ledger: fine", "", "Everything is in order."]
    assert shown(show_doctor, Doctor(checks[3:]))[-1] == "Everything is in order, 1 warning."


def test_small_results(tmp_path, monkeypatch):
    """init, revision, verify and wait name what was made or found, and the next command."""
    monkeypatch.chdir(tmp_path)
    made = InitResult((tmp_path / "qmigrate.yaml", tmp_path), tmp_path / "qmigrate.yaml", tmp_path)
    assert shown(show_init, made)[0] == "made qmigrate.yaml"
    found = RevisionResult(tmp_path / "v" / "0002_x.py", "0002", ("0001",), "x")
    assert shown(show_revision, found)[0] == "made v/0002_x.py  (revision 0002, after 0001)"
    report = VerificationReport("a", "b", points=30, proven=9)
    for point in range(21):
        report.failures.add(point, "is only in a")
    lines = shown(show_verification, report)
    assert lines[:2] == ["a and b: 9 of 30 points proven", "  0  is only in a"]
    assert lines[-2:] == ["  … 21 in all", "They differ."]
    assert shown(show_waited, Waited(True, True, 1.5)) == ["Qdrant and the ledger answer, after 1.5 s."]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *[(0, "0 ms"), (0.005, "5 ms"), (0.4, "0.4 s"), (6.3, "6.3 s"), (12.4, "12 s"), (59.6, "1 min"), (60, "1 min")],
        *[(72, "1 min 12 s"), (3599.9, "1 h"), (7500, "2 h 5 min"), (86399, "23 h 59 min"), (273600, "3 d 4 h")],
    ],
)
def test_times_in_words(seconds, text):
    """A duration has one or two units, whatever its size."""
    assert took(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(999, "999 B"), (1000, "1.0 kB"), (46 * 10**6, "46 MB"), (13 * 10**8, "1.3 GB"), (10**16, "10 PB")],
)
def test_sizes_in_words(value, text):
    """Bytes are shown in the unit that keeps the number short."""
    assert size(value) == text


def test_numbers_in_words():
    """Thousands are separated, and one is singular."""
    assert (number(1204118), rate(1910.4), rate(0.25)) == ("1,204,118", "1,910/s", "0.2/s")
    assert (counted(1, "pass", "passes"), counted(2000, "id")) == ("1 pass", "2,000 ids")
    assert moment(AT.replace(tzinfo=None)) == "2025-11-21 14:02"
    assert (short("abcdef", 4), short("abc", 4)) == ("abc…", "abc")


def test_columns_align_wide_characters():
    """Widths are those of the terminal, not of the text; no line ends in spaces."""
    lines = [line.plain for line in columns([("日本", "1"), ("abc", "22")], right={1}, indent=1)]
    assert lines == [" 日本   1", " abc   22"]
    assert columns([]) == []
    assert [line.plain for line in labelled("why", ["a", "b"])] == ["  why      a", "           b"]


@pytest.mark.parametrize(
    ("begins", "seconds", "total"),
    [((0, 1), (10.0, 4.0), 10.0), ((0, 10), (10.0, 4.0), 14.0), ((None, 0), (10.0, 4.0), 14.0), ((), (), 0)],
)
def test_time_in_all_is_from_the_first_beginning_to_the_last_end(begins, seconds, total):
    """Collections that are done in parallel take as long as the clock shows, not the sum of their times."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    started = [None if one is None else at + timedelta(seconds=one) for one in begins]
    assert in_all([Outcome("c", (), None, took, started_at=one) for one, took in zip(started, seconds, strict=True)]) == total


def test_the_question_before_a_deletion_names_the_share():
    """How many of how many points go, and of which collection, or of how many."""
    packages = Preview("packages", "delete", 3000, 113, {}, ())
    assert deletion(Review((packages,))) == "Delete 113 of 3,000 points of packages?"
    assert deletion(Review((packages, replace(packages, changes=1)))) == "Delete 114 of 6,000 points of 2 collections?"


@pytest.mark.parametrize(
    ("added", "deleted", "expected"),
    [
        (1, 2, "1 point added, 2 deleted"),
        (2000, 0, "2,000 points added"),
        (0, 1, "1 point deleted"),
        (0, 0, "0 points added"),
    ],
)
def test_figures_that_are_zero_are_left_out(added, deleted, expected):
    """The first figure that is left has the noun; one that is zero is shown only where all are."""
    assert tallied("point", (added, "added"), (deleted, "deleted")) == expected
