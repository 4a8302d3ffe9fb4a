"""A small deployment in the making: settings, revisions, points and SQL rows in one folder. It makes no golden file."""

from __future__ import annotations

import copy
import json
import shutil
import sqlite3
import textwrap
from collections.abc import Callable, Iterable
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from qdrant_client import QdrantClient, models
from qdrant_client.local.qdrant_local import QdrantLocal
from tests.golden import adapter
from tests.golden.common import in_database, point

POINTS = 30
HEADER = '''"""revision {id}"""
from qdrant_client.models import Distance, HnswConfigDiff, PayloadSchemaType, VectorParams
from qmigrate import Checksum, Compute, CopyOf, Embed, Empty, Recall, WriteBack, op

revision = "{id}"
down_revision = {down}


'''
CREATE = """
def upgrade():
    return [op.CreateCollection("docs", {"a": VectorParams(size=4, distance=Distance.COSINE)})]
"""
ADD = """
def upgrade():
    return [op.AddVector("docs", "b", VectorParams(size=8, distance=Distance.COSINE), values=Embed("words", text="text"))]
"""
INDEX = """
def upgrade():
    return [op.CreatePayloadIndex("docs", "kind", PayloadSchemaType.KEYWORD)]
"""
HOLD = """
def upgrade():
    return [op.AlterVector("docs", "a", VectorParams(size=8, distance=Distance.COSINE), values=Embed("words", text="text"), cutover="hold")]
"""
KEEP = """
def words(payload):
    return payload["text"]


def upgrade():
    return [op.AddVector("docs", "b", VectorParams(size=8, distance=Distance.COSINE),
                         values=Embed("words", text=words, on_failure="keep_without_vector"))]
"""
DROP = KEEP.replace("keep_without_vector", "drop").replace('"b"', '"c"')
TOLD = """
def upgrade():
    return [op.AddVector("docs", "b", VectorParams(size=8, distance=Distance.COSINE), values=Embed(
        "words", text="text",
        checksum=Checksum("SELECT id, sum FROM assets", column="sum"),
        write_back=WriteBack("UPDATE assets SET told = :now WHERE id = :id"),
    ))]
"""
WRITES = """
def upgrade():
    return [op.SetPayload("docs", {"seen": True}, filter={"must": [{"key": "kind", "match": {"value": "odd"}}]}, max_share=1.0)]
"""
CALL = """
def count_up(calling):
    calling.client.set_payload(calling.alias, {"called": calling.key}, points=[1, 2])
    return {"called": 2}


def upgrade():
    return [op.Call("docs", count_up, key="once", reason="to see")]
"""
REKEY = """
def shifted(point):
    return int(point.payload["n"]) + 1000


def upgrade():
    return [op.Rekey("docs", shifted, cutover="immediate")]
"""
HNSW = """
def upgrade():
    return [op.UpdateCollection("docs", hnsw_config=HnswConfigDiff(m=24))]
"""
DROPPED = """
def upgrade():
    return [op.DropCollection("docs")]
"""


class Project:
    """A folder with everything of one deployment, as a rule in the client's local mode.

    Args:
        folder: made when it isn't there.
        more: sections of the settings, in addition to the usual ones.
    """

    def __init__(self, folder: Path, **more: Any) -> None:
        self.folder = folder
        (folder / "qdrant_migrations" / "versions").mkdir(parents=True)
        self.last: str | None = None
        base: dict[str, Any] = {
            "qdrant": {"path": "qdrant"},
            "ledger": {"url": "sqlite:///ledger.db"},
            "scripts": "qdrant_migrations",
            "embedders": {"words": {"type": "hashing", "size": 8}},
            "databases": {"app": {"url": "sqlite:///app.db"}},
            "limits": {"lease_ttl": "20s", "lock_timeout": "5s", "max_quarantine": 20},
            # They are looked at long after they were made.
            "rebuild": {"holdover": "36500d", "ranges": 3, "workers": 1},
            "fixes": {
                "undo": "36500d",
                "max_share": 1.0,
                "soft_delete": "36500d",
                "presets": {
                    "retrain": {
                        "collection": "docs",
                        "sql": "SELECT id FROM assets WHERE kind = :value",
                        "mark": ["UPDATE assets SET told = NULL WHERE kind = :value"],
                        "type": "KIND",
                        "reason": "golden",
                        "max_share": 1.0,
                    }
                },
            },
        }
        for section, values in more.items():
            base[section] = values if section == "qdrant" else {**base.get(section, {}), **values}
        self.qdrant = base["qdrant"]
        (folder / "qmigrate.yaml").write_text(yaml.safe_dump(base))

    def revise(self, identifier: str, body: str) -> None:
        """Write the next revision file."""
        path = self.folder / "qdrant_migrations" / "versions" / f"{identifier}_rev.py"
        path.write_text(HEADER.format(id=identifier, down=repr(self.last)) + textwrap.dedent(body).lstrip())
        self.last = identifier

    def cli(self, *args: str, code: int = 0) -> Any:
        """Run a verb; its result where it is JSON."""
        answer = adapter.call(self.folder, *args, "--json")
        if answer.code != code:
            raise RuntimeError(f"{self.folder.name}: {args} ended with {answer.code}: {answer.out}{answer.err}")
        try:
            return json.loads(answer.out)
        except ValueError:
            return answer.out

    def killed(self, label: str, turn: int, *args: str) -> None:
        """Run a verb that is killed at a point; see :func:`tests.golden.adapter.killed`."""
        adapter.killed(self.folder, label, turn, *args)

    def client(self) -> Any:
        """A client of Qdrant's own, to be closed."""
        made = QdrantClient(url=self.qdrant["url"], check_compatibility=False) if "url" in self.qdrant else QdrantLocal(str(self.folder / "qdrant"))
        return closing(made)

    def load(self, numbers: Iterable[int] = range(POINTS), name: str = "docs", **payload: Any) -> None:
        """Write points as an application does; `payload` comes on top of theirs, and None takes a key away."""
        made = []
        for number in numbers:
            identifier, known, vector = point(number)
            said = {key: value for key, value in {**known, **payload}.items() if value is not None}
            made.append(models.PointStruct(id=identifier, payload=said, vector={"a": vector}))
        with self.client() as client:
            client.upsert(name, made)

    def delete(self, *ids: int | str) -> None:
        """Delete points as an application does."""
        with self.client() as client:
            client.delete("docs", models.PointIdsList(points=list(ids)))

    def sql(self, *statements: str) -> None:
        """Statements on the application's own database."""
        with closing(sqlite3.connect(self.folder / "app.db")) as made:
            for statement in statements:
                made.execute(statement)
            made.commit()

    def assets(self) -> None:
        """The application's rows, one per point with an integer id."""
        self.sql("CREATE TABLE assets (id INTEGER PRIMARY KEY, kind TEXT, sum TEXT, told TEXT)")
        found = (point(number) for number in range(POINTS))
        rows = [(one, said["kind"], sha256(said["text"].encode()).hexdigest()) for one, said, _ in found if isinstance(one, int)]
        values = ", ".join(f"({one}, '{kind}', '{digest}', NULL)" for one, kind, digest in rows)
        self.sql(f"INSERT INTO assets VALUES {values}")  # noqa: S608  values of our own


