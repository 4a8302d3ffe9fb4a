"""Several revisions said in one: what it does, what it can't be, and that both ways make the same."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from tests.declared_schemas import decide, generate, pairs

from qmigrate.commands.squash import squash
from qmigrate.declared.squash import between, squashed
from qmigrate.errors import RefusedError, RevisionError
from qmigrate.planner.members import chain
from qmigrate.planner.replaced import newest_of, parts_of, replaced, standing_ids
from qmigrate.revisions.graph import Revisions
from qmigrate.settings.load import Settings

DOCS = 'op.CreateCollection("docs", {"a": VectorParams(size=4, distance="Dot")})'
ADD = 'op.AddVector("docs", "b", VectorParams(size=4, distance="Dot"), values=Empty())'
KIND = 'op.CreatePayloadIndex("docs", "kind", "keyword")'
NO_KIND = 'op.DropPayloadIndex("docs", "kind")'


@pytest.fixture
def scripts(tmp_path):
    """An empty folder of revisions."""
    (tmp_path / "versions").mkdir()
    return tmp_path


def write(scripts: Path, *bodies: str, downs: dict | None = None, **lines: str) -> Revisions:
    """Revisions 1, 2 … with these operations; `lines` are further lines of one: ``_2="irreversible = 'x'"``."""
    for number, body in enumerate(bodies, 1):
        down = (downs or {}).get(str(number), str(number - 1) if number > 1 else None)
        text = f'"""Number {number}."""\nfrom qdrant_client.models import *\nfrom qmigrate import *\nfrom qmigrate import op\n'
        text += f"revision = {str(number)!r}\ndown_revision = {down!r}\n{lines.get(f'_{number}', '')}\n"
        (scripts / "versions" / f"{number}_x.py").write_text(f"{text}\ndef upgrade():\n    return [{body}]\n")
    return Revisions.load(scripts)


@pytest.mark.parametrize(
    ("bodies", "span", "wanted"),
    [
        ((DOCS, ADD, KIND), "1:3", ["create collection docs: a 4 dot, b 4 dot, index kind keyword"]),
        ((DOCS, KIND, NO_KIND), ":", ["create collection docs: a 4 dot"]),
        ((DOCS, KIND, NO_KIND, ADD), "2:", ["add vector b 4 dot ← left empty"]),
        ((DOCS, KIND, NO_KIND, KIND), "2:4", ["index kind keyword"]),
        ((DOCS, 'op.UpdateCollection("docs", metadata={"a": 1})', 'op.UpdateCollection("docs", metadata={"b": 2})'), "2:3", ["update settings: metadata"]),
        ((DOCS, 'op.CreateCollection("other", {"a": VectorParams(size=4, distance="Dot")})', 'op.DropCollection("other")'), "2:3", []),
        ((DOCS, 'op.SetAlias("d", "docs")', KIND), "1:3", ["create collection docs: a 4 dot, index kind keyword", "set alias d"]),
        ((DOCS, 'op.UpdateCollection("docs", params={"read_fan_out_factor": 2})'), "1:2", ["create collection docs: a 4 dot", "read_fan_out_factor"]),
        ((DOCS.replace(")})", ')}, shard_number=variable("N", 2))'), KIND), "1:2", ["create collection docs: a 4 dot, index kind keyword"]),
        ((DOCS, 'op.AddVector("docs", "b", VectorParams(size=4, distance="Dot"), values=Compute(len))'), "1:2", ["create collection docs: a 4 dot, b 4 dot"]),
        ((DOCS, KIND, 'op.CreatePayloadIndex("d*", "year", "integer")', ADD), "2:3", ["index kind keyword", "index year integer"]),
    ],
    ids=["folded", "there and gone", "only in between", "its last word", "settings joined", "made and dropped", "alias", "later settings", "variable", "a function on nothing", "a glob"],
)
def test_what_is_written(scripts, bodies, span, wanted):
    """In the end state alone, for what the range makes; in one go for what was there before."""
    revisions = write(scripts, *bodies)
    made = squashed(revisions, between(revisions, span))
    said = [line.partition(": ")[2] for line in made.changes]
    assert len(said) == len(wanted), said
    assert all(part in line for part, line in zip(wanted, said, strict=True)), said


@pytest.mark.parametrize(
    ("bodies", "span", "error", "words"),
    [
        ((DOCS, ADD), "2:1", RevisionError, "1 doesn't come after 2"),
        ((DOCS, ADD), "1", RevisionError, "a range has two ends"),
        ((DOCS, ADD), "1:9", RevisionError, 'no revision "9"'),
        ((DOCS, ADD), "2:2", RevisionError, "there are not two revisions in a row"),
        ((DOCS, 'op.AddVector("docs", "b", VectorParams(size=4, distance="Dot"), values=Compute(len))', KIND), "2:3", RefusedError, 'AddVector("docs", "b") of revision 2 can\'t be moved'),
        ((DOCS, KIND, 'op.DropCollection("docs")', DOCS), "2:4", RefusedError, "can't be said in one revision"),
        ((DOCS, 'op.CreatePayloadIndex("*", "kind", "keyword")', DOCS.replace("docs", "other")), "1:3", RefusedError, "can't be said in one revision"),
        ((DOCS, ADD, 'op.AddVector("docs", "c", VectorParams(size=4, distance="Dot"), values=Empty())', 'op.DropVector("docs", "b", cutover="immediate")'), "2:4", RefusedError, "contradict each other"),
        ((DOCS, DOCS.replace("docs", "other"), 'op.SetAlias("d", "docs")', 'op.SetAlias("d", "other")'), ":", RefusedError, "the alias d is given to several"),
    ],
    ids=["backwards", "one end", "unknown", "one", "a function", "dropped and made", "a glob before what it would meet", "added and dropped", "an alias that moves"],
)
def test_what_is_refused(scripts, bodies, span, error, words):
    """What can't be said in one revision is named, and no file is written."""
    write(scripts, *bodies)
    with pytest.raises(error) as caught:
        squash(_settings(scripts), span)
    assert words in caught.value.message
    assert len(list((scripts / "versions").glob("*.py"))) == len(bodies)


