"""The reference deployment, brought up by docker-entrypoint.sh alone: real Qdrant, real PostgreSQL, real processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psycopg
import pytest
import yaml
from qdrant_client import QdrantClient, models
from sqlalchemy import make_url
from tests.conftest_qdrant import free_port
from tests.scenarios import gated_embedder
from tests.scenarios.entrypoint import ROOT, Container

from qmigrate.commands import status
from qmigrate.settings.load import Settings

pytestmark = [pytest.mark.server, pytest.mark.postgres, pytest.mark.timeout(300)]

SERVICE = ("python", str(ROOT / "examples" / "image_search" / "service.py"))
ALEMBIC = (sys.executable, "-m", "qmigrate.alembic")
REVISIONS = {("image_assets", "0001"), ("image_assets", "0002"), ("image_assets", "0003"), ("faces", "0004")}


def container(folder: Path, database: str, url: str, grpc_port: int) -> Container:
    """The image: its settings and revisions are the project's own, its addresses are a test's."""
    config = yaml.safe_load((ROOT / "qmigrate.yaml").read_text())
    config["qdrant"] = {"url": url, "grpc_port": grpc_port, "timeout": 3}
    config["scripts"] = str(ROOT / "qdrant_migrations")
    config["sql"] = {"config": str(ROOT / "alembic.ini")}
    config["limits"] = {"lease_ttl": "3s", "settle": "5s"}
    config["embedders"]["l14"] = {"type": "callable", "function": "tests.scenarios.gated_embedder:embed", "size": 768, "max_batch": 20}
    (folder / "qmigrate.yaml").write_text(yaml.safe_dump(config))
    variables = {
        "QMIGRATE_CONFIG": str(folder / "qmigrate.yaml"),
        "QMIGRATE_LEDGER_URL": database,
        "ALEMBIC_CONFIG": str(ROOT / "alembic.ini"),
        "QMIGRATE_WAIT": "20s",
        "GATE": str(folder),
    }
    return Container(folder, variables)


@pytest.fixture
def deployed(tmp_path, postgres_database, qdrant_with):
    """An empty database and an empty Qdrant."""
    server = qdrant_with()
    made = container(tmp_path, postgres_database, server.url, server.grpc_port)
    yield made
    made.close()


def asked(made: Container, query: str) -> list[str]:
    """The first column of an answer of the database."""
    url = make_url(made.variables["QMIGRATE_LEDGER_URL"]).set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False)) as connection:
        return [row[0] for row in connection.execute(query).fetchall()]


def sql_revision(made: Container) -> str:
    """What Alembic has recorded."""
    (found,) = asked(made, "SELECT version_num FROM alembic_version")
    return found


def settings(made: Container) -> Settings:
    """As the processes of the deployment read them."""
    return Settings.load(config=made.folder / "qmigrate.yaml", ledger_url=made.variables["QMIGRATE_LEDGER_URL"])


def revisions(made: Container) -> list[tuple[str, str]]:
    """Every row of the history: collection and revision."""
    return [(row.collection, row.revision) for row in status.history(settings(made), None, 100).rows]


def client(made: Container) -> QdrantClient:
    """The service's own client."""
    at = settings(made).qdrant
    return QdrantClient(url=at.url, grpc_port=at.grpc_port, timeout=20, check_compatibility=False)


def test_empty_stores_come_up_and_the_service_answers(deployed):
    """Check refuses and writes nothing; the entrypoint alone does the rest; then the stores are as in the code."""
    refused, said = deployed.run("true", QMIGRATE_ON_START="check")
    assert refused == 3, said
    assert asked(deployed, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []
    assert client(deployed).get_collections().collections == []
    port = free_port()
    service = deployed.start(*SERVICE, "--port", str(port))

    def answer(path: str) -> int | None:
        try:
            return httpx.get(f"http://127.0.0.1:{port}{path}").status_code
        except httpx.TransportError:
            return None

    service.wait_for(lambda: answer("/readyz") == 200)
    client(deployed).upsert("image_assets", [picture(number, l14=[float(number), 1.0] * 384) for number in (1, 2)])
    assert [answer(f"/similar?asset={asset}") for asset in ("1", "3", "one")] == [200, 404, 400]
    service.process.send_signal(signal.SIGTERM)
    assert service.ends() == 0, service.said
    assert sql_revision(deployed) == "s007"
    assert sorted(revisions(deployed)) == sorted(REVISIONS)
    # The ledger's tables are in the same database, and none of Alembic's business.
    clean, said = deployed.run(*ALEMBIC, "check", QMIGRATE_ON_START="off")
    assert clean == 0, said


@pytest.mark.nightly
def test_the_console_is_there_before_the_service_and_after_it(deployed):
    """With the command, the variables and the health check of docker-compose.yml: a token logs in, pages answer."""
    text = (ROOT / "Dockerfile").read_text()
    command = json.loads(re.search(r'CMD (\["qmigrate", "serve".*\])', text)[1])
    beside = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["console"]
    port, token = free_port(), "t" * 40
    given = {name: value for name, value in beside["environment"].items() if name == "QMIGRATE_ON_START"}
    console = deployed.start(*command, "--port", str(port), CONSOLE_TOKEN=token, **given)
    _, _, *asked = beside["healthcheck"]["test"]
    check = [sys.executable, *(part.replace(":6380/", f":{port}/") for part in asked)]
    console.wait_for(lambda: subprocess.run(check, capture_output=True, timeout=30, check=False).returncode == 0)
    browser = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=browser, timeout=30) as client:
        assert client.get("/").status_code == 401
        entered = client.post("/login", data={"token": token})
        # As a browser does it on loopback: kept although the connection has no TLS.
        client.headers["Cookie"] = entered.headers["set-cookie"].partition(";")[0]
        empty = client.get("/")
        assert (empty.status_code, "2 names to come: nothing is there yet" in empty.text) == (200, True)
        ended, said = deployed.run("true")
        assert ended == 0, said
        assert "Every name is served" in client.get("/").text
        assert "image_assets" in client.get("/directories").text
        assert client.get("/api/v1/me").json()["user"] == "on-call"
    console.process.send_signal(signal.SIGTERM)
    assert console.ends() == 0, console.said
    assert token not in console.said


