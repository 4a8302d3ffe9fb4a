"""Drift made by hand, one kind at a time: exactly that is found, and the commands that check suggests end it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import yaml
from qdrant_client import QdrantClient, models
from sqlalchemy import text
from tests.conftest import clean
from tests.harness import ADD, Deployment, make_point, write
from tests.scenarios.cli import call
from tests.scenarios.plain_names import plain

from qmigrate.commands import rollback, upgrade
from qmigrate.commands.drift import from_drift, restore
from qmigrate.errors import QmigrateError
from qmigrate.ledger import Ledger

CREATE = """
def upgrade():
    return [
        op.CreateCollection(
            "{name}",
            {{"a": VectorParams(size=8, distance=Distance.COSINE, hnsw_config=HnswConfigDiff(m=20))}},
            {{"s": SparseVectorParams(modifier=Modifier.IDF)}},
            payload_indexes={{
                "kind": KeywordIndexParams(type="keyword", is_tenant=True),
                "n": PayloadSchemaType.INTEGER,
            }},
            hnsw_config=HnswConfigDiff(m=16),
            optimizers_config=OptimizersConfigDiff(indexing_threshold=15000, deleted_threshold=0.3),
            quantization_config=ScalarQuantization(scalar=ScalarQuantizationConfig(type=ScalarType.INT8, always_ram=True)),
            strict_mode_config=StrictModeConfig(enabled=True, max_query_limit=50),
            metadata={{"team": "search", "flags": {{"beta": False}}}},
        ),
        op.SetAlias("{name}_read", "{name}"),
    ]
"""
SCALAR = models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=False))
VECTOR = models.VectorParams(size=3, distance=models.Distance.DOT)


@contextmanager
def by_hand(made: Deployment) -> Iterator[QdrantClient]:
    """The ordinary client."""
    config = made.qdrant
    if "path" in config:
        client = QdrantClient(path=config["path"])
    else:
        client = QdrantClient(url=config["url"], grpc_port=config["grpc_port"], timeout=20, check_compatibility=False)
    try:
        yield client
    finally:
        client.close()


@pytest.fixture
def made(deployment):
    """A collection at its third revision, with a generation that is kept, ten points and a further alias."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(10)
    deployment.revise("0002", ADD)
    upgrade.upgrade(deployment.settings())
    assert check(deployment) == (0, {})
    return deployment


def check(made: Deployment, *flags: str) -> tuple[int, dict[str, tuple[str, Any, Any]]]:
    """Exit code, and path -> (severity, recorded, live) of every finding, but for notes that others left on a server."""
    said = call(made.root, "check", "--only", made.name, *flags, "--json")
    found = said.json["data"]
    every = [*found["files"], *(one for row in found["collections"] for one in row["findings"])]
    paths = {one["path"].replace(made.name, "NAME"): (one["severity"], one["recorded"], one["live"]) for one in every}
    assert said.code == found["exit_code"]
    return said.code, paths


def fixes(made: Deployment, *flags: str) -> list[str]:
    """Every suggestion, as it is printed behind an arrow."""
    said = call(made.root, "check", "--only", made.name, *flags)
    return [line.removeprefix("  → ") for line in said.out.splitlines() if line.startswith("  → ")]


def follow(made: Deployment, suggestion: str) -> int:
    """Type the command of a suggestion, as it stands there; then the upgrade that an accepted revision asks for."""
    found = re.search(r"qmigrate (.*)$", suggestion)
    assert found is not None, suggestion
    words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', found.group(1))]
    said = call(made.root, *words, *(["--yes"] if words[0] == "repair" else []))
    if said.code == 0 and words[0] == "revision":
        before = made.contents()
        said = call(made.root, "upgrade", "--only", made.name)
        assert made.contents() == before
    return said.code


def index(field: str, schema: Any) -> Callable[[QdrantClient, str], Any]:
    """A payload index made by hand."""
    return lambda client, name: client.create_payload_index(name, field, schema, wait=True)