def _settings(scripts: Path) -> Settings:
    import dataclasses

    return dataclasses.replace(Settings.load(stores=False), scripts=scripts, folder=scripts)


def test_branches(scripts):
    """Both branches of a merge are squashed with it; what follows the middle of a range stops it."""
    bodies = (DOCS, KIND, 'op.CreatePayloadIndex("docs", "year", "integer")', "", ADD)
    downs = {"3": "1", "4": ("2", "3"), "5": "4"}
    revisions = write(scripts, *bodies, downs=downs)
    made = squashed(revisions, between(revisions, "1:5"))
    assert (made.replaces, made.down) == (("1", "3", "2", "4", "5"), ())
    # What has no operation is a part of nothing: a collection never gets it.
    assert made.replaces_for == {"docs": ("1", "3", "2", "5")}
    assert squashed(revisions, between(revisions, "2:5")).down == ("1", "3")
    with pytest.raises(RevisionError, match="3 follows 1, which is in the middle") as caught:
        between(revisions, "1:2")
    assert "qmigrate revision --merge" in str(caught.value.hint)


def test_ways_back(scripts):
    """A downgrade() of all is kept, in reverse; of some it is left to a person; why there is none stays."""
    down = "\ndef downgrade():\n    return [op.DropPayloadIndex('docs', '{0}')]\n"
    year = 'op.CreatePayloadIndex("docs", "year", "integer")'
    revisions = write(scripts, DOCS, KIND, year, _2=down.format("kind"), _3="irreversible = 'no way'" + down.format("year"))
    made = squashed(revisions, between(revisions, "2:3"))
    assert made.downgrade is not None
    assert [made.downgrade.text().index(name) for name in ('"year"', '"kind"')] == sorted(made.downgrade.text().index(name) for name in ('"year"', '"kind"'))
    assert made.irreversible == "3: no way"
    assert squashed(revisions, between(revisions, "1:3")).irreversible is None
    revisions = write(scripts, DOCS, KIND, year, _2=down.format("kind"))
    (line,) = squashed(revisions, between(revisions, "2:3")).undecided
    assert "downgrade() of 2 is not in it, since 3 have none" in line


