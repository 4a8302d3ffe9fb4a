"""The application: faces in pictures, their persons in SQL, their vectors in Qdrant.

    python faces.py load            make persons and faces, as rows and as points
    python faces.py accept          accept suggestions the way the old endpoint did: it forgot Qdrant
    python faces.py merge A B       B's faces become A's, in SQL and, right after the commit, in Qdrant
    python faces.py show            faces per person, as SQL and as Qdrant have it
"""

from __future__ import annotations

import os
import random
import sys
import uuid
from collections import Counter
from pathlib import Path

from qdrant_client import QdrantClient
from qdrant_client.models import PointStruct
from sqlalchemy import create_engine, text

from qmigrate import fix

FOLDER = Path(__file__).resolve().parent
COLLECTION = "faces"
QUERY = "SELECT point_id, person_id FROM faces"
NAMES = ("Ada", "Ada", "Grace", "Edsger", "Barbara")
FACES = 200
NOW = "2026-01-01 12:00:00.000000"


def identifier(what: str) -> str:
    """The same for the same thing, whenever it is run."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"https://example.org/faces/{what}"))


PERSONS = [(identifier(f"person/{number}"), name) for number, name in enumerate(NAMES)]


def client() -> QdrantClient:
    """Of the server in QMIGRATE_QDRANT_URL, else of the folder that qmigrate uses too."""
    url = os.environ.get("QMIGRATE_QDRANT_URL")
    return QdrantClient(url=url) if url else QdrantClient(path=str(FOLDER / ".qmigrate" / "qdrant"))


def engine():
    """Of the application's SQL."""
    return create_engine(f"sqlite:///{FOLDER / 'faces.db'}")


def load() -> None:
    """Every face is near the centre of its person; every fifth one has only a suggestion yet."""
    chance = random.Random(7)
    centres = [[chance.gauss(0, 1) for _ in range(16)] for _ in PERSONS]
    rows, points = [], []
    for number in range(FACES):
        whose = number % len(PERSONS)
        known = PERSONS[whose][0] if number % 5 != 4 and number % 7 else None
        point = identifier(f"face/{number}")
        rows.append({"id": number, "point": point, "person": known, "at": NOW})
        vector = [value + chance.gauss(0, 0.2) for value in centres[whose]]
        payload = {"picture": f"{number // 3}.jpg", **({"person_id": known} if known else {})}
        points.append(PointStruct(id=point, vector={"face": vector}, payload=payload))
    with engine().begin() as sql:
        persons = [{"id": one, "name": name} for one, name in PERSONS]
        sql.execute(text("INSERT INTO persons VALUES (:id, :name)"), persons)
        sql.execute(text("INSERT INTO faces VALUES (:id, :point, :person, :at)"), rows)
    qdrant = client()
    qdrant.upsert(COLLECTION, points)
    qdrant.close()
    print(f"{len(rows)} faces of {len(PERSONS)} persons")


def accept() -> None:
    """What the endpoint did before it was repaired: the row is committed, the point is not updated."""
    with engine().begin() as sql:
        found = sql.execute(text("SELECT id FROM faces WHERE person_id IS NULL")).scalars().all()
        changes = [{"id": number, "person": PERSONS[number % len(PERSONS)][0], "at": NOW} for number in found]
        sql.execute(text("UPDATE faces SET person_id = :person, updated_at = :at WHERE id = :id"), changes)
    print(f"{len(changes)} suggestions accepted, in SQL only")


def merge(kept: str, other: str) -> None:
    """All in SQL first; after the commit the points of just these faces follow, in one request per person."""
    with engine().begin() as sql:
        whose = "(SELECT id FROM persons WHERE name = :name)"
        moved = sql.execute(text(f"SELECT point_id FROM faces WHERE person_id IN {whose}"), {"name": other})
        ids = moved.scalars().all()
        sql.execute(
            text(f"UPDATE faces SET person_id = (SELECT min(id) FROM persons WHERE name = :kept) "
                 f"WHERE person_id IN {whose}"),
            {"kept": kept, "name": other},
        )
        sql.execute(text("DELETE FROM persons WHERE name = :name"), {"name": other})
    done = fix.sync_payload(
        COLLECTION, sql=QUERY, key="point_id", fields=["person_id"], ids=ids,
        reason=f"{other} is {kept}", config=FOLDER / "qmigrate.yaml",
    )  # fmt: skip
    print(f"{len(ids)} faces moved from {other} to {kept}, {done.changed} points changed (fix {done.done[0].log})")


def show() -> None:
    """The two should be equal."""
    with engine().connect() as sql:
        names = dict(sql.execute(text("SELECT id, name FROM persons")).all())
        rows = Counter(sql.execute(text("SELECT person_id FROM faces")).scalars())
    qdrant = client()
    points, _ = qdrant.scroll(COLLECTION, limit=10_000, with_payload=["person_id"])
    qdrant.close()
    seen = Counter((point.payload or {}).get("person_id") for point in points)
    for person in sorted({*rows, *seen}, key=lambda one: (names.get(one, "~"), str(one))):
        name = names.get(person, "nobody" if person is None else "gone")
        print(f"{name:8} {str(person or '–')[:8]:8}  SQL {rows[person]:3}  Qdrant {seen[person]:3}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["load"]:
            load()
        case ["accept"]:
            accept()
        case ["merge", kept, other]:
            merge(kept, other)
        case ["show"]:
            show()
        case _:
            sys.exit(__doc__)
