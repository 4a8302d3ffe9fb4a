"""The smallest service for the reference deployment: similar pictures by asset, and whether it can answer at all.

    python service.py [--port 8000]

    GET /similar?asset=17&limit=5     the nearest pictures, each with its path
    GET /readyz                       200 when SQL and Qdrant answer and the collection is at the revision that this
                                      release needs, else 503 and what is missing

qmigrate's settings name the stores; beyond that, the collection is a name like any other.
"""

from __future__ import annotations

import argparse
import json
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from qdrant_client import QdrantClient
from qdrant_client.http.exceptions import UnexpectedResponse
from sqlalchemy import create_engine, text

from qmigrate.health import Expectation, Probe
from qmigrate.settings.load import Settings

COLLECTION = "image_assets"
#: The vector that this release searches by; alembic/versions/s004 lets it start only when every picture has one.
VECTOR = "l14"
#: The revision that made it: a pod that was started before the migration gets no requests until it is applied.
REVISION = "0003"


class Service(ThreadingHTTPServer):
    """The two stores, shared by the requests."""

    def __init__(self, port: int, qdrant: QdrantClient, settings: Settings) -> None:
        super().__init__(("", port), Request)
        self.qdrant = qdrant
        self.sql = create_engine(settings.ledger.url, pool_pre_ping=True)
        self.probe = Probe(
            settings,
            service="image-search",
            client=qdrant,
            expects=[Expectation(COLLECTION, revision=REVISION)],
            collections=[COLLECTION],
            checks={"sql": self.reach_sql},
        )

    def similar(self, asset: int, limit: int) -> list[dict[str, object]]:
        found = self.qdrant.query_points(COLLECTION, query=asset, using=VECTOR, limit=limit, with_payload=["path"])
        return [{"asset": one.id, "score": one.score, "path": (one.payload or {}).get("path")} for one in found.points]

    def reach_sql(self) -> None:
        with self.sql.connect() as connection:
            connection.execute(text("SELECT 1"))


class Request(BaseHTTPRequestHandler):
    """One request; what goes wrong is reported to the client, not to the log."""

    server: Service

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(asked.query).items()}
        try:
            if asked.path == "/readyz":
                report = self.server.probe.check()
                self.answer(report.status_code, report.to_json())
            elif asked.path == "/similar":
                self.answer(200, {"pictures": self.server.similar(int(query["asset"]), int(query.get("limit", "5")))})
            else:
                self.answer(404, {"error": "there are /similar?asset=ID and /readyz"})
        except (KeyError, ValueError):
            self.answer(400, {"error": "asset and limit are whole numbers; asset is needed"})
        except UnexpectedResponse as error:
            # Qdrant's word for a picture that it doesn't have is 404, too.
            missing = error.status_code == 404
            self.answer(404 if missing else 503, {"error": "no such picture" if missing else type(error).__name__})
        except Exception as error:
            self.answer(503, {"error": type(error).__name__})

    def log_message(self, *_: object) -> None:
        """No line per request: a health check asks every few seconds."""

    def answer(self, status: int, body: dict[str, object]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8000)
    port = parser.parse_args().port
    settings = Settings.load()
    at = settings.qdrant
    where = {"path": str(at.path)} if at.path else {"url": at.url, "api_key": at.api_key, "prefix": at.prefix or None}
    qdrant = QdrantClient(**where, timeout=10, check_compatibility=False)
    service = Service(port, qdrant, settings)
    # The first process of a container is only ended by signals that it handles.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=service.shutdown).start())
    service.serve_forever()
    service.server_close()


if __name__ == "__main__":
    main()