@pytest.mark.parametrize(
    ("applied", "removed", "skip", "passed", "lost"),
    [
        ((), False, {"1", "2", "3"}, (), ()),
        ((), True, {"1", "2", "3"}, (), ()),
        (("1",), False, {"1_3"}, ("1_3",), ()),
        (("1", "2", "3"), False, {"1_3"}, ("1_3",), ()),
        (("1", "2", "3"), True, {"1_3"}, ("1_3",), ()),
        (("1", "2"), True, {"1_3"}, (), ("3",)),
        (("1_3",), False, {"1", "2", "3"}, (), ()),
    ],
    ids=["fresh", "fresh, files gone", "begun", "all", "all, files gone", "begun, files gone", "squashed"],
)
def test_which_of_the_two(scripts, applied, removed, skip, passed, lost):
    """Of a squashed revision and what it replaces a collection goes by one, never by both."""
    write(scripts, DOCS, KIND, ADD)
    squash(_settings(scripts), "1:3")
    for path in (scripts / "versions").glob("*_x.py") if removed else ():
        path.unlink()
    revisions = Revisions.load(scripts)
    found = replaced(revisions, "docs", applied, frozenset(one.id for one in revisions.order()))
    assert (found.skip, tuple(one.id for one in found.passed)) == (skip, passed)
    assert tuple(one for _, gone in found.lost for one in gone) == lost


def test_older_than_a_glob(scripts):
    """A revision that makes collections of a glob is not for one that was there before, and has one of its own."""
    write(scripts, DOCS, DOCS.replace("docs", "d*"), KIND, NO_KIND.replace("docs", "d*"))
    squash(_settings(scripts), "2:3")
    for removed in (False, True):
        for path in scripts.glob("versions/[23]_x.py") if removed else ():
            path.unlink()
        revisions = Revisions.load(scripts)
        assert parts_of(revisions.get("2_3"), "docs", revisions) == ("3",)
        assert parts_of(revisions.get("2_3"), "d2", revisions) == ("2",)
        found = replaced(revisions, "docs", ("1", "3"), frozenset(one.id for one in revisions.order()))
        assert ([one.id for one in found.passed], found.lost) == (["2_3"], ())


def test_a_list_by_hand(scripts):
    """`replaces` alone: its parts are what the files say, and all of it where they are gone."""
    write(scripts, DOCS, 'op.CreateCollection("other", {"a": VectorParams(size=4, distance="Dot")})', _2="")
    whole = scripts / "versions" / "s_x.py"
    whole.write_text(f'"""S."""\nfrom qdrant_client.models import *\nfrom qmigrate import op\nrevision = "s"\ndown_revision = None\nreplaces = ["1", "2"]\ndef upgrade():\n    return [{DOCS}]\n')
    revisions = Revisions.load(scripts)
    assert parts_of(revisions.get("s"), "docs", revisions) == ("1",)
    assert standing_ids(revisions, "docs", {"1", "2"}) == {"1", "2"}
    for path in (scripts / "versions").glob("[12]_x.py"):
        path.unlink()
    revisions = Revisions.load(scripts)
    assert (parts_of(revisions.get("s"), "docs", revisions), parts_of(revisions.get("s"), "other", revisions)) == (("1", "2"), ())
    assert standing_ids(revisions, "docs", {"1", "2"}) == {"s"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("replaces = ['s']", "replaces itself"),
        ("replaces = ['1', '9']", "a part of their files was removed: 9, but not 1"),
        ("replaces = 5", "replaces must be a list of ids"),
        ("replaces = ['1']\nreplaces_for = {'docs': ['2']}", "replaces_for names 2, which is not in replaces"),
        ("replaces = ['2']\ndown_revision = '2'", "replaces 2, which it follows"),
    ],
)
def test_what_stands_for_nothing(scripts, line, words):
    """A file that can't stand for what it replaces is refused, with what is wrong."""
    write(scripts, DOCS, KIND)
    (scripts / "versions" / "s_x.py").write_text(f'"""S."""\nrevision = "s"\ndown_revision = None\n{line}\ndef upgrade():\n    return []\n')
    with pytest.raises(RevisionError) as caught:
        Revisions.load(scripts)
    assert words in caught.value.message


