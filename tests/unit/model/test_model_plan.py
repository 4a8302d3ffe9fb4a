"""Jobs as the JSON that a resume loads."""

import json

from qmigrate.model.plan import Build, Closing, GoLive, InPlace, Job, OpRef, Retire
from qmigrate.model.schema import Change, CollectionSchema

BEFORE = CollectionSchema(vectors={"a": {"size": 8, "distance": "Cosine"}}, aliases=("further",))
AFTER = BEFORE.with_(indexes={"f": {"type": "keyword", "is_tenant": True}})
REFS = (OpRef("0002", 0), OpRef("0002", 2))


def job():
    """A job with every kind of step."""
    return Job(
        collection="docs",
        basis="abc",
        steps=(
            InPlace(REFS, "docs__g0001", (Change("index.add", "f", after={"type": "keyword"}),), "light"),
            Build(REFS, "docs__g0001", "docs__g0002", 2, AFTER, "copy", "values change"),
            GoLive(REFS, "docs__g0001", "docs__g0002", ("docs", "further")),
            GoLive((), "docs__g0002", None, ("docs",), back=True, writes="discard"),
            Retire("docs__g0001", "past its holdover"),
        ),
        closes=(
            Closing(0, "0002", "upgrade", "sum", AFTER, BEFORE),
            Closing(3, "0003", "rollback", "sum", None, AFTER),
            Closing(4, "0001", "upgrade", "sum", BEFORE, None),
        ),
        supersedes=7,
    )


def test_a_job_comes_back_equal_from_json_text():
    """Every kind of step and every optional part survives the way through text."""
    assert Job.from_json(json.loads(json.dumps(job().to_json()))) == job()


def test_an_empty_job_comes_back():
    """A job without steps, closings or a superseded run survives too."""
    empty = Job("docs", "abc", ())
    assert Job.from_json(json.loads(json.dumps(empty.to_json()))) == empty


def test_a_job_names_the_revisions_it_needs():
    """Revisions of steps and of closings are both named."""
    assert job().revisions() == {"0001", "0002", "0003"}