def update(**settings: Any) -> Callable[[QdrantClient, str], Any]:
    """Settings changed by hand."""
    return lambda client, name: client.update_collection(name, **settings)


def alias(operation: str, **words: str) -> Callable[[QdrantClient, str], Any]:
    """Aliases changed by hand."""

    def change(client: QdrantClient, name: str) -> None:
        given = {key: value.replace("NAME", name) for key, value in words.items()}
        kinds = {
            "create": lambda: models.CreateAliasOperation(create_alias=models.CreateAlias(**given)),
            "delete": lambda: models.DeleteAliasOperation(delete_alias=models.DeleteAlias(**given)),
        }
        client.update_collection_aliases([kinds[operation]()])

    return change


@dataclass(frozen=True)
class Row:
    """One kind of drift.

    Attributes:
        change: made by hand, with (client, logical name).
        found: path -> (recorded, live).
        ends: beginnings of the suggestions that end it, each tried by itself.
        refused: beginnings of suggestions that are there and can't do it alone.
        stores: where it can happen.
    """

    name: str
    change: Callable[[QdrantClient, str], Any]
    found: dict[str, tuple[Any, Any]]
    ends: tuple[str, ...] = ("restore", "accept")
    stores: tuple[str, ...] = ("server",)


BOTH = ("local", "server")
TENANT = {"type": "keyword", "is_tenant": True}
ROWS = (
    Row("index_added", index("extra", "keyword"), {"payload_indexes.extra": (None, {"type": "keyword"})}),
    Row("index_gone", lambda client, name: client.delete_payload_index(name, "kind", wait=True), {"payload_indexes.kind": (TENANT, None)}),
    Row("index_retyped", index("n", "float"), {"payload_indexes.n.type": ("integer", "float")}),
    Row("index_parameter", lambda client, name: [client.delete_payload_index(name, "kind", wait=True), index("kind", "keyword")(client, name)],
        {"payload_indexes.kind.is_tenant": (True, None)}),
    Row("hnsw", update(hnsw_config=models.HnswConfigDiff(m=24)), {"hnsw_config.m": (16, 24)}),
    Row("undeclared_too", update(hnsw_config=models.HnswConfigDiff(m=24, full_scan_threshold=777)),
        {"hnsw_config.m": (16, 24), "hnsw_config.full_scan_threshold": (10000, 777)}),
    Row("optimizers", update(optimizers_config=models.OptimizersConfigDiff(indexing_threshold=77, deleted_threshold=0.5)),
        {"optimizers_config.indexing_threshold": (15000, 77), "optimizers_config.deleted_threshold": (0.3, 0.5)}),
    Row("strict_mode", update(strict_mode_config=models.StrictModeConfig(enabled=False)), {"strict_mode_config.enabled": (True, False)}),
    Row("quantization", update(quantization_config=SCALAR), {"quantization_config.scalar.always_ram": (True, False)}),
    Row("quantization_off", update(quantization_config=models.Disabled.DISABLED),
        {"quantization_config": ({"scalar": {"type": "int8", "always_ram": True}}, None)}),
    Row("quantization_method", update(quantization_config=models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True))),
        {"quantization_config.scalar": ({"type": "int8", "always_ram": True}, None)}),
    Row("vector_setting", update(vectors_config={"a": models.VectorParamsDiff(hnsw_config=models.HnswConfigDiff(m=30))}), {"vectors.a.hnsw_config.m": (20, 30)}),
    Row("metadata", update(metadata={"team": "ads", "more": 1}), {"metadata.team": ("search", "ads")}, stores=BOTH),
    Row("metadata_inside", update(metadata={"flags": {"beta": True}}), {"metadata.flags.beta": (False, True)}, stores=BOTH),
    Row("metadata_gone", update(metadata={"flags": None}), {"metadata.flags": ({"beta": False}, None)}, ends=("restore",), stores=BOTH),
    Row("vector_added", lambda client, name: client.create_vector_name(name, "x", models.DenseVectorNameConfig(dense=models.DenseVectorConfig(size=3, distance="Dot"))),
        {"vectors.x": (None, {"size": 3, "distance": "Dot"})}, ends=("accept",), stores=BOTH),
    Row("vector_gone", lambda client, name: client.delete_vector_name(name, "b"), {"vectors.b": ({"size": 16, "distance": "Cosine"}, None)},
        ends=("accept",), stores=BOTH),
    Row("sparse_gone", lambda client, name: client.delete_vector_name(name, "s"), {"sparse_vectors.s": ({"modifier": "idf"}, None)}, ends=("accept",), stores=BOTH),
    Row("alias_gone", alias("delete", alias_name="NAME_read"), {"alias NAME_read": ("NAME__g0002", None)}, ends=("qmigrate repair",), stores=BOTH),
    Row("alias_moved", alias("create", alias_name="NAME_read", collection_name="NAME__g0001"), {"alias NAME_read": ("NAME__g0002", "NAME__g0001")},
        ends=("qmigrate repair",), stores=BOTH),
    Row("seal_gone", update(metadata={"qmigrate": None}), {"seal": ("revision 0002", None)}, ends=("where its points",), stores=BOTH),
)
CASES = [
    pytest.param(row, store, id=f"{row.name}-{store}", marks=[pytest.mark.server] if store == "server" else [])
    for row in ROWS
    for store in row.stores
]


