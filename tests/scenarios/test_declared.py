"""Declared schemas from the command line: an edit becomes a revision, is reviewed, applied and undone."""

from __future__ import annotations

import os
import pty
import shlex
import textwrap

import pytest
import yaml
from tests.harness import Deployment, write
from tests.scenarios.cli import call
from tests.scenarios.console import Browser

from qmigrate.commands import rollback, upgrade
from qmigrate.commands.readiness import Parts
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.transform import Point

A = {"size": 8, "distance": "Cosine"}


@pytest.fixture
def project(tmp_path):
    """A folder with settings, no server, and one revision."""
    made = Deployment(tmp_path, {"path": ".qmigrate/qdrant"}, f"sqlite:///{tmp_path}/ledger.db", name="docs")
    made.revise("0001", 'def upgrade():\n    return [op.CreateCollection("{name}", {{"a": VectorParams(size=8, distance=Distance.COSINE), "old": VectorParams(size=16, distance=Distance.COSINE)}})]\n')
    return made


def declare(made: Deployment, **parts) -> None:
    """A declaration of its one collection."""
    (made.root / "collections.yaml").write_text(yaml.safe_dump({"collections": {made.name: parts}}))


def files(made: Deployment) -> list[str]:
    """Names of its revisions."""
    return sorted(path.name for path in (made.root / "qdrant_migrations" / "versions").glob("*.py"))


def text_of(made: Deployment, start: str) -> str:
    """A revision, by the beginning of its name."""
    return next(path for path in (made.root / "qdrant_migrations" / "versions").iterdir() if path.name.startswith(start)).read_text()


GENERATE = ("revision", "--autogenerate", "-m", "larger words")


def test_what_schema_prints_is_a_declaration(project):
    """The way in: what the revisions make, declared; nothing is left to write, and the gate is green."""
    said = call(project.root, "schema", "--revision", "head")
    (project.root / "collections.yaml").write_text(said.out)
    assert call(project.root, "check", "--declared").code == 0
    made = call(project.root, *GENERATE, "--json")
    assert (made.code, made.json["data"]["files"]) == (0, [])
    assert files(project) == ["0001_rev.py"]


def test_an_edit_becomes_revisions(project):
    """Added first, dropped last and only when asked; each waits for what only a person can decide."""
    declare(project, vectors={"a": A, "b": {"size": 32, "distance": "Cosine"}}, embedders={"b": {"embedder": "words", "text": "text"}}, payload_indexes={"kind": "keyword"})
    gate = call(project.root, "check", "--declared")
    assert gate.code == 3
    assert 'op.AddVector(' in gate.out
    assert 'qmigrate revision --autogenerate --drops -m "what changes"' in gate.out
    assert gate.code == call(project.root, "check", "--declared", "--json").code
    shown = call(project.root, *GENERATE, "--drops", "--dry-run")
    assert (shown.code, files(project)) == (0, ["0001_rev.py"])
    made = call(project.root, *GENERATE)
    assert (made.code, files(project)) == (0, ["0001_rev.py", "0002_larger_words.py"])
    assert "not declared any more, and kept: docs: vector old (--drops drops it)" in made.out
    assert 'values=Embed("words", text="text")' in text_of(project, "0002")
    assert "def downgrade" not in text_of(project, "0002")
    assert call(project.root, "check", "--declared").code == 3
    assert call(project.root, *GENERATE).out.startswith("The revisions make what collections.yaml declares: nothing to write.")
    dropped = call(project.root, "revision", "--autogenerate", "--drops", "-m", "old words go")
    assert (dropped.code, files(project)[-1]) == (0, "0003_old_words_go.py")
    text = text_of(project, "0003")
    assert 'cutover="immediate": at the end of the run' in text
    assert 'cutover="hold": it is built and proven, and goes live with qmigrate cutover docs' in text
    assert "values=FILL_ME" in text.partition("def downgrade")[2]
    assert call(project.root, "check", "--declared").code == 0
    lint = call(project.root, "check", "--offline")
    assert lint.code == 8
    assert {"QM301", "QM407"} <= {word for word in lint.out.split() if word.startswith("QM")}
    plan = call(project.root, "plan")
    assert (plan.code, "choose when it goes live" in plan.text) == (2, True)


