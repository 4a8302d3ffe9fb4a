"""Worker processes: how many are started and where, and what their errors become."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from qmigrate import errors
from qmigrate.cli.upgrade import upgrade
from qmigrate.commands.workers import local, workers_of
from qmigrate.commands.workers.local import LocalWorkers
from qmigrate.commands.workers.messages import error_from_dict, error_to_dict
from qmigrate.commands.workers.settings_json import from_json, to_json
from qmigrate.engine.workers.protocol import Order, Report, WorkerLostError
from qmigrate.errors import ConfigError
from qmigrate.settings.load import Settings
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
    assert list(workers_of(settings(tmp_path, rebuild, **embedder)).places(used)) == expected


def test_local_mode_has_no_workers(tmp_path, monkeypatch):
    """Its folder belongs to one process: devices or Ray are refused by name, and GPUs alone start nothing."""
    torch = SimpleNamespace(cuda=SimpleNamespace(device_count=lambda: 2))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "ray", torch)
    local = {"path": str(tmp_path / "qdrant")}
    assert not workers_of(settings(tmp_path, qdrant=local)).places(["clip"])
    for rebuild in ({"devices": ["cuda:0"]}, {"engine": "ray"}):
        with pytest.raises(ConfigError, match="needs a Qdrant server: the folder of local mode"):
            workers_of(settings(tmp_path, rebuild, qdrant=local)).check()


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
    """Class, hint and facts come along; of unforeseen errors, the trace."""
    everywhere = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.QmigrateError)]
    assert len(everywhere) > 20
    for kind in everywhere:
        error = kind.__new__(kind)
        errors.QmigrateError.__init__(error, "what", hint="how", facts={"n": 1})
        back = error_from_dict(error_to_dict(error))
        assert (type(back), back.message, back.hint, back.facts, back.exit_code) == (kind, "what", "how", {"n": 1}, kind.exit_code)
    assert type(error_from_dict(error_to_dict(TransientError("gone")))) is errors.StoreError
    try:
        raise KeyError("x")
    except KeyError as unforeseen:
        back = error_from_dict(error_to_dict(unforeseen))
    assert "KeyError: 'x'" in back.message
    assert "test_workers.py" in back.__notes__[0]
    huge = errors.QmigrateError("x" * 10**6, facts={"path": Path("a"), "all": ["y" * 10**6]})
    assert len(json.dumps(error_to_dict(huge))) < 100_000
    assert json.dumps(error_to_dict(errors.QmigrateError("x", facts={"path": Path("a")})))


ORDER = Order("ledger", "notes", 1, 0, 3, "notes__g0002__e3__0", "cpu", 4, 12.5)
#: What may be in a file, of every kind that YAML and the readers of the settings make.
EVERYTHING = """
qdrant: {url: "http://localhost:6333", api_key_env: KEY, timeout: 5s, nodes: ["http://a:6333", "http://b:6333"]}
ledger: {url: "postgresql://app:geheim@db/app", schema: vectors}
databases: {app: {url: "sqlite:///app.db"}, other: {url_env: NOWHERE}}
embedders: {words: {type: hashing}, clip: {type: open_clip, model: ViT-B-32, image_roots: [/data], threads: null}}
rebuild: {devices: [cpu, "cuda:0"], max_rate: 12.5, ranges: auto, ray: {workers: 2, runtime_env: {env_vars: {A: ä}}}}
fixes: {tenants: {"a*": org}, presets: {old: {collection: notes, filter: {since: !!timestamp "2024-05-01", at: !!timestamp "2024-05-01 10:00:00",
  "1": one, raw: !!binary aGk=, some: !!set {a}}}}}
