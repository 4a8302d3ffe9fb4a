"""The JSON schema of the settings accepts and refuses what the settings themselves accept and refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator

from qmigrate.cli.app import run
from qmigrate.commands.settings_schema import settings_schema
from qmigrate.errors import ConfigError
from qmigrate.settings.load import Settings

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = settings_schema()
FILES = [ROOT / "qmigrate.yaml", *sorted((ROOT / "examples").rglob("qmigrate.yaml")), *sorted((ROOT / "tests" / "golden").rglob("qmigrate.yaml"))]


def is_valid(content) -> bool:
    """What an editor would say."""
    return Draft7Validator(SCHEMA).is_valid(content)


def test_it_is_a_schema():
    """It follows its own dialect, and each key of it is explained."""
    Draft7Validator.check_schema(SCHEMA)
    for name, section in SCHEMA["properties"].items():
        assert section["description"] or "$ref" in section, name
        for key, one in section.get("properties", {}).items():
            assert one.get("description"), f"{name}.{key}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_files_of_the_project_are_valid(file):
    """What is used is accepted."""
    assert list(Draft7Validator(SCHEMA).iter_errors(yaml.safe_load(file.read_text()))) == []


#: Content, and whether it is accepted.
CONTENT = [
    ("qdrant: {url: 'http://q:6333', api_key_env: KEY, timeout: 60}", True),
    ("qdrant: {url: 'http://q:6333', api_key: secret}", False),
    ("qdrant: {url: 'q:6333'}", False),
    ("qdrant: {path: q, grpc_port: 0}", False),
    ("qdrant: {path: q, grpc_port: 65536}", False),
    ("qdrant: {path: q, grpc_tls: auto}", True),
    ("qdrant: {path: q, grpc_tls: 'yes'}", False),
    ("qdrant: {path: q, ca_cert: null}", True),
    ("rebuild: {writes: freeze, holdover: 7d, snapshot: off}", True),
    ("rebuild: {writes: fast}", False),
    ("rebuild: {holdover: 7}", False),
    ("rebuild: {holdover: 0}", True),
    ("rebuild: {holdover: 2 weeks}", True),
    ("rebuild: {ranges: auto, workers: 2, devices: ['cuda:0']}", True),
    ("rebuild: {ranges: 0}", False),
    ("rebuild: {ray: {num_gpus: 0.5, workers: auto}}", True),
    ("rebuild: {ray: {gpus: 1}}", False),
    ("rebiuld: {}", False),
    ("fixes: {max_share: 0.5, tenants: {docs: tenant}}", True),
    ("fixes: {max_share: 2}", False),
    ("fixes: {tenants: {docs: 3}}", False),
    ("limits: {max_quarantine: 50}", True),
    ("limits: {max_quarantine: auto}", True),
    ("limits: {max_quarantine: many}", False),
    ("embedders: {words: {type: hashing, size: 8}}", True),
    ("embedders: {words: {size: 8}}", False),
    ("collections: {docs: {rebuild: {fuse: false}, fixes: {undo: 1d}}}", True),
    ("collections: {docs: {fixes: {exports: x}}}", False),
    ("collections: {docs: {limits: {}}}", False),
    ("databases: {app: {url_env: DATABASE_URL}}", True),
    ("databases: {app: {uri: x}}", False),
    ("health: {require: [serving, drift]}", True),
    ("health: {require: [ready]}", False),
    ('health: {checks: {pg: {database: app}, redis: {function: "app.checks:redis"}}}', True),
    ("health: {checks: {pg: {}}}", False),
    ("health: {checks: {pg: {database: app, function: a:b}}}", False),
    ("health: {checks: {redis: {function: ping}}}", False),
    ("health: {checks: {redis: {url: redis}}}", False),
    ("lint: {points: {docs: 5}}", True),
    ("lint: {points: {docs: few}}", False),
    ("metrics: {checks: {rows: {kind: sync}}}", True),
    ("scripts: elsewhere", True),
    ("scripts: [a]", False),
    ("sql: {version_table: v, config: alembic.ini}", True),
    ("sql: {table: v}", False),
]


@pytest.mark.parametrize(("content", "accepted"), CONTENT, ids=[text for text, _ in CONTENT])
def test_both_say_the_same(tmp_path, content, accepted):
    """What the settings refuse, an editor underlines, and nothing else."""
    (tmp_path / "qmigrate.yaml").write_text(content)
    try:
        Settings.load(config=tmp_path / "qmigrate.yaml", environ={"DATABASE_URL": "sqlite://"}, stores=False)
        read = True
    except ConfigError:
        read = False
    assert (read, is_valid(yaml.safe_load(content))) == (accepted, accepted)


@pytest.mark.parametrize("content", ["embedders: {w: {type: hashing, model: x}}", "embedders: {w: {type: hash}}"])
def test_keys_of_embedders_are_those_of_their_type(content):
    """These are checked when an embedder is loaded; an editor shows them before."""
    assert not is_valid(yaml.safe_load(content))


def test_it_can_be_printed(capsys):
    """`schema --settings` prints it as it is, and needs no project; with a name of a collection it is refused."""
    assert run(["schema", "--settings"]) == 0
    assert json.loads(capsys.readouterr().out) == SCHEMA
    assert run(["schema", "docs", "--settings"]) == 2
    assert "--settings is about no collection" in capsys.readouterr().err
