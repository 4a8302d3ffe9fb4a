"""An application's SQL next to a deployment: faces with the person on them, as rows and as points. It tests nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import create_engine, text
from tests.harness import CREATE, Deployment, make_point, write

from qmigrate import op
from qmigrate.commands import upgrade
from qmigrate.commands.retrain import Wish

FACES = "SELECT id, person, score FROM faces"
#: Which points a deletion is about: some more than go at once in the kill tests.
IN_SQL = "SELECT id FROM faces WHERE person = 'p9' OR person = 'p4'"
#: Whom an erasure is about: one that is there, one that a deletion has exported, one that is unknown.
ERASED = [4, 9, 9000]
#: A preset that deletes by person, marks the rows and asks for them to be trained; and what is required of it.
PERSON = {
    "sql": "SELECT id FROM faces WHERE person = :value",
    "mark": ["UPDATE faces SET changed_at = NULL WHERE person = :value"],
    "queue": "wanted",
    "max_share": 1.0,
    "type": "PERSON",
    "reason": "test",
}
RETRAINED = Wish("person", ["p9"], {})
P4 = {"must": [{"key": "person", "match": {"value": "p4"}}]}
#: Payload keys that are written without SQL, for twelve of the points: what selects them is what changes.
WRITES = {
    "set": lambda name: op.SetPayload(name, {"person": "p7", "score": -1.0}, filter=P4, max_share=1.0),
    "unset": lambda name: op.DeletePayload(name, ["person", "score"], filter=P4, max_share=1.0),
}


@dataclass
class App:
    """The application: its SQL, and the collection next to it."""

    made: Deployment
    url: str

    def run(self, sql: str, rows: Any = None) -> list:
        """One statement on the application's SQL."""
        engine = create_engine(self.url)
        try:
            with engine.begin() as connection:
                result = connection.execute(text(sql), rows) if rows else connection.execute(text(sql))
                return list(result) if result.returns_rows else []
        finally:
            engine.dispose()

    def sync(self, **more: Any) -> op.SyncPayload:
        """The sync of the tests."""
        given = {"sql": FACES, "fields": {"person": "person", "score": "score"}, "max_share": 1.0, **more}
        return op.SyncPayload(self.made.name, **given)

    def payloads(self) -> dict:
        """Id -> person and score, where they are there."""
        return {
            identifier: {key: payload[key] for key in ("person", "score") if key in payload}
            for identifier, (payload, _) in self.made.contents().items()
        }

    def rows(self) -> dict:
        """The same as SQL has it."""
        found = self.run("SELECT id, person, score FROM faces")
        return {
            (int(one) if str(one).isdigit() else str(one)): {
                key: value for key, value in (("person", person), ("score", score)) if value is not None
            }
            for one, person, score in found
        }


def application(made: Deployment, url: str, points: int = 60) -> App:
    """A collection with integer ids whose points know their person, and rows that say the same."""
    app = App(made, url)
    made.extra["databases"] = {"app": {"url": url}}
    made.__post_init__()
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    app.run("CREATE TABLE faces (id BIGINT PRIMARY KEY, person TEXT, score DOUBLE PRECISION, changed_at TIMESTAMP)")
    found = [make_point(number) for number in range(points)]
    for point in found:
        point.payload.update(person=f"p{int(point.id) % 5}", score=float(point.id))
    store = made.store()
    write(store, made.name, found)
    store.close()
    app.run(
        "INSERT INTO faces VALUES (:id, :person, :score, '2026-01-01 00:00:00')",
        [{"id": one.id, "person": one.payload["person"], "score": one.payload["score"]} for one in found],
    )
    return app


def drift(app: App) -> None:
    """Every kind of drift: another value, none, one too many, a row without a point, a point without a row."""
    app.run("UPDATE faces SET person = 'p9', changed_at = '2026-06-01 00:00:00' WHERE id <= 12")
    app.run("UPDATE faces SET score = NULL, changed_at = '2026-06-01 00:00:00' WHERE id = 20")
    app.run("UPDATE faces SET person = NULL WHERE id = 21")
    app.run("INSERT INTO faces VALUES (5000, 'p1', 1.0, '2026-01-01 00:00:00')")
    app.run("DELETE FROM faces WHERE id = 30")
    store = app.made.store()
    point = make_point(39)
    write(store, app.made.name, [point])
    store.close()
