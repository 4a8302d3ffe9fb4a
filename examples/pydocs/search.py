"""Search in plain words: python search.py "join two path components"."""

from __future__ import annotations

import argparse

from place import COLLECTION, embedders, open_client


def main() -> None:
    """Print the best matches, one per line."""
    parser = argparse.ArgumentParser(description="Search the documentation of Python's standard library.")
    parser.add_argument("words", nargs="+", help="what you look for, in plain words")
    parser.add_argument("--vector", help="the vector to search by (default: the newest)")
    parser.add_argument("--limit", type=int, default=5, help="results to print (default: 5)")
    given = parser.parse_args()
    with open_client() as client:
        models = embedders(client)
        vector = given.vector or list(models)[-1]
        if vector not in models:
            parser.error(f"{COLLECTION} has no vector {vector!r}; it has: {', '.join(models)}")
        wanted = models[vector].embed([" ".join(given.words)])[0].tolist()
        found = client.query_points(COLLECTION, query=wanted, using=vector, limit=given.limit).points
    print(f"by vector {vector}:")
    for point in found:
        payload = point.payload or {}
        summary = payload["text"].partition("\n")[2].partition("\n")[0]
        print(f"  {point.score:.2f}  {payload['kind']:8}  {payload['name']:32}  {summary[:60]}")


if __name__ == "__main__":
    main()