@pytest.mark.parametrize(("row", "qdrant_config"), CASES, indirect=["qdrant_config"])
def test_drift_is_found_and_ended(row, made):
    """What was changed by hand is found and nothing else; each suggestion, typed as it stands, ends it for good."""
    for end in row.ends:
        with by_hand(made) as client:
            row.change(client, made.name)
        code, found = check(made)
        drifted = {path: (recorded, live) for path, (severity, recorded, live) in found.items() if severity == "drift"}
        wanted = {path: tuple(named(value, made) for value in values) for path, values in row.found.items()}
        assert (code, drifted) == (4, wanted)
        # The schema is on hand in `status` as well; what has no seal may be another collection.
        assert made.row().state == ("failed" if row.name == "seal_gone" else "drift"), made.row()
        suggested = [line for line in fixes(made) if line.startswith(end)]
        assert len(suggested) == 1, fixes(made)
        before = made.contents()
        assert follow(made, suggested[0]) == 0
        assert check(made)[0] == 0, check(made)
        assert made.contents() == before
    # The next revision finds everything in order.
    made.revise("0009", INDEX_LATER, down="0003" if end == "accept" else "0002")
    upgrade.upgrade(made.settings(), only=[made.name])
    assert check(made)[0] == 0


INDEX_LATER = """
def upgrade():
    return [op.CreatePayloadIndex("{name}", "later", PayloadSchemaType.KEYWORD)]
"""


def named(value: Any, made: Deployment) -> Any:
    """With the collection's own name."""
    return value.replace("NAME", made.name) if isinstance(value, str) else value


@pytest.mark.parametrize("row", [row for row in ROWS if row.name in ("vector_gone", "vector_added", "sparse_gone")], ids=lambda row: row.name)
def test_values_are_never_restored_by_a_schema(row, made):
    """A vector that a user dropped or added is not a schema to be repaired: the repair refuses and changes nothing."""
    with by_hand(made) as client:
        row.change(client, made.name)
    before = check(made)
    said = call(made.root, "repair", "--schema", made.name, "--yes")
    assert said.code == 10
    assert "qmigrate revision --from-drift" in said.err
    assert check(made) == before


def test_a_repair_does_what_it_can(made):
    """With a vector gone as well, an alias is restored; what is left is reported and found again."""
    with by_hand(made) as client:
        client.delete_vector_name(made.name, "b")
        alias("delete", alias_name="NAME_read")(client, made.name)
    said = call(made.root, "repair", "--schema", made.name, "--yes")
    assert said.code == 0, said.text
    assert "vector b is missing, and its values are gone" in said.text
    assert set(check(made)[1]) == {"vectors.b"}


