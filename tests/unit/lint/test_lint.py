"""The lint: every rule finds what it is there for and nothing else; ignores need a reason; one bad file hides none."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from qmigrate.commands.lint import lint as lint_project
from qmigrate.lint import RULES
from qmigrate.settings.load import Settings

CONFIG = """
qdrant: {path: .qmigrate/qdrant}
embedders:
  words: {type: hashing, size: 16}
  mine: {type: callable, function: "app:embed", size: 16}
  terms: {type: bm25}
  asked: {type: bm25, task: query}
  pinned: {type: callable, function: "app:embed", size: 16, version: "3"}
collections:
  other: {embedders: {words: {type: hashing, size: 32}}}
"""
HEAD = '''"""What revision {id} does."""
from qdrant_client.models import *
from qmigrate import FILL_ME, Compute, CopyOf, Embed, Empty, WriteBack, op

revision = "{id}"
down_revision = {down}
'''
A8 = '{"a": VectorParams(size=8, distance=Distance.COSINE)}'
CREATE = f'op.CreateCollection("docs", {A8})'
WORDS = 'op.AddVector("docs", "b", SparseVectorParams(modifier=Modifier.IDF), values=Embed("terms", text="text"))'
ADD = 'op.AddVector("docs", "b", VectorParams(size=16, distance=Distance.COSINE), values=Embed("words", text="text"))'


@dataclass
class Folder:
    """A folder of revisions that is written file by file."""

    root: Path
    last: str | None = None
    made: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.root / "qdrant_migrations" / "versions").mkdir(parents=True)
        (self.root / "qmigrate.yaml").write_text(CONFIG)

    def write(self, name: str, text: str) -> Path:
        """A file as it is."""
        path = self.root / "qdrant_migrations" / "versions" / name
        path.write_text(textwrap.dedent(text))
        return path

    def revise(self, body: str, *, before: str = "", more: str = "", down: object = "last") -> Path:
        """The next revision; `body` is the list that upgrade() returns."""
        number = f"{len(self.made) + 1:04d}"
        parent = self.last if down == "last" else down
        head = HEAD.format(id=number, down=repr(parent))
        path = self.write(f"{number}_rev.py", f"{head}{more}\n{before}\n\ndef upgrade():\n    return [{body}]\n")
        self.last = number
        self.made.append(path)
        return path

    def lint(self, **options):
        """What is found."""
        return lint_project(Settings.load(config=self.root / "qmigrate.yaml", stores=False), **options)

    def codes(self) -> list[str]:
        """Codes of what is found, in the order of lines."""
        return [one.code for one in self.lint().findings]


@pytest.fixture
def folder(tmp_path):
    """An empty project."""
    return Folder(tmp_path / "project")


def told(sql: str) -> str:
    """Adding a vector, with a write-back."""
    return ADD.replace('text="text"', f'text="text", write_back=WriteBack("{sql}")')


def change(body: str, *, before: str = "", more: str = "", start: str = CREATE):
    """A revision behind one that creates ``docs``."""

    def fill(made: Folder) -> None:
        made.revise(start)
        made.revise(body, before=before, more=more)

    return fill


def files(**named: str):
    """Files as they are."""

    def fill(made: Folder) -> None:
        for name, text in named.items():
            made.write(f"{name}.py", text)

    return fill


def chain(*downs):
    """Revisions that only follow each other: one per entry, with its down_revision."""

    def fill(made: Folder) -> None:
        for place, down in enumerate(downs):
            made.revise(f'op.CreateCollection("c{place}", {A8})', down=down)

    return fill


def single(body: str, **more: str):
    """One revision."""

    def fill(made: Folder) -> None:
        made.revise(body, **more)

    return fill


IRREVERSIBLE = 'irreversible = "no query needs it"'
DROP = 'op.DropVector("docs", "a", cutover="immediate")'
TRANSFORM = 'op.TransformPoints("docs", change, inverse=change)'
SCALAR = "ScalarQuantization(scalar=ScalarQuantizationConfig(type=ScalarType.INT8{}))"
BINARY = "BinaryQuantization(binary=BinaryQuantizationConfig(always_ram=True))"
EMPTY = "def upgrade():\n    return []\n"
SQUASHED = '"""X."""\nfrom qmigrate import op\nrevision = "0001"\ndown_revision = None\nreplaces = {}\ndef upgrade():\n    return [op.CreateCollection("docs", {{}})]\n'


def function(body: str) -> str:
    """A payload function, behind what it needs."""
    return f"\ndef change(point):\n{textwrap.indent(textwrap.dedent(body), '    ')}\n"


def update(settings: str) -> str:
    """UpdateCollection of ``docs``."""
    return f'op.UpdateCollection("docs", {settings})'


def created(settings: str, vectors: str = A8) -> str:
    """CreateCollection with settings."""
    return f'op.CreateCollection("docs", {vectors}, {settings})'


def a(params: str) -> str:
    """One vector ``a``."""
    return f'{{"a": VectorParams({params})}}'


def deleted(more: str = "") -> str:
    """A deletion of points of ``docs``."""
    return f'op.DeletePoints("docs", ids=[1, 2], reason="asked for by the editors", {more})'


def orphans(more: str = "", sql: str = "SELECT id FROM t") -> str:
    """A deletion of orphans of ``docs``."""
    return f'op.DeleteOrphans("docs", sql="{sql}", reason="rows are gone", {more})'


def synced(sql: str) -> str:
    """A payload sync of ``docs``."""
    return f'op.SyncPayload("docs", sql="{sql}", fields=["v"])'


#: code -> (what breaks the rule, what looks like it and doesn't).
CASES = {
    "QM001": (files(x="revision = '1'\ndown_revision = None\ndef upgrade(:\n"), single(CREATE)),
    "QM002": (single(f"{CREATE},  # qmigrate: ignore[QM302]\n"), single(f"{CREATE},  # an ordinary comment\n")),
    "QM003": (single(f"{CREATE},  # qmigrate: ignore[QM302] nothing is dropped here\n"),
              change(f"{DROP},  # qmigrate: ignore[QM302] it was never filled\n")),
    "QM004": (files(**{"0001_x": f'revision = "0001"\ndown_revision = None\nfrom qmigrate import op\n{EMPTY}'}), single(CREATE)),
    "QM005": (files(first=HEAD.format(id="0001", down=None) + EMPTY), single(CREATE)),
    "QM101": (files(**{"0001_a": HEAD.format(id="0001", down=None) + EMPTY, "0001_b": HEAD.format(id="0001", down=None) + EMPTY}),
              chain(None, "0001")),
    "QM102": (chain(None, "0007"), chain(None, "0001")),
    "QM103": (chain("0002", "0001"), chain(None, "0001")),
    "QM104": (chain(None, "0001", "0001"), chain(None, "0001", "0001", ("0002", "0003"))),
    "QM105": (chain(None, None), chain(None, "0001")),
    "QM106": (single(""), chain(None, "0001", "0001", ("0002", "0003"))),
    "QM107": (change('op.DropPayloadIndex("docs", "kind"), op.CreatePayloadIndex("docs", "n", "int")'),
              change('op.CreatePayloadIndex("docs", "n", "integer")')),
    "QM108": (single('op.CreatePayloadIndex("docs", "n", "integer")'), change('op.CreatePayloadIndex("docs", "n", "integer")')),
    "QM109": (change('op.CreatePayloadIndex("docs__g*", "n", "integer")'), change('op.CreatePayloadIndex("docs*", "n", "integer")')),
    "QM110": (change('op.CreatePayloadIndex("*", "n", "integer")'), change('op.CreatePayloadIndex("d*", "n", "integer")')),
    "QM111": (files(**{"0001_x": SQUASHED.format("['0000']") , "0000_x": SQUASHED.format("[]").replace("0001", "0000"), "0002_x": SQUASHED.format("['0000']").replace("0001", "0002").replace("None", "'0001'")}),
              files(**{"0001_x": SQUASHED.format("['0000']"), "0002_x": SQUASHED.format("[]").replace("0001", "0002").replace("None", "'0000'")})),
    "QM201": (change(TRANSFORM, more="import sqlalchemy\n", before=function("return point.payload")),
              change(TRANSFORM, more="import math\nimport numpy as np\n", before=function("import sqlalchemy\nreturn point.payload"))),
    "QM202": (change(TRANSFORM, more="import os\nSHARDS = int(os.environ.get('SHARDS', 1))\n", before=function("return point.payload")),
              change(TRANSFORM, more="import uuid\nSPACE = uuid.uuid5(uuid.NAMESPACE_DNS, 'docs')\n", before=function("return point.payload"))),
    "QM203": (change(TRANSFORM, more="import yaml\n", before=function("return point.payload")),
              change(TRANSFORM, more="import json\nimport numpy\n", before=function("return point.payload"))),
    "QM204": (change(TRANSFORM, more="from uuid import uuid4 as fresh\n", before="def made():\n    return str(fresh())\n" + function("return {**point.payload, 'key': made()}")),
              change(TRANSFORM, more="import uuid, random\n", before=function("random.Random(7).random()\nreturn {**point.payload, 'key': str(uuid.uuid5(uuid.NAMESPACE_OID, str(point.id)))}"))),
    "QM205": (change('op.AddVector("docs", "b", VectorParams(size=2, distance="Dot"), values=Compute(lambda point: [float(len(open("/x").read())), 0.0]))'),
              change('op.AddVector("docs", "b", VectorParams(size=2, distance="Dot"), values=Compute(lambda point: [float(len(point.payload)), 0.0]))')),
    "QM206": (change(TRANSFORM, more="from qdrant_client import QdrantClient\n", before=function("QdrantClient('http://x').get_collections()\nreturn point.payload")),
              change(TRANSFORM, more="from qdrant_client import models\n", before=function("return point.payload"))),
    "QM207": (change('op.CreatePayloadIndex("docs", "n", "integer")', before="\nop.DropVector('docs', 'a')\n"),
              change('op.CreatePayloadIndex("docs", "n", "integer")', before="\nLATER = op.DropVector('docs', 'a')\n")),
    "QM301": (change('op.DropVector("docs", "a")', more=IRREVERSIBLE), change(DROP, more=IRREVERSIBLE)),
    "QM302": (change(DROP), change(DROP, more=IRREVERSIBLE)),
    "QM303": (change('op.TransformPoints("docs", change)', before=function("return {}")), change(TRANSFORM, before=function("return point.payload"))),
    "QM304": (change(f"{ADD}, {DROP}", more=IRREVERSIBLE), change(ADD)),
    "QM305": (change('op.AlterVector("docs", "a", VectorParams(size=16, distance="Cosine"), values=Embed("words", text="text"), cutover="immediate")', more=IRREVERSIBLE),
              change('op.AlterVector("docs", "a", VectorParams(size=8, distance="Cosine", on_disk=True))')),
    "QM306": (change('op.RenameVector("docs", "a", "z", cutover="immediate")'), change('op.AddVector("docs", "z", VectorParams(size=8, distance="Cosine"), values=CopyOf("a"))')),
    "QM307": (single(f'{CREATE}, op.CreateCollection("more", {A8}), op.SetAlias("read", "docs"), op.SetAlias("read", "more")'),
              single(f'{CREATE}, op.SetAlias("read", "docs"), op.SetAlias("query", "docs")')),
    "QM401": (change(ADD.replace("size=16", "size=17")), change(ADD)),
    "QM402": (change(ADD.replace('"words"', '"wrods"')), change(ADD)),
    "QM403": (change(ADD.replace('"words"', '"mine"')), change(ADD.replace('"words"', '"pinned"'))),
    "QM404": (change(f"{TRANSFORM}, {ADD}", before=function("found = dict(point.payload)\nfound.pop('text')\nreturn found")),
              change(f"{TRANSFORM}, {ADD}", before=function("found = dict(point.payload)\nfound.pop('title', None)\nreturn found"))),
    "QM405": (change('op.AlterVector("docs", "a", VectorParams(size=8, distance="Cosine", datatype="float16"))', more=IRREVERSIBLE),
              change('op.AlterVector("docs", "a", VectorParams(size=8, distance="Cosine", on_disk=True))')),
    "QM407": (
        change('op.AddVector("docs", "b", VectorParams(size=8, distance=Distance.COSINE), values=FILL_ME)'),
        change('op.AddVector("docs", "b", VectorParams(size=8, distance=Distance.COSINE), values=Empty())'),
    ),
    "QM408": (change(ADD.replace('"words"', '"terms"')), change(WORDS)),
    "QM409": (change(WORDS.replace("modifier=Modifier.IDF", "")), change(WORDS)),
    "QM410": (change(WORDS.replace('"terms"', '"asked"')), change(WORDS)),
    "QM406": (change(told("INSERT INTO seen VALUES (:id, :now)")), change(told("INSERT INTO seen VALUES (:id, :now) ON CONFLICT DO NOTHING"))),
    "QM501": (change('op.CreatePayloadIndex("docs", "kind", "keyword")', start=f'{CREATE}, op.CreatePayloadIndex("docs", "kind", "integer")'),
              change('op.CreatePayloadIndex("docs", "kind", "keyword")')),
    "QM502": (change('op.DropPayloadIndex("docs", "n")', start=f'{CREATE}, op.CreatePayloadIndex("docs", "n", "integer")'),
              change('op.CreatePayloadIndex("docs", "n", "float")', start=f'{CREATE}, op.CreatePayloadIndex("docs", "n", "integer")')),
    "QM503": (change('op.DropPayloadIndex("docs", "n")', start=created('strict_mode_config=StrictModeConfig(enabled=True, unindexed_filtering_update=False), payload_indexes={"n": "integer"}')),
              change('op.DropPayloadIndex("docs", "n")', start=created('strict_mode_config=StrictModeConfig(enabled=False, unindexed_filtering_update=False), payload_indexes={"n": "integer"}'))),
    "QM504": (change('op.UpdateCollection("docs", hnsw_config=HnswConfigDiff(m=24), strategy="in_place")'), change(update("hnsw_config=HnswConfigDiff(m=24)"))),
    "QM505": (change(update("hnsw_config=HnswConfigDiff(m=0)")), change(update("hnsw_config=HnswConfigDiff(m=0, payload_m=16)") + ', op.CreatePayloadIndex("docs", "tenant", KeywordIndexParams(type="keyword", is_tenant=True))')),
    "QM506": (change(update(f"quantization_config={BINARY}")), change(update(f"quantization_config={BINARY}"), start=created("on_disk_payload=True", a('size=1536, distance="Cosine"')))),
    "QM507": (change(update("optimizers_config=OptimizersConfigDiff(indexing_threshold=0)")), change(update("optimizers_config=OptimizersConfigDiff(indexing_threshold=20000)"))),
    "QM508": (change(update("optimizers_config=OptimizersConfigDiff(prevent_unoptimized=True)")), change(update("optimizers_config=OptimizersConfigDiff(prevent_unoptimized=False)"))),
    "QM509": (change(update("strict_mode_config=StrictModeConfig(enabled=True, write_rate_limit=1)")), change(update("strict_mode_config=StrictModeConfig(enabled=True, write_rate_limit=600)"))),
    "QM510": (change(update(f"quantization_config={SCALAR.format('')}"), start=created("on_disk_payload=True", a('size=8, distance="Cosine", on_disk=True'))),
              change(update(f"quantization_config={SCALAR.format(', always_ram=True')}"), start=created("on_disk_payload=True", a('size=8, distance="Cosine", on_disk=True')))),
    "QM511": (change(update(f"quantization_config={SCALAR.format('')}"), start=created("on_disk_payload=True", a('size=8, distance="Cosine", datatype="uint8"'))),
              change(update(f"quantization_config={SCALAR.format('')}"))),
    "QM701": (change(f'{ADD}, {deleted()}'), change(f"{deleted()}, {orphans()}")),
    "QM702": (change(deleted("max_share=1.0")), change(deleted("max_share=0.5"))),
    "QM703": (change(orphans().replace('"docs"', '"d*"')), change(orphans("max_share=0.01").replace('"docs"', '"d*"'))),
    "QM704": (change(deleted("export=False")), change(deleted("export=True"))),
    "QM705": (change(deleted().replace("asked for by the editors", "cleanup")), change(deleted())),
    "QM706": (change(orphans("grace=0")), change(orphans())),
    "QM707": (change('op.DeletePoints("docs", prefix="/photos/2024*", reason="folder removed")'),
              change('op.DeletePoints("docs", prefix="/photos/100%_x", reason="folder removed")')),
    "QM708": (change('op.DeletePoints("docs", filter={"must_not": [{"key": "kind", "match": {"value": "a"}}]}, reason="not a")'),
              change('op.DeletePoints("docs", filter={"must": [{"key": "n", "match": {"value": 1}}], "must_not": [{"key": "kind", "match": {"value": "a"}}]}, reason="not a")')),
    "QM709": (change(orphans(sql="WITH gone AS (DELETE FROM t RETURNING id) SELECT id FROM gone")), change(orphans(sql="SELECT id, updated FROM t WHERE note <> 'update'"))),
    "QM710": (change(orphans(sql="SELECT id FROM t LIMIT 1000")), change(orphans(sql="SELECT id FROM t WHERE limit_ > 3 AND note <> 'limit 5'"))),
    "QM711": (change(synced("SELECT id, v FROM t ORDER BY id")), change(synced("SELECT id, row_number() OVER (ORDER BY at) AS v FROM t"))),
    "QM712": (change(synced("SELECT * FROM t")), change(synced("SELECT id, v FROM (SELECT * FROM t) AS x"))),
    "QM713": (change(synced("SELECT number, v FROM t")), change(synced("SELECT t.id, v FROM t"))),
    "QM714": (change('op.SetPayload("docs", {"n": 1})'), change('op.SetPayload("docs", {"n": 1}, max_share=1), op.DeletePayload("docs", "m", filter={"must": [{"is_empty": {"key": "n"}}]})')),
}


def test_every_rule_has_a_case():
    """The table of cases and the table of rules are the same; those about Alembic have a table of their own."""
    assert sorted(CASES) == [rule.code for rule in RULES if not rule.code.startswith("QM6")]


@pytest.mark.parametrize("code", sorted(CASES))
def test_a_rule_finds_what_it_is_there_for(code, folder):
    """The broken revision is found, with its line; the sound one next to it is not."""
    broken, sound = CASES[code]
    broken(folder)
    found = [one for one in folder.lint().findings if one.code == code]
    assert found, folder.lint().findings
    rule = next(rule for rule in RULES if rule.code == code)
    assert {one.severity for one in found} == {rule.severity}
    for one in found:
        lines = one.path.read_text().splitlines()
        assert 1 <= one.line <= one.end_line <= max(1, len(lines))
    fresh = Folder(folder.root.parent / "sound")
    sound(fresh)
    assert code not in fresh.codes(), fresh.lint().findings


#: More of what a rule has to see, or to leave alone: (code, what, whether it is found).
MORE = (
    ("QM001", files(x="import nothing_like_this\nrevision = '1'\ndown_revision = None\n" + EMPTY), True),
    ("QM001", files(x="revision = '1'\ndown_revision = None\ndef upgrade():\n    return 3\n"), True),
    ("QM001", files(__init__="def broken(:\n"), False),
    ("QM102", files(**{"0001_x": "def broken(:\n", "0002_y": HEAD.format(id="0002", down="'0001'") + EMPTY}), False),
    ("QM107", change(f"{ADD}, {ADD}"), True),
    ("QM107", change('op.DropVector("docs", "z", cutover="immediate")', more=IRREVERSIBLE), True),
    ("QM107", change('op.DropVector("docs", "a")', more=IRREVERSIBLE), False),
    ("QM107", chain(None, "0001", "0001"), False),
    ("QM108", change('op.CreatePayloadIndex("o*", "n", "integer")'), False),
    ("QM108", change('op.CreatePayloadIndex("docs_new", "n", "integer")', start=f'op.CreateCollection("docs*", {A8})'), False),
    ("QM107", change('op.CreatePayloadIndex("docs*", "n", "integer"), op.CreatePayloadIndex("docs_new", "k", "integer")', start=f'op.CreateCollection("docs*", {A8})'), False),
    ("QM107", change(f'op.CreateCollection("docs*", {A8})'), False),
    ("QM107", change('op.DropVector("docs_new", "z", cutover="immediate")', start=f'op.CreateCollection("docs*", {A8})'), True),
    ("QM109", single(f'op.CreateCollection("qmigrate_probe_x", {A8})'), True),
    ("QM109", change('op.SetAlias("docs__old", "docs")'), True),
    ("QM109", single(f'op.CreateCollection("my__gallery", {A8})'), False),
    # A function that is only called may ask the clock, the network and files.
    *((code, change('op.Call("docs", change)', before=function("import httpx, time\nopen(str(time.time()))\nhttpx.get('http://x')")), False) for code in ("QM204", "QM205", "QM206")),
    ("QM303", change('op.Call("docs", change)', before=function("return None")), True),
    ("QM302", change('op.Call("docs", change)', before=function("return None")), False),
    ("QM702", change('op.DeletePayload("docs", "n", max_share=1)'), False),
    ("QM702", change('op.DeletePayload("docs", "n", filter={"must": [{"is_empty": {"key": "m"}}]}, max_share=1)'), True),
    ("QM202", change(TRANSFORM, before="\nFILE = open('/dev/null')\n" + function("return point.payload")), True),
    ("QM202", change(TRANSFORM, more="import time\nMADE = time.time()\n", before=function("return point.payload")), True),
    ("QM204", change(TRANSFORM, more="from datetime import datetime\n", before=function("return {'at': str(datetime.now())}")), True),
    ("QM204", change(TRANSFORM, more="import datetime as d\n", before=function("return {'at': str(d.datetime.now(d.UTC))}")), True),
    ("QM204", change(TRANSFORM, more="import datetime as d\n", before=function("return {'at': str(d.datetime(2025, 1, 1))}")), False),
    ("QM204", change(TRANSFORM, more="import numpy as np\n", before=function("return {'x': float(np.random.rand())}")), True),
    ("QM204", change(TRANSFORM, more="import numpy as np\n", before=function("return {'x': float(np.random.default_rng(3).random())}")), False),
    ("QM204", change(TRANSFORM, before=function("return {'x': hash(point.payload['text'])}")), True),
    ("QM204", change(TRANSFORM, before="COUNT = 0\n" + function("global COUNT\nCOUNT += 1\nreturn {'n': COUNT}")), True),
    ("QM204", change('op.AddVector("docs", "b", VectorParams(size=1, distance="Dot"), values=Compute(lambda point: [__import__("time").time()]))'), False),
    ("QM205", change(TRANSFORM, more="import urllib.request\n", before=function("urllib.request.urlopen('http://x')\nreturn {}")), True),
    ("QM301", single('op.DropVector("docs", "a")', more=IRREVERSIBLE), True),
    ("QM301", change('op.AlterVector("docs", "a", VectorParams(size=16, distance="Cosine"), values=Embed("words", text="text"))', more=IRREVERSIBLE), True),
    ("QM302", change('op.DropCollection("docs")'), True),
    ("QM302", change('op.DropCollection("docs")', before="def downgrade():\n    return []\n"), False),
    ("QM302", change('op.Reembed("docs", "a", values=Compute(print), cutover="immediate")'), True),
    ("QM302", change('op.DropCollection("docs")', more='irreversible = "  "'), True),
    ("QM303", change(update("optimizers_config=OptimizersConfigDiff(max_segment_size=50000)")), True),
    ("QM303", change(update("optimizers_config=OptimizersConfigDiff(max_segment_size=50000)"), more=IRREVERSIBLE), False),
    ("QM303", change(ADD), False),
    ("QM401", change('op.Reembed("docs", "a", values=Embed("words", text="text"), cutover="immediate")', more=IRREVERSIBLE), True),
    ("QM401", single(f'op.CreateCollection("other", {A8}), ' + ADD.replace('"docs"', '"other"').replace("size=16", "size=32")), False),
    ("QM404", change(f"{TRANSFORM}, {ADD}", before=function("found = dict(point.payload)\ndel found['text']\nreturn found")), True),
    ("QM501", change('op.CreatePayloadIndex("docs", "created_at", "keyword")'), True),
    ("QM501", change('op.CreatePayloadIndex("docs", "created_at", "datetime")'), False),
    ("QM501", single(created('payload_indexes={"year": PayloadSchemaType.KEYWORD}')), True),
    ("QM505", change(update("hnsw_config=HnswConfigDiff(m=32, ef_construct=16)")), True),
    ("QM505", change(update("hnsw_config=HnswConfigDiff(payload_m=16)")), True),
    ("QM505", single(created("hnsw_config=HnswConfigDiff(m=16, ef_construct=100)")), False),
    ("QM509", single(created("strict_mode_config=StrictModeConfig(enabled=True, upsert_max_batchsize=0)")), True),
)


@pytest.mark.parametrize(("code", "fill", "found"), MORE, ids=[f"{place}-{code}" for place, (code, *_) in enumerate(MORE)])
def test_more_of_a_rule(code, fill, found, folder):
    """Each further case is found, or left alone, as in the table."""
    fill(folder)
    assert (code in folder.codes()) is found, folder.lint().findings


def test_the_page_about_rules_is_the_table():
    """docs/lint.md names every rule with its severity, what it forbids, why, and what to do instead."""
    page = (Path(__file__).parents[3] / "docs" / "lint.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `QM")]
    assert rows == [f"| `{one.code}` {one.name} | {one.severity} | {one.title} | {one.why} | {one.fix} |" for one in RULES]


def test_a_sound_project_has_no_findings(folder):
    """What the documentation shows as good is found good."""
    folder.revise(CREATE)
    folder.revise('op.CreatePayloadIndex("docs", "kind", PayloadSchemaType.KEYWORD)')
    folder.revise(ADD)
    found = folder.lint()
    assert (found.findings, found.errors, found.warnings, found.files, found.exit_code) == ((), 0, 0, 3, 0)


def test_the_projects_own_revisions_are_sound(monkeypatch):
    """The reference deployment and the examples pass their own lint."""
    root = Path(__file__).parents[3]
    configs = [root / "qmigrate.yaml", *sorted(root.glob("examples/*/qmigrate.yaml"))]
    assert len(configs) >= 2
    for config in configs:
        found = lint_project(Settings.load(config=config, stores=False))
        assert (found.findings, found.files > 0) == ((), True), config


def test_one_bad_file_does_not_hide_the_next(folder):
    """Two files that can't be loaded are two findings with their lines, and the sound ones are judged all the same."""
    folder.revise(CREATE)
    folder.write("0002_x.py", "revision = '0002'\ndown_revision = '0001'\n\n\ndef upgrade(:\n")
    folder.write("0003_y.py", "revision = '0003'\ndown_revision = '0002'\nx = 1 / 0\n")
    folder.revise(DROP, down="0001")
    found = [(one.path.name, one.code, one.line) for one in folder.lint().findings]
    assert ("0002_x.py", "QM001", 5) in found
    assert ("0003_y.py", "QM001", 3) in found
    assert any(name == "0002_rev.py" and code == "QM302" for name, code, _ in found)
    assert folder.lint().exit_code == 8


