"""Embedding over HTTP: what is sent, repeated, given up, and never shown."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import numpy as np
import pytest
from tests.embed_server import EmbeddingServer, vector

from qmigrate.embed import fingerprint_digest, load
from qmigrate.embed.patience import retry_after
from qmigrate.embed.stream import Failure, embed_all
from qmigrate.errors import DriftError, EmbedderError, EmbedError
from qmigrate.ports import CountsTokens

KEY = "sk-very-secret-0001"


@pytest.fixture
def server():
    """A server that is stopped at the end."""
    found = EmbeddingServer()
    yield found
    found.close()


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("TEST_EMBED_KEY", KEY)


def embedder(server, **more):
    """An embedder of that server."""
    config = {"type": "http", "url": server.url, "model": "tiny", "api_key_env": "TEST_EMBED_KEY", "max_batch": 3}
    return load("remote", config | more)


@pytest.mark.parametrize("more", [{}, {"encoding_format": "base64"}, {"api": "tei", "normalize": False}])
def test_each_dialect_gives_every_text_its_vector(server, more):
    """Texts go out in requests of max_batch with the key, and come back in their order."""
    texts = [f"text {'x' * number}" for number in range(8)]
    made = embed_all(embedder(server, prompt="passage: ", **more), texts, size=3)
    assert np.array_equal(np.vstack(made), np.array([vector(f"passage: {text}") for text in texts], np.float32))
    assert {headers["Authorization"] for _, headers, _ in server.seen} == {f"Bearer {KEY}"}
    sizes = sorted(len(body.get("input") or body["inputs"]) for path, _, body in server.seen if path != "/info")
    assert sizes == [2, 3, 3]


def test_requests_are_under_way_together_up_to_the_limit(server):
    """`concurrency` requests are answered only when all of them are there: one after the other would never end."""
    server.together = threading.Barrier(4)
    made = embedder(server, concurrency=4, max_batch=1, normalize=True).embed([f"t{n}" for n in range(8)])
    assert server.most == 4
    assert np.linalg.norm(np.vstack(made), axis=1) == pytest.approx(1.0, abs=1e-6)


def test_a_text_that_the_server_refuses_is_a_failure_of_its_own(server):
    """The request is halved until the text is found; all others have their vectors and are not sent once more."""
    texts = [f"t{number}" for number in range(12)]
    server.bad = {"t4"}
    made = embed_all(embedder(server, max_batch=4), texts, size=3)
    assert [place for place, one in enumerate(made) if isinstance(one, Failure)] == [4]
    assert made[4].stage == "embed"
    assert "input is too long" in made[4].message
    sent = [tuple(body["input"]) for _, _, body in server.seen]
    assert sorted(sent) == sorted(
        [tuple(texts[:4]), tuple(texts[4:8]), tuple(texts[8:]), ("t4", "t5"), ("t6", "t7"), ("t4",), ("t5",)]
    )


def test_what_may_go_well_later_is_repeated(server, monkeypatch):
    """Statuses of an overloaded server are waited for, as long as the server asks, where it does."""
    pauses: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", pauses.append)
    server.script.extend([(429, {"retry-after": "7"}, ""), (503, {}, ""), (500, {"retry-after": "0"}, "")])
    assert embedder(server).embed(["a"]) == [vector("a")]
    assert len(server.seen) == 4
    assert (pauses[0], pauses[2]) == (7.0, 0.0)
    assert 0 <= pauses[1] <= 30


@pytest.mark.parametrize(
    ("script", "more", "tries", "said"),
    [
        ([(503, {"retry-after": "0"}, "full")] * 3, {"max_retries": 2}, 3, "503: full; given up after 3 tries"),
        ([(429, {"retry-after": "86400"}, "")], {}, 1, "given up after 1 tries"),
        ([(401, {}, f"wrong key {KEY}")], {}, 1, "401: wrong key ***"),
        ([(404, {}, '{"error": {"message": "no such model"}}')], {}, 1, "404: no such model"),
        ([(307, {"location": "http://elsewhere/"}, "")], {}, 1, "a redirect to http://elsewhere/, which is not followed"),
        ([(200, {}, "<html>")], {}, 1, "not JSON"),
        ([(200, {}, '{"data": [{"index": 1, "embedding": [1]}]}')], {}, 1, "not a list of embeddings"),
        ([(200, {}, '{"data": [{"index": 0, "embedding": "%%"}]}')], {}, 1, "not a list of embeddings"),
        ([(200, {}, "[]")], {"api": "tei"}, 1, "0 vectors for 1 text"),
    ],
)
def test_a_server_out_of_order_blames_no_text(server, script, more, tries, said):
    """What is wrong with the server ends the run with exit 9 and a hint; the key is in no message."""
    server.script.extend(script)
    with pytest.raises(EmbedderError) as caught:
        embed_all(embedder(server, **more), ["a"], size=None)
    assert said in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_code == 9
    assert KEY not in f"{caught.value.message} {caught.value.hint} {caught.value.__cause__}"
    assert len(server.seen) == tries


def test_a_server_that_is_gone_is_named():
    """Nothing listens: the host is named after the last try."""
    gone = EmbeddingServer()
    gone.close()
    with pytest.raises(EmbedderError, match=r"127\.0\.0\.1.*can't be reached"):
        embedder(gone, max_retries=0).embed(["a"])


def test_the_key_comes_from_a_variable_or_a_file(server, tmp_path):
    """The file wins nothing over the variable: one of both is named, and a missing one is reported before any request."""
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    embedder(server, api_key_env=None, api_key_file=str(file)).embed(["a"])
    assert server.seen[0][1]["Authorization"] == f"Bearer {KEY}"
    embedder(server, api_key_env=None).embed(["a"])
    assert "Authorization" not in server.seen[1][1]
    for more, said in [
        ({"api_key_file": str(file)}, "both"),
        ({"api_key_env": "TEST_EMBED_NOT_SET"}, "TEST_EMBED_NOT_SET"),
        ({"api_key_env": None, "api_key_file": str(tmp_path / "none")}, "No such file"),
        ({"api_key": KEY}, "unknown key 'api_key'"),
        ({"url": f"http://user:{KEY}@host/v1"}, "holds a user or password"),
        ({"url": f"ftp://host/?token={KEY}"}, "token=***"),
        ({"model": None}, "names no model"),
        ({"api": "cohere"}, "openai or tei"),
        ({"timeout": "soon"}, "a duration"),
    ]:
        with pytest.raises(EmbedError) as caught:
            embedder(server, **more)
        assert said in caught.value.message
        assert KEY not in f"{caught.value.message} {caught.value.hint}"
    assert len(server.seen) == 2


def test_the_fingerprint_is_that_of_the_model_not_of_the_server(server):
    """Model, size, prompt and normalisation count; where the server is, its key and its batches don't."""
    base = fingerprint_digest(embedder(server).fingerprint())
    moved = load("remote", {"type": "http", "url": "https://elsewhere.example/v1", "model": "tiny", "concurrency": 9})
    assert fingerprint_digest(moved.fingerprint()) == base
    for more in ({"model": "other"}, {"prompt": "q: "}, {"dimensions": 2}, {"normalize": True}, {"version": "2"}):
        assert fingerprint_digest(embedder(server, **more).fingerprint()) != base
    tei = embedder(server, api="tei").fingerprint()
    assert (tei["model"], tei["weights"], tei["precision"], tei["normalisation"]) == ("tiny", "abc", "float32", "l2")
    server.model = "another"
    with pytest.raises(EmbedError, match="needs the model 'tiny', and the server has 'another'"):
        embedder(server, api="tei").fingerprint()