def test_ids_of_a_folder_of_moments(scripts):
    """A squashed revision is called by its moment there, each by another one; two moments in a name would be too long."""
    write(scripts, DOCS, KIND, 'op.SetPayload("docs", {"a": 1}, reason="r")', ADD, NO_KIND)
    for path in (scripts / "versions").glob("*_x.py"):
        text = path.read_text()
        path.unlink()
        for number in range(1, 6):
            text = text.replace(f"revision = '{number}'", f"revision = '2026113020151{number}'")
        path.with_name(f"2026113020151{path.name}").write_text(text)
    made = squash(_settings(scripts), ":", points="keep")
    ids = [one.revision for one in made.files]
    assert len(set(ids)) == 2
    assert all(re.fullmatch(r"20\d{12}[a-z]{4}", one) for one in ids)
    assert [one.path.name for one in made.files] == [f"{one}_squashed.py" for one in ids]
    assert made.files[0].message == "squashed 20261130201511 to 20261130201512"
    assert squash(_settings(scripts), ":", revision_id="short", points="elide", dry_run=True).files[0].revision == "short"


def squashed_twice(scripts: Path, removed: str) -> Revisions:
    """1 and 2 were squashed, and then that and 3; of their files none, those of the first squash or all are gone."""
    write(scripts, DOCS, KIND, ADD)
    squash(_settings(scripts), "1:2")
    squash(_settings(scripts), ":")
    gone = {"none": (), "first": ("1_x", "2_x"), "all": ("1_x", "2_x", "1_2_squashed", "3_x")}[removed]
    for name in gone:
        (scripts / "versions" / f"{name}.py").unlink()
    return Revisions.load(scripts)


@pytest.mark.parametrize(
    ("applied", "removed", "skip", "passed", "lost"),
    [
        ((), "none", "1 2 1_2 3", "", ""),
        ((), "first", "1 2 1_2 3", "", ""),
        ((), "all", "1 2 1_2 3", "", ""),
        (("1",), "none", "1_2 1_3", "1_2 1_3", ""),
        (("1",), "first", "1_2 1_3", "", "1_2:2 1_3:2"),
        (("1",), "all", "1_3", "", "1_3:2 1_3:3"),
        (("1", "2"), "none", "1_2 1_3", "1_2 1_3", ""),
        (("1", "2"), "first", "1_2 1_3", "1_2 1_3", ""),
        (("1", "2"), "all", "1_3", "", "1_3:3"),
        (("1_2",), "none", "1 2 1_3", "1_3", ""),
        (("1_2",), "first", "1 2 1_3", "1_3", ""),
        (("1_2",), "all", "1_3", "", "1_3:3"),
        (("1", "2", "3"), "none", "1_2 1_3", "1_2 1_3", ""),
        (("1", "2", "3"), "all", "1_3", "1_3", ""),
        (("1_2", "3"), "none", "1 2 1_3", "1_3", ""),
        (("1_2", "3"), "all", "1_3", "1_3", ""),
        (("1_3",), "none", "1 2 1_2 3", "", ""),
        (("1_3",), "all", "1 2 1_2 3", "", ""),
    ],
)
def test_squashed_again(scripts, applied, removed, skip, passed, lost):
    """What was squashed is squashed again: at old ids, at the first squash and from nothing, each goes one way."""
    revisions = squashed_twice(scripts, removed)
    assert revisions.get("1_3").replaces == ("1", "2", "1_2", "3")
    assert dict(revisions.get("1_3").squashed) == {"1_2": ("1", "2")}
    assert [one.id for one in revisions.standing()] == ["1_3"]
    found = replaced(revisions, "docs", applied, frozenset(one.id for one in revisions.order()))
    assert (found.skip, [one.id for one in found.passed]) == (set(skip.split()), passed.split())
    assert [f"{one.id}:{old}" for one, gone in found.lost for old in gone] == lost.split()
    complete = not lost and applied and ("3" in applied or "1_3" in applied)
    assert newest_of("docs", applied, {"1_2", "1_3"} if complete else set(), revisions) == (
        "1_3" if complete else ("1_2" if removed == "first" and applied[-1:] == ("2",) else applied[-1] if applied else None)
    )
    # Whatever files are left, all of it makes the same.
    for ids in ({"1", "2", "3"}, {"1_2", "3"}, {"1_3"}):
        if removed != "first" or "1" not in ids:
            assert sorted(chain(revisions, "docs", ids)[-1].after.vectors) == ["a", "b"]


