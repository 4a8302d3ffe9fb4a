"""The declaration, from YAML and from Python: what `qmigrate schema` prints reads back, and what is wrong is named."""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from jsonschema import Draft7Validator
from pydantic import BaseModel
from sqlalchemy import Column, Integer, MetaData, String, Table
from sqlalchemy.orm import declarative_base
from tests.declared_schemas import schemas

from qmigrate import Collection, CopyOf, Embed, Empty
from qmigrate.cli.schema import as_yaml
from qmigrate.commands.schema import Document, Schemas
from qmigrate.declared.adapters import collections_of
from qmigrate.declared.editors import declaration_schema, declaration_schema_text
from qmigrate.declared.reading import DEFAULT, of_plain, read
from qmigrate.errors import ConfigError, NotConfiguredError, PlanError
from qmigrate.settings.load import Settings

A = {"size": 4, "distance": "Cosine"}


def printed(*wanted) -> str:
    """As `qmigrate schema` prints it."""
    found = tuple(Document(one.name, "revision", "0001", None, None, one.schema) for one in wanted)
    return as_yaml(Schemas("revision", found), changelog=False)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(one=schemas())
def test_what_schema_prints_reads_back(one):
    """Round trip, to the last value; and an editor has nothing to underline."""
    wanted = one.wanted()
    data = yaml.safe_load(printed(wanted))
    (found,) = of_plain(data, "x.yaml")
    told = {name: value for name, value in found.schema.config.items() if value not in ({}, None)}
    assert (found.name, found.schema.with_(config={})) == (wanted.name, wanted.schema.with_(config={}))
    assert told == {name: value for name, value in wanted.schema.config.items() if value not in ({}, None)}
    Draft7Validator(declaration_schema()).validate(data)


def test_a_variable_reads_back(monkeypatch):
    """What differs by environment is printed as its variable, and is the same variable again."""
    monkeypatch.setenv("SHARDS", "3")
    text = "collections: {docs: {vectors: {a: {size: 4, distance: Cosine}}, settings: {shard_number: '${SHARDS:-1}'}}}"
    (found,) = of_plain(yaml.safe_load(text), "x.yaml")
    assert found.schema.config == {"shard_number": 3}
    again = printed(found)
    assert "shard_number: ${SHARDS:-1}" in again
    Draft7Validator(declaration_schema()).validate(yaml.safe_load(again))
    monkeypatch.delenv("SHARDS")
    (other,) = of_plain(yaml.safe_load(again), "x.yaml")
    assert other.schema.config == {"shard_number": 1}