@pytest.mark.parametrize("more", [{}, {"api": "tei"}, {"api": "tei", "model": None}])
def test_a_server_that_gets_another_model_is_told_by_its_first_answer(server, more):
    """None of the vectors of the other model is handed out, whichever of the requests it has answered."""
    remote = embedder(server, **more)
    assert len(embed_all(remote, ["one", "two"], size=3)) == 2
    server.model, server.renames = "another", True
    with pytest.raises(DriftError, match="another model now: another instead of tiny"):
        embed_all(remote, ["three"], size=3)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("12", 12.0),
        (" 0 ", 0.0),
        ("-1", None),
        ("soon", None),
        ("Sat, 21 Nov 2026 12:00:30 GMT", 30.0),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_a_number_or_a_date(header, seconds):
    """Both forms of the header are read; anything else is as if it weren't there."""
    assert retry_after(header, datetime(2026, 11, 21, 12, tzinfo=UTC)) == seconds


def test_tokens_are_counted_by_the_server_that_has_the_model(server):
    """TEI counts without embedding, with what the model adds; OpenAI's dialect has no such thing, and neither has an older server."""
    tei = embedder(server, api="tei", prompt="query: ")
    assert isinstance(tei, CountsTokens)
    assert tei.count_tokens([f"one two {'x ' * number}" for number in range(40)]) == [5 + number for number in range(40)]
    assert tei.max_tokens == 512
    assert embedder(server, api="tei", max_tokens=8).max_tokens == 8
    assert all(path != "/embed" for path, _, _ in server.seen)
    server.script.append((404, {}, "not found"))
    assert embedder(server, api="tei").count_tokens(["a"]) is None
    assert embedder(server).count_tokens(["a"]) is None
    assert embedder(server).max_tokens is None