@pytest.mark.parametrize(
    ("target", "forward", "wanted"),
    [("2", False, "1 2"), ("1_2", False, "1 2 1_2"), ("3", False, "1 2 1_2 3"), ("2", True, "1 2 1_2"), ("+1", True, "1 2 1_2 3 1_3")],
)
def test_targets_of_what_was_squashed_twice(scripts, target, forward, wanted):
    """On the way back an id is itself; forwards one without a file means what stands for the least of it."""
    revisions = squashed_twice(scripts, "first")
    assert revisions.resolve(target, current=frozenset(), forward=forward) == set(wanted.split())


@pytest.mark.parametrize(
    ("span", "words", "hint"),
    [
        (":1", "1 is a part of 1_2, which replaces it", "qmigrate squash :1_2"),
        ("2:4", "2 is a part of 1_2, which replaces it", "qmigrate squash 1_2:4"),
        ("1_2:1_2", "there are not two revisions in a row", None),
    ],
)
def test_a_part_of_what_was_squashed_is_no_end(scripts, span, words, hint):
    """A range has all of what was squashed before, or nothing of it."""
    write(scripts, DOCS, KIND, ADD, 'op.CreatePayloadIndex("docs", "year", "integer")')
    squash(_settings(scripts), "1:2")
    with pytest.raises(RevisionError, match=words) as caught:
        squash(_settings(scripts), span)
    assert hint is None or str(caught.value.hint).endswith(hint)
    made = squash(_settings(scripts), "1:3", dry_run=True)
    assert made.files[0].replaces == ("1", "2", "1_2", "3")
    made = squash(_settings(scripts), "3:4")
    assert made.files[0].replaces == ("3", "4")
    revisions = Revisions.load(scripts)
    assert [one.id for one in revisions.standing()] == ["1_2", "3_4"]
    assert revisions.get("3_4").down == ("1_2",)


def test_a_list_by_hand_says_what_was_squashed(scripts):
    """Without that, ledgers at the oldest ids would be lost when the first squashed file is gone."""
    write(scripts, DOCS, KIND, ADD)
    squash(_settings(scripts), "1:2")
    text = f'"""T."""\nfrom qdrant_client.models import *\nfrom qmigrate import op\nrevision = "t"\ndown_revision = None\nLINES\ndef upgrade():\n    return [{DOCS}]\n'
    whole = scripts / "versions" / "t_x.py"
    whole.write_text(text.replace("LINES", 'replaces = ["1_2", "3"]'))
    with pytest.raises(RevisionError, match="doesn't say which ones") as caught:
        Revisions.load(scripts)
    hint = str(caught.value.hint)
    said = hint[hint.index("replaces = ") : hint.index(", as the verb")].replace(" and squashed", "\nsquashed")
    whole.write_text(text.replace("LINES", said))
    assert Revisions.load(scripts).get("t").replaces == ("1", "2", "1_2", "3")


def both_ways(pair) -> None:
    """Two states of a declaration and the first one again as revisions, and the same squashed, in one go or twice."""
    with tempfile.TemporaryDirectory() as folder:
        scripts = Path(folder)
        (scripts / "versions").mkdir()
        for number, one in enumerate((*pair, pair[0])):
            generate(scripts, [one.wanted()], f"state {number}")
            decide(scripts)
        before = Revisions.load(scripts)
        ids = [one.id for one in before.order()]
        if len(ids) < 2:
            return
        made = chain(before, "things", ids)[-1].after
        if len(ids) > 2:
            squash(_settings(scripts), f":{ids[1]}")
            # On paper it goes by the first squash, too, as a deployment that has that and not the second one.
            twice = Revisions.load(scripts)
            assert chain(twice, "things", [one.id for one in twice.order()])[-1].after == made
        squash(_settings(scripts), ":")
        (standing,) = Revisions.load(scripts).standing()
        for one in Revisions.load(scripts).order():
            if one.id != standing.id:
                one.path.unlink()
        after = Revisions.load(scripts)
        assert len(after.order()) == 1
        assert set(ids) <= set(after.order()[0].replaces)
        for way in (ids, [standing.id], [one for one in standing.replaces if one not in ids[:2]] if len(ids) > 2 else ids):
            assert chain(after, "things", way)[-1].after == made


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pair=pairs())
def test_both_ways_make_the_same(pair):
    """Whatever was declared, before and after an edit."""
    both_ways(pair)


@pytest.mark.nightly
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pair=pairs())
def test_300_pairs_squashed(pair):
    """The same, more often."""
    both_ways(pair)
