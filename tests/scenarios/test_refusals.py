"""Everything that can refuse is asked before the first thing that can't be undone: refusals times strategies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from tests.conftest import clean
from tests.harness import ADD, CREATE, INDEX, Deployment, make_point, write
from tests.scenarios.plain_names import plain

from qmigrate.commands import reset, restore, snapshot, upgrade
from qmigrate.commands import rollback as back
from qmigrate.errors import QmigrateError
from qmigrate.store.local.local import LocalStore
from qmigrate.store.server.server import ServerStore

POINTS = 40
#: The point that goes wrong: late enough that no trial of the first ones meets it.
BAD = 29

#: How a name is served before, on which store, and what that makes of the change.
WAYS = [
    "local-alias",
    "local-plain",
    pytest.param("server-alias", marks=pytest.mark.server),
    pytest.param("server-hidden", marks=pytest.mark.server),
    pytest.param("server-gap", marks=pytest.mark.server),
]
#: A template leaves missing parts out, so that only the fill finds what is missing.
WORDS = ADD.replace('text="text"', 'text="{{text}}{{title}}"')
KEPT = WORDS.replace('}}"', '}}", on_failure="keep_without_vector"')
REFUSALS = {
    "a text is missing": (ADD, "have no 'text'"),
    "a text is missing in a template": (WORDS, "can't be given vector"),
    "too many could not be embedded": (KEPT, "could not be embedded so far"),
    "own code fails late": (
        """
def upgrade():
    return [op.AddVector("{name}", "b", VectorParams(size=2, distance=Distance.DOT), values=Compute(pair))]


def pair(point):
    if point.payload["n"] == 29:
        raise ValueError("thirty")
    return [1.0, 2.0]
""",
        "thirty",
    ),
    "no such embedder": (ADD.replace('"words"', '"nobody"'), "nobody"),
    "the collection is unhealthy": (ADD, "disk is full"),
    "an index in place, unhealthy": (INDEX, "disk is full"),
    "a clone, unhealthy": (
        """
def upgrade():
    return [op.DropVector("{name}", "a", cutover="immediate"), op.AddVector("{name}", "c", VectorParams(size=2, distance=Distance.DOT),
                                                       values=Empty())]
""",
        "disk is full",
    ),
}


@pytest.fixture
def made(request, way, tmp_path):
    """A collection at 0001 of which one point lacks its text, served in one of the ways."""
    kind, how = way.split("-")
    server = request.getfixturevalue("qdrant_server") if kind == "server" else None
    config = {"path": str(tmp_path / "qdrant")}
    if server is not None:
        config = {"url": server.url, "grpc_port": server.grpc_port, "timeout": 2}
    extra = {"limits": {"max_quarantine": 0}, "rebuild": {"plain_names": "gap" if how == "gap" else "auto"}}
    found = Deployment(tmp_path / "project", config, f"sqlite:///{tmp_path}/ledger.db", extra=extra)
    if how == "alias":
        found.revise("0001", CREATE)
        upgrade.upgrade(found.settings())
        found.load(POINTS)
    else:
        plain(found, POINTS)
    store = found.store()
    point = make_point(BAD, uuid_id=BAD % 3 == 2)
    write(store, found.name, [replace(point, payload={"n": BAD})])
    store.close()
    yield found
    if server is not None:
        clean(found)


def standing(made: Deployment) -> tuple[set[str], dict[str, str], dict]:
    """Collections, aliases and points of a deployment."""
    store = made.store()
    try:
        physical = {name for name in store.physical_names() if name.startswith(made.name)}
        aliases = {name: target for name, target in store.aliases().items() if name.startswith(made.name)}
    finally:
        store.close()
    return physical, aliases, made.contents()


def break_down(monkeypatch) -> None:
    """From here on every collection is reported as unhealthy, as by a server whose disk is full."""
    for kind in (LocalStore, ServerStore):
        described = kind.describe

        def describe(self, name, *args, _described=described, **kwargs):
            found = _described(self, name, *args, **kwargs)
            return found and replace(found, status="red", problem="the disk is full")

        monkeypatch.setattr(kind, "describe", describe)


def check_nothing_lost(made: Deployment, before: tuple[set[str], dict[str, str], dict]) -> None:
    """What serves is what served; once the run is undone, nothing shows it."""
    physical, aliases, points = standing(made)
    assert physical >= before[0], "nothing was deleted"
    assert aliases.get(made.name) == before[1].get(made.name), "the name is where it was"
    assert points == before[2]
    back.abort(made.settings())
    assert standing(made) == before
    assert made.row().revision == "0001"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refused_change_has_deleted_nothing_and_moved_no_name(made, refusal, monkeypatch):
    """Whatever refuses, and however the name is served: the collection is there as it was, and abort leaves no trace."""
    body, said = REFUSALS[refusal]
    before = standing(made)
    made.revise("0002", body)
    with monkeypatch.context() as patch:
        if "unhealthy" in refusal:
            break_down(patch)
        with pytest.raises(QmigrateError) as refused:
            upgrade.upgrade(made.settings(), allow_gap=True)
    assert said in str(refused.value)
    check_nothing_lost(made, before)


@pytest.mark.parametrize("way", WAYS[2:])
def test_a_search_that_misses_its_mark_has_deleted_nothing(made):
    """Exit 5 of a quality gate comes before the name moves, also where a plain collection has to make room first."""
    before = standing(made)
    made.revise("0002", """
def upgrade():
    return [op.AddVector("{name}", "b", VectorParams(size=2, distance=Distance.DOT), values=Compute(pair),
                         quality=Recall("queries.jsonl", at_least=0.9))]


def pair(point):
    return [1.0, 2.0]
""")
    with pytest.raises(QmigrateError, match="queries.jsonl"):
        upgrade.upgrade(made.settings(), allow_gap=True)
    check_nothing_lost(made, before)


#: Those in which a reset or a restore may be done without more consent.
AT_ONCE = [way for way in WAYS if "gap" not in str(way)]


@pytest.mark.parametrize("way", AT_ONCE)
def test_a_reset_of_another_number_of_points_has_deleted_nothing(made, monkeypatch):
    """A point that is written after the points were counted the first time: refused, and every point is there."""
    before = standing(made)
    monkeypatch.setattr(reset, "_check_count", lambda *_: None)
    with pytest.raises(QmigrateError, match="were expected"):
        reset.reset(made.settings(), made.name, reason="a test", expect=POINTS - 1, confirm=reset.PHRASE)
    check_nothing_lost(made, before)


@pytest.mark.parametrize("way", AT_ONCE)
def test_a_restore_of_a_damaged_archive_has_deleted_nothing(made):
    """An archive with a changed line is refused before the plain collection makes room for it."""
    archived = made.settings().archives / snapshot.create(made.settings(), made.name, archived=True).rows[0].name
    before = standing(made)
    damage(archived)
    with pytest.raises(QmigrateError):
        restore.restore(made.settings(), made.name, str(archived), consent=True)
    check_nothing_lost(made, before)


def damage(archived: Path) -> None:
    """Change one text of an archive, in the middle, so that only its checksums show it."""
    whole = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True).decompress(archived.read_bytes())
    changed = whole.replace(b"the text number 17", b"the text number 71")
    assert changed != whole
    archived.write_bytes(zstandard.ZstdCompressor().compress(changed))
