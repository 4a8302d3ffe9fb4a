"""The variants: with every rule the promises hold, and with any one of them taken away they don't.

The numbers are those of the rules in ``tests/mutation/rules.py``. A variant that must fail names the flaw that its
shortest counter-example has.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.model.judge import FLAWS, LOST, OVERWRITTEN, UNDONE
from tests.model.state import NO_BASE, OLD_PROOF, SERVES_NOTHING, UNPROVEN, Op, Rules, Values

Writers = tuple[tuple[Values, tuple[Op, ...]], ...]

A: Values = ((0, 0),)
NONE: Values = (None,)
#: One or two operations on one key.
ONE_KEY: Writers = (
    (A, (("put", 0, 1),)),
    (A, (("del", 0),)),
    (A, (("vector", 0, 5),)),
    (A, (("put", 0, 1), ("put", 0, 2))),
    (A, (("put", 0, 1), ("put", 0, 0))),
    (A, (("put", 0, 1), ("del", 0))),
    (A, (("put", 0, 1), ("del where", 1))),
    (A, (("put", 0, 1), ("del where", 0))),
    (A, (("put", 0, 1), ("vector", 0, 5))),
    (A, (("vector", 0, 5), ("del", 0))),
    (A, (("vector", 0, 5), ("vector", 0, 6))),
    (A, (("vector", 0, 5), ("vector", 0, 0))),
    (NONE, (("put", 0, 1),)),
    (NONE, (("put", 0, 1), ("del", 0))),
    (NONE, (("put", 0, 1), ("put", 0, 2))),
    (NONE, (("put", 0, 1), ("vector", 0, 5))),
)
#: Those that name their points by id: what a filter meets depends on what a point holds at that moment.
BY_ID: Writers = tuple(one for one in ONE_KEY if all(op[0] != "del where" for op in one[1]))
#: Three operations on one key.
THREE: Writers = (
    (A, (("put", 0, 1), ("put", 0, 2), ("put", 0, 3))),
    (A, (("put", 0, 1), ("del", 0), ("put", 0, 0))),
    (A, (("put", 0, 1), ("del where", 1), ("vector", 0, 5))),
    (NONE, (("put", 0, 1), ("del", 0), ("put", 0, 2))),
)
#: Two keys of one shard.
TWO_KEYS: Writers = (
    (((0, 0), (0, 0)), (("put", 0, 1), ("put", 1, 2))),
    (((0, 0), (0, 0)), (("del where", 0), ("put", 1, 2))),
    (((0, 0), None), (("put", 1, 1), ("del where", 1))),
    (((0, 0), (3, 3)), (("del", 0), ("vector", 1, 5))),
)
#: Inserted late and deleted through the name: absent on both sides when the sweep looks.
INSERTED: Writers = ((NONE, (("put", 0, 1), ("del", 0))),)
#: What was there, changed and changed back.
THERE_AND_BACK: Writers = ((A, (("vector", 0, 5), ("vector", 0, 0))),)
#: The smallest of all, for the run that every test run makes.
FEW: Writers = (ONE_KEY[3], ONE_KEY[5], ONE_KEY[11], ONE_KEY[13])


@dataclass(frozen=True, slots=True)
class Variant:
    """Rules, writers, and what is expected.

    Attributes:
        name: what is special about it.
        rules: see there.
        writers: what they do.
        flaw: the flaw of the first counter-example, None where every promise holds.
        rule: number of the rule that is taken away; 0 where none is.
        ends: whether it is also seen that an end can be reached from every state.
    """

    name: str
    rules: Rules
    writers: Writers = ONE_KEY
    flaw: str | None = None
    rule: int = 0
    ends: bool = False


H = Rules()
DIES = replace(H, crashes=1)
FREEZE = Rules(policy="freeze")
VERSIONS = Rules(versions=True)
RECORD = Rules(versions=True, backwards=True, recorded=True)
NARROW = replace(VERSIONS, narrow=True)
#: A copy that computes nothing: no base of the fill.
SAME = replace(H, identity=True)
GOES_ON = replace(VERSIONS, computes=False, goes_on=True, crashes=1)

SOUND: tuple[Variant, ...] = (
    Variant("converge", H, ends=True),
    Variant("converge, embedded", replace(H, computes=False)),
    Variant("converge, writers that don't wait", replace(H, waits=False)),
    Variant("converge, embedded, writers that don't wait", replace(H, computes=False, waits=False)),
    Variant("converge, a death", DIES, ends=True),
    Variant("converge, embedded, a death", replace(DIES, computes=False)),
    Variant("converge, writers that don't wait, a death", replace(DIES, waits=False)),
    Variant("converge, two deaths", replace(H, crashes=2), ONE_KEY[:6]),
    Variant("converge, three operations", H, THREE),
    Variant("converge, three operations, a death", replace(DIES, pauses=False), THREE[:2]),
    Variant("converge, two keys", H, TWO_KEYS),
    Variant("converge, two keys, a death", DIES, TWO_KEYS),
    Variant("two nodes, their order not asked for", replace(H, nodes=2, any_order=True)),
    Variant("two nodes, a freeze of moments", replace(H, nodes=2, fenced_before=True)),
    Variant("two nodes, a freeze of moments, a death", replace(DIES, nodes=2, fenced_before=True)),
    Variant("minutes pass, retired", replace(H, refills=2, retires=True)),
    Variant("a minute passes, retired, a death", replace(DIES, refills=1, retires=True, pauses=False), ONE_KEY[:9]),
    Variant("refuse", Rules(policy="refuse")),
    Variant("refuse, a death", Rules(policy="refuse", crashes=1)),
    Variant("freeze", FREEZE),
    Variant("freeze, a death", replace(FREEZE, crashes=1), ends=True),
    Variant("freeze, two nodes, a death", replace(FREEZE, nodes=2, crashes=1)),
    Variant("freeze, minutes pass, retired", replace(FREEZE, refills=2, retires=True)),
    Variant("freeze, two keys, a death", replace(FREEZE, crashes=1), TWO_KEYS),
    Variant("gap, a death", replace(FREEZE, gap=True, crashes=1)),
    Variant("gap, minutes pass", replace(FREEZE, gap=True, refills=2)),
    Variant("gap, a minute passes, a death", replace(FREEZE, gap=True, crashes=1, refills=1, pauses=False), ONE_KEY[:9]),
    Variant("a killed holder is waited for, without own aliases", replace(DIES, pauses=False, own_aliases=False)),
    Variant("rollback", replace(H, backwards=True)),
    Variant("rollback, a death", replace(DIES, backwards=True)),
    Variant("rollback, two nodes, a freeze of moments", replace(H, backwards=True, nodes=2, fenced_before=True)),
    Variant("rollback at once on the base of the way forward", replace(H, backwards=True, at_once=True)),
    # Rule 11.
    Variant("versions", VERSIONS),
    Variant("versions, listings lack points", replace(VERSIONS, lacking=True)),
    Variant("versions, a death", replace(VERSIONS, crashes=1)),
    Variant("versions, writers that don't wait", replace(VERSIONS, waits=False)),
    Variant("versions, three operations", VERSIONS, THREE),
    Variant("versions, two keys, a death", replace(VERSIONS, crashes=1), TWO_KEYS),
    Variant("versions, minutes pass, retired", replace(VERSIONS, refills=2, retires=True)),
    Variant("versions, a minute passes, retired, a death", replace(VERSIONS, refills=1, retires=True, crashes=1, pauses=False), BY_ID[:7]),
    Variant("versions, freeze, a death", replace(VERSIONS, policy="freeze", crashes=1)),
    Variant("versions, rollback", replace(VERSIONS, backwards=True)),
    # Rule 15.
    Variant("rollback by a record", RECORD, ends=True),
    Variant("rollback by a record, a death", replace(RECORD, crashes=1)),
    Variant("rollback by a record, writers that don't wait", replace(RECORD, waits=False)),
    Variant("rollback by a record, two keys", RECORD, TWO_KEYS),
    Variant("versions, only what was absent is listed, writers by id", replace(VERSIONS, lists_doubt="absent"), BY_ID),
    Variant("narrow", NARROW),
    Variant("narrow, embedded", replace(NARROW, computes=False)),
    Variant("narrow, writers that don't wait", replace(NARROW, waits=False)),
    Variant("narrow, a death", replace(NARROW, crashes=1)),
    Variant("narrow, embedded, a death", replace(NARROW, computes=False, crashes=1), BY_ID),
    Variant("narrow, three operations", NARROW, THREE),
    Variant("narrow, two keys", NARROW, TWO_KEYS),
    Variant("narrow, two keys, a death", replace(NARROW, crashes=1, pauses=False), TWO_KEYS),
    Variant("narrow, minutes pass, retired", replace(NARROW, refills=2, retires=True)),
    Variant("narrow, rollback", replace(NARROW, backwards=True)),
    # Rule 14.
    Variant("goes on behind a death", GOES_ON),
    Variant("goes on behind a death, two keys", GOES_ON, TWO_KEYS),
    Variant("goes on behind a death, narrow", replace(GOES_ON, narrow=True), BY_ID),
    Variant("goes on behind a death, freeze", replace(GOES_ON, policy="freeze")),
    # Rule 1 without a base, where nothing is computed.
    Variant("nothing is computed", SAME, ends=True),
    Variant("nothing is computed, writers that don't wait", replace(SAME, waits=False)),
    Variant("nothing is computed, a death", replace(SAME, crashes=1), ends=True),
    Variant("nothing is computed, writers that don't wait, a death", replace(SAME, waits=False, crashes=1)),
    Variant("nothing is computed, two deaths", replace(SAME, crashes=2), ONE_KEY[:6]),
    Variant("nothing is computed, three operations", SAME, THREE),
    Variant("nothing is computed, two keys, a death", replace(SAME, crashes=1), TWO_KEYS),
    Variant("nothing is computed, refuse, a death", replace(SAME, policy="refuse", crashes=1)),
    Variant("nothing is computed, freeze, a death", replace(SAME, policy="freeze", crashes=1), ends=True),
    Variant("nothing is computed, gap, a death", replace(SAME, policy="freeze", gap=True, crashes=1)),
    Variant("nothing is computed, minutes pass, retired", replace(SAME, refills=2, retires=True)),
    Variant("nothing is computed, versions, a death", replace(SAME, versions=True, crashes=1)),
    Variant("nothing is computed, versions, listings lack points", replace(SAME, versions=True, lacking=True)),
    Variant("nothing is computed, narrow, a death", replace(SAME, versions=True, narrow=True, crashes=1)),
    Variant("nothing is computed, goes on behind a death", replace(SAME, versions=True, goes_on=True, crashes=1)),
    # Rule 12.
    Variant("retired, a death, another holder may go back", replace(DIES, retires=True, goes_back=True), ONE_KEY[:3]),
)

MUTANTS: tuple[Variant, ...] = (
    Variant("the last pass compares the pure part only", replace(H, redoes_changed=False), flaw=LOST, rule=1),
    Variant("without a base, the pure part of a point is all that is compared", replace(SAME, compares_all=False), flaw=LOST, rule=1),
    Variant("no own aliases: a write of a paused holder", replace(DIES, own_aliases=False, only="write"), flaw=OVERWRITTEN, rule=2),
    Variant("no own aliases: a swap of a paused holder", replace(DIES, own_aliases=False, only="swap"), flaw=OVERWRITTEN, rule=2),
    Variant("queue length instead of a barrier", replace(H, barriers=False, sweeps_again=False), flaw=LOST, rule=3),
    Variant("no fence", replace(H, fence="none", sweeps_again=False), flaw=LOST, rule=4),
    Variant("a fence that is asked before a write is accepted", replace(H, fence="early", sweeps_again=False), flaw=LOST, rule=4),
    Variant(
        "the fence is sent again behind the swap",
        replace(H, nodes=2, fenced_before=True, fences_once=False),
        flaw=LOST,
        rule=4,
    ),
    Variant("one sweep only", replace(H, sweeps_again=False, refills=1), flaw=LOST, rule=5),
    Variant("f(source) is asked before the base", replace(H, base_first=False), flaw=LOST, rule=6),
    Variant("carries next to other writes are not listed", replace(H, lists_doubt="race"), flaw=OVERWRITTEN, rule=6),
    Variant("carries are not journaled", replace(DIES, journals_carries=False), flaw=OVERWRITTEN, rule=6),
    Variant("resume swaps on the kept base", replace(DIES, proves_again=False), flaw=FLAWS[OLD_PROOF], rule=7),
    Variant("the base is committed behind the swap", replace(DIES, base_before_swap=False), flaw=FLAWS[NO_BASE], rule=7),
    Variant(
        "a helper lifts every freeze",
        replace(DIES, nodes=2, fenced_before=True, looks_before_lifting=False),
        flaw=LOST,
        rule=8,
    ),
    Variant("a freeze without its barriers, behind a gap", replace(FREEZE, gap=True, closes_freeze=False), flaw=LOST, rule=8),
    Variant("gap without freeze", Rules(gap=True), flaw=LOST, rule=9),
    Variant("retired without a check", replace(H, refills=1, retires=True, checks_retired=False), flaw=LOST, rule=9),
    Variant(
        "a rollback at once without a base",
        replace(H, backwards=True, at_once=True, keeps_base=False),
        flaw=FLAWS[NO_BASE],
        rule=10,
    ),
    Variant("versions are read behind the contents", replace(VERSIONS, versions_first=False), flaw=LOST, rule=11),
    Variant("what a listing lacks is gone", replace(VERSIONS, lacking=True, asks_by_id=False), flaw=LOST, rule=11),
    Variant(
        "our own number is read afterwards",
        replace(VERSIONS, lists_doubt="absent", knows_own=False, refills=1),
        THREE[:1],
        flaw=LOST,
        rule=11,
    ),
    Variant(
        "the listing of a round counts before what it shows is carried",
        replace(VERSIONS, crashes=1, commits_round_last=False),
        flaw=LOST,
        rule=11,
    ),
    Variant("what was absent is not listed", replace(VERSIONS, lists_doubt="race"), INSERTED, flaw=UNDONE, rule=11),
    Variant(
        "only what was absent is listed, deletions by filter",
        replace(VERSIONS, lists_doubt="absent"),
        flaw=UNDONE,
        rule=11,
    ),
    Variant("narrow: the contents of the new side are asked, not its versions", replace(NARROW, asks_versions=False), flaw=OVERWRITTEN, rule=6),
    Variant("narrow: operations are counted behind the look", replace(NARROW, marks_first=False), flaw=OVERWRITTEN, rule=6),
    Variant("narrow: other writes in the moment of a carry are not listed", replace(NARROW, lists_race=False), flaw=OVERWRITTEN, rule=6),
    Variant("narrow: an insertion next to other writes is not listed", replace(NARROW, lists_absent=False), INSERTED, flaw=UNDONE, rule=6),
    Variant("narrow: what a deletion by filter may not have met is not named", replace(NARROW, names_missed=False), flaw=UNDONE, rule=6),
    Variant(
        "a deletion is not recorded before it is sent",
        replace(DIES, retires=True, goes_back=True, records_deletion=False),
        flaw=FLAWS[SERVES_NOTHING],
        rule=12,
    ),
    Variant(
        "a gap whose deletion is not recorded before it is sent",
        replace(FREEZE, gap=True, crashes=1, records_deletion=False),
        flaw=LOST,
        rule=12,
    ),
    Variant("what a pass redoes is not noted before", replace(DIES, marks_dirty=False), THERE_AND_BACK, flaw=LOST, rule=13),
    Variant("versions are recorded behind the contents of the base", replace(RECORD, record_first=False), flaw=LOST, rule=15),
    Variant("a proof next to writes of the dead counts without another listing", replace(GOES_ON, lists_behind=False), flaw=FLAWS[UNPROVEN], rule=14),
    Variant("what a dead holder has sent is not waited for", replace(DIES, waits_for_dead=False), flaw=OVERWRITTEN, rule=14),
)

#: What remains with all rules, as docs/safety.md has it or a comment here: the reason why a promise has an exception.
LIMITS: tuple[Variant, ...] = (
    # While nodes disagree, a write through one that is behind is older than one through a node ahead.
    Variant("two nodes, their order asked for", replace(H, nodes=2), flaw=LOST),
    # No server makes a deletion conditional: it may be sent by a process that stood still right before, for so long
    # that the limiter let a write through. Who takes over finds the deletion recorded, and can't prevent it.
    Variant("a minute before a deletion, gap", replace(FREEZE, gap=True, crashes=1, refills=1), flaw=LOST),
    Variant("a minute before a deletion, retired", replace(DIES, retires=True, refills=1), flaw=LOST),
)