def words_of(folder, kind: str) -> dict:
    """Settings of an embedder for sparse vectors; SPLADE is a model made on the spot, where the libraries are."""
    if kind == "bm25":
        return {"type": "bm25", "language": "english"}
    pytest.importorskip("sentence_transformers", reason="not installed; scripts/test --embed installs it", exc_type=ImportError)
    from tests.unit.embed.test_embed_words_and_tokens import bert

    return {"type": "splade", "model": bert(folder / "bert", "BertForMaskedLM"), "device": "cpu", "local_files_only": True}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["bm25", "splade"])
def test_a_sparse_vector_with_its_embedder(project, tmp_path, kind):
    """Declared, written, applied: each point has the words of its own text; another embedder fills it again."""
    project.extra = {"embedders": {"terms": words_of(tmp_path, kind), "other": {"type": "bm25", "language": "none"}}}
    project.__post_init__()
    upgrade.upgrade(project.settings())
    store = project.store()
    write(store, "docs", [Point(one, {"text": "red cat" if one % 2 else "blue boat"}, {"a": [1.0] * 8, "old": [1.0] * 16}) for one in range(1, 7)])
    store.close()
    kept = {"vectors": {"a": A, "old": {"size": 16, "distance": "Cosine"}}, "sparse_vectors": {"terms": {"modifier": "idf"}}}
    declare(project, **kept, embedders={"terms": {"embedder": "terms", "text": "text"}})
    assert call(project.root, "check", "--declared").code == 3
    made = call(project.root, *GENERATE)
    assert made.code == 0, made.text
    assert 'op.AddVector(' in text_of(project, "0002")
    assert 'values=Embed("terms", text="text")' in text_of(project, "0002")
    assert "FILL_ME" not in text_of(project, "0002")
    assert call(project.root, "upgrade").code == 0
    assert call(project.root, "check", "--declared").code == 0
    found = {one: vectors["terms"] for one, (_, vectors) in project.contents().items()}
    assert found[1] == found[3] == found[5] != found[2] == found[4] == found[6]
    assert all(one["indices"] for one in found.values())
    declare(project, **kept, embedders={"terms": {"embedder": "other", "text": "text"}})
    assert call(project.root, *GENERATE).code == 0
    assert 'op.Reembed("docs", "terms", values=Embed("other", text="text")' in " ".join(text_of(project, "0003").split())


def test_what_is_not_known_is_not_filled_in(project):
    """Without an embedder the revision says FILL_ME; lint and plan refuse it, in one sentence each."""
    declare(project, vectors={"a": A, "old": {"size": 16, "distance": "Cosine"}, "b": {"size": 32, "distance": "Cosine"}})
    made = call(project.root, *GENERATE)
    assert "decide in 0002_larger_words.py: docs: values=FILL_ME" in made.out
    lint = call(project.root, "check", "--offline")
    assert (lint.code, lint.out.count("QM407"), "QM107" in lint.out) == (8, 1, False)
    plan = call(project.root, "plan")
    assert (plan.code, "what fills vector b is not decided" in plan.text) == (2, True)


def test_a_rename_without_a_terminal(project):
    """Exit 10, with every way to decide it; nothing is written until then."""
    declare(project, vectors={"a": A, "new": {"size": 16, "distance": "Cosine"}})
    refused = call(project.root, *GENERATE)
    assert (refused.code, files(project)) == (10, ["0001_rev.py"])
    for way in ("--rename docs:old=new", "--different docs:old=new", "renamed_from"):
        assert way in refused.err
    gate = call(project.root, "check", "--declared")
    assert (gate.code, "--rename or --different docs:old=new" in gate.out) == (3, True)
    made = call(project.root, *GENERATE, "--rename", "old=new")
    assert (made.code, 'op.RenameVector("docs", "old", "new")' in text_of(project, "0002")) == (0, True)
    assert call(project.root, "check", "--declared").code == 0


