"""Worker processes: how many are started and where, and what their errors become."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from qmigrate import errors
from qmigrate.cli.verbs.change import upgrade
from qmigrate.commands.workers import hands_of
from qmigrate.commands.workers.words import heard, said
from qmigrate.errors import ConfigError
from qmigrate.settings import Settings
from qmigrate.store.faults import TransientError

CLIP = {"type": "open_clip", "model": "ViT-B-32"}


def settings(tmp_path, rebuild=None, qdrant=None, **embedder) -> Settings:
    """Those of a file with two embedders; `embedder` are keys of the one that has a device."""
    data = {
        "qdrant": qdrant or {"url": "http://localhost:6333"},
        "ledger": {"url": "sqlite:///ledger.db"},
        "embedders": {"words": {"type": "hashing"}, "clip": {**CLIP, **embedder}},
        "rebuild": rebuild or {},
    }
    (tmp_path / "qmigrate.yaml").write_text(yaml.safe_dump(data))
    return Settings.load(config=tmp_path / "qmigrate.yaml", environ={})


@pytest.mark.parametrize(
    ("gpus", "rebuild", "embedder", "used", "expected"),
    [
        (2, {}, {}, ["clip"], ["cuda:0", "cuda:1"]),
        (2, {"devices": "auto"}, {"device": "auto"}, ["clip", "words"], ["cuda:0", "cuda:1"]),
        (2, {}, {"device": "cuda:1"}, ["clip"], []),
        (2, {}, {}, ["words"], []),
        (1, {}, {}, ["clip"], []),
        (0, {}, {}, ["clip"], []),
        (4, {"devices": []}, {}, ["clip"], []),
        (0, {"devices": ["cpu", "cpu"]}, {}, ["words"], ["cpu", "cpu"]),
    ],
)
def test_one_worker_per_gpu_where_nothing_else_is_said(tmp_path, monkeypatch, gpus, rebuild, embedder, used, expected):
    """Every GPU when there are several and the embedder leaves it open; one device, or a model without one, needs none."""
    torch = SimpleNamespace(cuda=SimpleNamespace(device_count=lambda: gpus))
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert list(hands_of(settings(tmp_path, rebuild, **embedder)).places(used)) == expected


def test_local_mode_has_no_workers(tmp_path, monkeypatch):
    """Its folder belongs to one process: devices or Ray are refused by name, and GPUs alone start nothing."""
    torch = SimpleNamespace(cuda=SimpleNamespace(device_count=lambda: 2))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "ray", torch)
    local = {"path": str(tmp_path / "qdrant")}
    assert not hands_of(settings(tmp_path, qdrant=local)).places(["clip"])
    for rebuild in ({"devices": ["cuda:0"]}, {"engine": "ray"}):
        with pytest.raises(ConfigError, match="needs a Qdrant server: the folder of local mode"):
            hands_of(settings(tmp_path, rebuild, qdrant=local)).check()


def test_the_engine_of_the_command_line_is_that_of_every_collection(tmp_path):
    """Also of one whose settings say another."""
    one = settings(tmp_path)
    data = yaml.safe_load((tmp_path / "qmigrate.yaml").read_text())
    data["collections"] = {"notes": {"rebuild": {"engine": "ray", "workers": 2}}}
    (tmp_path / "qmigrate.yaml").write_text(yaml.safe_dump(data))
    loaded = Settings.load(config=one.config, environ={})
    assert loaded.for_collection("notes").rebuild.engine == "ray"
    assert loaded.with_engine("local").for_collection("notes").rebuild.engine == "local"
    assert loaded.with_engine("local").for_collection("notes").rebuild.workers == 2
    assert loaded.with_engine(None) == loaded


@pytest.mark.parametrize(
    ("rebuild", "message"),
    [
        ({"ray": {"gpus": 1}}, 'unknown key "rebuild.ray.gpus" in the settings; did you mean "num_gpus"'),
        ({"ray": {"num_gpus": -1}}, "rebuild.ray.num_gpus must be"),
        ({"ray": {"workers": 0}}, "rebuild.ray.workers must be"),
        ({"engine": "dask"}, "rebuild.engine must be local or ray"),
        ({"devices": "cuda:0"}, "rebuild.devices must be a list"),
    ],
)
def test_a_mistake_in_the_settings_is_named(tmp_path, rebuild, message):
    """With the key that it is in."""
    with pytest.raises(ConfigError, match=message):
        settings(tmp_path, rebuild)


def test_an_error_leaves_a_worker_as_what_it_was():
    """Class, hint and facts come along; of what nobody foresaw, the trace."""
    everywhere = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.QmigrateError)]
    assert len(everywhere) > 20
    for kind in everywhere:
        error = kind.__new__(kind)
        errors.QmigrateError.__init__(error, "what", hint="how", facts={"n": 1})
        back = heard(said(error))
        assert (type(back), back.message, back.hint, back.facts, back.exit_code) == (kind, "what", "how", {"n": 1}, kind.exit_code)
    assert type(heard(said(TransientError("gone")))) is errors.StoreError
    try:
        raise KeyError("x")
    except KeyError as unforeseen:
        back = heard(said(unforeseen))
    assert "KeyError: 'x'" in back.message
    assert "test_workers.py" in back.__notes__[0]


PAGE = Path(__file__).resolve().parents[2] / "docs" / "scaling.md"
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def loaded(tmp_path, text: str) -> Settings:
    """A file of settings, read where its variables are set."""
    (tmp_path / "qmigrate.yaml").write_text(text)
    environ = {"DATABASE_URL": "postgresql://app@db/app", "QMIGRATE_LEDGER_URL": "postgresql+psycopg://app@db/app"}
    return Settings.load(config=tmp_path / "qmigrate.yaml", environ=environ)


def test_the_settings_of_the_page_are_settings(tmp_path):
    """Every block of the page about scaling can be copied, the one inside the manifest too."""
    documents = {one["kind"]: one for one in yaml.safe_load_all(BLOCKS[-1])}
    for block in [*BLOCKS[:-1], documents["ConfigMap"]["data"]["qmigrate.yaml"]]:
        made = loaded(tmp_path, block)
        assert made.rebuild.devices is None
    assert (made.rebuild.engine, made.rebuild.ray.workers) == ("ray", 8)


def test_the_manifest_gives_every_container_what_a_worker_needs(tmp_path):
    """Head and workers: one image, the secret, the settings and the images; room for as many workers as are asked for."""
    documents = {one["kind"]: one for one in yaml.safe_load_all(BLOCKS[-1])}
    settings = yaml.safe_load(documents["ConfigMap"]["data"]["qmigrate.yaml"])
    spec = documents["RayJob"]["spec"]
    program, verb, *arguments = spec["entrypoint"].split()
    assert (program, upgrade.make_context(verb, arguments).params["engine"]) == ("qmigrate", "ray")
    cluster = spec["rayClusterSpec"]
    needed = tomllib.loads((PAGE.parents[1] / "pyproject.toml").read_text())["project"]["optional-dependencies"]["ray"]
    assert needed == [f"ray>={cluster['rayVersion'].rsplit('.', 1)[0]}"]
    (group,) = cluster["workerGroupSpecs"]
    pods = [part["template"]["spec"] for part in (cluster["headGroupSpec"], group)]
    containers = [container for pod in pods for container in pod["containers"]]
    assert len({one["image"] for one in containers}) == 1
    for pod in pods:
        (container,) = pod["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": documents["Secret"]["metadata"]["name"]}}]
        mounted = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
        assert container["env"] == [{"name": "QMIGRATE_CONFIG", "value": f"{mounted['config']}/qmigrate.yaml"}]
        assert settings["embedders"]["clip-l14"]["image_roots"] == [mounted["images"]]
        assert {one["name"] for one in pod["volumes"]} == set(mounted)
    assert set(documents["Secret"]["stringData"]) == {"QMIGRATE_LEDGER_URL", "QMIGRATE_QDRANT_API_KEY"}
    wanted, has = settings["rebuild"]["ray"], containers[1]["resources"]["limits"]
    assert group["replicas"] == wanted["workers"]
    assert (float(has["nvidia.com/gpu"]), float(has["cpu"])) == (wanted["num_gpus"], wanted["num_cpus"])