@pytest.mark.nightly
def test_killed_and_stopped_in_the_middle_three_at_once_finish(deployed, tmp_path):
    """Too long is not begun; killed while it copies, stopped while it copies; then one of three finishes, all start."""
    begun, said = deployed.run(*ALEMBIC, "-x", "qdrant=run", "upgrade", "s002", QMIGRATE_ON_START="off")
    assert begun == 0, said
    service = client(deployed)
    service.upsert("image_assets", [picture(number) for number in range(1, 301)])
    long, said = deployed.run("true", QMIGRATE_MAX_ESTIMATE="1s")
    assert (long, sql_revision(deployed)) == (3, "s003"), said
    # The model was measured before it was refused; it got stuck, which is slow, too.
    (tmp_path / "asked").unlink(missing_ok=True)

    # Its speed is measured with 136 pictures; what comes then is the copy.
    killed = deployed.start("true", GATE_FREE="180")
    killed.wait_for((tmp_path / "asked").exists)
    killed.kill()
    (tmp_path / "asked").unlink()

    stopped = deployed.start("true", GATE_FREE="180")
    stopped.wait_for((tmp_path / "asked").exists)
    stopped.process.send_signal(signal.SIGTERM)
    (tmp_path / "open").touch()
    assert stopped.ends() == 143, stopped.said
    with pytest.raises(ProcessLookupError):
        os.killpg(stopped.process.pid, 0)
    assert sql_revision(deployed) == "s003"
    assert "image_assets, fill" in stopped.said

    three = [deployed.start("sh", "-c", "echo started as $$") for _ in range(3)]
    for one in three:
        assert one.ends() == 0, one.said
        assert f"started as {one.process.pid}" in one.said
    # The log of the one that migrated has the outcome: proof, counts, swap and duration.
    whole = "\n".join(one.said for one in three)
    assert re.search(r"image_assets: 0003; 300 of 300 points proven; image_assets__g\d+ serves; name moved in", whole)
    assert re.search(r"image_assets: fill done in [\d.]+ s, 300 points", whole)
    assert deployed.run("true", QMIGRATE_ON_START="check")[0] == 0
    assert sql_revision(deployed) == "s007"
    assert sorted(revisions(deployed)) == sorted(REVISIONS)
    assert service.count("image_assets").count == 300
    wanted = gated_embedder.vector("17.png")
    found = service.query_points("image_assets", query=wanted, using="l14", limit=1, with_payload=True)
    assert (found.points[0].id, found.points[0].payload["path"]) == (17, "17.png")


@pytest.mark.nightly
def test_a_pod_that_is_off_gets_no_request_before_the_job_has_run(deployed):
    """It starts at once, is not ready and names the missing revision; after the job it is ready by itself."""
    begun, said = deployed.run(*ALEMBIC, "-x", "qdrant=run", "upgrade", "s002", QMIGRATE_ON_START="off")
    assert begun == 0, said
    port = free_port()
    pod = deployed.start(*SERVICE, "--port", str(port), QMIGRATE_ON_START="off")

    def report() -> tuple[int, dict] | None:
        try:
            answer = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=20)
        except httpx.TransportError:
            return None
        return answer.status_code, answer.json()

    pod.wait_for(lambda: (found := report()) is not None and "0003" in found[1]["summary"])
    assert report()[0] == 503
    job, said = deployed.run()
    assert job == 0, said
    pod.wait_for(lambda: (found := report()) is not None and found[0] == 200)
    pod.process.send_signal(signal.SIGTERM)
    assert pod.ends() == 0, pod.said


def picture(number: int, **more: list[float]) -> models.PointStruct:
    """As the service of revision 0002 writes it; a later one adds a vector."""
    payload = {"asset_id": str(number), "path": f"{number}.png"}
    return models.PointStruct(id=number, payload=payload, vector={"b32": [1.0, float(number)] * 256, **more})


@pytest.mark.parametrize("down", ["qdrant", "grpc", "postgresql"])
def test_what_does_not_answer_is_waited_for_with_a_limit(tmp_path, postgres_database, qdrant_server, down):
    """Exit code 9 and the name of what is missing; nothing was started."""
    url, database = qdrant_server.url, postgres_database
    if down == "qdrant":
        url = f"http://127.0.0.1:{free_port()}"
    elif down == "postgresql":
        database = make_url(database).set(port=free_port()).render_as_string(hide_password=False)
    made = container(tmp_path, database, url, qdrant_server.grpc_port)
    more = {"QMIGRATE_QDRANT_GRPC_PORT": str(free_port())} if down == "grpc" else {}
    code, said = made.run("sh", "-c", "echo started", QMIGRATE_WAIT="1s", **more)
    assert code == 9, said
    assert "still waiting for " + {"qdrant": "qdrant", "grpc": "qdrant", "postgresql": "ledger"}[down] in said
    if down == "grpc":
        assert "gRPC" in said
    assert "started" not in said.replace("not started", "")
