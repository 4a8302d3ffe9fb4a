"""Texts as sparse vectors of their words, for BM25 with ``modifier=IDF``. No model and no download; it learns nothing.

A word is stemmed, and its id is Murmur3 of it, as for the server's own ``qdrant/bm25`` and fastembed. How rare a word
is in the collection is weighed by the server, at each search; the rest of BM25 is in the values here.
"""

from __future__ import annotations

import importlib
import re
import threading
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from qmigrate.embed.inputs import ImageName, kind_of
from qmigrate.embed.options import Options
from qmigrate.errors import EmbedError
from qmigrate.model.schema import JsonObject
from qmigrate.ports import Embedder

#: Counts up with every change of the output.
ALGORITHM = 1
#: Saturation of a word that is repeated, weight of the length of a text, and words of a usual text.
K1, B, AVERAGE = 1.2, 0.75, 256.0
#: A longer word is none: a key, or a file in base64.
LONGEST = 40
#: In the place of a language: words as they are.
NO_LANGUAGE = "none"
_WORDS = re.compile(r"[^\W_]+")


def build(options: Options) -> Embedder:
    """From ``{type: bm25, language: german}``; ``none`` neither stems nor leaves words out.

    ``task: query`` is for questions: every word counts once. ``k1``, ``b`` and ``average`` are those of BM25, the
    last one the number of words of a usual text.

    Raises:
        EmbedError: a library is missing, or a value is wrong.
    """
    return _Bm25(options)


class _Bm25:
    """Items are texts."""

    max_batch, size = 256, None

    def __init__(self, options: Options) -> None:
        self._name = options.name
        self._task = options.choice("task", ("document", "query"))
        self._k1 = _or(options.number("k1"), K1)
        self._b = _or(options.number("b"), B)
        self._average = _or(options.number("average"), AVERAGE)
        if self._b > 1 or not self._average:
            raise EmbedError(f"embedder {options.name!r}: b is at most 1, and average above 0")
        self._language = (options.text("language") or "english").lower()
        self._hash = _library(options, "mmh3").hash
        self._stop, self._stem = self._words_of(options)
        # A stemmer keeps state while it works.
        self._lock = threading.Lock()

    def _words_of(self, options: Options) -> tuple[frozenset[str], Any]:
        if self._language == NO_LANGUAGE:
            return frozenset(), None
        stemmers, stops = _library(options, "Stemmer"), _library(options, "stop_words")
        if self._language not in stemmers.algorithms():
            raise options.wrong("language", f"one of {NO_LANGUAGE}, {', '.join(stemmers.algorithms())}", self._language)
        try:
            stop = frozenset(_normal(word) for word in stops.get_stop_words(self._language))
        except stops.StopWordError:
            # A language may have a stemmer and no such list: then none is left out.
            stop = frozenset()
        return stop, lru_cache(maxsize=100_000)(stemmers.Stemmer(self._language).stemWord)

    def fingerprint(self) -> JsonObject:
        """Language, what the words of it are, and the numbers; a question fits what was made with the same language."""
        return {
            "type": "bm25",
            "algorithm": ALGORITHM,
            "language": self._language,
            "task": self._task,
            "k1": self._k1,
            "b": self._b,
            "average": self._average,
            "stop_words": self._hash(" ".join(sorted(self._stop)), signed=False),
        }

    def embed(self, items: Sequence[Any]) -> list[Any]:
        """A sparse vector per text; an ``EmbedError`` in the place of one without any word that counts."""
        return [self._one(item) for item in items]

    def _one(self, item: Any) -> Any:
        if not isinstance(item, str) or isinstance(item, ImageName):
            raise EmbedError(f"embedder {self._name!r} takes texts, not {kind_of(item)}")
        words = self.words(item)
        if not words:
            return EmbedError(f"embedder {self._name!r}: the text has no word that counts: {item[:60]!r}")
        found: Counter[int] = Counter()
        longer = self._k1 * (1 - self._b + self._b * len(words) / self._average)
        for word, often in Counter(words).items():
            value = 1.0 if self._task == "query" else often * (self._k1 + 1) / (often + longer)
            # Two words may have one id: they count as both.
            found[abs(self._hash(word))] += value  # type: ignore[assignment]
        return {"indices": list(found), "values": list(found.values())}

    def words(self, text: str) -> list[str]:
        """The stems of a text, in order, without stop words."""
        plain = [word for word in _WORDS.findall(_normal(text)) if word not in self._stop and len(word) <= LONGEST]
        if self._stem is None:
            return plain
        with self._lock:
            return [self._stem(word) for word in plain]


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text).lower()


def _library(options: Options, name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EmbedError(
            f"embedder {options.name!r} needs the library {name}", hint="pip install 'qdrant-migrations[bm25]'"
        ) from error