def test_a_repair_asks_first(made):
    """Without a terminal and without --yes nothing is changed."""
    with by_hand(made) as client:
        alias("delete", alias_name="NAME_read")(client, made.name)
    said = call(made.root, "repair", "--schema", made.name)
    assert (said.code, check(made)[0]) == (10, 4)
    assert "add alias" in said.err
    assert call(made.root, "repair", "--schema", made.name, "--yes").code == 0
    again = call(made.root, "repair", "--schema", made.name, "--yes")
    assert (again.code, "Nothing to restore" in again.out) == (0, True)


def test_a_moved_name_is_pointed_back_as_suggested(made):
    """When a user has moved the logical name, the command that check prints brings it back."""
    with by_hand(made) as client:
        alias("create", alias_name="NAME", collection_name="NAME__g0001")(client, made.name)
    code, found = check(made)
    assert (code, found) == (4, {"NAME": ("drift", f"{made.name}__g0002", f"{made.name}__g0001")})
    (line,) = fixes(made)
    assert follow(made, line) == 0
    assert check(made) == (0, {})


def test_a_name_that_is_gone(made):
    """Without its alias the name is gone, and that is what is reported."""
    with by_hand(made) as client:
        alias("delete", alias_name="NAME")(client, made.name)
    assert check(made) == (4, {"NAME": ("drift", f"{made.name}__g0002", None)})
    with by_hand(made) as client:
        client.create_collection(made.name, vectors_config=VECTOR)
    assert check(made) == (4, {"NAME": ("drift", f"{made.name}__g0002", made.name)})
    assert "remove the collection" in fixes(made)[0]


def test_a_collection_that_is_gone(made):
    """When the serving collection was deleted, it is named, with the way to get it back."""
    with by_hand(made) as client:
        client.delete_collection(f"{made.name}__g0002")
    assert check(made) == (4, {"NAME": ("drift", f"{made.name}__g0002", None)})
    assert any(f"qmigrate snapshot restore {made.name}" in line for line in fixes(made))


def test_a_way_back_that_is_gone(made):
    """A kept generation that a user deleted, or recreated, is not a way back any more."""
    kept = f"{made.name}__g0001"
    with by_hand(made) as client:
        client.delete_collection(kept)
    assert check(made) == (4, {"generation NAME__g0001": ("drift", "kept", None)})
    with by_hand(made) as client:
        client.create_collection(kept, vectors_config={"a": VECTOR})
    code, found = check(made)
    assert (code, set(found)) == (4, {"generation NAME__g0001"})
    assert "recreated" in call(made.root, "check", "--only", made.name).out


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("ledger", "0" * 32, "another ledger"),
        ("revision", "0001", "at an earlier revision"),
        ("revision", "9999", "restored from a backup"),
        ("checksum", "0" * 64, "another checksum"),
        ("generation", 7, "another generation"),
    ],
)
def test_a_seal_that_says_something_else(key, value, words, made):
    """Every field of the seal is compared; what it means is reported."""
    store = made.store()
    seal = store.describe(made.name).seal
    store.write_seal(made.name, {**seal, key: value})
    store.close()
    code, found = check(made)
    assert (code, found) == (4, {f"seal.{key}": ("drift", seal[key], value)})
    assert words in call(made.root, "check", "--only", made.name).out
    said = call(made.root, "repair", "--schema", made.name, "--yes")
    # Of another ledger, or at a revision that was not applied here: that is for a human.
    assert said.code == (7 if key == "ledger" or value == "9999" else 0), said.text
    assert check(made)[0] == (4 if said.code else 0)


def test_models(made):
    """Another model under the old name is found with the field that differs; a broken one is a finding, not a crash."""
    config = yaml.safe_load(made.config.read_text())
    for embedder, path, code in (
        ({"type": "hashing", "size": 17}, "embedders.b.size", 4),
        ({"type": "callable", "function": "no.such:thing", "size": 16}, "embedders.b", 4),
        (None, "embedders.b", 0),
    ):
        changed = {**config, "embedders": {"words": embedder} if embedder else {}}
        made.config.write_text(yaml.safe_dump(changed))
        found = check(made)
        assert found[0] == code, found
        assert path in found[1], found
        assert check(made, "--no-models") == (0, {})
    made.config.write_text(yaml.safe_dump(config))
    assert check(made) == (0, {})


