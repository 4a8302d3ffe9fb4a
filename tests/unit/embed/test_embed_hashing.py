"""The built-in text embedder: deterministic, of length one, and good enough to find things."""

from __future__ import annotations

import json
import math
import os.path
import random
import statistics
import textwrap

import numpy as np
import pytest

from qmigrate.embed import load
from qmigrate.embed.backends.hashing import split_words
from qmigrate.errors import EmbedError

#: What algorithm 1 makes of this pair at size 256: another outcome means that ALGORITHM must count up.
PINNED = ("os.path.join(a, *p): Join two or more pathname components", "join two path components")
PINNED_COSINE = 0.745486
PINNED_PLACES = [58, 70, 139, 153]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("parse_int", ["parse", "int"]),
        ("JSONDecoder", ["json", "decoder"]),
        ("getHTTPResponse", ["get", "http", "response"]),
        ("b64encode", ["b", "64", "encode"]),
        ("os.path.join(a, *p)", ["os", "path", "join", "a", "p"]),
        ("Straße für Ärzte", ["strasse", "für", "ärzte"]),
        ("cafe\u0301 ﬁx", ["café", "fix"]),
        ("東京", ["東京"]),
        ("__init__", ["init"]),
        ("-- !", []),
    ],
)
def test_words_of_a_text(text: str, words: list[str]) -> None:
    """Names fall apart into words, words of other languages stay as they are."""
    assert split_words(text) == words


@pytest.mark.parametrize("size", [8, 256, 1024])
def test_rows_have_length_one_and_never_change(size: int) -> None:
    """The same text gives the same bits, alone and in a batch, in one form: float32 of length one."""
    texts = ["one", "a", "the of and", "x" * 5000, "word " * 2000, "😀 ok", "東京タワー"]
    together = load("w", {"type": "hashing", "size": size}).embed(texts)
    alone = np.vstack([load("v", {"type": "hashing", "size": size}).embed([text]) for text in texts])
    assert together.dtype == np.float32
    assert together.shape == (len(texts), size)
    assert np.array_equal(together, alone)
    assert np.linalg.norm(together, axis=1) == pytest.approx(1.0, abs=1e-6)


def test_output_is_that_of_its_algorithm_number() -> None:
    """Vectors stored years ago stay comparable: a change of the output must change the fingerprint."""
    embedder = load("w", {"type": "hashing"})
    one, other = embedder.embed(list(PINNED))
    assert embedder.fingerprint()["algorithm"] == 1
    assert float(one @ other) == pytest.approx(PINNED_COSINE, abs=1e-5)
    assert sorted(int(place) for place in np.argsort(-np.abs(other))[:4]) == PINNED_PLACES


@pytest.mark.parametrize("item", ["", "   ", "?!…", "\n\t"])
def test_a_text_without_words_is_refused_by_name(item: str) -> None:
    """Nothing to embed is an error that shows the text, not a zero vector."""
    with pytest.raises(EmbedError) as caught:
        load("words", {"type": "hashing"}).embed(["fine", item])
    assert "words" in caught.value.message
    assert repr(item) in caught.value.message


@pytest.mark.parametrize("item", [None, 3, b"bytes", ["list"]])
def test_only_texts_are_taken(item: object) -> None:
    """Another type is an error that names it."""
    with pytest.raises(EmbedError, match=type(item).__name__):
        load("words", {"type": "hashing"}).embed([item])


def _documents() -> dict[str, str]:
    modules = {"os.path": os.path, "json": json, "random": random, "math": math, "statistics": statistics}
    modules["textwrap"] = textwrap
    return {
        f"{name}.{key}": f"{name}.{key}\n{thing.__doc__.strip()[:400]}"
        for name, module in modules.items()
        for key in getattr(module, "__all__", dir(module))
        if callable(thing := getattr(module, key)) and thing.__doc__ and not key.startswith("_")
    }


@pytest.mark.parametrize("size", [256, 1024])
@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("join two path components", "os.path.join"),
        ("shuffle a list in place", "random.shuffle"),
        ("greatest common divisor", "math.gcd"),
        ("json document to python object", "json.loads"),
        ("arithmetic mean of data", "statistics.mean"),
        ("wrapping a paragraph", "textwrap.wrap"),
    ],
)
def test_plain_words_find_the_function(query: str, wanted: str, size: int) -> None:
    """A search by meaningful words has the right function among the first three."""
    documents = _documents()
    embedder = load("words", {"type": "hashing", "size": size})
    scores = embedder.embed(list(documents.values())) @ embedder.embed([query])[0]
    best = [list(documents)[place] for place in np.argsort(-scores)[:3]]
    assert wanted in best