def test_an_operation_is_found_on_its_line(folder):
    """Of three operations in a list, the finding is on the lines of the one that it is about."""
    folder.revise(f"{CREATE}, op.CreatePayloadIndex('docs', 'n', 'integer')")
    path = folder.revise(
        "\n        op.CreatePayloadIndex('docs', 'k', 'keyword'),\n        op.DropPayloadIndex(\n"
        "            'docs',\n            'n',\n        ),\n        op.CreatePayloadIndex('docs', 'l', 'keyword'),\n    "
    )
    (found,) = [one for one in folder.lint().findings if one.code == "QM502"]
    lines = path.read_text().splitlines()
    assert lines[found.line - 1].strip() == "op.DropPayloadIndex("
    assert lines[found.end_line - 1].strip() == "),"


def test_operations_of_a_loop_are_found_at_the_call(folder):
    """Where one call makes several operations, each finding is on that call."""
    folder.revise(f"{CREATE}, *[op.CreatePayloadIndex('docs', f, 'integer') for f in 'xyz']")
    path = folder.revise("*[op.DropPayloadIndex('docs', f) for f in 'xyz']")
    found = [one for one in folder.lint().findings if one.code == "QM502"]
    line = next(number for number, text in enumerate(path.read_text().splitlines(), 1) if "for f in" in text)
    assert [one.line for one in found] == [line] * 3


