"""Squashed revisions from the command line: what has them all skips the new one, what has none begins with it."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from qdrant_client import QdrantClient
from tests.harness import Deployment
from tests.scenarios.cli import call

from qmigrate.commands import restore, rollback, snapshot, upgrade
from qmigrate.commands import schema as schemas
from qmigrate.commands.collection import collection
from qmigrate.commands.ensure import ensure
from qmigrate.commands.expect import Expectation, expect
from qmigrate.commands.session import opened_ledger
from qmigrate.errors import NotFoundError, PendingError

CREATE = 'op.CreateCollection("{name}", {{"a": VectorParams(size=8, distance=Distance.COSINE)}})'
INDEX = 'op.CreatePayloadIndex("{name}", "kind", PayloadSchemaType.KEYWORD)'
ADD = 'op.AddVector("{name}", "b", VectorParams(size=16, distance=Distance.COSINE), values=Embed("words", text="text"))'
SET = 'op.SetPayload("{name}", {{"lang": "en"}}, reason="all are English")'
BODIES = ((CREATE,), (INDEX, 'op.UpdateCollection("{name}", metadata={{"team": "search"}})'), (ADD,))


def revise(made: Deployment, *bodies: tuple[str, ...]) -> None:
    """Revisions 0001, 0002 … with these operations."""
    made.last = None
    for number, operations in enumerate(bodies, 1):
        made.revise(f"{number:04d}", f"def upgrade():\n    return [{', '.join(operations)}]\n")


def remove(made: Deployment, *starts: str) -> None:
    """Take files away."""
    for path in (made.root / "qdrant_migrations" / "versions").glob("*_rev.py"):
        if path.name.startswith(starts):
            path.unlink()


def live(made: Deployment):
    """Schema of the collection as it is live, without what qmigrate keeps there."""
    (found,) = schemas.schema(made.settings(), [made.name], source="live").collections
    return found.schema


@pytest.fixture
def local(tmp_path):
    """A folder with settings and an empty local store."""
    return Deployment(tmp_path, {"path": ".qmigrate/qdrant"}, f"sqlite:///{tmp_path}/ledger.db", name="docs")


def test_both_ways_lead_to_the_same(deployment):
    """What has all of it is recorded as past it, untouched; from nothing the squashed revision alone makes the same."""
    revise(deployment, *BODIES)
    upgrade.upgrade(deployment.settings())
    deployment.load(12)
    points, schema, row = deployment.contents(), live(deployment), deployment.row()
    made = call(deployment.root, "squash", "0001:0003")
    assert made.code == 0, made.text
    assert "replaces 0001, 0002, 0003" in made.out
    assert call(deployment.root, "check").code == 0
    assert "the next upgrade records it as past 0001_0003" in call(deployment.root, "status").out
    planned = call(deployment.root, "plan")
    assert f"0001_0003  only recorded: it replaces 0001, 0002, 0003, which {deployment.name} has" in planned.out
    assert call(deployment.root, "upgrade").code == 0
    assert (deployment.contents(), live(deployment), deployment.row().generation) == (points, schema, row.generation)
    recorded = call(deployment.root, "history", deployment.name, "--json").json["data"]["rows"][0]
    assert (recorded["revision"], recorded["direction"], recorded["strategy"]) == ("0001_0003", "squash", None)
    assert "Nothing to do" in call(deployment.root, "plan").out
    expect(Expectation(deployment.name, revision="0001_0003"), settings=deployment.settings())
    shown = call(deployment.root, "show", "0001_0003")
    assert ("applied" in shown.out, f"recorded     {deployment.name}: what it replaces was applied" in shown.out) == (True, True)
    assert "to no collection" not in shown.out
    assert "3 files; not needed here. Once that is so in every deployment:" in shown.out
    command = next(line.strip() for line in shown.out.splitlines() if line.strip().startswith("git rm "))
    assert sorted(Path(one).name for one in shlex.split(command)[2:]) == ["0001_rev.py", "0002_rev.py", "0003_rev.py"]
    for one in shlex.split(command)[2:]:
        (deployment.root / one).unlink()
    assert call(deployment.root, "check").code == 0
    assert deployment.row().revision == "0001_0003"
    # Back to nothing without any of their files, and forwards with the squashed one.
    rollback.rollback(deployment.settings(), "base", only=[deployment.name], writes="discard")
    again = call(deployment.root, "upgrade", "--json")
    assert again.code == 0, again.text
    assert live(deployment) == schema
    assert call(deployment.root, "check").code == 0
    names = [one["revision"] for one in call(deployment.root, "history", deployment.name, "--json").json["data"]["rows"]]
    assert names[0] == "0001_0003"


def test_in_the_middle_with_the_files_there(deployment):
    """What has a part of it goes on with the files, and is past it then; what comes after follows without an edit."""
    revise(deployment, *BODIES, ('op.CreatePayloadIndex("{name}", "year", PayloadSchemaType.INTEGER)',))
    upgrade.upgrade(deployment.settings(), "0002")
    deployment.load(6)
    assert call(deployment.root, "squash", "0001:0003").code == 0
    assert deployment.row().pending == ("0003", "0004")
    for target, revisions in (("0003", ["0003"]), ("head", ["0001_0003", "0004"])):
        done = call(deployment.root, "upgrade", target, "--json")
        assert done.code == 0, done.text
        assert done.json["data"]["outcomes"][0]["revisions"] == revisions
    assert all(set(vectors) == {"a", "b"} for _, vectors in deployment.contents().values())
    assert deployment.row().revision == "0004"
    # One step back is the one that was done last, and two are not the record.
    remove(deployment, "0001", "0002", "0003")
    for flags, revision in (((), "0001_0003"), (("--without-files",), "0002")):
        back = call(deployment.root, "rollback", "-1", *flags)
        assert back.code == 0, back.text
        assert deployment.row().revision == revision


def test_in_the_middle_with_the_files_gone(local):
    """It isn't taken for complete: named with what it lacks and what to do; nothing else is held up."""
    revise(local, (CREATE, CREATE.replace("{name}", "other")), *BODIES[1:])
    upgrade.upgrade(local.settings(), "0002")
    assert call(local.root, "squash", "0001:0003").code == 0
    remove(local, "000")
    for verb in ("plan", "upgrade"):
        said = call(local.root, verb)
        assert said.code == 10, said.text
        assert "docs has 0001, 0002 of what revision 0001_0003 replaces, and not 0003, which was removed from the folder" in said.err
        assert "bring the files back that it replaces: git checkout " in said.err
    rows = {row["name"]: row for row in call(local.root, "status", "--json").json["data"]["collections"]}
    assert (rows["docs"]["state"], rows["docs"]["next_command"]) == ("pending", "qmigrate show 0001_0003")
    shown = call(local.root, "show", "0001_0003")
    assert (shown.code, "docs: without 0003" in shown.out, "Bring them back:" in shown.out) == (0, True, True)
    assert call(local.root, "upgrade", "--only", "other").code == 0
    partly = local.root / "qdrant_migrations" / "versions" / "0003_rev.py"
    partly.write_text('"""X."""\nfrom qmigrate import op\nrevision = "0003"\ndown_revision = "0002"\ndef upgrade():\n    return []\n')
    refused = call(local.root, "plan")
    assert (refused.code, "a part of their files was removed: 0001, 0002, but not 0003" in refused.err) == (2, True)
    assert "QM111" in call(local.root, "check", "--offline").out