limits: {max_quarantine: 0.5}
lint: {points: {notes: 5}}
metrics: {checks: {notes: {kind: orphans, collection: notes, sql: "SELECT 1"}}}
collections: {notes: {rebuild: {devices: auto, ray: {num_gpus: 0.5}}, fixes: {undo: 5h}, embedders: {words: {type: hashing, size: 8}}}}
"""


def test_settings_reach_a_worker_whole_and_as_plain_json(tmp_path):
    """What a worker makes of its JSON is equal in value and type; what no file can hold is refused by its type."""
    (tmp_path / "qmigrate.yaml").write_text(EVERYTHING)
    found = Settings.load(config=tmp_path / "qmigrate.yaml", environ={"KEY": "geheim"})
    back = from_json(json.loads(json.dumps(to_json(found))))
    assert back == found
    assert repr(asdict(back)) == repr(asdict(found))
    assert back.qdrant.api_key == "geheim"
    assert (back.scripts, back.for_collection("notes").fixes.undo) == (tmp_path / "qdrant_migrations", 5 * 3600.0)
    odd = replace(found, embedders={"words": {"type": "callable", "function": print}})
    with pytest.raises(ConfigError, match="a value of type builtin_function_or_method, which can't be handed"):
        to_json(odd)


def fake(monkeypatch, body: str) -> None:
    """Workers are this program from now on: `end` is its socket, from which it has read what it is given."""
    code = f"import json, os, signal, socket, sys, time; end = socket.socket(fileno=int(sys.argv[1])); lines = end.makefile(); begun = json.loads(lines.readline())\n{body}"
    monkeypatch.setattr(local, "command", lambda number: [sys.executable, "-c", code, str(number)])


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("end.sendall(b'\\x80\\x04K\\x01.\\n'); time.sleep(60)", "it sent something unreadable: 6 bytes that are not JSON"),
        ("end.sendall(b'{}\\n'); time.sleep(60)", "3 bytes of JSON that are not a message"),
        ("end.sendall(b'[\"done\", 77]\\n'); time.sleep(60)", "an unexpected message"),
        ("end.sendall(b'[\"refused\", {\"type\": \"Mapping\", \"message\": 1}]\\n'); time.sleep(60)", "an unexpected message"),
        ("end.sendall(b'[\"sing\"]\\n'); time.sleep(60)", "a message of another kind"),
        ("end.sendall(b'x' * 17 * 2**20); time.sleep(60)", "a message of more than 16,777,216 bytes"),
        ("end.sendall(b'[\"refu'); os.kill(os.getpid(), signal.SIGKILL)", "killed by signal 9"),
        ("sys.exit(3)", "exit code 3"),
    ],
)
def test_a_worker_that_says_rubbish_or_nothing_is_ended_and_named(tmp_path, monkeypatch, body, told):
    """Nothing waits for it forever, what it sent is never run as code, and the reason is reported in words."""
    fake(monkeypatch, body)
    with pytest.raises(WorkerLostError, match=told):
        LocalWorkers(settings(tmp_path)).start(ORDER, lambda: None)


def test_what_a_worker_is_given_stands_neither_in_its_arguments_nor_in_its_environment(tmp_path, monkeypatch):
    """Settings and order arrive over the socket; a range is asked for, reported and done, and its error comes back."""
    seen = tmp_path / "seen.json"
    fake(
        monkeypatch,
        f"""
def say(*words): end.sendall(json.dumps(words).encode() + b"\\n")
with open({str(seen)!r}, "w") as out: json.dump([begun, sys.orig_argv, dict(os.environ)], out)
say("ready")
for line in lines:
    word, *more = json.loads(line)
    if word == "stop": sys.exit(0)
    say("report", {{"points": 7, "quarantined": 1, "stages": {{"write": 0.5}}}})
    say("failed", more[0], {{"type": "QuarantineError", "message": "too many", "facts": {{"n": 1}}}}) if more[1] else say("done", more[0])
""",
    )
    made = replace(settings(tmp_path), qdrant=replace(settings(tmp_path).qdrant, api_key="geheim"))
    hand = LocalWorkers(made).start(ORDER, lambda: None)
    try:
        hand.copy(5, again=False, look=lambda: None)
        assert hand.report() == Report(7, 1, {"write": 0.5})
        with pytest.raises(errors.QuarantineError, match="too many") as failed:
            hand.copy(6, again=True, look=lambda: None)
        assert failed.value.facts == {"n": 1}
    finally:
        hand.close()
    (word, path, given, order), arguments, environ = json.loads(seen.read_text())
    assert (word, path, order) == ("begin", sys.path, asdict(ORDER))
    assert from_json(given) == made
    assert "geheim" not in json.dumps(arguments)
    assert "geheim" not in json.dumps(environ)


def test_a_worker_ends_when_it_is_told_rubbish():
    """A parent that isn't understood is treated like one that is gone."""
    mine, its = local.socket.socketpair()
    with mine, subprocess.Popen(local.command(its.fileno()), pass_fds=[its.fileno()]) as process:
        its.close()
        mine.sendall(b"no JSON\n")
        assert process.wait(60) == 1


PAGE = Path(__file__).resolve().parents[3] / "docs" / "scaling.md"
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