@pytest.mark.parametrize(
    ("comment", "codes"),
    [
        (f"{DROP},  # qmigrate: ignore[QM302] it was never filled\n", []),
        (f"\n        # qmigrate: ignore[QM302] it was never filled\n        {DROP},\n    ", []),
        (f"{DROP},  # qmigrate: ignore[QM302, QM305] it was never filled\n", ["QM003"]),
        (f"{DROP},  # qmigrate: ignore[QM302]\n", ["QM002", "QM302"]),
        (f"{DROP},  # qmigrate: ignore\n", ["QM002", "QM302"]),
        (f"{DROP},  # qmigrate: ignore[] because\n", ["QM002", "QM302"]),
        (f"{DROP},  # qmigrate: ignore[QM999] a typo\n", ["QM003", "QM302"]),
        (f"{DROP},\n        # qmigrate: ignore[QM302] on the line behind it\n", ["QM003", "QM302"]),
    ],
)
def test_ignores(comment, codes, folder):
    """An ignore is on the line or right above it, names the code and the reason; otherwise it is a finding itself."""
    folder.revise(CREATE)
    folder.revise(comment)
    assert sorted(folder.codes()) == codes
    if not codes:
        (ignored,) = folder.lint().suppressed
        assert (ignored.finding.code, ignored.reason) == ("QM302", "it was never filled")
        assert folder.lint().exit_code == 0


def test_an_ignore_inside_a_text_is_no_ignore(folder):
    """Only comments count."""
    folder.revise(CREATE)
    folder.revise(f"{DROP}", more='TEXT = "# qmigrate: ignore[QM302] in a text"')
    assert folder.codes() == ["QM302"]


def test_warnings_count_only_when_strict(folder):
    """A warning alone is exit code 0, and 8 with strict."""
    change('op.DropPayloadIndex("docs", "n")', start=f'{CREATE}, op.CreatePayloadIndex("docs", "n", "integer")')(folder)
    assert (folder.lint().exit_code, folder.lint(strict=True).exit_code) == (0, 8)
    assert (folder.lint().errors, folder.lint().warnings) == (0, 1)


def test_codes_are_unique_and_say_why():
    """Every rule has a code and a name of its own, a reason and a way on."""
    assert len({rule.code for rule in RULES}) == len({rule.name for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert len(rule.code) == 5
        assert rule.code.startswith("QM")
        assert rule.title
        assert rule.why.endswith(".")
        assert rule.fix
        assert rule.severity in ("error", "warning")


def test_an_empty_folder_is_sound(folder):
    """No revision yet is nothing to complain about."""
    assert folder.lint().findings == ()