@pytest.mark.parametrize(("answer", "operation"), [("y", "op.RenameVector("), ("n", "op.AddVector(")])
def test_a_rename_on_a_terminal(project, answer, operation, monkeypatch):
    """It is asked, with the price of each answer."""
    project.extra = {"lint": {"points": {"docs": 1_200_000}}}
    project.__post_init__()
    declare(project, vectors={"a": A, "new": {"size": 16, "distance": "Cosine"}}, embedders={"new": {"embedder": "words", "text": "text"}})
    primary, secondary = pty.openpty()
    with os.fdopen(secondary, "r") as stdin:
        os.write(primary, f"{answer}\n".encode())
        monkeypatch.setattr("sys.stdin", stdin)
        made = call(project.root, *GENERATE)
    os.close(primary)
    assert made.code == 0, made.text
    assert "renamed: 0 points embedded" in made.err
    assert "another one: 1,200,000 points embedded, about 6 h 41 min" in made.err
    assert operation in text_of(project, "0002")


@pytest.mark.parametrize(
    "flags",
    [
        ("--autogenerate", "--merge", "-m", "x"),
        ("--autogenerate", "--from-drift", "-m", "x"),
        ("--from-live", "docs", "--from-drift"),
        ("--rename", "a=b", "-m", "x"),
        ("--drops", "-m", "x"),
        ("--only", "docs", "-m", "x"),
        ("--autogenerate",),
        ("--autogenerate", "-m", "x", "--only", "nowhere"),
        ("--autogenerate", "-m", "x", "--rename", "a=b"),
    ],
    ids=" ".join,
)
def test_options_that_do_not_fit(project, flags):
    """Each way to write a revision has options of its own."""
    declare(project, vectors={"a": A})
    assert call(project.root, "revision", *flags).code == 2
    assert files(project) == ["0001_rev.py"]


def test_all_files_or_none(project):
    """Where the second of two can't be written, the first is taken away again."""
    declare(project, vectors={"a": A, "b": A})
    shown = call(project.root, *GENERATE, "--drops", "--dry-run", "--json").json["data"]["files"]
    assert [one["revision"] for one in shown] == ["0002", "0003"]
    (project.root / "qdrant_migrations" / "versions" / shown[1]["path"].rpartition("/")[2]).mkdir()
    made = call(project.root, *GENERATE, "--drops")
    assert (made.code, "exists already" in made.err) == (2, True), made.text
    assert len(files(project)) == 2


def test_from_live(deployment):
    """What is live and in no revision becomes the revision that adopt would write, and adopt records it at that."""
    deployment.revise("0001", 'def upgrade():\n    return [op.CreateCollection("other", {{"a": VectorParams(size=8, distance=Distance.COSINE)}})]\n')
    store = deployment.store()
    try:
        store.create_collection(deployment.name, CollectionSchema({"a": A, "b": {"size": 4, "distance": "Dot"}}), seal=None)
    finally:
        store.close()
    made = call(deployment.root, "revision", "--from-live", deployment.name)
    assert made.code == 0, made.text
    assert f"qmigrate adopt {deployment.name}" in made.out
    assert "op.CreateCollection(" in text_of(deployment, "0002")
    again = call(deployment.root, "revision", "--from-live", deployment.name)
    assert (again.code, "there is nothing to write" in again.err) == (2, True)
    adopted = call(deployment.root, "adopt", deployment.name, "--json")
    assert adopted.code == 0, adopted.text
    (row,) = adopted.json["data"]["rows"]
    assert (row["how"], row["revision"]) == ("history", "0002")
    assert call(deployment.root, "revision", "--from-live", "nowhere").code == 2


