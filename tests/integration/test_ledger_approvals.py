"""Requests in the ledger: asked for once, decided once, used by one run, whatever dies or races; on both databases."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import pytest
from sqlalchemy import text, update

from qmigrate.ledger import Ledger, tables
from qmigrate.ledger.approvals import ApprovalRequest, Requests
from qmigrate.ledger.schema import HEAD, READABLE
from qmigrate.model.approval import Person, Wanted, wanted
from qmigrate.model.plan import Build, Closing, EditPoints, GoLive, Job, OpRef
from qmigrate.model.schema import CollectionSchema

pytestmark = pytest.mark.timeout(120)

KIM = Person("kim", "console")
LEE = Person("lee", "console")
WISH = Wanted("docs", "delete", {"edit": {"kind": "delete", "ids": [1, 2]}}, "moved", changes=100, points=1000)
JOB = Job("docs", "b", ())


@pytest.fixture
def book(ledger: Ledger) -> Requests:
    """The requests of a fresh ledger."""
    return Requests(ledger)


def ask(book: Requests, wish: Wanted = WISH, who: Person = KIM, *, expires: float = 600.0, tolerance: float = 0.05):
    """One request."""
    made, _ = book.ask(wish, "two points", who, above="10 points", tolerance=tolerance, expires=expires)
    return made


def run_of(lease, state: str | None = None) -> int:
    """A run, opened and maybe ended."""
    run = lease.open_run("fix", JOB, {}, actor="kim", tool="t", server="s")
    if state is not None:
        lease.finish_run(run, state)
    return run


def yes(_: ApprovalRequest) -> bool:
    """Every approval counts."""
    return True


def claim(ledger: Ledger, changes: int = 100, wish: Wanted = WISH, counts=yes, state: str | None = None):
    """What a new run gets; its run, which is ended as `state` says."""
    with ledger.hold(wish.collection, timeout=5) as lease:
        run = run_of(lease)
        found = lease.claim_approval((run, 0), wish.digest, changes, counts)
        if state is not None:
            lease.finish_run(run, state)
        return found, run


def edit(book: Requests, number: int, **values) -> None:
    """Change a row behind qmigrate's back."""
    with book._database.writing() as connection:
        connection.execute(update(tables.requests).where(tables.requests.c.id == number).values(**values))


def test_the_same_wish_is_one_request_and_another_one_is_not(book):
    """The same wish is one request; another collection, kind, selection or reason is another one."""
    first = ask(book)
    assert (first.state, first.asked_by, first.run, first.share) == ("pending", "kim", None, 0.1)
    assert ask(book, who=LEE).id == first.id
    others = [
        replace(WISH, collection="Docs"),
        replace(WISH, kind="soft"),
        replace(WISH, what={"edit": {"kind": "delete", "ids": [1, 2, 3]}}),
        replace(WISH, what={"edit": {"kind": "delete", "ids": ["1", "2"]}}),
    ]
    assert len({ask(book, one).id for one in others} | {first.id}) == len(others) + 1
    assert [one.id for one in book.listed(["pending"], "docs")] == [one.id for one in book.listed() if one.collection == "docs"]
    assert book.get(10**30) is None
    assert book.get(0) is None


DECISIONS = {
    "approved": (lambda book, one: book.approve(one, LEE), "approved"),
    "rejected": (lambda book, one: book.reject(one, LEE, "no"), "rejected"),
    "withdrawn": (lambda book, one: book.approve(one, LEE) and book.reject(one, KIM), "rejected"),
}


@pytest.mark.parametrize("name", sorted(DECISIONS))
def test_a_request_is_decided_once(book, name):
    """A request is decided once."""
    decide, state = DECISIONS[name]
    number = ask(book).id
    assert decide(book, number)
    assert book.get(number).state == state
    assert not book.approve(number, Person("max", "console"))
    assert book.get(number).decided_by == ("kim" if name == "withdrawn" else "lee")


