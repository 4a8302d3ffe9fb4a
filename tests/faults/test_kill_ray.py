"""Workers of Ray fill a vector, and one of them is killed in the middle; what can't be shared out is refused."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest
from tests.conftest import clean
from tests.faults.test_kill_worker import KEEP, MODULE, POINTS, check_whole, seen
from tests.harness import CREATE, Deployment

from qmigrate.commands import upgrade
from qmigrate.errors import ConfigError

HAS_RAY = importlib.util.find_spec("ray") is not None
REMOTE = MODULE.replace('worker = os.getpid() != int(os.environ["TEST_PARENT"])', 'worker = sys.argv[0].endswith("default_worker.py")')
REMOTE = REMOTE.replace("import os, signal,", "import os, signal, sys,", 1)


@pytest.fixture
def deployed(qdrant_server, tmp_path, monkeypatch):
    """A loaded collection at 0001 with revision 0002 pending, to be filled by two workers of Ray in four ranges."""
    (tmp_path / "worker_words.py").write_text(REMOTE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    sys.modules.pop("worker_words", None)
    words = {"type": "callable", "function": "worker_words:embed", "version": "1", "max_batch": 10}
    ray = {"address": "local", "workers": 2, "num_gpus": 0, "num_cpus": 0.5}
    made = Deployment(
        tmp_path / "project",
        {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "timeout": 2},
        f"sqlite:///{tmp_path}/ledger.db",
        extra={
            "embedders": {"words": words},
            "limits": {"max_quarantine": 0.2},
            "rebuild": {"sample": 0, "ranges": 4, "workers": 1, "ray": ray},
        },
    )
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings(), "0001")
    made.load(POINTS, uuids=False)
    made.revise("0002", KEEP)
    yield made
    clean(made)


@pytest.mark.server
@pytest.mark.skipif(not HAS_RAY, reason="ray is not installed: pip install 'qdrant-migrations[ray]'")
def test_the_range_of_a_killed_actor_goes_on_in_another(deployed, tmp_path):
    """Two actors, one killed: every point is proven, and the summary reports that another one continued."""
    (tmp_path / "once").touch()
    command = [sys.executable, "-m", "qmigrate", "--config", str(deployed.config), "upgrade", "--engine", "ray", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "a worker has ended" in done.stderr
    (killed,) = (int(file.suffix[1:]) for file in tmp_path.glob("once.*"))
    by_process = seen(tmp_path)
    assert len(by_process[killed]) >= 110
    assert len(by_process) >= 4  # the preflight, two workers, and the one that came after
    assert json.loads(done.stdout)["ok"]
    check_whole(deployed)


@pytest.mark.server
def test_what_workers_elsewhere_can_not_reach_is_refused(deployed, monkeypatch):
    """A SQLite ledger, or no Ray at all, is reported before anything is made, with the way out."""
    deployed.extra["rebuild"]["engine"] = "ray"
    deployed.extra["rebuild"]["ray"]["address"] = "ray://cluster:10001"
    deployed.__post_init__()
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "ray", sys)
        with pytest.raises(ConfigError, match="a ledger that every machine reaches") as refused:
            upgrade.upgrade(deployed.settings())
        assert "PostgreSQL" in str(refused.value.hint)
        patched.setitem(sys.modules, "ray", None)
        with pytest.raises(ConfigError, match="not installed") as refused:
            upgrade.upgrade(deployed.settings())
    assert "qdrant-migrations[ray]" in str(refused.value.hint)
    assert deployed.row().revision == "0001"
    store = deployed.store()
    assert f"{deployed.name}__g0002" not in store.physical_names()
    store.close()