def _stocked(folder: Path, build: Callable[[Path], Project]) -> Project:
    """A copy of what was built before in a folder next to this one: it is the same each time."""
    stock = folder.parent / f".{build.__name__}"
    made = _STOCK.get(stock) or _STOCK.setdefault(stock, build(stock))
    shutil.copytree(stock, folder)
    in_database(folder / "ledger.db", str(stock), str(folder))
    copied = copy.copy(made)
    copied.folder = folder
    return copied


_STOCK: dict[Path, Project] = {}


def loaded(folder: Path) -> Project:
    """A collection of 30 points at 0001."""
    return _stocked(folder, _load)


def _load(folder: Path) -> Project:
    made = Project(folder)
    made.revise("0001", CREATE)
    made.cli("upgrade", "0001")
    made.load()
    return made


def rebuilt(folder: Path) -> Project:
    """The same at 0002, with a way back."""
    return _stocked(folder, _rebuild)


def _rebuild(folder: Path) -> Project:
    made = loaded(folder)
    made.revise("0002", ADD)
    made.cli("upgrade", "0002")
    return made


def plain(folder: Path, **more: Any) -> Project:
    """A collection that is not adopted."""
    made = Project(folder, **more)
    with made.client() as client:
        client.create_collection("docs", {"a": models.VectorParams(size=4, distance=models.Distance.COSINE)})
    made.load()
    return made


def with_rows(folder: Path) -> Project:
    """Points, and rows of an application."""
    made = loaded(folder)
    made.assets()
    return made


#: Settings in which every section is used.
SETTINGS = """\
qdrant: {url: "https://qdrant.example:6333/vectors", api_key_env: GOLDEN_KEY, timeout: 7, grpc_port: 7334}
ledger: {url: "postgresql+psycopg://me@sql.example/ledger", schema: vectors}
scripts: migrations
sql: {url: "postgresql+psycopg://me@sql.example/app", version_table: versions, config: alembic.ini}
databases:
  app: {url: "postgresql+psycopg://me@sql.example/app"}
embedders:
  words: {type: hashing, size: 8}
  own: {type: callable, function: "app.vectors:embed", size: 4}
  far: {type: http, url: "https://embed.example/v1", size: 4}
rebuild:
  writes: freeze
  snapshot: "off"
  holdover: 3d
  ranges: 12
  workers: 2
  devices: [cuda:0, cuda:1]
  engine: ray
  ray: {address: local, workers: 3, num_gpus: 0.5, num_cpus: 2}
  sample: 17
  fuse: false
  max_rate: 250
  plain_names: gap
  gc: "off"
  on_failure: drop
  keep_snapshots: true
fixes:
  exports: exports
  undo: 12h
  max_share: 0.25
  soft_delete: 5d
  tenants: {"docs*": owner}
  presets:
    folder: {collection: docs, prefix: ":value", type: DIRECTORY, reason: golden}
limits: {lock_timeout: 2m, lease_ttl: 45s, max_quarantine: 0.01, ready_timeout: 1h, settle: 9s, freeze: 11s}
estimates: {copy: 1000000, index: 2000, embed: 30, local: 40, step: 5s}
health: {timeout: 500ms, first: 2s, retries: 3, cache: 1m, embedders: true, require: [serving, pending]}
collections:
  docs: {rebuild: {writes: refuse}, fixes: {max_share: 0.5}}
lint: {run_points: 5000, points: {"docs*": 70}}
metrics:
  checks:
    strays: {kind: orphans, collection: docs, sql: "SELECT id FROM assets"}
"""
