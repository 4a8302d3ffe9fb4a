"""What fills a vector."""

import pytest

from qmigrate import Checksum, Compute, CopyOf, Embed, Empty, WriteBack, op
from qmigrate.embed.inputs import read_input
from qmigrate.errors import PlanError
from qmigrate.operations.text.stored import differences, from_text, meaning_of, to_text


def by_length(point):
    """A vector of one value."""
    return [float(len(point.payload))]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Embed("clip"), "either text= or image="),
        (lambda: Embed("clip", text="a", image="b"), "either text= or image="),
        (lambda: Embed("", text="a"), "the name of an embedder"),
        (lambda: Embed("clip", text=" "), "a payload field, a template or a function"),
        (lambda: Embed("clip", text=5), "a payload field, a template or a function"),
        (lambda: Embed("clip", text="{title"), "can't be read"),
        (lambda: Embed("clip", text="{}"), "without format"),
        (lambda: Embed("clip", text="{title:>5}"), "without format"),
        (lambda: Embed("clip", text="{{nothing}}"), "must name payload fields"),
        (lambda: Embed("clip", text="{title} {tags[0]}"), "'tags[0]' is not a payload field"),
        (lambda: Embed("clip", text="{title} {meta[title]}"), "'meta[title]' is not a payload field"),
        (lambda: Embed("clip", text="{tags[]} {title}"), "'tags[]' is not a payload field"),
        (lambda: Embed("clip", image="{folder}/{names[-1]}"), "'names[-1]' is not a payload field"),
        (lambda: Embed("clip", text="{title} {'body'}"), "\"'body'\" is not a payload field"),
        (lambda: Embed("clip", text='{title} {meta."a.b"}'), "is not a payload field"),
        (lambda: Embed("clip", text="{title} {meta.}"), "'meta.' is not a payload field"),
        (lambda: Embed("clip", text="{title} {.body}"), "'.body' is not a payload field"),
        (lambda: Embed("clip", text="{title} {meta..body}"), "'meta..body' is not a payload field"),
        (lambda: Embed("clip", text="a", on_failure="skip"), "on_failure must be one of stop, keep_without_vector"),
        (lambda: Embed("clip", text="a", checksum="sha256"), "checksum must be Checksum(…)"),
        (lambda: Checksum("DELETE FROM a"), "not a SELECT: it begins with DELETE"),
        (lambda: Checksum("SELECT id FROM a; SELECT 1"), "several statements"),
        (lambda: Checksum("SELECT id FROM a WHERE b = :b"), "a parameter :b without a value"),
        (lambda: Checksum("SELECT id FROM a", algorithm="sha257"), "no algorithm 'sha257'"),
        (lambda: Checksum("SELECT id FROM a", algorithm="shake_128"), "no algorithm"),
        (lambda: Checksum("SELECT id FROM a", missing="skip"), "missing must be one of accept, fail"),
        (lambda: Checksum("SELECT id FROM a", key=""), "key must be a name"),
        (lambda: WriteBack("SELECT 1"), "marks no rows: it begins with SELECT"),
        (lambda: WriteBack("UPDATE a SET b = 1; DROP TABLE a"), "several statements in one"),
        (lambda: WriteBack("UPDATE a SET b = :id"), "no WHERE"),
        (lambda: WriteBack("WITH c AS (SELECT 1) UPDATE a SET b = :id"), "no WHERE"),
        (lambda: WriteBack("UPDATE a SET b = (SELECT c FROM d WHERE e = :id)"), "no WHERE"),
        (lambda: WriteBack("DELETE FROM a USING (SELECT f(g(c)) FROM d WHERE e = :id) h"), "no WHERE"),
        (lambda: WriteBack("UPDATE a SET b = ':id' WHERE c"), "doesn't name :id"),
        (lambda: WriteBack("UPDATE a SET b = :now WHERE id = :idd"), "a parameter :idd without a value"),
        (lambda: WriteBack("UPDATE a SET b = 1 WHERE c = :id", parameters={"now": "x"}), ":now has a value already"),
        (lambda: WriteBack("UPDATE a SET b = 1 WHERE c = :id", parameters={"x": [1]}), "must be a string, a number"),
        (lambda: Compute(5), "expected a function of a point"),
        (lambda: CopyOf(None), "expected the name of a vector"),
        (lambda: CopyOf("a", scale=(-1, 1)), "scale must be Scale"),
    ],
)
def test_nonsense_is_refused_at_once(make, words):
    """A value that can't mean anything is refused where it is written, with its own name first."""
    with pytest.raises(PlanError, match=r"^(Embed|Compute|CopyOf|Checksum|WriteBack)") as caught:
        make()
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("value", "fills", "fields", "words"),
    [
        (Embed("clip", image="path"), True, {"path"}, "embed clip(path)"),
        (Embed("words", text="meta.title"), True, {"meta.title"}, "embed words(meta.title)"),
        (Embed("words", text="{title} {meta.body}"), True, {"title", "meta.body"}, "embed words({title} {meta.body})"),
        (Compute(by_length), True, set(), "compute by_length"),
        (CopyOf("b32"), True, set(), "copy of b32"),
        (CopyOf(""), True, set(), "copy of (unnamed)"),
        (Empty(), False, set(), "left empty"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_say_what_they_read(value, fills, fields, words):
    """Each value has whether it fills, what it reads, and its words."""
    assert (value.fills, value.fields(), value.describe()) == (fills, fields, words)


@pytest.mark.parametrize(
    "spec",
    ["content", "meta.title", "tags[0]", "{title}: { body }", "{a}{{x}}{a}", "{first name} {writer's note} {scores.2024} [{a}]"],
)
def test_fields_are_those_that_the_embedding_reads(spec):
    """The planner counts exactly the fields that the engine will read."""
    asked = set()

    class Payload(dict):
        """Has every field, and notes which ones are asked for."""

        def __contains__(self, name):
            asked.add(name)
            return True

        def __missing__(self, name):
            return "text"

    assert read_input(Payload(), spec)
    assert Embed("e", text=spec).fields() == asked


def test_what_is_said_to_sql_is_kept_with_an_operation():
    """Stored operations keep it; those stored before it existed have the same text and are read as before."""
    check = Checksum("SELECT id, s FROM a WHERE k = :k", column="s", parameters={"k": 1})
    told = WriteBack("UPDATE a SET b = :now WHERE id = :id", database="other", parameters={"x": None})
    for value in (Embed("e", text="t", checksum=check, write_back=told), Embed("e", text="t")):
        made = op.AddVector("c", "v", {"size": 4, "distance": "Cosine"}, values=value)
        kept = to_text([made])
        assert from_text(kept) == (made,)
        assert ("write_back" in kept) == (value.write_back is not None)


def test_another_sentence_for_an_operation_is_no_difference():
    """What an earlier qmigrate has stored may have another sentence; only what is done counts, and finds its partner."""
    again = op.Reembed("c", "v", values=Embed("e", text="t", write_back=WriteBack("UPDATE a SET b = 1 WHERE id = :id")))
    index = op.CreatePayloadIndex("c", "kind", "keyword")
    stored = meaning_of([again, index], "")
    earlier = "the sentence of an earlier version"
    assert "fill vector v again ← embed e(t), recorded in app once it is live" in stored["operations"][0]["says"]
    stored["operations"][0]["says"] = earlier
    assert differences(stored, meaning_of([again, index], "")) == ()
    assert differences(stored, meaning_of([index, again], "")) != ()
    assert differences(stored, meaning_of([index], "")) == (f"removed: {earlier}",)
    assert differences({**stored, "operations": stored["operations"][::-1]}, meaning_of([again], "")) == (
        f"removed: {index.describe()}",
    )
