"""Shared fixtures: real components where one can be had, a visible line where not."""

from __future__ import annotations

import gc
import os
import signal

import pytest

from qmigrate.cli.consent import AGENTS
from tests.harness import Deployment, by_hand

# Tests make and drop many small objects next to a few hundred thousand that stay: as often as Python looks for garbage
# by default, it would do so for a fifth of the run.
gc.set_threshold(50_000, 20, 20)

# A program inherits which signals its parent ignores, and a shell can't trap what was ignored at its start: under
# `nohup` tests of signals would wait forever. What is caught here instead is the default again in every child.
_SIGNALS = [getattr(signal, name, None) for name in ("SIGHUP", "SIGINT", "SIGTERM", "SIGQUIT")]
for _number in filter(None, _SIGNALS):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)

# Who runs the tests is not who types the commands in them: an assistant would be refused its --yes.
for _variable in AGENTS:
    os.environ.pop(_variable, None)

pytest_plugins = ["tests.conftest_postgres", "tests.conftest_qdrant", "tests.conftest_systems"]


@pytest.hookimpl(trylast=True)
def pytest_collection_finish():
    """What is there by now stays: the collector need not walk through it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=["local", pytest.param("server", marks=pytest.mark.server)])
def qdrant_config(request, tmp_path):
    """The qdrant: section of a configuration, for local mode and for a real server."""
    if request.param == "local":
        return {"path": str(tmp_path / "qdrant")}
    server = request.getfixturevalue("qdrant_server")
    return {"url": server.url, "grpc_port": server.grpc_port, "timeout": 2}


@pytest.fixture
def deployment(qdrant_config, tmp_path):
    """A fresh deployment on each store, with a SQLite ledger."""
    made = Deployment(tmp_path / "project", qdrant_config, f"sqlite:///{tmp_path}/ledger.db")
    yield made
    if "url" in qdrant_config:
        clean(made)


def clean(made: Deployment) -> None:
    """Remove everything of a deployment from a shared server."""
    store = made.store()
    try:
        for alias in store.aliases():
            if alias.startswith(made.name):
                store.drop_alias(alias)
        for name in store.physical_names():
            if name.startswith(made.name):
                store.drop_collection(by_hand(name))
    finally:
        store.close()
