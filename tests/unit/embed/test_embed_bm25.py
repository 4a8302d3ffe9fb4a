"""Sparse vectors of words: BM25's own figures, languages, and what has no words."""

import math

import pytest

from qmigrate.embed import load
from qmigrate.embed.stream import Failure, embed_all
from qmigrate.errors import EmbedError


def made(**settings):
    """The embedder of some settings."""
    return load("terms", {"type": "bm25", **settings})


def values(embedder, text: str) -> dict:
    """Word -> value of a text."""
    vector = embed_all(embedder, [text], size=None)[0]
    by_id = dict(zip(vector["indices"], vector["values"], strict=True))
    return {word: by_id[abs(embedder._hash(word))] for word in set(embedder.words(text))}


def test_the_values_are_those_of_bm25():
    """A word that is repeated saturates, and in a longer text it counts less."""
    embedder = made(language="none", k1=1.2, b=0.75, average=4)
    found = values(embedder, "red red shoe box")
    assert found["red"] == pytest.approx(2 * 2.2 / (2 + 1.2))
    assert found["shoe"] == pytest.approx(2.2 / (1 + 1.2))
    longer = values(embedder, "red red shoe box on a long shelf")
    assert longer["red"] == pytest.approx(2 * 2.2 / (2 + 1.2 * (0.25 + 0.75 * 2)))


def test_scores_are_those_of_bm25():
    """The product of a question and a text, weighed by how rare a word is, is the textbook's score."""
    texts = ["the cat sat on the mat", "a dog and a cat", "dogs bark at night", "a mat for a dog"]
    documents, question = made(language="none", average=4.5), made(language="none", task="query")
    words = [documents.words(text) for text in texts]
    asked = set(question.words("cat mat"))
    for place, text in enumerate(texts):
        score = 0.0
        for word, value in values(documents, text).items():
            if word in asked:
                having = sum(word in one for one in words)
                score += value * math.log((len(texts) - having + 0.5) / (having + 0.5) + 1)
        expected = 0.0
        for word in asked:
            often, having = words[place].count(word), sum(word in one for one in words)
            rare = math.log((len(texts) - having + 0.5) / (having + 0.5) + 1)
            expected += rare * often * 2.2 / (often + 1.2 * (0.25 + 0.75 * len(words[place]) / 4.5))
        assert score == pytest.approx(expected)


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("english", "The Cats were running, in gardens!", ["cat", "run", "garden"]),
        ("german", "Die Häuser und die Gärten", ["haus", "gart"]),
        ("russian", "Кошки и собаки", ["кошк", "собак"]),
        ("none", "The Cats", ["the", "cats"]),
    ],
)
def test_words_of_languages(language, text, words):
    """Stems, without the words that every text has."""
    assert made(language=language).words(text) == words


def test_a_question_counts_each_word_once():
    """However often it is asked for."""
    assert set(values(made(task="query"), "cat cat dog").values()) == {1.0}


def test_what_has_no_word_is_a_failure_of_its_own():
    """The other texts of the batch get their vectors."""
    found = embed_all(made(), ["the of and", "cats", "…"], size=None)
    assert [isinstance(one, Failure) for one in found] == [True, False, True]
    assert "no word that counts" in found[0].message


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"language": "klingon"}, "one of none, "),
        ({"b": 2}, "b is at most 1"),
        ({"average": 0}, "average above 0"),
        ({"task": "search"}, "document or query"),
    ],
)
def test_wrong_settings_are_named(settings, words):
    """Each is an error of the settings."""
    with pytest.raises(EmbedError, match=words):
        made(**settings)


def test_the_fingerprint_has_what_decides():
    """Language, task and numbers."""
    prints = [made(**one).fingerprint() for one in ({}, {"language": "german"}, {"task": "query"}, {"k1": 2})]
    assert len({str(one) for one in prints}) == 4
