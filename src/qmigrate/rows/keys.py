"""Which id a value of a SQL column stands for, and how the column may spell an id. It asks nothing."""

from __future__ import annotations

import re
import unicodedata
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from qmigrate.errors import RowsError
from qmigrate.model.ids import are_plain
from qmigrate.model.transform import PointId

#: Type numbers of PostgreSQL whose order is that of a collation, not of bytes.
PG_TEXTS = frozenset({18, 19, 25, 705, 1042, 1043})
PG_UUID = 2950
_PG_BYTES = 17
_PG_PADDED = 1042
_PG_NUMBERS = frozenset({20, 21, 23, 26, 1700})
#: Of every other type PostgreSQL is asked for the text: extensions and enumerations have numbers of their own.
_PG_KNOWN = PG_TEXTS | _PG_NUMBERS | {PG_UUID, _PG_BYTES}
#: The text of these is not what is read of them.
_PG_JSON = frozenset({114, 3802})
_UUID = re.compile(r"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")
_MOST_ID = 2**64
_INT64 = 2**63


class Keys(ABC):
    """What the values of a key column are taken for."""

    @abstractmethod
    def of(self, value: Any, column: str, where: str) -> PointId:
        """The id of a value.

        Args:
            column: its name.
            where: the column and its query, for messages.

        Raises:
            RowsError: it is none.
        """

    def all_of(self, values: Sequence[Any], column: str, where: str) -> Sequence[PointId]:
        """The ids of many values. Most columns hold them in their one spelling, which is seen at a glance."""
        return values if are_plain(values) else [self.of(value, column, where) for value in values]


class PointKeys(Keys):
    """The column holds ids of points: unsigned integers and UUIDs."""

    def of(self, value: Any, column: str, where: str) -> PointId:
        """See :class:`Keys`."""
        found = _uuid_of(value)
        if found is None and isinstance(value, str):
            found = _uuid_in(value)
        if found is not None:
            return found
        number = _integer_of(value)
        if number is not None and 0 <= number < _MOST_ID:
            return number
        if value is None:
            raise RowsError(
                f"{where} is NULL in a row, and a point has an id", hint="leave such rows out: IS NOT NULL"
            )
        hint = "ids are unsigned integers or UUIDs"
        if isinstance(value, str) and value.isdecimal():
            hint = f"a number in a text column: CAST({column} AS BIGINT), where every id is a number"
        raise RowsError(f"{where} has {value!r:.60}, which is not a point id", hint=hint)


    def all_of(self, values: Sequence[Any], column: str, where: str) -> Sequence[PointId]:
        """See :class:`Keys`."""
        try:
            return super().all_of(values, column, where)
        except RowsError as error:
            texts = [value for value in values if isinstance(value, str)]
            if any(map(str.isdecimal, texts)) and any(map(_UUID.fullmatch, texts)):
                # A CAST of the column would fail at the first of the others.
                error.hint = (
                    f"{column} mixes numbers and UUIDs as texts, and no CAST fits both: keep them in a column each; "
                    "for orphans, compare by a payload field that holds the same texts (--id-field)"
                )
            raise


class ValueKeys(Keys):
    """The column holds ids of the application, which points have in a payload field: integers, UUIDs, any text."""

    def of(self, value: Any, column: str, where: str) -> PointId:
        """See :class:`Keys`."""
        found = _uuid_of(value)
        if found is not None:
            return found
        if isinstance(value, str) and value.strip(" "):
            return canonical(value)
        number = _integer_of(value)
        if number is not None and -_INT64 <= number < _MOST_ID:
            return number
        if value is None:
            raise RowsError(f"{where} is NULL in a row", hint="leave such rows out: IS NOT NULL")
        raise RowsError(
            f"{where} has {value!r:.60}, which is not an id: integers, UUIDs and strings are",
            hint=f"select it as one of them: CAST({column} AS TEXT)",
        )


def canonical(text: str) -> str:
    """What ids that are texts are compared by, of SQL and of payloads: a UUID in its one spelling, no spaces around."""
    return _uuid_in(text) or text.strip(" ")


