"""A holder in a process of its own: stopped by a signal, or cut off from Qdrant and PostgreSQL. No tests here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from sqlalchemy import make_url
from tests.faults.pause import DEAD, LATE, PATIENCE, PAUSED, World
from tests.faults.proxy import Proxy
from tests.harness import Deployment

from qmigrate.errors import QmigrateError

ROOT = Path(__file__).resolve().parents[2]


class Separate(World):
    """One such holder, whose connections all go through proxies, with the world around it.

    Args:
        made: the deployment, with its ledger in PostgreSQL.
        verb: what it runs, of ``verbs.VERBS``.
        number: how many requests it may send before it stands still; None lets it through.
        mode: *paused*: it is stopped. *lost* and *late*: its network is cut instead; then what it has sent is lost, or
            arrives late. *dead*: it is killed.
    """

    def __init__(self, made: Deployment, verb: str, number: int | None, mode: str = PAUSED) -> None:
        super().__init__(made, mode)
        ledger = make_url(made.ledger_url)
        ports = (urlsplit(made.qdrant["url"]).port, made.qdrant["grpc_port"], ledger.port)
        self._proxies = [Proxy(int(port)) for port in ports]
        self._number = number
        self._log = made.root / "requests"
        self._said = made.root / "said"
        self._config = made.root / "cut.yaml"
        self._verb = verb
        self._configure()
        self._process: subprocess.Popen[bytes] | None = None

    def _configure(self) -> None:
        rest, rpc, sql = (proxy.port for proxy in self._proxies)
        config = yaml.safe_load(self.made.config.read_text())
        config["qdrant"] |= {"url": f"http://127.0.0.1:{rest}", "grpc_port": rpc}
        url = make_url(self.made.ledger_url).set(host="127.0.0.1", port=sql)
        config["ledger"] = {"url": url.render_as_string(hide_password=False)}
        self._config.write_text(yaml.safe_dump(config))

    @property
    def requests(self) -> list[str]:
        """What it has sent so far, or wanted to."""
        return self._log.read_text().splitlines() if self._log.exists() else []

    def start(self) -> bool:
        """Run it until it has stopped itself, or is over; whether it has not come to its end."""
        number = "-" if self._number is None else str(self._number)
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.child_pause", str(self._config), self._verb, number, str(self._log)],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])},
                stdout=said,
                stderr=said,
            )
        _, status = os.waitpid(self._process.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            self._ended(os.waitstatus_to_exitcode(status))
            return False
        if self.mode == DEAD:
            self._process.kill()
        elif self.mode != PAUSED:
            for proxy in self._proxies:
                proxy.cut()
            self._process.send_signal(signal.SIGCONT)
        self.expire()
        return True

    def wake(self) -> None:
        """Let it continue, or give it its network back; until its end. What is dead stays so."""
        assert self._process is not None
        if self.mode == DEAD:
            self._process.wait(PATIENCE)
            return
        for proxy in self._proxies:
            proxy.heal(late=self.mode == LATE)
        if self.mode == PAUSED:
            self._process.send_signal(signal.SIGCONT)
        self._ended(self._process.wait(PATIENCE))

    def _ended(self, code: int) -> None:
        assert self._process is not None
        self._process.returncode = code
        said = self._said.read_text()
        if code:
            self.error = QmigrateError(said) if code == 3 else RuntimeError(f"exit code {code}: {said}")

    def close(self) -> None:
        """End what is left."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for proxy in self._proxies:
            proxy.close()
        self.store.close()


@contextmanager
def separate(made: Deployment, verb: str, number: int | None, mode: str = PAUSED) -> Iterator[Separate]:
    """See :class:`Separate`."""
    holder = Separate(made, verb, number, mode)
    try:
        yield holder
    finally:
        holder.close()