def test_every_changed_file_is_named(made):
    """Two applied files that were edited are two findings, not the first alone; one that is gone is named, too."""
    versions = made.root / "qdrant_migrations" / "versions"
    kept = {path: path.read_bytes() for path in versions.glob("*.py")}
    for path in kept:
        path.write_bytes(kept[path] + b"\n# edited\n")
    assert {path: severity for path, (severity, *_) in check(made)[1].items()} == {
        "revision 0001": "drift",
        "revision 0002": "drift",
    }
    (versions / "0002_rev.py").unlink()
    assert "not in the versions folder" in call(made.root, "check").out
    for path, content in kept.items():
        path.write_bytes(content)
    assert check(made) == (0, {})


def test_pending_and_drift(made):
    """Pending revisions are exit code 3, and 4 when something differs besides; a collection to come is pending."""
    made.revise("0003", INDEX_LATER)
    assert check(made) == (3, {"revision": ("pending", None, None)})
    assert call(made.root, "revision", "--from-drift").code == 2
    with by_hand(made) as client:
        alias("delete", alias_name="NAME_read")(client, made.name)
        client.delete_vector_name(made.name, "s")
    assert check(made)[0] == 4
    said = call(made.root, "revision", "--from-drift")
    assert (said.code, "qmigrate upgrade" in said.err) == (3, True)
    made.revise("0004", CREATE.replace("{name}", "{name}_new"))
    said = call(made.root, "check", "--only", f"{made.name}_new", "--json").json["data"]
    assert (said["exit_code"], said["collections"][0]["findings"][0]["kind"]) == (3, "revision")


def test_unknown_names(made):
    """A name that is nowhere is an error, not a clean bill."""
    said = call(made.root, "check", "--only", "nobody_has_this")
    assert (said.code, "qmigrate status" in said.err) == (2, True)


def test_what_nobody_recorded_is_a_note(made):
    """A collection of another client and an alias by hand are notes; with --strict they are drift, and can be accepted."""
    other = f"{made.name}_other"
    with by_hand(made) as client:
        client.create_collection(other, vectors_config=VECTOR)
        alias("create", alias_name="NAME_more", collection_name="NAME__g0002")(client, made.name)
    assert check(made) == (0, {"alias NAME_more": ("note", None, f"{made.name}__g0002")})
    assert check(made, "--strict")[0] == 4
    rows = call(made.root, "check", "--only", other, "--json").json["data"]["collections"]
    assert [(one["kind"], one["severity"]) for one in rows[0]["findings"]] == [("unmanaged", "note")]
    assert call(made.root, "check", "--only", other, "--strict").code == 4
    # An alias that is in use is never removed by a repair.
    assert call(made.root, "repair", "--schema", made.name, "--yes").code == 0
    assert "alias NAME_more" in check(made)[1]
    assert call(made.root, "revision", "--from-drift", "--only", made.name).code == 0
    upgrade.upgrade(made.settings(), only=[made.name])
    assert check(made, "--strict") == (0, {})


def test_what_is_unfinished(made):
    """A run that has failed is pending work with its next command; aborted, everything is as recorded."""
    made.revise("0003", ADD.replace('"b"', '"c"'))
    made.load(30, start=10)
    store = made.store()
    write(store, made.name, [make_point(500, text=" ")])
    store.close()
    with pytest.raises(QmigrateError):
        upgrade.upgrade(made.settings(), only=[made.name])
    code, found = check(made)
    assert (code, found["run"][0]) == (3, "pending")
    assert f"qmigrate abort {made.name}" in fixes(made)
    rollback.abort(made.settings(), made.name)
    assert set(check(made)[1]) == {"revision"}


