"""A deployment as a person on call may find it: served, held, failed, running. All of it is made by real runs."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.harness import Deployment, make_point, write
from tests.scenarios import gated_embedder

from qmigrate.commands import upgrade
from qmigrate.errors import QmigrateError
from qmigrate.ports import Silent

#: What a title, an error or a reason may hold: it is written by others.
HOSTILE = "<img src=x onerror=alert(1)>\"'&amp;‮"
CREATE = """
def upgrade():
    return [op.CreateCollection(name, {{"a": VectorParams(size=8, distance=Distance.COSINE)}}) for name in {names!r}]
"""
COPY = """
def upgrade():
    return [
        op.AddVector("{name}", "b", VectorParams(size=16, distance=Distance.COSINE), values=Embed("words", text="text")),
        op.CreatePayloadIndex("{name}", "kind", PayloadSchemaType.KEYWORD),
    ]
"""
FAIL = """
def number(point):
    if point.payload["n"] == 25:
        raise ValueError({hostile!r})
    return [float(point.payload["n"] + 1)] * 4

def upgrade():
    return [op.AddVector("{name}", "c", VectorParams(size=4, distance=Distance.EUCLID), values=Compute(number))]
"""
RUN = """
def upgrade():
    return [op.AddVector("{name}", "d", VectorParams(size=768, distance=Distance.COSINE), values=Embed("gate", text="text"))]
"""


class Lines(Silent):
    """What a run says, and nothing else."""

    def __init__(self, say) -> None:
        self.say = say


class States:
    """Each collection in a state of its own.

    Attributes:
        made: the deployment.
        served: went to 0002 by a copy, and was written to since: there is a way back.
        held: built, proven, and not live.
        failed: a function of its revision has raised.
        ran: where :meth:`running` lets a run stand still in the middle.
    """

    def __init__(self, made: Deployment, points: int = 40, later: int = 3, *, names=None) -> None:
        self.made = made
        self.served, self.held, self.failed, self.ran = names or [f"{made.name}_{one}" for one in ("photos", "drafts", "faces", "words")]
        names = [self.served, self.held, self.failed, self.ran]
        made.extra.setdefault("embedders", {})["gate"] = {
            "type": "callable", "function": "tests.scenarios.gated_embedder:embed", "size": gated_embedder.SIZE, "max_batch": 10
        }
        made.__post_init__()
        self._revise("0001", CREATE.format(names=names), "the first collections")
        upgrade.upgrade(made.settings())
        self.write(names, range(points))
        self._revise("0002", COPY.format(name=self.served), "a vector of words")
        upgrade.upgrade(made.settings(), parallel=1)
        self.write([self.served], range(points, points + later))
        self._revise("0003", COPY.format(name=self.held), "the same for drafts")
        upgrade.upgrade(made.settings(), hold=True)
        self._revise("0004", FAIL.format(name=self.failed, hostile=HOSTILE), "numbers as a vector, and <b>a title</b>")
        with suppress(QmigrateError):
            upgrade.upgrade(made.settings(), only=[self.failed])

    def _revise(self, identifier: str, body: str, doc: str) -> None:
        self.made.revise(identifier, body.replace("{", "{{").replace("}", "}}"), doc=doc)

    def write(self, names, numbers) -> None:
        store = self.made.store()
        try:
            for name in names:
                write(store, name, [make_point(number) for number in numbers])
        finally:
            store.close()

    @contextmanager
    def running(self, folder: Path, monkeypatch, free: int = 100, say=print):
        """While the block runs, a copy stands still in the middle; only on a server."""
        folder.mkdir(exist_ok=True)
        monkeypatch.setenv("GATE", str(folder))
        monkeypatch.setattr(gated_embedder, "FREE", free)
        monkeypatch.setattr(gated_embedder, "_embedded", 0)
        self._revise("0005", RUN.format(name=self.ran), "words that take their time")
        ended = []

        def work() -> None:
            try:
                ended.append(upgrade.upgrade(self.made.settings(), only=[self.ran], progress=Lines(say)))
            except QmigrateError as error:
                ended.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            until = time.monotonic() + 60
            while not (folder / "asked").exists() and time.monotonic() < until and thread.is_alive():
                time.sleep(0.05)
            assert (folder / "asked").exists(), ended
            yield ended
        finally:
            (folder / "open").touch()
            thread.join(120)
            assert not thread.is_alive()
