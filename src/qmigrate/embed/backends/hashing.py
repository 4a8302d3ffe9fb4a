"""Texts as vectors by feature hashing, without a model or download, for trials and tests. It learns nothing.

A text becomes its words, its pairs of neighbouring words, and the letter groups within its words, each hashed
to a place and a sign. Names such as ``parse_int`` and ``JSONDecoder`` are split into their words. What a text
repeats counts less each time, what comes first counts more, and the commonest words hardly count.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from qmigrate.embed.inputs import ImageName, kind_of
from qmigrate.embed.options import Options
from qmigrate.errors import EmbedError
from qmigrate.model.schema import JsonObject
from qmigrate.ports import Embedder

#: Counts up with every change of the output.
ALGORITHM = 1
#: Weights of a whole word, of a pair of words, and of all letter groups of a word together.
WORD, PAIR, LETTERS = 1.0, 0.3, 0.6
#: Weight of a stop word; any other word has 1.
STOP = 0.1
#: After this many words a word counts half as much as the first one.
HALF_WAY = 16.0
#: Letter groups of these lengths.
SHORTEST, LONGEST = 3, 5

_WORDS = re.compile(r"[^\W_]+")
# Borders within a run: aB, ABc, a1, 1a. Letters beyond ASCII have no borders, so that their words stay whole.
_BORDERS = re.compile(
    r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])"
)
# The commonest English words, and those that every Python signature has.
_STOP_WORDS = frozenset(
    """
    a an and any are as at be been but by can do does for from has have if in into is it its may not of on one
    or so than that the their then there these they this to was were what when where which will with you your
    args cls false kw kwargs none self true
    """.split()  # noqa: SIM905  seventy quoted words read worse
)
_SIGN = 1 << 63


def build(options: Options) -> Embedder:
    """From ``{type: hashing, size: 256}``; a larger size keeps more words apart."""
    return _Hashing(options.name, options.size(lowest=8))


class _Hashing:
    """Items are texts."""

    max_batch = 256

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self.size = size

    def fingerprint(self) -> JsonObject:
        """Algorithm and size: there are no weights."""
        return {
            "type": "hashing",
            "library": "xxhash xxh3_64",
            "algorithm": ALGORITHM,
            "size": self.size,
            "normalisation": "l2",
        }

    def embed(self, items: Sequence[Any]) -> NDArray[np.float32]:
        """Rows of length one.

        Raises:
            EmbedError: an item is not text, or holds no letter and no digit.
        """
        rows = np.empty((len(items), self.size), dtype=np.float32)
        for row, item in zip(rows, items, strict=True):
            row[:] = self._row(item)
        return rows

    def _row(self, item: Any) -> NDArray[np.float64]:
        if not isinstance(item, str) or isinstance(item, ImageName):
            raise EmbedError(f"embedder {self._name!r} takes texts, not {kind_of(item)}")
        words = split_words(item)
        if not words:
            raise EmbedError(f"embedder {self._name!r}: the text {item[:40]!r} holds no letter and no digit")
        row = np.zeros(self.size, dtype=np.float64)
        for word, weight in _word_weights(words).items():
            places, values = _word(word, self.size)
            row[places] += weight * values
        for pair, weight in _pair_weights(words).items():
            place, sign = _place(pair, self.size)
            row[place] += PAIR * weight * sign
        norm = math.sqrt(math.fsum(value * value for value in row.tolist()))
        if norm == 0.0:
            # Features of equal weight met at one place with opposite signs. Only the first word counts.
            place, sign = _place(words[0], self.size)
            row[place], norm = sign, 1.0
        return row / norm


def split_words(text: str) -> list[str]:
    """The words of a text in lower case, names split at underscores, dots and capitals."""
    words: list[str] = []
    for run in _WORDS.findall(unicodedata.normalize("NFKC", text)):
        words.extend(part.casefold() for part in _BORDERS.split(run))
    return words


def _word_weights(words: Sequence[str]) -> dict[str, float]:
    """Word -> weight: by where it first occurs, growing with the logarithm of how often it comes."""
    counts: dict[str, float] = {}
    for position, word in enumerate(words):
        counts[word] = counts.get(word, 0.0) + _lead(position)
    return {
        word: math.log1p(count) * (STOP if word in _STOP_WORDS else 1.0) for word, count in counts.items()
    }


def _pair_weights(words: Sequence[str]) -> dict[str, float]:
    """Neighbouring words, stop words left out -> weight."""
    telling = [(position, word) for position, word in enumerate(words) if word not in _STOP_WORDS]
    counts: dict[str, float] = {}
    for (position, one), (_, other) in pairwise(telling):
        pair = f"{one} {other}"
        counts[pair] = counts.get(pair, 0.0) + _lead(position)
    return {pair: math.log1p(count) for pair, count in counts.items()}


def _lead(position: int) -> float:
    return 1.0 / (1.0 + position / HALF_WAY)


@lru_cache(maxsize=65536)
def _word(word: str, size: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Places and values of a word and its letter groups; each place once."""
    values: dict[int, float] = {}
    place, sign = _place(word, size)
    values[place] = WORD * sign
    groups = _letter_groups(word)
    for group in groups:
        place, sign = _place(group, size)
        values[place] = values.get(place, 0.0) + sign * LETTERS / math.sqrt(len(groups))
    return np.array(list(values), dtype=np.intp), np.array(list(values.values()), dtype=np.float64)


def _letter_groups(word: str) -> list[str]:
    marked = f"<{word}>"
    return [
        marked[start : start + length]
        for length in range(SHORTEST, LONGEST + 1)
        for start in range(len(marked) - length + 1)
    ]


def _place(feature: str, size: int) -> tuple[int, float]:
    hashed = xxhash.xxh3_64_intdigest(feature.encode("utf-8", "surrogatepass"))
    return hashed % size, -1.0 if hashed & _SIGN else 1.0