def test_accepted_drift_is_real_elsewhere(made, tmp_path):
    """A revision of accepted drift does on another deployment what was done by hand on the first one."""
    with by_hand(made) as client:
        client.create_vector_name(
            made.name, "x", models.DenseVectorNameConfig(dense=models.DenseVectorConfig(size=3, distance="Dot"))
        )
    assert call(made.root, "revision", "--from-drift").code == 0
    versions = made.root / "qdrant_migrations" / "versions"
    other = Deployment(tmp_path / "elsewhere", {"path": str(tmp_path / "fresh")}, f"sqlite:///{tmp_path}/fresh.db", name=made.name)
    for path in sorted(versions.glob("*.py")):
        (other.root / "qdrant_migrations" / "versions" / path.name).write_bytes(path.read_bytes())
    upgrade.upgrade(other.settings())
    assert check(other) == (0, {})
    store = other.store()
    assert "x" in store.describe(made.name).schema.vectors
    store.close()
    # And back again: what was accepted is recorded as before, so it is drift again.
    upgrade.upgrade(made.settings(), only=[made.name])
    assert check(made) == (0, {})
    rollback.rollback(made.settings(), "-1", only=[made.name])
    assert set(check(made)[1]) == {"vectors.x", "revision"}


def test_github_annotations(made):
    """Each finding is one annotation on a line of its own, drift as an error."""
    with by_hand(made) as client:
        alias("delete", alias_name="NAME_read")(client, made.name)
    made.revise("0003", INDEX_LATER)
    said = call(made.root, "check", "--only", made.name, "--format", "github")
    assert said.code == 4
    levels = [line.split(" ")[0] for line in said.out.splitlines()]
    assert levels == ["::error", "::warning"]
    plain = call(made.root, "check", "--only", made.name, "--format", "json")
    assert json.loads(plain.out)["drift"] == 1
    assert call(made.root, "check", "--format", "sarif").code == 2


@pytest.mark.server
def test_a_hidden_collection(qdrant_server, tmp_path):
    """A plain collection behind the alias of its name is a note; the way to it gone, or another server, is drift."""
    address = {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "timeout": 2}
    made = Deployment(tmp_path / "project", address, f"sqlite:///{tmp_path}/ledger.db")
    try:
        plain(made)
        assert check(made) == (0, {})
        made.revise("0002", ADD)
        upgrade.upgrade(made.settings())
        assert check(made) == (0, {"hidden NAME": ("note", None, made.name)})
        assert fixes(made) == [f"before you upgrade Qdrant itself: qmigrate gc {made.name} --now --generation {made.name}"]
        _record_server(made, "Qdrant 1.17.0 at elsewhere:6333")
        code, found = check(made)
        assert (code, found["hidden NAME"][:2]) == (4, ("drift", "1.17.0"))
        store = made.store()
        version = ".".join(map(str, store.capabilities.version))
        store.close()
        _record_server(made, f"Qdrant {version} at elsewhere:6333")
        assert check(made)[0] == 0
        with by_hand(made) as client:
            alias("delete", alias_name="NAME__old")(client, made.name)
        code, found = check(made)
        assert (code, found) == (4, {"hidden NAME": ("drift", made.name, None)})
        body = json.loads(fixes(made)[0].split("POST /collections/aliases ")[1])
        with by_hand(made) as client:
            alias("create", **body["actions"][0]["create_alias"])(client, made.name)
        assert check(made)[0] == 0
        rollback.rollback(made.settings(), "-1")
        assert check(made)[1].keys() == {"revision"}
    finally:
        clean(made)


def _record_server(made: Deployment, label: str) -> None:
    """As if the name had become an alias on another server."""
    ledger = Ledger.open(made.ledger_url)
    try:
        with ledger.database.writing() as connection:
            connection.execute(text("UPDATE qdrant_generations SET server = :label WHERE number = 1"), {"label": label})
    finally:
        ledger.close()