def folded(text: str) -> str:
    """What ids that are texts have in common when they differ by case or by Unicode normalisation alone.

    A file name of macOS has é in two characters, a form of a browser in one; a full-width letter is one as well.
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).strip(" ")


def _uuid_in(text: str) -> str | None:
    """The UUID that a text is, or None: in any case, with or without hyphens, in braces, padded as CHAR does."""
    bare = text.strip(" ")
    if bare[:1] == "{" and bare[-1:] == "}":
        bare = bare[1:-1]
    # Most texts that are none show it by their length.
    return str(uuid.UUID(bare)) if 32 <= len(bare) <= 36 and _UUID.fullmatch(bare) else None


def spelled(ids: Sequence[PointId], kind: int | type | None, backend: str) -> list[Any]:
    """Ids as a key column may hold them: what it can't hold is left out.

    Args:
        kind: PostgreSQL's number of the column's type; elsewhere the type of a value; None where there is none.
        backend: of the database.
    """
    numbers = [one for one in ids if isinstance(one, int)]
    texts = [one for one in ids if isinstance(one, str)]
    uuids = [uuid.UUID(one) for one in texts if _UUID.fullmatch(one)]
    spelt = [way for one in texts for way in spellings(one)]
    binary = [one.bytes for one in uuids]
    if backend == "postgresql":
        if kind == PG_UUID:
            return list(uuids)
        if kind == _PG_BYTES:
            return list(binary)
        if kind in _PG_NUMBERS:
            return list(numbers)
        return spelt if kind in PG_TEXTS else [*map(str, numbers), *spelt]
    if backend == "sqlite":
        return [*numbers, *spelt, *binary]
    # Compared with another type, MySQL takes a text for the number it begins with, or refuses.
    if not isinstance(kind, type):
        return []
    if issubclass(kind, bytes | bytearray | memoryview):
        return list(binary)
    if issubclass(kind, uuid.UUID):
        return list(uuids)
    return list(spelt) if issubclass(kind, str) else list(numbers)


def compared(kind: int | type | None, backend: str) -> str:
    """How a key column is compared with :func:`spelled` ids, with ``{key}`` in the place of its name.

    Raises:
        RowsError: no id can be found in a column of this type, so every one would look as if it had no row.
    """
    if backend != "postgresql" or kind in _PG_KNOWN:
        return "{key}"
    if kind in _PG_JSON:
        raise RowsError("the key column holds JSON, in which no id is found", hint="select the text: … ->> 'id' AS id")
    return "CAST({key} AS text)"


def freely(
    ids: Sequence[str], kind: int | type | None, backend: str, *, alike: bool = False
) -> tuple[str, dict[str, list[str]]] | None:
    """A condition that finds texts however a column writes them, and its parameters; no index serves it.

    Args:
        alike: also every row with what is not ASCII: no database folds all of that as :func:`folded` does, so it is
            compared by who reads them.

    Returns:
        It, with ``{key}`` in the place of the column's name; None where the column has one spelling for each id.
    """
    if backend == "postgresql":
        texts = kind in PG_TEXTS or kind not in _PG_KNOWN
    else:
        texts = backend == "sqlite" or (isinstance(kind, type) and issubclass(kind, str))
    if not texts or not ids:
        return None
    trimmed = f"trim(CAST({{key}} AS {'text' if backend in ('postgresql', 'sqlite') else 'CHAR'}))"
    bare = trimmed
    for sign in "-{}":
        bare = f"replace({bare}, '{sign}', '')"
    uuids = [uuid.UUID(one).hex for one in ids if _UUID.fullmatch(one)]
    others = [one for one in ids if not _UUID.fullmatch(one)]
    small = dict.fromkeys(way for one in others for way in ((one.lower(), folded(one)) if alike else (one.lower(),)))
    # Not every database makes the small letters that Python makes: each spelling is asked for by itself.
    parts = (
        (f"lower({bare})", "qmigrate_uuids", uuids),
        (trimmed, "qmigrate_texts", others),
        (f"lower({trimmed})", "qmigrate_small", list(small)),
    )
    known = {name: values for _, name, values in parts if values}
    conditions = [f"{said} IN :{name}" for said, name, _ in parts if name in known]
    if alike and others:
        octets = f"length(CAST({trimmed} AS BLOB))" if backend == "sqlite" else f"octet_length({trimmed})"
        conditions.append(f"{octets} <> {'length' if backend == 'sqlite' else 'char_length'}({trimmed})")
    return "(" + " OR ".join(conditions) + ")", known


@dataclass(frozen=True, slots=True)
class Unusual:
    """What a look-up by the usual spellings doesn't find in a column of texts.

    Attributes:
        ids: of rows that are written otherwise; None where these are too many to be kept.
        digits: a text of digits, which no look-up finds, and after it a UUID, where the column has both; or empty.
        rows: how many rows there were.
    """

    ids: frozenset[str] | None = frozenset()
    digits: tuple[str, ...] = ()
    rows: int = 0

    def among(self, ids: Sequence[PointId]) -> list[PointId]:
        """Those of some ids that may have such a row."""
        return [one for one in ids if isinstance(one, str) and (self.ids is None or one in self.ids)]


def unusual(parts: Iterable[Sequence[Any]], kind: int | type | None, most: int) -> Unusual:
    """What is unusual in a column.

    Args:
        parts: its values, some at a time.
        kind: PostgreSQL's number of its type.
        most: how many ids are kept.
    """
    found: set[str] = set()
    digits, others, rows, many = "", "", 0, False
    for values in parts:
        rows += len(values)
        if are_plain(values):
            others = others or (values[0] if isinstance(values[0], str) else "")
            continue
        for value in values:
            if not isinstance(value, str):
                continue
            same = canonical(value)
            if same.isdecimal():
                digits = digits or same
            elif _UUID.fullmatch(same):
                others = others or same
                # Of a column that pads its texts itself, spaces at the end are not compared.
                if (value.rstrip(" ") if kind == _PG_PADDED else value) not in spellings(same):
                    found.add(same)
        if len(found) > most:
            found, many = set(), True
    refused = tuple(one for one in (digits, others) if one) if digits else ()
    return Unusual(None if many else frozenset(found), refused, rows)


def ascends(before: PointId, after: PointId) -> bool:
    """Whether two ids follow each other in Qdrant's order: unsigned integers, then UUIDs by bytes."""
    if isinstance(before, int):
        return isinstance(after, str) or before < after
    # Canonical texts: lower case, hyphens in the same places, so their order is that of their bytes.
    return isinstance(after, str) and before < after


def _uuid_of(value: Any) -> str | None:
    if isinstance(value, bytes | memoryview) and len(bytes(value)) == 16:
        return str(uuid.UUID(bytes=bytes(value)))
    return str(value) if isinstance(value, uuid.UUID) else None


def _integer_of(value: Any) -> int | None:
    if isinstance(value, Decimal) and value.is_finite() and value == int(value):
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def spellings(text: str) -> tuple[str, ...]:
    """How else a text may be written that means the same: a UUID in six ways, any other as it is."""
    return _spellings(uuid.UUID(text)) if _UUID.fullmatch(text) else (text,)


def _spellings(one: uuid.UUID) -> tuple[str, ...]:
    return (str(one), one.hex, str(one).upper(), one.hex.upper(), f"{{{one}}}", f"{{{str(one).upper()}}}")