def git(folder: Path, *words: str) -> None:
    """A command in a repository."""
    who = ("-c", "user.name=kim", "-c", "user.email=kim@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


def typed(folder: Path, line: str) -> None:
    """What a person copies from the terminal."""
    subprocess.run(["sh", "-c", line], cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize("count", [3, pytest.param(10, marks=pytest.mark.nightly)])
def test_back_into_the_middle_with_the_files_gone(local, count):
    """It is refused before anything is done; agreed to, it says how to go on, and that is a command that works."""
    indexes = [(INDEX.replace("kind", f"k{number}"),) for number in range(count - 1)]
    revise(local, (CREATE,), *indexes)
    for last in (count - 1, count):
        upgrade.upgrade(local.settings(), f"{last:04d}")
    whole = f"0001_{count:04d}"
    assert call(local.root, "squash", ":").code == 0
    upgrade.upgrade(local.settings())
    (local.root / ".gitignore").write_text(".qmigrate/\n*.db\n")
    git(local.root, "init", "-q")
    git(local.root, "add", ".")
    git(local.root, "commit", "-q", "-m", "squashed")
    command = next(one for one in call(local.root, "show", whole).out.splitlines() if "git rm" in one)
    typed(local.root, command)
    assert [path.name for path in (local.root / "qdrant_migrations" / "versions").iterdir()] == [f"{whole}_squashed.py"]
    git(local.root, "commit", "-q", "-m", "removed")
    target = f"{count - 1:04d}"
    for flags in ((), ("--dry-run",)):
        refused = call(local.root, "rollback", target, *flags)
        assert refused.code == 10, refused.text
        assert "their files were removed from the folder, so no upgrade could go on from there" in refused.err
        assert f"qmigrate rollback {target} --only docs --without-files" in refused.err
    assert local.row().revision == whole
    back = call(local.root, "rollback", target, "--without-files")
    assert back.code == 0, back.text
    assert local.row().revision == target
    restore, again = (line.strip() for line in back.out[back.out.index("in this order:") :].splitlines()[1:3])
    assert (again, call(local.root, *shlex.split(again)[1:]).code) == (f"qmigrate upgrade {whole}", 10)
    shown = call(local.root, "show", whole).out
    assert (restore in shown, "needed here. Bring them back:" in shown) == (True, True)
    assert restore in call(local.root, "upgrade").err
    typed(local.root, restore)
    done = call(local.root, *shlex.split(again)[1:])
    assert done.code == 0, done.text
    assert f"Done: 1 collection at {whole} " in done.out
    assert (local.row().revision, local.row().state) == (whole, "ready")


def test_what_two_commits_have_removed_comes_back(local):
    """Squashed twice, with the files removed each time: one command brings all of them back."""
    revise(local, (CREATE,), *((INDEX.replace("kind", f"k{number}"),) for number in range(4)))
    upgrade.upgrade(local.settings(), "0004")
    (local.root / ".gitignore").write_text(".qmigrate/\n*.db\n")
    git(local.root, "init", "-q")
    for span, whole in (("0001:0003", "0001_0003"), ("0001_0003:0005", "0001_0005")):
        assert call(local.root, "squash", span).code == 0
        git(local.root, "add", ".")
        git(local.root, "commit", "-q", "-m", f"squashed {whole}")
        there = sorted((local.root / "qdrant_migrations" / "versions").glob("*.py"))
        parts = [one for one in there if not one.name.startswith(f"{whole}_") and one.name[:4] <= whole[-4:]]
        git(local.root, "rm", "-q", *map(str, parts))
        git(local.root, "commit", "-q", "-m", f"removed for {whole}")
    assert [path.name for path in (local.root / "qdrant_migrations" / "versions").iterdir()] == ["0001_0005_squashed.py"]
    shown = call(local.root, "show", "0001_0005").out
    typed(local.root, next(line.strip() for line in shown.splitlines() if "git checkout" in line))
    done = call(local.root, "upgrade")
    assert done.code == 0, done.text
    assert local.row().revision == "0001_0005"


def test_the_command_that_removes_files_meets_no_other_ones(local):
    """Files next to revisions stay, whatever their names begin with."""
    revise(local, (CREATE,), *((INDEX.replace("kind", f"k{number}"),) for number in range(8)))
    versions = local.root / "qdrant_migrations" / "versions"
    assert call(local.root, "squash", ":", "--rev-id", "1000").code == 0
    for name in ("0_words.json", "00_notes.txt", "0002_data.json"):
        (versions / name).write_text("{}")
    git(local.root, "init", "-q")
    git(local.root, "add", "qdrant_migrations")
    git(local.root, "commit", "-q", "-m", "squashed")
    typed(local.root, next(one for one in call(local.root, "show", "1000").out.splitlines() if "git rm" in one))
    left = sorted(path.name for path in versions.iterdir() if path.is_file())
    assert left == ["0002_data.json", "00_notes.txt", "0_words.json", "1000_squashed.py"]


def test_one_notion_of_where_a_collection_is(local):
    """What is said after an upgrade that only records is what status, schema, show and the console's page say."""
    revise(local, *BODIES)
    upgrade.upgrade(local.settings())
    for span, at in (("0001:0002", "0003"), ("0001_0002:0003", "0001_0003")):
        assert call(local.root, "squash", span).code == 0
        done = call(local.root, "upgrade")
        assert f"Done: 1 collection at {at} in" in done.out, done.text
        recorded = "0001_0002" if at == "0003" else "0001_0003"
        assert local.row().revision == at
        assert call(local.root, "schema", "--json").json["data"]["collections"][0]["revision"] == at
        assert call(local.root, "schema", "--recorded", "--json").json["data"]["collections"][0]["revision"] == at
        shown = call(local.root, "show", recorded, "--json").json["data"]
        assert (shown["applied"], shown["recorded"], shown["between"]) == (["docs"], ["docs"], {})
        page = collection(local.settings(), "docs")
        assert (page.standing.revision, {one.revision: one.state for one in page.revisions}[recorded]) == (at, "applied")
        assert call(local.root, "history", "--json").json["data"]["rows"][0]["revision"] == recorded
        assert f"every collection is at {'0003' if at == '0003' else at}." in call(local.root, "upgrade").out


def test_a_recorded_one_is_compared_by_its_checksum(local):
    """Edited after it was recorded it is found there as where it was applied, and accepted as there; taken away it isn't missed."""
    revise(local, *BODIES)
    upgrade.upgrade(local.settings())
    assert call(local.root, "squash", ":").code == 0
    upgrade.upgrade(local.settings())
    path = local.root / "qdrant_migrations" / "versions" / "0001_0003_squashed.py"
    text = path.read_text()
    path.write_text(text + "# words\n")
    for verb in ("plan", "upgrade"):
        said = call(local.root, verb)
        assert (said.code, "0001_0003_squashed.py was changed after it was applied" in said.err) == (4, True)
    assert "was changed after it was applied" in call(local.root, "status").out
    assert call(local.root, "check").code == 4
    accepted = call(local.root, "repair", "--accept", "0001_0003", "--reason", "a comment")
    assert (accepted.code, "only texts differ" in accepted.out) == (0, True), accepted.text
    assert call(local.root, "plan").code == 0
    path.write_text(text.replace("size=16", "size=32"))
    other = call(local.root, "repair", "--accept", "0001_0003", "--reason", "larger")
    assert (other.code, "differs from what was applied" in other.err) == (10, True), other.text
    path.unlink()
    assert call(local.root, "plan").code == 0
    assert call(local.root, "status").code == 0
    assert "0001_0003" not in call(local.root, "doctor").out


def test_squashed_again(local):
    """Deployments at the old ids, at the first squash and from nothing come to the same, whatever files are left."""
    more = ('op.CreatePayloadIndex("{name}", "year", PayloadSchemaType.INTEGER)',)
    revise(local, *BODIES[:2])
    upgrade.upgrade(local.settings())
    local.load(5)
    revise(local, *BODIES[:2], more)
    assert call(local.root, "squash", "0001:0002").code == 0
    twice = call(local.root, "squash", "0001_0002:")
    assert twice.code == 0, twice.text
    assert "replaces 0001, 0002, 0001_0002, 0003" in twice.out
    done = call(local.root, "upgrade", "--json")
    assert done.json["data"]["outcomes"][0]["revisions"] == ["0001_0002", "0001_0003", "0003"]
    assert local.row().revision == "0001_0003"
    schema = live(local)
    # Back to where the first squash leads, and on; then without any file but the last one.
    assert call(local.root, "rollback", "0001_0002").code == 0
    assert local.row().revision == "0001_0002"
    assert call(local.root, "upgrade").code == 0
    remove_all_but(local, "0001_0003")
    assert call(local.root, "check").code == 0
    assert "Nothing to do" in call(local.root, "plan").out
    assert local.row().revision == "0001_0003"
    refused = call(local.root, "rollback", "0001_0002")
    assert (refused.code, "and not 0003" in refused.err) == (10, True), refused.text
    rollback.rollback(local.settings(), "base", only=[local.name], writes="discard")
    assert local.row().revision is None
    assert call(local.root, "upgrade").code == 0
    assert (local.row().revision, live(local)) == ("0001_0003", schema)


@pytest.mark.parametrize("files", ["all", "second"])
def test_at_the_first_squash(local, files):
    """What began with the first squashed revision goes on with what came after it, or is past the second one."""
    more = ('op.CreatePayloadIndex("{name}", "year", PayloadSchemaType.INTEGER)',)
    revise(local, *BODIES[:2])
    assert call(local.root, "squash", ":").code == 0
    upgrade.upgrade(local.settings())
    assert [one.revision for one in all_applied(local)["docs"]] == ["0001_0002"]
    local.revise("0003", f"def upgrade():\n    return [{', '.join(more)}]\n", down="0002")
    assert call(local.root, "squash", "0001_0002:").code == 0
    if files == "second":
        upgrade.upgrade(local.settings(), "0003")
        remove_all_but(local, "0001_0003")
    assert call(local.root, "upgrade").code == 0
    assert [one.revision for one in all_applied(local)["docs"]] == ["0001_0002", "0003"]
    assert (local.row().revision, local.row().state) == ("0001_0003", "ready")
    assert "docs" in call(local.root, "show", "0001_0003", "--json").json["data"]["recorded"]
    # The way back over both.
    flags = ("--without-files",) if files == "second" else ()
    back = call(local.root, "rollback", "0001_0002", *flags)
    assert back.code == 0, back.text
    assert local.row().revision == "0001_0002"


def remove_all_but(made: Deployment, revision: str) -> None:
    """Every other file goes."""
    for path in (made.root / "qdrant_migrations" / "versions").glob("*.py"):
        if not path.name.startswith(revision):
            path.unlink()


def test_a_part_of_it_is_undone(local):
    """What was recorded as past it is so no longer: an application that expects it doesn't begin on a part of it."""
    revise(local, *BODIES[:2], (INDEX.replace("kind", "year"),), BODIES[2])
    upgrade.upgrade(local.settings(), "0002")
    upgrade.upgrade(local.settings(), "0003")
    local.load(3)
    assert call(local.root, "squash", "0001:0003").code == 0
    upgrade.upgrade(local.settings())
    wanted = Expectation(local.name, revision="0001_0003")
    expect(wanted, settings=local.settings())
    # With the record that rides along there are two rows of one generation, of which one has built it.
    assert [entry.left for entry in all_applied(local)[local.name]][-1] == "docs__g0001"
    rollback.rollback(local.settings(), "0001_0003")
    expect(wanted, settings=local.settings())
    rollback.rollback(local.settings(), "0002")
    with pytest.raises(PendingError, match="docs is at 0002"):
        expect(wanted, settings=local.settings())
    upgrade.upgrade(local.settings())
    expect(wanted, settings=local.settings())


@pytest.mark.parametrize("target", ["0002", "base"])
def test_a_part_is_undone_where_its_file_is_not(local, target):
    """A checkout from before, or one in which it was removed again, doesn't know its parts: what is undone may be one."""
    revise(local, *BODIES)
    upgrade.upgrade(local.settings())
    local.load(3)
    assert call(local.root, "squash", "0001:0003").code == 0
    upgrade.upgrade(local.settings())
    wanted = Expectation(local.name, revision="0001_0003")
    expect(wanted, settings=local.settings())
    for path in (local.root / "qdrant_migrations" / "versions").glob("*_squashed.py"):
        path.unlink()
    upgrade.upgrade(local.settings())
    # Another checkout may have it.
    expect(wanted, settings=local.settings())
    rollback.rollback(local.settings(), "base", writes="discard")
    if target == "0002":
        upgrade.upgrade(local.settings(), target)
    with pytest.raises(PendingError if target == "0002" else NotFoundError):
        expect(wanted, settings=local.settings())


def test_an_earlier_time_comes_back(local):
    """A restore takes back what was applied since, and with it that the collection is past the squashed revision."""
    revise(local, *BODIES)
    upgrade.upgrade(local.settings(), "0002")
    local.load(3)
    snapshot.create(local.settings(), local.name, archived=True)
    upgrade.upgrade(local.settings())
    assert call(local.root, "squash", "0001:0003").code == 0
    upgrade.upgrade(local.settings())
    wanted = Expectation(local.name, revision="0001_0003")
    expect(wanted, settings=local.settings())
    restore.restore(local.settings(), local.name, consent=True)
    with pytest.raises(PendingError, match="docs is at 0002"):
        expect(wanted, settings=local.settings())
    upgrade.upgrade(local.settings())
    expect(wanted, settings=local.settings())
    snapshot.create(local.settings(), local.name, archived=True)
    restore.restore(local.settings(), local.name, consent=True)
    expect(wanted, settings=local.settings())
    restore.undo(local.settings(), local.name)
    expect(wanted, settings=local.settings())
    # The other way round: what was restored has more than what served before.
    rollback.rollback(local.settings(), "0002", writes="discard")
    restore.restore(local.settings(), local.name, consent=True)
    upgrade.upgrade(local.settings())
    expect(wanted, settings=local.settings())
    restore.undo(local.settings(), local.name)
    with pytest.raises(PendingError, match="docs is at 0002"):
        expect(wanted, settings=local.settings())


def test_what_is_done_with_points_is_decided(local):
    """Operations on points are named, and a person chooses: left out, with a comment, or their revisions stay."""
    revise(local, *BODIES[:2], (SET,), *BODIES[2:], ('op.CreatePayloadIndex("{name}", "year", PayloadSchemaType.INTEGER)',))
    versions = local.root / "qdrant_migrations" / "versions"
    before = sorted(versions.iterdir())
    refused = call(local.root, "squash", "0001:0005")
    assert (refused.code, "0003: docs: set payload lang" in refused.err) == (10, True)
    assert "qmigrate squash 0001:0005 --elide-data" in refused.err
    assert sorted(versions.iterdir()) == before
    both = call(local.root, "squash", "0001:0005", "--elide-data", "--keep-data")
    assert both.code == 2
    kept = call(local.root, "squash", "0001:0005", "--keep-data")
    assert kept.code == 0, kept.text
    assert "0003 stays as it is: 0003: docs: set payload lang" in kept.out
    assert {path.name for path in versions.iterdir()} - {path.name for path in before} == {
        "0001_0002_squashed.py",
        "0004_0005_squashed.py",
    }
    done = call(local.root, "upgrade", "--json")
    assert done.code == 0, done.text
    assert done.json["data"]["outcomes"][0]["revisions"] == ["0001_0002", "0003", "0004_0005"]
    for path in set(versions.iterdir()) - set(before):
        path.unlink()
    elided = call(local.root, "squash", ":", "--elide-data", "--dry-run")
    assert (elided.code, "# Left out: 0003: docs: set payload lang" in elided.out) == (0, True)
    assert sorted(versions.iterdir()) == before


def test_what_is_left_out_of_a_collection_from_before(local):
    """A deployment that is at an earlier revision has points by then: that they never get it is said, not the opposite."""
    drop = 'op.DeletePoints("docs*", ids=[1], reason="asked for", max_share=1.0)'
    revise(local, *BODIES[:2], (drop,), (INDEX.replace("kind", "year"),))
    refused = call(local.root, "squash", "0003:0004")
    assert refused.code == 10
    assert "has no points by then" not in refused.err
    assert "--elide-data leaves them out: docs* is there before, so a deployment that is at an earlier revision never gets them" in refused.err
    assert "has no points by then" in call(local.root, "squash", "0001:0004").err
    made = call(local.root, "squash", "0003:0004", "--elide-data")
    assert made.code == 0, made.text
    assert "never gets this, whatever points it has (0003: docs*: delete points: id 1): bring each to 0004" in " ".join(made.out.split())


def test_a_target_inside(local):
    """Applied as one, no part of it is a place to go to; a replaced id means the whole where its file is gone."""
    revise(local, *BODIES)
    assert call(local.root, "squash", "0001:0003").code == 0
    upgrade.upgrade(local.settings())
    assert local.row().revision == "0001_0003"
    back = call(local.root, "rollback", "0002")
    assert (back.code, "only as a part of 0001_0003" in back.err) == (10, True)
    remove(local, "000")
    assert call(local.root, "rollback", "base").code == 0
    done = call(local.root, "upgrade", "0002")
    assert done.code == 0, done.text
    assert local.row().revision == "0001_0003"
    assert call(local.root, "show", "0002", "--json").json["data"]["revision"] == "0001_0003"
    made = call(local.root, "revision", "-m", "next", "--json").json["data"]
    assert (made["revision"], made["down"]) == ("0004", ["0001_0003"])
    assert call(local.root, "revision", "-m", "x", "--rev-id", "0002").code == 2


@pytest.mark.parametrize(
    ("first", "last", "wanted"),
    [("a", "b", "b"), ("a", None, "a"), ("b", "a", "b"), ("a", "c", None)],
    ids=["later", "one", "the later one is first", "unordered"],
)
def test_what_waits_for_sql(local, first, last, wanted):
    """It waits for the last SQL revision of all; where Alembic's files don't order them, it is refused."""
    revise(local, *BODIES[:2])
    versions = local.root / "qdrant_migrations" / "versions"
    for name, sql in (("0001", first), ("0002", last)):
        path = versions / f"{name}_rev.py"
        path.write_text(path.read_text().replace("down_revision", f"requires_sql = {sql!r}\ndown_revision"))
    (local.root / "alembic" / "versions").mkdir(parents=True)
    (local.root / "alembic.ini").write_text("[alembic]\nscript_location = alembic\n")
    for name, down in (("a", None), ("b", "a"), ("c", None)):
        body = f"revision = {name!r}\ndown_revision = {down!r}\ndef upgrade():\n    pass\n"
        (local.root / "alembic" / "versions" / f"{name}.py").write_text(body)
    said = call(local.root, "squash", "0001:0002", "--dry-run", "--json")
    if wanted is None:
        assert (said.code, "wait for several SQL revisions (a, c)" in said.text) == (10, True)
        return
    assert f'requires_sql = "{wanted}"' in said.json["data"]["files"][0]["text"]


def test_collections_of_a_glob(local):
    """Each goes its own way: one in the middle goes on, one that is made later begins with the squashed revision."""
    glob = CREATE.replace("{name}", "memory_*")
    revise(local, (glob, CREATE))
    upgrade.upgrade(local.settings())
    ensured(local, "memory_a")
    revise(local, (glob, CREATE), ('op.CreatePayloadIndex("memory_*", "kind", PayloadSchemaType.KEYWORD)',), (INDEX,))
    said = call(local.root, "squash", "0001:0003")
    assert said.code == 0, said.text
    assert yaml.safe_load(variable(local, "replaces_for")) == {"memory_*": ["0001", "0002"], "docs": ["0001", "0003"]}
    assert call(local.root, "check", "--json").json["data"]["pending"] == 2
    assert call(local.root, "upgrade").code == 0
    ensured(local, "memory_b")
    remove(local, "000")
    rows = {row["name"]: row for row in call(local.root, "status", "--json").json["data"]["collections"]}
    assert {row["revision"] for row in rows.values()} == {"0001_0003"}
    assert call(local.root, "check").code == 0
    found = schemas.schema(local.settings(), ["memory_*"], source="recorded").collections
    assert [list(one.schema.indexes) for one in found] == [["kind"], ["kind"]]
    applied = {name: [one.revision for one in entries] for name, entries in all_applied(local).items()}
    assert applied == {"docs": ["0001", "0003"], "memory_a": ["0001", "0002"], "memory_b": ["0001_0003"]}


def ensured(made: Deployment, name: str) -> None:
    """A collection of a glob, as the application makes it."""
    client = QdrantClient(path=str(made.root / ".qmigrate" / "qdrant"))
    try:
        ensure(client, name, settings=made.settings())
    finally:
        client.close()


def all_applied(made: Deployment) -> dict:
    """What the ledger has."""
    with opened_ledger(made.settings()) as ledger:
        return ledger.all_applied()


def variable(made: Deployment, name: str) -> str:
    """What a squashed file assigns, as text."""
    (path,) = (made.root / "qdrant_migrations" / "versions").glob("*_squashed.py")
    text = path.read_text()
    return text[text.index(f"{name} = ") + len(name) + 3 :].partition("}")[0] + "}"