def test_declared_upgraded_and_undone(deployment):
    """From the declaration to the live collection and back, without a word in a revision by hand."""
    name = deployment.name
    deployment.revise("0001", 'def upgrade():\n    return [op.CreateCollection("{name}", {{"a": VectorParams(size=8, distance=Distance.COSINE)}})]\n')
    upgrade.upgrade(deployment.settings())
    deployment.load(20)
    declared = textwrap.dedent(f"""
        from qdrant_client.models import Distance, PayloadSchemaType, VectorParams
        from qmigrate import Collection, Embed

        collections = [
            Collection(
                "{name}",
                vectors={{"a": VectorParams(size=8, distance=Distance.COSINE), "b": VectorParams(size=16, distance=Distance.COSINE)}},
                payload_indexes={{"kind": PayloadSchemaType.KEYWORD}},
                values={{"b": Embed("words", text="text")}},
                metadata={{"team": "search"}},
            )
        ]
    """)
    module = f"declared_{name}"
    (deployment.root / f"{module}.py").write_text(declared)
    deployment.extra = {"declared": f"{module}:collections"}
    deployment.__post_init__()
    made = call(deployment.root, "revision", "--autogenerate", "-m", "words and kinds")
    assert made.code == 0, made.text
    assert call(deployment.root, "check", "--offline").code == 0
    done = call(deployment.root, "upgrade")
    assert done.code == 0, done.text
    assert all(set(vectors) == {"a", "b"} for _, vectors in deployment.contents().values())
    assert call(deployment.root, "check").code == 0
    rollback.rollback(deployment.settings(), "0001", only=[name])
    assert all(set(vectors) == {"a"} for _, vectors in deployment.contents().values())
    assert call(deployment.root, "check", "--declared").code == 0


@pytest.fixture
def three(tmp_path):
    """Two collections in local mode, at 0002, of which the second revision is about one."""
    made = Deployment(tmp_path, {"path": ".qmigrate/qdrant"}, f"sqlite:///{tmp_path}/ledger.db", name="docs")
    create = 'op.CreateCollection("{name}", {{"a": VectorParams(size=8, distance=Distance.COSINE)}})'
    made.revise("0001", f"def upgrade():\n    return [{create}, {create.replace('{name}', 'faces')}]\n")
    made.revise("0002", 'def upgrade():\n    return [op.UpdateCollection("{name}", metadata={{"a": 1}})]\n')
    upgrade.upgrade(made.settings())
    return made


def test_one_notion_of_at(three):
    """What the newest revisions have nothing for is at the newest one all the same, and status says so."""
    rows = {row["name"]: row for row in call(three.root, "status", "--json").json["data"]["collections"]}
    assert (rows["docs"]["revision"], rows["docs"]["untouched"]) == ("0002", [])
    assert (rows["faces"]["revision"], rows["faces"]["untouched"]) == ("0001", ["0002"])
    assert "nothing for it in 0002" in call(three.root, "status").out


META = 'op.UpdateCollection("docs", metadata={"%s": 1})'
PAPERS = 'op.DropCollection("docs"), op.CreateCollection("papers", {"a": VectorParams(size=8, distance=Distance.COSINE)})'
#: Revisions behind 0002, as (what it follows, operations); the next command, and the exit code of that.
FOLLOWING = {
    "possible": ([('"0002"', META % "b")], "qmigrate upgrade", 0),
    "undecided": ([('"0002"', 'op.DropVector("docs", "a")')], "qmigrate check --offline", 8),
    "nothing of that name": ([('"0002"', 'op.CreatePayloadIndex("docs", "", "keyword")')], "qmigrate check --offline", 8),
    "two heads": ([('"0002"', META % "b"), ('"0002"', META % "c")], 'qmigrate revision --merge -m "merge"', 0),
    "another name for its points": ([('"0002"', PAPERS)], "qmigrate doctor", 0),
}