def test_what_only_a_declaration_has(tmp_path):
    """Fillers as objects, renames, and the words that `qmigrate schema` prints."""
    (tmp_path / DEFAULT).write_text(
        textwrap.dedent("""
            collections:
              docs:
                vectors: {a: {size: 4, distance: Cosine}, b: {size: 8, distance: Dot}, c: {size: 8, distance: Dot}, d: {size: 8, distance: Dot}}
                embedders:
                  a: "embed words(content), fingerprint 0123456789ab"
                  b: {embedder: words, text: "{title} {body}", on_failure: drop, checksum: {sql: SELECT id, column: digest}}
                  c: {copy_of: b}
                  d: {empty: true}
                renamed_from: {a: old}
                points: 12
              texts: {vectors: {a: {size: 4, distance: Cosine}}, renamed_from: words, aliases: [t]}
        """).replace("sql: SELECT id,", 'sql: "SELECT id, digest FROM docs",')
    )
    docs, texts = read(Settings(folder=tmp_path))
    assert docs.values["a"] == "embed words(content), fingerprint 0123456789ab"
    assert docs.values["b"].describe() == Embed("words", text="{title} {body}", on_failure="drop", checksum=docs.values["b"].checksum).describe()
    assert docs.values["b"].checksum.column == "digest"
    assert (docs.values["c"], docs.values["d"]) == (CopyOf("b"), Empty())
    assert (docs.renamed_from, docs.was, texts.renamed_from, texts.was) == ({"a": "old"}, None, {}, "words")
    assert texts.schema.aliases == ("t",)
    Draft7Validator(declaration_schema()).validate(yaml.safe_load((tmp_path / DEFAULT).read_text()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("collection: {}", "x.yaml has no key 'collection'; did you mean \"collections\"?"),
        ("collections: {docs: {vector: {}}}", "collections.docs has no key 'vector'; did you mean \"vectors\"?"),
        ("collections: {docs: {settings: {hnsw: {}}}}", "collections.docs.settings has no key 'hnsw'"),
        ("collections: {docs: {vectors: {a: {size: 4, distance: COSINE}}}}", "distance must be one of"),
        ("collections: {docs: {vectors: {a: {size: 4}}}}", "has no distance"),
        ("collections: [docs]", "x.yaml: collections must be an object"),
        ("collections: {docs: {vectors: {a: {size: 4, distance: Dot}}, embedders: {b: x}}}", "values names a vector 'b'"),
        ("collections: {docs: {vectors: {a: {size: 4, distance: Dot}}, embedders: {a: {embeder: w}}}}", "did you mean \"embedder\"?"),
        ("collections: {docs: {aliases: x}}", "aliases must be a list"),
        ("collections: {docs: {renamed_from: 3}}", "renamed_from must map"),
        ("collections: {docs: {payload_indexes: {k: {type: hologram}}}}", "unknown index type"),
        ("collections: {docs__g0001: {}}", "form of qmigrate's own names"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named(text, message):
    """A misspelt key or a value that Qdrant would not take is an error with its place."""
    with pytest.raises((ConfigError, PlanError)) as caught:
        list(of_plain(yaml.safe_load(text), "x.yaml"))
    assert message in caught.value.message


def test_the_page_about_it(monkeypatch):
    """The YAML and the Python of the documentation are declarations, the first one also to an editor."""
    monkeypatch.delenv("DOCS_SHARDS", raising=False)
    page = (Path(__file__).parents[3] / "docs" / "declared.md").read_text(encoding="utf-8")
    text, embedders = re.findall(r"```yml\n(.*?)```", page, re.DOTALL)
    (objects,) = of_plain(yaml.safe_load(embedders), "docs/declared.md")
    assert objects.values["pictures"] == Embed("b32", image="path")
    Draft7Validator(declaration_schema()).validate(yaml.safe_load(embedders))
    docs, memory = of_plain(yaml.safe_load(text), "docs/declared.md")
    assert (docs.name, docs.renamed_from, memory.name) == ("docs", {"words": "body"}, "memory_*")
    assert docs.values["titles"] == Embed("minilm", text="title")
    Draft7Validator(declaration_schema()).validate(yaml.safe_load(text))
    names: dict = {}
    exec(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0], names)  # noqa: S102  the page's own example
    assert [one.wanted().name for one in collections_of(names["collections"])] == ["docs", "memory_*"]


def of_file(tmp_path, text: str, name: str = DEFAULT) -> dict:
    """What a file declares, by name."""
    (tmp_path / "qmigrate.yaml").write_text(f"{{qdrant: {{path: q}}, scripts: revs, declared: {name}}}")
    (tmp_path / name).write_text(text)
    return {one.name: one.schema for one in read(Settings.load(config=tmp_path / "qmigrate.yaml", stores=False))}


@pytest.mark.parametrize("name", ["no", "on", "007", "2024-01-01", "1e5", "null", "0x10", "~"])
def test_a_name_is_what_is_written(tmp_path, name):
    """YAML has a truth, a number or a day of them: then with --drops the collection of that name would go."""
    vector = "{size: 4, distance: Cosine}"
    found = of_file(tmp_path, f"collections: {{{name}: {{vectors: {{{name}: {vector}}}, payload_indexes: {{{name}: keyword}}}}}}")
    assert {one: (set(schema.vectors), set(schema.indexes)) for one, schema in found.items()} == {name: ({name}, {name})}


@pytest.mark.parametrize("name", [DEFAULT, "declared.json"])
@pytest.mark.parametrize("twice", ["vector", "collection"])
def test_nothing_is_declared_twice(tmp_path, name, twice):
    """The last one would win silently, and with --drops the first one would go."""
    a = '"a": {"size": 4, "distance": "Cosine"}'
    one = f'{{"vectors": {{{a}{f", {a}" if twice == "vector" else ""}}}}}'
    text = f'{{"collections": {{"docs": {one}{f", {chr(34)}docs{chr(34)}: {one}" if twice == "collection" else ""}}}}}'
    with pytest.raises(ConfigError, match="is given twice"):
        of_file(tmp_path, text, name)


def test_json_is_read_as_json(tmp_path):
    """YAML has other escapes: half of a pair each."""
    text = r'{"collections": {"docs": {"vectors": {"\ud83d\ude00": {"size": 4, "distance": "Cosine"}}}}}'
    assert set(of_file(tmp_path, text, "declared.json")["docs"].vectors) == {"\U0001f600"}


def test_what_an_anchor_brings_in(tmp_path):
    """What is written next to it wins."""
    text = "collections: {docs: {vectors: {a: &usual {size: 4, distance: Cosine}, b: {<<: *usual, size: 8}}}}"
    assert {name: one["size"] for name, one in of_file(tmp_path, text)["docs"].vectors.items()} == {"a": 4, "b": 8}


@pytest.mark.parametrize("part", ["aliases: [no]", "renamed_from: {a: no}"])
def test_names_that_are_values_are_texts(tmp_path, part):
    """There quotes say that it is one."""
    text = f"collections: {{docs: {{vectors: {{a: {{size: 4, distance: Cosine}}}}, {part}}}}}"
    with pytest.raises(ConfigError, match="False is not a text"):
        of_file(tmp_path, text)


def test_settings_that_are_newer_than_operations():
    """What Qdrant has and no operation can say is kept apart; it is not an error of the file."""
    (found,) = of_plain({"collections": {"docs": {"settings": {"payload": {"memory": "cold"}}}}}, "x.yaml")
    assert found.unsaid == ("payload = {'memory': 'cold'}",)


def declared(tmp_path, body: str, place: str = "declared_{}:collections") -> Settings:
    """Settings that name a module of this very folder."""
    name = f"m{abs(hash(str(tmp_path)))}"
    (tmp_path / f"declared_{name}.py").write_text(textwrap.dedent(body))
    return Settings(folder=tmp_path, declared=place.format(name))


@pytest.fixture(autouse=True)
def _same_path(monkeypatch):
    """Folders of declarations go first on the path."""
    monkeypatch.setattr(sys, "path", sys.path[:])


@pytest.mark.parametrize(
    "body",
    [
        'from qmigrate import Collection\ncollections = [Collection("docs", {"a": {"size": 4, "distance": "Cosine"}})]',
        'from qmigrate import Collection\ncollections = Collection("docs", {"a": {"size": 4, "distance": "Cosine"}})',
        'from qmigrate import Collection\ndef collections():\n    yield Collection("docs", {"a": {"size": 4, "distance": "Cosine"}})',
        'collections = {"docs": {"vectors": {"a": {"size": 4, "distance": "Cosine"}}}}',
        'from qdrant_client import models\nfrom qmigrate import Collection\n\ncollections = (Collection("docs", {"a": models.VectorParams(size=4, distance="Cosine")}),)',
    ],
    ids=["list", "one", "function", "mapping", "models"],
)
def test_python(tmp_path, body):
    """A list, one, a function or a mapping: with the client's models, or plain JSON."""
    (found,) = read(declared(tmp_path, body))
    assert (found.name, found.schema.vectors) == ("docs", {"a": A})


@pytest.mark.parametrize(
    ("body", "place", "message"),
    [
        ("collections = 3", "declared_{}:collections", "expected qmigrate.Collection"),
        ("", "declared_{}:collections", "AttributeError"),
        ("1 / 0", "declared_{}:collections", "ZeroDivisionError"),
        ("", "no_such_module_{}:collections", "ModuleNotFoundError"),
        ("", "declared_{}", 'must be "module:attribute"'),
        (
            'from qmigrate import Collection\ncollections = [Collection("docs"), Collection("docs")]',
            "declared_{}:collections",
            "declares docs twice",
        ),
        (
            'from qmigrate import Collection\ncollections = [Collection("docs", {"a": {"size": 0, "distance": "Dot"}})]',
            "declared_{}:collections",
            "size must be between 1 and 65536",
        ),
    ],
    ids=str,
)
def test_python_that_is_wrong(tmp_path, body, place, message):
    """Whatever goes wrong in the user's module names it."""
    with pytest.raises(ConfigError) as caught:
        read(declared(tmp_path, body, place))
    assert message in caught.value.message


def test_nothing_is_declared(tmp_path):
    """The error says how to begin."""
    with pytest.raises(NotConfiguredError) as caught:
        read(Settings(folder=tmp_path))
    assert "qmigrate schema --revision head > collections.yaml" in str(caught.value.hint)


def test_pydantic_models():
    """A payload model declares its collection, and its fields their indexes."""
    from typing import Annotated, ClassVar

    from qdrant_client.models import PayloadSchemaType

    class Doc(BaseModel):
        qmigrate: ClassVar = {"name": "docs", "vectors": {"a": A}, "on_disk_payload": False}
        title: str
        kind: Annotated[str, PayloadSchemaType.KEYWORD]
        tenant: Annotated[str, {"type": "keyword", "is_tenant": True}] = ""

    class Plain(BaseModel):
        title: str

    (found,) = [one.wanted() for one in collections_of([Doc])]
    assert (found.name, found.schema.vectors, found.schema.config) == ("docs", {"a": A}, {"on_disk_payload": False})
    assert found.schema.indexes == {"kind": {"type": "keyword"}, "tenant": {"type": "keyword", "is_tenant": True}}
    with pytest.raises(PlanError, match="Plain declares no collection"):
        list(collections_of(Plain))


def test_sqlalchemy_tables():
    """`Table.info` of a table, a mapped class or all of a MetaData; a table without one has no collection."""
    metadata = MetaData()
    Table("users", metadata, Column("id", Integer, primary_key=True))
    docs = Table(
        "docs",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("kind", String, info={"qmigrate": "keyword"}),
        info={"qmigrate": {"vectors": {"a": A}}},
    )
    for declared in (metadata, docs, [docs]):
        (found,) = [one.wanted() for one in collections_of(declared)]
        assert (found.name, found.schema.vectors, found.schema.indexes) == ("docs", {"a": A}, {"kind": {"type": "keyword"}})
    base = declarative_base()

    class Face(base):
        __tablename__ = "faces"
        __table_args__ = {"info": {"qmigrate": Collection("face", A)}}  # noqa: RUF012  SQLAlchemy's way
        id = Column(Integer, primary_key=True)

    (face,) = [one.wanted() for one in collections_of(Face)]
    assert face.name == "face"
    with pytest.raises(PlanError, match="users declares no collection"):
        list(collections_of(metadata.tables["users"]))


def test_qdrant_odmx_models():
    """A model of qdrant-odmx is what its own `sync_schema` would create."""
    from uuid import UUID

    import qdrant_odm as odm

    class Document(odm.QdrantModel):
        __collection__ = "documents"
        id: UUID
        title: str = odm.PayloadField(index="keyword")
        page: int = odm.PayloadField(index="integer")
        note: str = odm.PayloadField()
        dense = odm.VectorField(name="content", size=8)

    (found,) = [one.wanted() for one in collections_of([Document])]
    assert (found.name, found.schema.vectors) == ("documents", {"content": {"size": 8, "distance": "Cosine"}})
    assert found.schema.indexes == {"title": {"type": "keyword"}, "page": {"type": "integer"}}
    assert found.schema.config == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": {"b": Empty()}}, "values names a vector 'b'"),
        ({"values": {"a": 3}}, "must be Embed"),
        ({"values": []}, "values must map vectors"),
        ({"renamed_from": {"a": "a"}}, "must be a name that no vector has now"),
        ({"aliases": "x"}, "aliases must be a list"),
        ({"wal_config": {"wal": 1}}, "has no field 'wal'"),
    ],
    ids=str,
)
def test_a_collection_that_cannot_be(arguments, message):
    """What Qdrant would not take, and what names vectors that are not there."""
    with pytest.raises(PlanError) as caught:
        Collection("docs", {"a": A}, **arguments).wanted()
    assert message in caught.value.message
    assert "Collection" in caught.value.message


def test_the_schema_for_editors_is_one():
    """It is a valid JSON schema, and refuses what the reader refuses."""
    Draft7Validator.check_schema(declaration_schema())
    assert declaration_schema_text().endswith("}\n")
    refused = Draft7Validator(declaration_schema())
    for text in ("collection: {}", "collections: {docs: {vector: {}}}", "collections: {docs: {vectors: {a: {size: 4}}}}"):
        assert not refused.is_valid(yaml.safe_load(text))
