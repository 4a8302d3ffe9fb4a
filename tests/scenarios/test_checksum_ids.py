"""Checksums of inputs in the application's SQL, found however the ids are written there."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import pytest
from sqlalchemy import create_engine, text
from tests.harness import CREATE, Deployment, make_point
from tests.harness import write as write_points

from qmigrate import Checksum, Embed
from qmigrate.commands import quarantine, upgrade
from qmigrate.embed.stream import Failure
from qmigrate.engine.points.checksums import Checksums
from qmigrate.errors import RowsError

POINTS = [make_point(number, uuid_id=True) for number in range(30)]
ADD = """
def upgrade():
    return [op.AddVector("{{name}}", "b", VectorParams(size=16, distance=Distance.COSINE), values=Embed(
        "words", text="text", on_failure="keep_without_vector", checksum=Checksum("SELECT id, checksum FROM sums", missing="{missing}"),
    ))]
"""
#: How a column of texts may hold a UUID.
WRITTEN = {
    "as usual": str,
    "in braces": lambda one: f"{{{one}}}",
    "in capitals and braces": lambda one: f"{{{one.upper()}}}",
    "padded": lambda one: f"{one}  ",
    "mixed case": lambda one: one[:9].upper() + one[9:],
    "mixed case, in braces, padded": lambda one: f" {{{one[:9].upper() + one[9:]}}} ",
}


@pytest.fixture
def sums(ledger_url, tmp_path):
    """The application's table; fills it, and hands out the URL of its database."""
    (tmp_path / "state").mkdir(exist_ok=True)
    engine = create_engine(ledger_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE sums (id VARCHAR(60), checksum TEXT)"))

    def fill(rows: dict[str, str]) -> str:
        with engine.begin() as connection:
            given = [{"id": one, "sum": digest(content)} for one, content in rows.items()]
            if given:
                connection.execute(text("INSERT INTO sums VALUES (:id, :sum)"), given)
        return ledger_url

    yield fill
    engine.dispose()


def digest(content: str) -> str:
    """What the application calls the checksum of a text."""
    return hashlib.sha256(content.encode()).hexdigest()


@pytest.mark.parametrize("missing", ["accept", "fail"])
def test_a_rebuild_compares_whatever_the_ids_look_like(sums, tmp_path, missing):
    """A row that isn't found must not let another input pass, nor fail one that is right; a retry asks the same way."""
    ways = list(WRITTEN.values())
    right, wrong = POINTS[:15], POINTS[15:]
    said = {one.id: one.payload["text"] if one in right else "another text" for one in POINTS}
    url = sums({ways[number % len(ways)](one): content for number, (one, content) in enumerate(said.items())})
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/l.db")
    made.extra = {"databases": {"app": {"url": url}}, "limits": {"max_quarantine": 100}}
    made.__post_init__()
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    store = made.store()
    write_points(store, made.name, POINTS)
    store.close()
    made.revise("0002", ADD.format(missing=missing))
    upgrade.upgrade(made.settings())
    listed = quarantine.quarantine(made.settings(), made.name).rows
    assert {row.point_id for row in listed} == {one.id for one in wrong}
    assert {row.stage for row in listed} == {"checksum"}
    tried = quarantine.retry(made.settings(), made.name)
    assert (tried.filled, tried.failed) == (0, len(wrong))


def checks(url: str) -> Checksums:
    """What looks into that database, without anything of a run."""
    settings = SimpleNamespace(database=lambda name: url)
    return Checksums(SimpleNamespace(settings=settings, code=SimpleNamespace(embedder=lambda name: None)))


@pytest.mark.parametrize("missing", ["accept", "fail"])
@pytest.mark.parametrize("written", WRITTEN)
def test_an_input_is_compared_however_its_id_is_written(sums, written, missing):
    """Of every spelling each row is found: what is right passes, and what is another input fails for that."""
    write = WRITTEN[written]
    url = sums({write(one.id): one.payload["text"] if at < 15 else "another text" for at, one in enumerate(POINTS)})
    filling = Embed("words", text="text", checksum=Checksum("SELECT id, checksum FROM sums", missing=missing))
    texts = [one.payload["text"] for one in POINTS]
    made = checks(url).checked(filling, [one.id for one in POINTS], lambda at: POINTS[at].payload, texts)
    assert made[:15] == texts[:15]
    assert all(isinstance(one, Failure) and "doesn't match" in one.message for one in made[15:])


@pytest.mark.parametrize("missing", ["accept", "fail"])
@pytest.mark.parametrize("first", ["points without rows", "an empty table"])
def test_what_one_page_lacks_says_nothing_of_the_next_one(sums, missing, first):
    """Points without a row come first; those behind them are found in their odd spelling all the same."""
    rows = {WRITTEN["padded"](one.id): "another text" for one in POINTS[15:]}
    url = sums(rows if first == "points without rows" else {})
    filling = Embed("words", text="text", checksum=Checksum("SELECT id, checksum FROM sums", missing=missing))
    checksums = checks(url)

    def checked(points):
        texts = [one.payload["text"] for one in points]
        return checksums.checked(filling, [one.id for one in points], lambda at: points[at].payload, texts)

    assert [isinstance(one, Failure) for one in checked(POINTS[1:15])] == [missing == "fail"] * 14
    if first == "an empty table":
        sums(rows)
    assert all("doesn't match" in one.message for one in checked(POINTS[15:]))


@pytest.mark.parametrize("missing", ["accept", "fail"])
def test_numbers_in_a_column_of_texts_are_no_missing_rows(sums, missing):
    """A look-up by number finds none of them, so nothing would be compared: it is refused, with what to write."""
    url = sums({str(number): "another text" for number in range(1, 31)})
    filling = Embed("words", text="text", checksum=Checksum("SELECT id, checksum FROM sums", missing=missing))
    with pytest.raises(RowsError, match="which is not a point id") as caught:
        checks(url).checked(filling, [5, 6], lambda at: {}, ["one", "two"])
    assert "CAST(id AS BIGINT)" in caught.value.hint