@pytest.mark.parametrize("case", FOLLOWING)
def test_status_names_a_command_that_is_not_refused(three, case):
    """The next command of a pending revision is one that goes on from there, or says all that is wrong."""
    bodies, command, code = FOLLOWING[case]
    three.load(3)
    for number, (down, operation) in enumerate(bodies):
        path = three.root / "qdrant_migrations" / "versions" / f"000{3 + number}_x.py"
        path.write_text(f'"""X."""\nfrom qdrant_client.models import Distance, VectorParams\nfrom qmigrate import op\nrevision = "000{3 + number}"\ndown_revision = {down}\ndef upgrade():\n    return [{operation}]\n')
    rows = {row["name"]: row for row in call(three.root, "status", "--json").json["data"]["collections"]}
    assert rows["docs"]["next_command"] == command
    # A probe and the console ask the same.
    looked = {row.name: (row.state, row.detail, row.next_command) for row in Parts(three.settings(), 5).look().collections}
    assert looked == {name: (row["state"], row["detail"], row["next_command"]) for name, row in rows.items()}
    assert f"Next: {command}" in call(three.root, "status").out
    done = call(three.root, *shlex.split(command)[1:])
    assert done.code == code, done.text


def test_one_notion_of_at_on_the_console(three):
    """The pages say it as status does."""
    browser = Browser(three)
    for page in ("/collections", "/collections/faces", "/"):
        assert "nothing for it in 0002" in browser.get(page).text, page
    assert "nothing for it" not in browser.get("/collections/docs").text


def test_two_branches_are_merged_without_renaming(tmp_path):
    """In a new project two people each add a revision; git has no conflict, and one more file joins them."""
    here = ("revision", "-m")
    assert call(tmp_path, "init").code == 0
    assert call(tmp_path, *here, "documents").code == 0
    versions = tmp_path / "qdrant_migrations" / "versions"
    (first,) = versions.glob("*.py")
    body = 'return [op.CreateCollection("docs", {"a": VectorParams(size=8, distance=Distance.COSINE)})]'
    head = "from qdrant_client.models import Distance, VectorParams\nfrom qmigrate import op\n"
    first.write_text(head + first.read_text().replace("return []", body))
    assert call(tmp_path, "upgrade").code == 0
    made = []
    for number, field in enumerate(("kind", "year")):
        # Each branch sees its own file alone, made in another second.
        assert call(tmp_path, *here, f"index {field}", *(("--rev-id", "20991231235959") if number else ())).code == 0
        (path,) = set(versions.glob("*.py")) - {first}
        text = path.read_text().replace("return []", f'return [op.CreatePayloadIndex("docs", "{field}", "keyword")]')
        path.unlink()
        made.append((path, "from qmigrate import op\n" + text))
    for path, text in made:
        path.write_text(text)
    assert call(tmp_path, "rollback", "base", "--discard-writes").code == 0
    (row,) = call(tmp_path, "status", "--json").json["data"]["collections"]
    # Also where nothing of it is there yet.
    assert (row["revision"], row["next_command"]) == (None, 'qmigrate revision --merge -m "merge"')
    assert call(tmp_path, "upgrade", first.stem[:14]).code == 0
    names = sorted(path.name for path in versions.glob("*.py"))
    said = call(tmp_path, "status", "--json").json["data"]["collections"]
    assert [row["next_command"] for row in said] == ['qmigrate revision --merge -m "merge"']
    assert call(tmp_path, "revision", "--merge", "-m", "merge").code == 0
    assert set(names) < {path.name for path in versions.glob("*.py")}
    done = call(tmp_path, "upgrade")
    assert done.code == 0, done.text
    (row,) = call(tmp_path, "status", "--json").json["data"]["collections"]
    assert (row["state"], row["pending"]) == ("ready", [])


def test_only_one_collection_is_written_about(project):
    """The others are declared as well, or not yet: none of them goes with --drops."""
    project.revise("0002", 'def upgrade():\n    return [op.CreateCollection(name, {{"a": VectorParams(size=8, distance=Distance.COSINE)}}) for name in ("faces", "logs")]\n')
    declared = {name: {"vectors": {"a": A}} for name in ("docs", "faces")}
    (project.root / "collections.yaml").write_text(yaml.safe_dump({"collections": declared}))
    made = call(project.root, *GENERATE, "--drops", "--only", "docs")
    assert (made.code, files(project)[-1]) == (0, "0003_larger_words.py")
    assert "op.DropVector(" in text_of(project, "0003")
    assert "DropCollection" not in text_of(project, "0003")
    assert "logs" in made.out