def test_accepted_values_survive_a_copy(made):
    """What was filled by hand is carried when the accepting revision and a copy are applied together."""
    with by_hand(made) as client:
        client.delete_vector_name(made.name, "b")
        for name, size in (("b", 3), ("x", 2)):
            dense = models.DenseVectorConfig(size=size, distance="Dot")
            client.create_vector_name(made.name, name, models.DenseVectorNameConfig(dense=dense))
        points, _ = client.scroll(made.name, limit=50)
        client.update_vectors(
            made.name,
            [
                models.PointVectors(id=point.id, vector={"b": [1.0, 2.0, float(place)], "x": [3.0, float(place)]})
                for place, point in enumerate(points)
            ],
            wait=True,
        )
    code, found = check(made)
    assert (code, found) == (
        4,
        {
            "vectors.b.size": ("drift", 16, 3),
            "vectors.b.distance": ("drift", "Cosine", "Dot"),
            "vectors.x": ("drift", None, {"size": 2, "distance": "Dot"}),
        },
    )
    assert call(made.root, "revision", "--from-drift", "--only", made.name).code == 0
    before = made.contents()
    made.revise("0004", ADD.replace('"b"', '"c"'), down="0003")
    upgrade.upgrade(made.settings(), only=[made.name])
    after = made.contents()
    assert after.keys() == before.keys()
    for key, (payload, vectors) in before.items():
        assert after[key][0] == payload
        assert {name: after[key][1][name] for name in vectors} == vectors
        assert "c" in after[key][1]
    assert {path for path, (severity, *_) in check(made)[1].items() if severity == "drift"} == set()


@pytest.mark.server
@pytest.mark.parametrize("qdrant_config", ["server"], indirect=True)
def test_values_come_back_from_a_snapshot(made):
    """A vector that a user dropped comes back with its values as check says, and everything is as recorded again."""
    before = made.contents()
    # Names and times have whole seconds, so the newest is found by what was there earlier.
    earlier = {row["name"] for row in call(made.root, "snapshot", "list", "--json").json["data"]["rows"]}
    assert call(made.root, "snapshot", "create", made.name).code == 0
    with by_hand(made) as client:
        client.delete_vector_name(made.name, "b")
    suggested = next(line for line in fixes(made) if line.startswith("restore it with its values"))
    list_, restore = re.findall(r"qmigrate ([^,]*)", suggested)
    rows = call(made.root, *list_.split(), "--json").json["data"]["rows"]
    (newest,) = {row["name"] for row in rows if row["name"].startswith(made.name)} - earlier
    said = call(made.root, *restore.replace("SNAPSHOT", newest).split(), "--yes")
    assert said.code == 0, said.text
    # What served before is a way back that has lost the vector: told until it is removed.
    assert {what: kind[0] for what, kind in check(made)[1].items()} == {"generation NAME__g0002": "drift"}
    assert call(made.root, "gc", made.name, "--now", "--yes").code == 0
    assert check(made)[0] == 0, check(made)
    assert made.contents() == before


def test_an_adopted_collection_is_clean(deployment):
    """Right after adopt everything is as recorded, whatever the collection was tuned to; by hand it drifts like any other."""
    with by_hand(deployment) as client:
        client.create_collection(
            deployment.name,
            vectors_config={"a": models.VectorParams(size=8, distance=models.Distance.COSINE, on_disk=True)},
            sparse_vectors_config={"s": models.SparseVectorParams(modifier=models.Modifier.IDF)},
            hnsw_config=models.HnswConfigDiff(m=24),
            quantization_config=SCALAR,
            strict_mode_config=models.StrictModeConfig(enabled=True, max_query_limit=99),
            metadata={"team": "search"},
        )
        client.create_payload_index(deployment.name, "kind", "keyword")
    deployment.load(10)
    assert check(deployment) == (0, {"NAME": ("note", None, deployment.name)})
    assert call(deployment.root, "adopt", deployment.name).code == 0
    assert check(deployment, "--strict") == (0, {})
    with by_hand(deployment) as client:
        client.update_collection(deployment.name, metadata={"team": "ads"})
    assert check(deployment)[1] == {"metadata.team": ("drift", "search", "ads")}
    assert call(deployment.root, "repair", "--schema", deployment.name, "--yes").code == 0
    assert check(deployment) == (0, {})


