"""Whether what is embedded is what the application's SQL has a checksum of. It writes nothing."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from qmigrate.embed.inputs import ImageName, read_input
from qmigrate.embed.staged import OpensImages
from qmigrate.embed.stream import Failure
from qmigrate.errors import EmbedError, PlanError
from qmigrate.model.transform import Payload, PointId
from qmigrate.operations.app_sql import Checksum
from qmigrate.operations.values import Embed
from qmigrate.ports import Embedder
from qmigrate.rows import Query, Rows, Unusual
from qmigrate.sequences import in_parts

if TYPE_CHECKING:
    from qmigrate.engine.work import Code
    from qmigrate.settings.load import Settings


def digest_of(item: Any, algorithm: str, embedder: Embedder, name: str) -> bytes:
    """The digest of an input: of the bytes of an image's file, however it is named, or of a text in UTF-8.

    Args:
        item: as an embedder gets it.
        algorithm: as :mod:`hashlib` calls it.
        embedder: whose settings decide where images may be read.
        name: of that embedder, for messages.

    Raises:
        EmbedError: the image can't be read.
        ConfigError: no image could ever be read.
        PlanError: the embedder opens images by itself, so only it knows what their names mean.
    """
    if isinstance(item, str) and not isinstance(item, ImageName):
        return hashlib.new(algorithm, item.encode(), usedforsecurity=False).digest()
    if isinstance(item, bytes):
        return hashlib.new(algorithm, item, usedforsecurity=False).digest()
    if not isinstance(embedder, OpensImages):
        raise PlanError(
            f"embedder {name!r} opens images by itself, so their files can't be compared with a checksum",
            hint='compare a payload field instead: Checksum(…, field="sha256")',
        )
    source, label = embedder.source_of(item)
    try:
        if isinstance(source, BytesIO):
            return hashlib.new(algorithm, source.getbuffer(), usedforsecurity=False).digest()
        with source.open("rb") as opened:
            return hashlib.file_digest(opened, lambda: hashlib.new(algorithm, usedforsecurity=False)).digest()
    except OSError as error:
        raise EmbedError(f"{label} can't be read: {error.strerror or error}") from error


def recorded_digest(value: Any, algorithm: str) -> bytes | None:
    """A checksum as a column or a payload holds it; None for what is not a digest of that algorithm.

    Args:
        value: its bytes, or hexadecimal digits in any case; ``sha256:`` may precede them.
    """
    size = hashlib.new(algorithm, usedforsecurity=False).digest_size
    found = bytes(value) if isinstance(value, bytes | bytearray | memoryview) else None
    if isinstance(value, str):
        digits = value.strip().lower()
        digits = digits.removeprefix(f"{algorithm.lower()}:").strip()
        try:
            found = bytes.fromhex(digits)
        except ValueError:
            return None
    return found if found is not None and len(found) == size else None


def digests_of_vector(vector: Any, algorithm: str) -> frozenset[bytes]:
    """The digests of a vector as its Python floats, one text after the other: ``"".join(str(v) for v in vector)``.

    Of what a model returns, as it is, and of the same as float32, which is what most libraries make floats of.

    Args:
        vector: a list, an array or a tensor of one row; anything else has none.
        algorithm: as :mod:`hashlib` calls it.
    """
    try:
        values = vector.tolist() if hasattr(vector, "tolist") else list(vector)
        with np.errstate(over="ignore"):
            rounded = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError):
        return frozenset()
    if rounded.ndim != 1:
        return frozenset()
    texts = {"".join(map(str, map(float, one))) for one in (values, rounded.tolist())}
    return frozenset(hashlib.new(algorithm, text.encode(), usedforsecurity=False).digest() for text in texts)


def vectors_as_returned(embedder: Embedder, items: Sequence[Any]) -> list[Any]:
    """What a model returns for items, with none of its numbers changed; an error in the place of what it refuses.

    Raises:
        QmigrateError: the model can't be asked at all, as where its server is away.
    """
    made: list[Any] = []
    for part in in_parts(items, max(1, embedder.max_batch)):
        try:
            made += list(embedder.embed(part))
        except EmbedError as error:
            made += [error] if len(part) == 1 else [embed_alone(embedder, one) for one in part]
    return made


def shows(expected: bytes, vector: Any, algorithm: str, alone: Callable[[], Any]) -> bool:
    """Whether a vector that a model returns has a digest of Python floats; in a batch its last bits may be others.

    Args:
        alone: embeds the same input by itself; called where the vector of the batch hasn't the digest.
    """
    return expected in digests_of_vector(vector, algorithm) or expected in digests_of_vector(alone(), algorithm)


def embed_alone(embedder: Embedder, item: Any) -> Any:
    """What a model returns for one item, or why it refuses it."""
    try:
        return embedder.embed([item])[0]
    except EmbedError as error:
        return error


#: Where an item fails that is another one by now.
STAGE = "checksum"


class ChecksumContext(Protocol):
    """What is needed to check."""

    @property
    def settings(self) -> Settings:
        """With the application's databases."""

    @property
    def code(self) -> Code | None:
        """With the embedders; there is one wherever anything is embedded."""


