"""Engines of SQLAlchemy that were left: who takes them, with what they have learned, and never two at once."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import text
from tests.harness import in_threads

from qmigrate.ledger.database import Database


def engine_of(database: Database, path: str | None = None) -> int:
    """Which engine answers; also that it answers from the right file."""
    with database.reading() as connection:
        if path is not None:
            assert connection.scalar(text("SELECT file FROM pragma_database_list WHERE name = 'main'")) == path
        assert connection.scalar(text("SELECT 1")) == 1
        return id(connection.dialect)


def test_the_next_session_takes_what_an_earlier_one_left(ledger_url):
    """The engine of a closed database is used again, also through a database that is opened again; its pool is empty."""
    first = Database(ledger_url)
    first.create()
    left = engine_of(first)
    first.close()
    second = Database(ledger_url)
    assert engine_of(second) == left
    # It is in use: the next one gets one of its own, and so does the one that had it before.
    third = Database(ledger_url)
    assert len({left, engine_of(third), engine_of(first)}) == 3
    for one in (first, second, third):
        one.close()


@pytest.mark.parametrize("other", ["file", "connections"])
def test_an_engine_serves_only_what_it_was_made_for(tmp_path, other):
    """Neither another file nor a single connection of its own is answered by an engine that is shared."""
    paths = [str(tmp_path / f"{name}.db") for name in ("one", "two" if other == "file" else "one")]
    one = Database(f"sqlite:///{paths[0]}")
    one.create()
    left = engine_of(one, paths[0])
    one.close()
    two = Database(f"sqlite:///{paths[1]}") if other == "file" else one.dedicated()
    two.create()
    assert engine_of(two, paths[1]) != left
    again = Database(f"sqlite:///{paths[0]}")
    assert engine_of(again, paths[0]) == left
    two.close()
    again.close()


def test_threads_never_get_the_same_engine(tmp_path):
    """Databases that are opened and closed by several threads at once: the one inside is alone there."""
    path = tmp_path / "ledger.db"
    Database(f"sqlite:///{path}").create()
    inside, shared, guard = set(), [], threading.Lock()

    def work() -> None:
        for _ in range(40):
            database = Database(f"sqlite:///{path}")
            mine = engine_of(database)
            with guard:
                shared.extend({mine} & inside)
                inside.add(mine)
            engine_of(database)
            with guard:
                inside.discard(mine)
            database.close()

    in_threads(work)
    assert shared == []