#: What any client may change in a collection without qmigrate: (PATCH, path, live value).
UNDECLARED = (
    ({"hnsw_config": {"m": 32}}, "hnsw_config.m", 32),
    ({"optimizers_config": {"flush_interval_sec": 9}}, "optimizers_config.flush_interval_sec", 9),
    ({"quantization_config": {"scalar": {"type": "int8", "always_ram": True}}}, "quantization_config", {"scalar": {"type": "int8", "always_ram": True}}),
    ({"params": {"on_disk_payload": False}}, "on_disk_payload", False),
    ({"vectors": {"a": {"on_disk": True}}}, "vectors.a.on_disk", True),
    ({"vectors": {"a": {"hnsw_config": {"m": 48}}}}, "vectors.a.hnsw_config.m", 48),
    ({"strict_mode_config": {"enabled": True, "max_query_limit": 77}}, "strict_mode_config.max_query_limit", 77),
)  # fmt: skip
BARE = """
def upgrade():
    return [op.CreateCollection("{name}", {{"a": VectorParams(size=8, distance=Distance.COSINE)}})]
"""


@pytest.fixture
def bare(qdrant_server, tmp_path):
    """A collection of which nothing is declared but its vector, on a real server."""
    address = {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "timeout": 5}
    deployment = Deployment(tmp_path / "project", address, f"sqlite:///{tmp_path}/ledger.db")
    deployment.revise("0001", BARE)
    upgrade.upgrade(deployment.settings())
    deployment.load(20)
    yield deployment
    clean(deployment)


def patch(made: Deployment, body: dict) -> None:
    """Change settings past qmigrate."""
    assert httpx.patch(f"{made.qdrant['url']}/collections/{made.name}", json=body, timeout=20).status_code == 200


@pytest.mark.server
@pytest.mark.parametrize(("body", "path", "value"), UNDECLARED, ids=[row[1] for row in UNDECLARED])
def test_settings_that_nobody_declared_are_seen_and_accepted(bare, body, path, value):
    """Changed by hand: drift that names the path; --from-drift writes it, and once that is applied all is as recorded."""
    assert check(bare) == (0, {})
    patch(bare, body)
    code, found = check(bare)
    assert code == 4
    assert found[path][2] == value
    made = from_drift(bare.settings(), "by hand", revision_id="0002")
    assert made.missing == ()
    upgrade.upgrade(bare.settings())
    assert check(bare) == (0, {})


@pytest.mark.server
@pytest.mark.parametrize(("body", "path", "value"), [row for row in UNDECLARED if "strict" not in row[1]], ids=[row[1] for row in UNDECLARED if "strict" not in row[1]])
def test_settings_that_nobody_declared_are_restored(bare, body, path, value):
    """What was recorded is brought back by `repair --schema`."""
    patch(bare, body)
    assert path in check(bare)[1]
    restore(bare.settings(), bare.name)
    assert check(bare) == (0, {})


@pytest.mark.server
def test_what_qmigrate_does_itself_is_no_drift(bare):
    """Copies, fences, freezes, changes in place, ways back and forth: check finds nothing after any of them."""
    bare.revise("0002", ADD)
    upgrade.upgrade(bare.settings())
    assert check(bare) == (0, {})
    rollback.rollback(bare.settings(), "0001")
    assert check(bare)[1].keys() == {"revision"}
    upgrade.upgrade(bare.settings())
    bare.revise("0003", 'def upgrade():\n    return [op.UpdateCollection("{name}", optimizers_config=OptimizersConfigDiff(flush_interval_sec=7))]\n')
    patch(bare, {"hnsw_config": {"m": 40}})
    upgrade.upgrade(bare.settings())
    assert check(bare)[1].keys() == {"hnsw_config.m"}
    rollback.rollback(bare.settings(), "0002")
    assert check(bare)[1].keys() == {"hnsw_config.m", "revision"}
