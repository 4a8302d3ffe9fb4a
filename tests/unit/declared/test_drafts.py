"""Revisions that are written from a comparison: their way back where it isn't derived, and what is left to decide."""

from __future__ import annotations

import pytest
from tests.declared_schemas import generate

from qmigrate import Collection, Embed, Empty, variable
from qmigrate.declared.compare import compare
from qmigrate.declared.replay import replay
from qmigrate.revisions.graph import Revisions

A = {"size": 4, "distance": "Cosine"}
B = {"size": 8, "distance": "Cosine"}
FILLED = {"b": Embed("words", text="body")}


@pytest.fixture
def scripts(tmp_path):
    """An empty folder of revisions."""
    (tmp_path / "versions").mkdir()
    return tmp_path


def texts(scripts) -> list[str]:
    """The files, oldest first."""
    return [path.read_text() for path in sorted((scripts / "versions").glob("*.py"))]


@pytest.mark.parametrize(
    ("before", "after", "back"),
    [
        # A setting that was not set gets the server's default again.
        ({}, {"optimizers_config": {"indexing_threshold": 15000}}, ["update settings: optimizers_config"]),
        ({}, {"quantization_config": {"binary": {}}, "on_disk_payload": False}, ["update settings: on_disk_payload, quantization_config"]),
        ({"vectors": {"a": {**A, "on_disk": True}}}, {"vectors": {"a": {**A, "hnsw_config": {"m": 8}, "on_disk": True}}}, ["alter vector a 4 cosine"]),
        # These ways back are derived.
        ({}, {"vectors": {"a": A, "b": B}}, None),
        ({}, {"payload_indexes": {"kind": "keyword"}}, None),
        ({}, {"metadata": {"team": "search"}}, None),
        ({"optimizers_config": {"indexing_threshold": 5}}, {"optimizers_config": {"indexing_threshold": 15000}}, None),
        # No value means that this was not set.
        ({}, {"strict_mode_config": {"enabled": True, "max_query_limit": 9}}, None),
        ({}, {"shard_number": 2}, None),
    ],
    ids=str,
)
def test_the_way_back(scripts, before, after, back):
    """Written only where it is not derived, and then it leads back to the same effect."""
    first = Collection("docs", **{"vectors": {"a": A}, **before})
    generate(scripts, [first.wanted()], "first")
    values = {"b": Empty()} if "b" in after.get("vectors", ()) else {}
    second = Collection("docs", **{"vectors": {"a": A}, "values": values, **after})
    generate(scripts, [second.wanted()], "second")
    revisions = Revisions.load(scripts)
    found = revisions.downgrade_operations("0002")
    assert (None if found is None else [one.describe() for one in found]) == back
    if found is not None:
        now = replay(revisions, "docs")
        for operation in found:
            operation.check(now.schema)
            now = now.after(operation)
        assert compare(first.wanted(), now, {}, drops=True).pieces == ()


def test_what_is_dropped_comes_back_with_what_filled_it(scripts):
    """The downgrade of a drop embeds again as the revisions did; where nothing is known it has to be decided."""
    generate(scripts, [Collection("docs", {"a": A, "c": B}).wanted()], "first")
    generate(scripts, [Collection("docs", {"a": A, "b": B, "c": B}, values=FILLED).wanted()], "second")
    generate(scripts, [Collection("docs", {"a": A}).wanted()], "third")
    text = texts(scripts)[-1].partition("def downgrade")[2]
    assert 'op.AddVector(\n            "docs",\n            "b",' in text
    assert 'values=Embed("words", text="body")' in text
    assert text.count("FILL_ME") == 1
    assert "no downgrade(), and irreversible" in text


def test_what_is_to_be_filled_in_has_its_imports_at_hand(scripts):
    """Where FILL_ME stands, a comment has the import of what takes its place, which nothing uses yet; elsewhere none has."""
    generate(scripts, [Collection("docs", {"a": A}).wanted()], "first")
    generate(scripts, [Collection("docs", {"a": A, "b": B}).wanted()], "second")
    first, second = texts(scripts)
    line = "# from qmigrate import Compute, CopyOf, Embed, Empty"
    assert (line in first, line in second) == (False, True)
    assert "\nfrom qmigrate import FILL_ME, op\n" in second


def test_a_setting_without_a_way_back_is_named(scripts):
    """In the file, since the decision is made there."""
    generate(scripts, [Collection("docs", {"a": A}).wanted()], "first")
    generate(scripts, [Collection("docs", {"a": A}, shard_number=variable("NO_SUCH_VARIABLE", 2)).wanted()], "second")
    text = texts(scripts)[-1]
    assert 'op.Reshard("docs", shard_number=variable("NO_SUCH_VARIABLE", 2))' in text
    assert "from qmigrate import op, variable" in text
    assert "a server setting can't be unset once it is set" in " ".join(text.replace("#", "").split())


def test_a_template_of_ones_own_without_a_downgrade(scripts):
    """It is used as long as nothing needs what it doesn't have; then the built-in one is."""
    (scripts / "script.py.mako").write_text(
        '"""${message}"""\n# of our own\n${imports}\nrevision = ${literal(up_revision)}\ndown_revision = ${literal(down_revision)}\n\n\ndef upgrade():\n    return ${operations}\n'
    )
    generate(scripts, [Collection("docs", {"a": A}).wanted()], "first")
    generate(scripts, [Collection("docs", {"a": A}, optimizers_config={"indexing_threshold": 15000}).wanted()], "second")
    assert ["# of our own" in text for text in texts(scripts)] == [True, False]
    assert "def downgrade" in texts(scripts)[1]