def test_of_two_who_decide_at_once_one_does(book, ledger_url):
    """Of two who decide at once one does."""
    number, gate, found = ask(book).id, threading.Barrier(4), []

    def decide(name: str) -> None:
        own = Ledger.open(ledger_url)
        gate.wait()
        found.append((name, Requests(own).approve(number, Person(name, "console"))))
        own.close()

    threads = [threading.Thread(target=decide, args=(f"p{one}",)) for one in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    won = [name for name, done in found if done]
    assert [book.get(number).decided_by] == won


CLAIMS = {
    # changes now, tolerance -> usable, state afterwards
    "the same number": (100, 0.05, True, "used"),
    "as many more as allowed": (105, 0.05, True, "used"),
    "as many fewer as allowed": (95, 0.05, True, "used"),
    "one too many": (106, 0.05, False, "moved"),
    "one too few": (94, 0.05, False, "moved"),
    "none may differ": (101, 0.0, False, "moved"),
    "none differs": (100, 0.0, True, "used"),
}


@pytest.mark.parametrize("name", sorted(CLAIMS))
def test_an_approval_is_for_a_number_of_points(ledger, book, name):
    """An approval is for a number of points; another number makes it void."""
    changes, tolerance, usable, state = CLAIMS[name]
    number = ask(book, tolerance=tolerance).id
    book.approve(number, LEE)
    found, run = claim(ledger, changes)
    assert (found.request is not None, found.moved is not None) == (usable, not usable)
    one = book.get(number)
    assert (one.state, one.found) == ("running" if state == "used" else state, changes)
    assert one.run == (run if usable else None)
    again, _ = claim(ledger, 100)
    assert again.request is None, "it is used, or void"


NOT_USABLE = {
    "no user has approved it": lambda book, one: None,
    "it was rejected": lambda book, one: book.reject(one, LEE),
    "it has expired since": lambda book, one: (book.approve(one, LEE), edit(book, one, expires_at=book._database.now(-1))),
    "its selection was edited": lambda book, one: (book.approve(one, LEE), edit(book, one, what={"edit": {"kind": "delete", "ids": [1, 2, 3]}})),
    "it was edited to another collection": lambda book, one: (book.approve(one, LEE), edit(book, one, collection="other")),
    "its digest was edited": lambda book, one: (book.approve(one, LEE), edit(book, one, digest="0" * 64)),
}


@pytest.mark.parametrize("name", sorted(NOT_USABLE))
def test_an_approval_that_is_none(ledger, book, name):
    """What is not an approval of just this is not used."""
    number = ask(book).id
    NOT_USABLE[name](book, number)
    found, _ = claim(ledger)
    assert found.request is None
    assert book.get(number).run is None


def test_an_edited_request_is_not_usable_for_what_it_says_now(ledger, book):
    """An edited request is not usable for what it says now, also where its digest was edited to fit the new wish."""
    number = ask(book).id
    book.approve(number, LEE)
    other = replace(WISH, what={"edit": {"kind": "delete", "ids": [7]}})
    edit(book, number, digest=other.digest)
    assert claim(ledger, wish=other)[0].request is None


def test_expired_is_by_the_ledgers_clock(book, monkeypatch):
    """Whether it is expired is by the ledger's clock, and by no other."""
    one = ask(book, expires=0.001)
    while book.get(one.id).state != "expired":
        pass
    assert not book.approve(one.id, LEE)
    assert not book.reject(one.id, LEE)
    assert ask(book).id != one.id, "a new one can be asked for"
    assert [each.state for each in book.listed(["expired"])] == ["expired"]


def test_an_approval_is_used_once_by_one_of_two_runs(ledger, book, ledger_url):
    """Of many runs at once, with a lease after each other, one has it."""
    number, found = ask(book).id, []
    book.approve(number, LEE)
    gate = threading.Barrier(4)

    def work() -> None:
        own = Ledger.open(ledger_url)
        gate.wait()
        with own.hold("docs", timeout=60) as lease:
            run = run_of(lease)
            found.append((run, lease.claim_approval((run, 0), WISH.digest, 100, yes).request))
        own.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    won = [run for run, claimed in found if claimed is not None]
    assert [book.get(number).run] == won


ENDINGS = {
    # how the run that had it ended -> whether another run may have it, and what is shown
    "done": (False, "done"),
    "failed": (False, "running"),
    "aborted": (False, "ended"),
    "refused": (True, "approved"),
    "unchanged": (True, "approved"),
}


@pytest.mark.parametrize("ending", sorted(ENDINGS))
def test_only_a_run_that_has_changed_nothing_gives_it_back(ledger, book, ending):
    """Only a run that has changed nothing gives it back."""
    given_back, shown = ENDINGS[ending]
    number = ask(book).id
    book.approve(number, LEE)
    claim(ledger, state=ending)
    assert book.get(number).state == shown
    if given_back:
        assert book.approved("docs", WISH.digest)
    found, run = claim(ledger)
    assert (found.request is not None) == given_back
    assert book.get(number).run == (run if given_back else run - 1)


def test_a_run_that_is_resumed_keeps_it(ledger, book):
    """Killed between its claim and its first change, a run goes on under the approval that it has, expired or not."""
    number = ask(book).id
    book.approve(number, LEE)
    _, run = claim(ledger)
    edit(book, number, expires_at=book._database.now(-1))
    with ledger.hold("docs", timeout=5) as lease:
        lease.resume_run(run)
        assert lease.claim_approval((run, 0), WISH.digest, 100, yes).request.id == number
        assert lease.claim_approval((run, 0), replace(WISH, kind="soft").digest, 100, yes).request is None
        assert lease.claim_approval((run, 0), WISH.digest, 200, yes).moved.id == number, "counted again, too many now"


def test_what_the_settings_of_today_do_not_accept_is_not_used(ledger, book):
    """What the settings of today do not accept is not used, and stays."""
    number = ask(book).id
    book.approve(number, LEE)
    assert claim(ledger, counts=lambda one: one.decided.proven != "console")[0].request is None
    assert book.get(number).state == "approved"


def test_the_audit_names_both(ledger, book):
    """The audit names who asked and who approved, from the ledger and not from what the caller says."""
    from qmigrate.ledger.codec import Fixed
    from qmigrate.model.facts.audit import Audited

    number = ask(book).id
    book.approve(number, LEE)
    with ledger.hold("docs", timeout=5) as lease:
        for _ in range(2):
            run = run_of(lease)
            lease.claim_approval((run, 0), WISH.digest, 100, yes)
            fixed = Fixed("DIRECTORY", "x", 100, "moved", Audited(run, 0))
            lease.close_step(
                run, 0, closings=[], view=None, generations=[], strategy="edit", physical="docs", changes=[], report={},
                phase="close", last=True, fixed=fixed,
            )  # fmt: skip
    rows = ledger.deletions()
    assert [row.told.approval for row in rows] == [None, {"request": number, "asked_by": "kim", "approved_by": "lee"}]
    assert book.unapproved("docs", 3600) == 100
    assert book.unapproved("other", 3600) == 0


def test_an_erasure_reaches_what_was_asked_for(ledger, book):
    """Ids of erased points stay in no request; one that waits is void then."""
    mine = ask(book, replace(WISH, kind="erase", what={"edit": {"kind": "erase", "filter": {"must": ["kim"]}}}))
    waits = ask(book)
    other = ask(book, replace(WISH, what={"edit": {"kind": "delete", "ids": [7, 8]}}))
    book.approve(mine.id, LEE)
    with ledger.hold("docs", timeout=5) as lease:
        run = run_of(lease)
        assert lease.claim_approval((run, 0), mine.digest, 100, yes).request
        assert lease.forget_asked(run, [2]) == 2
    assert "kim" not in json.dumps(book.get(mine.id).what)
    assert book.get(mine.id).state == "running"
    assert (book.get(waits.id).state, book.get(waits.id).what) == ("moved", {"edit": {"kind": "delete"}})
    assert (book.get(other.id).state, book.get(other.id).what["edit"]["ids"]) == ("pending", [7, 8])


def test_an_erasure_that_is_not_done_names_no_point(book):
    """Whom an erasure was about is kept no longer than it waits."""
    made = [ask(book, replace(WISH, kind="erase", what={"edit": {"kind": "erase", "ids": [one]}})) for one in (71, 72, 73)]
    book.reject(made[0].id, LEE, "no")
    edit(book, made[1].id, expires_at=book._database.now(-1))
    assert book.forget_expired() == 1
    assert book.forget_expired() == 0
    assert ["7" in json.dumps(book.get(one.id).what) for one in made] == [False, False, True]
    assert [book.get(one.id).state for one in made] == ["rejected", "expired", "pending"]


def test_several_approvals_of_one_run_are_of_their_steps(ledger, book):
    """Each row of the audit names the approval of its own step; one without has none."""
    from qmigrate.ledger.codec import Fixed
    from qmigrate.model.facts.audit import Audited

    other = replace(WISH, what={"edit": {"kind": "delete", "ids": [9]}})
    numbers = {1: ask(book).id, 2: ask(book, other).id}
    for one in numbers.values():
        book.approve(one, LEE)
    with ledger.hold("docs", timeout=5) as lease:
        run = run_of(lease)
        assert lease.claim_approval((run, 1), WISH.digest, 100, yes).request
        assert lease.claim_approval((run, 2), other.digest, 100, yes).request
        for step in range(3):
            lease.close_step(
                run, step, closings=[], view=None, generations=[], strategy="edit", physical="docs", changes=[],
                report={}, phase="close", last=step == 2, fixed=Fixed("X", "x", 1, "r", Audited(run, step)),
            )  # fmt: skip
    told = {row.told.step: row.told.approval for row in ledger.deletions()}
    assert told[0] is None
    assert {step: told[step]["request"] for step in (1, 2)} == numbers


def test_a_ledger_without_the_table_has_no_requests(ledger_url):
    """A ledger of an earlier qmigrate is read: it has no requests."""
    made = Ledger.open(ledger_url)
    made.prepare()
    with made.database.writing() as connection:
        connection.execute(text("DROP TABLE qdrant_requests"))
        connection.execute(text("UPDATE qdrant_ledger_version SET version_num = '0010'"))
    assert READABLE < HEAD
    assert (Requests(made).listed(), Requests(made).get(1), Requests(made).approved("docs", "x")) == ([], None, [])
    assert Requests(made).unapproved("docs", 60) == 0
    assert ask(Requests(made)).id == 1, "asking makes the table"
    made.close()


SAME = {
    # two people -> may they be one?
    "two logged in": (KIM, LEE, False),
    "one logged in twice, by other tokens": (KIM, Person("kim", "console"), True),
    "case and blanks": (KIM, Person(" KIM ", "console"), True),
    "width": (KIM, Person("ｋｉｍ", "console"), True),
    "addresses of two domains": (Person("kim@a.example", "console"), Person("kim@b.example", "console"), False),
    "a terminal, the same account": (KIM, Person("someone", None, "kim", "host"), True),
    "a terminal, another account, the same claim": (KIM, Person("kim", None, "root", "host"), True),
    "a terminal, another account and claim": (KIM, Person("lee", None, "lee", "host"), False),
    "an address, and its account": (Person("kim@a.example", "console"), Person("x", None, "kim", "h"), True),
    "two terminals, one account, other claims": (Person("kim", None, "app", "a"), Person("lee", None, "app", "b"), True),
    "the person behind an assistant": (Person("ci", None, "ci", "h", "cursor", "Lee: why"), LEE, True),
}


@pytest.mark.parametrize("name", sorted(SAME))
def test_who_may_be_one_person(name):
    """Any doubt counts."""
    one, other, same = SAME[name]
    assert one.is_same(other) is same
    assert other.is_same(one) is same
    assert Person.of(one.to_json()) == one


SCHEMA = CollectionSchema()
EDIT = {"kind": "delete", "ids": [1], "prefix": None, "reason": "r"}


def _step(**more) -> Job:
    step = EditPoints((OpRef("0002", 0),) if more.pop("revision", False) else (), "docs__g1", {**EDIT, **more}, "r")
    return Job("docs", "b", (step,), (Closing(0, "0002", "upgrade", more.pop("checksum", "s"), SCHEMA, SCHEMA),))


BOUND = {
    # of two jobs: whether one approval is for both
    "how much was agreed to": (_step(), _step(expect=3, most={"docs": 3}, max_rate=5.0, ids_to="/tmp/x", log_empty=False), True),
    "another selection": (_step(), _step(ids=[1, 2]), False),
    "another reason": (_step(), _step(reason="other"), False),
    "kept for an undo or not": (_step(), _step(export=False), False),
    "marked instead": (_step(), _step(kind="soft"), False),
    "outside of a revision": (_step(), _step(revision=True), False),
    "a rebuilt generation": (_step(), replace(_step(), steps=(replace(_step().steps[0], target="docs__g2"),)), True),
    "an edited revision": (_step(revision=True), replace(_step(revision=True), closes=(Closing(0, "0002", "upgrade", "t", SCHEMA, SCHEMA),)), False),
}


@pytest.mark.parametrize("name", sorted(BOUND))
def test_what_an_approval_is_bound_to(name):
    """What an approval is bound to."""
    one, other, same = BOUND[name]
    assert (wanted(one, 0).digest == wanted(other, 0).digest) is same


KINDS = {
    "delete": (EditPoints((), "g", {"kind": "delete"}), "delete"),
    "erase": (EditPoints((), "g", {"kind": "erase"}), "erase"),
    "a sync": (EditPoints((), "g", {"kind": "sync"}), None),
    "an undo": (EditPoints((), "g", {"kind": "bring_back"}), None),
    "a purge": (EditPoints((), "g", {"kind": "purge"}), None),
    "a reset": (Build((), "g", "h", 2, SCHEMA, "restore", "r", origin={"kind": "nothing", "reason": "r"}), "reset"),
    "a restore": (Build((), "g", "h", 2, SCHEMA, "restore", "r", origin={"kind": "snapshot"}), None),
    "a rebuild": (Build((), "g", "h", 2, SCHEMA, "copy", "r"), None),
    "a dropped collection": (GoLive((), "g", None, ("docs",)), "drop"),
    "the rollback of a created one": (GoLive((), "g", None, ("docs",), back=True), "drop"),
}


@pytest.mark.parametrize("name", sorted(KINDS))
def test_which_steps_take_points_away(name):
    """Which steps take points away."""
    step, kind = KINDS[name]
    found = wanted(Job("docs", "b", (step,)), 0)
    assert (found.kind if found else None) == kind