class Checksums:
    """Compares the inputs of embeddings that have a :class:`~qmigrate.operations.app_sql.Checksum`. Threads share it.

    Args:
        place: where the databases and the embedders are; asked when they are needed.
    """

    def __init__(self, place: ChecksumContext) -> None:
        self._place = place
        # One look-up at a time: the application's database serves other clients too.
        self._lock = threading.Lock()
        # What a look-up doesn't find in the column of the ids, by query.
        self._unusual: list[tuple[Query, Unusual]] = []

    def checked(
        self, filling: Embed, ids: Sequence[PointId], payload_of: Callable[[int], Payload], inputs: Sequence[Any]
    ) -> list[Any]:
        """The inputs, with a failure in the place of each that is not what SQL has.

        Args:
            ids: of the points, one per input.
            payload_of: the payload of the point at a place.
            inputs: as they will be embedded; None and failures stay what they are.

        Raises:
            RowsError: the query can't be used.
            DatabaseError: the database can't be reached.
            ConfigError: there is no such database.
        """
        wanted, made = filling.checksum, list(inputs)
        places = [place for place, item in enumerate(made) if item is not None and not isinstance(item, Failure)]
        if wanted is None or not places:
            return made
        known = self.known(wanted, [ids[place] for place in places])
        if wanted.kind == "python-floats" and wanted.field is None:
            return self._by_vectors(filling, ids, made, places, known)
        for place in places:
            payload = payload_of(place) if wanted.field is not None else {}
            trouble = self._trouble(filling, known.get(ids[place]), payload, made[place])
            if trouble is not None:
                made[place] = trouble
        return made

    def known(self, wanted: Checksum, ids: Sequence[PointId]) -> dict[PointId, Any]:
        """What SQL has for points, as it is there; those without a row are left out."""
        query = Query(wanted.sql, wanted.key, (wanted.column,), wanted.parameters)
        url = self._place.settings.database(wanted.database)
        with self._lock, closing(Rows(url, query, name=wanted.database)) as rows:
            found = rows.of(ids, thorough=False)
            lacking = [one for one in ids if one not in found]
            if lacking:
                # None may pass for having no row because of how its id is written there.
                unusual = self._unusual_in(query, rows)
                found |= rows.of(unusual.among(lacking))
                if any(isinstance(one, int) for one in lacking):
                    rows.refuse(unusual.digits)
            return {identifier: values[0] for identifier, values in found.items()}

    def _unusual_in(self, query: Query, rows: Rows) -> Unusual:
        """Asked once for all, as soon as there are rows at all."""
        found = next((unusual for known, unusual in self._unusual if known == query), None)
        if found is None:
            found = rows.unusual()
            self._unusual += [(query, found)] if found.rows else []
        return found

    def _by_vectors(
        self, filling: Embed, ids: Sequence[PointId], made: list[Any], places: Sequence[int], known: dict[PointId, Any]
    ) -> list[Any]:
        """Of kind ``python-floats``: the model is run again on what there is a valid digest for."""
        wanted, code = filling.checksum, self._place.code
        assert wanted is not None  # noqa: S101  the caller looked
        assert code is not None  # noqa: S101
        expected, where = dict[int, bytes](), f"{wanted.column} in {wanted.database}"
        for place in places:
            found = self._recorded(wanted, known.get(ids[place]))
            if isinstance(found, Failure):
                made[place] = found
            elif found is not None:
                expected[place] = found
        name = wanted.embedder or filling.embedder
        embedder, asked = code.embedder(name), list(expected)
        with code.turn.of(self._place):
            again = vectors_as_returned(embedder, [made[place] for place in asked]) if asked else []
            for place, vector in zip(asked, again, strict=True):
                item = made[place]
                if isinstance(vector, EmbedError):
                    made[place] = Failure(0, "embed", vector.message)
                elif not shows(expected[place], vector, wanted.algorithm, partial(embed_alone, embedder, item)):
                    made[place] = Failure(0, STAGE, f"embedded by {name} again, its vector doesn't match its {where}")
        return made

    def _recorded(self, wanted: Checksum, known: Any) -> bytes | Failure | None:
        """The digest that SQL has; None where there need be none."""
        where = f"{wanted.column} in {wanted.database}"
        if known is None:
            return None if wanted.missing == "accept" else Failure(0, STAGE, f"there is no {where} for it")
        found = recorded_digest(known, wanted.algorithm)
        return found or Failure(0, STAGE, f"its {where} is not a valid {wanted.algorithm} digest")

    def _trouble(self, filling: Embed, known: Any, payload: Payload, item: Any) -> Failure | None:
        wanted, code = filling.checksum, self._place.code
        assert wanted is not None  # noqa: S101  the caller looked
        assert code is not None  # noqa: S101
        where = f"{wanted.column} in {wanted.database}"
        expected = self._recorded(wanted, known)
        if not isinstance(expected, bytes):
            return expected
        if wanted.field is not None:
            found = recorded_digest(read_input(payload, wanted.field), wanted.algorithm)
            if found is None:
                return Failure(0, STAGE, f"its field {wanted.field!r} is not a valid {wanted.algorithm} digest")
        else:
            try:
                found = digest_of(item, wanted.algorithm, code.embedder(filling.embedder), filling.embedder)
            except EmbedError as error:
                return Failure(0, "read", error.message)
        what = "its image" if filling.image is not None else "its text"
        return None if found == expected else Failure(0, STAGE, f"{what} doesn't match its {where}")
