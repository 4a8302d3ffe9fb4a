"""What is repeated, what is not, and when patience ends; and how answers become errors."""

from __future__ import annotations

import httpx
import pytest

from qmigrate.errors import ConflictError, DeniedError, NotFoundError, RateLimitedError, StoreError
from qmigrate.store import faults
from qmigrate.store.faults import LimitedError, RefusedRequestError, SlowError, TransientError
from qmigrate.store.server import aliases
from qmigrate.store.server.requests import SLOW_TRIES, repeated


class Script:
    """A call that raises what it is given, one after the other, then returns."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


@pytest.mark.parametrize(
    ("errors", "calls"),
    [
        ([], 1),
        ([TransientError("a"), TransientError("b")], 3),
        ([SlowError("a")] * (SLOW_TRIES - 1), SLOW_TRIES),
        ([LimitedError("a", retry_after=0.001)] * 2, 3),
    ],
    ids=["at once", "transport", "slow", "limited for a moment"],
)
def test_what_may_succeed_later_is_repeated(errors, calls):
    """Transport errors, slow writes and limiters that ask for little."""
    script = Script(*errors)
    assert repeated(script, 30.0) == "done"
    assert script.calls == calls


@pytest.mark.parametrize(
    ("errors", "timeout", "calls"),
    [
        ([StoreError("a")], 30.0, 1),
        ([NotFoundError("a")], 30.0, 1),
        ([RefusedRequestError("a")], 30.0, 1),
        ([LimitedError("a", retry_after=61.0)], 30.0, 1),
        ([SlowError("a")] * 100, 30.0, SLOW_TRIES),
        ([TransientError("a")] * 100, 0.0, 1),
    ],
    ids=["failed", "not there", "refused", "limited for too long", "slow for good", "no time"],
)
def test_what_will_not_get_better_is_raised_as_it_is(errors, timeout, calls):
    """The last error itself reaches the caller."""
    script = Script(*errors)
    with pytest.raises(type(errors[0])):
        repeated(script, timeout)
    assert script.calls == calls


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [
        (400, "Wrong input: Alias with the same name already exists", ConflictError),
        (400, "Wrong input: Vector `zz` already exists with a different configuration", RefusedRequestError),
        (401, "Must provide an API key", DeniedError),
        (403, "Forbidden: Global manage access is required", DeniedError),
        (404, "Not found: Collection `x` doesn't exist!", NotFoundError),
        (409, "Wrong input: Collection `x` already exists!", ConflictError),
        (429, "Rate limiting exceeded", RateLimitedError),
        (500, "Service internal error", TransientError),
        (503, "Shard unavailable", TransientError),
    ],
)
def test_answers_become_errors_that_keep_the_servers_words(status, text, error):
    """And neither the key nor any other header of the request is in them."""
    request = httpx.Request("PUT", "http://q:6333/collections/x", headers={"api-key": "secret-key"})
    response = httpx.Response(status, json={"status": {"error": text}}, headers={"retry-after": "60"}, request=request)
    found = faults.of_response(response, "q:6333")
    assert type(found) is error or (isinstance(found, error) and status == 429)
    assert text in found.message
    assert "q:6333" in found.message
    assert "secret-key" not in repr(found) + str(found.hint)
    if status == 429:
        assert found.retry_after == 60.0


class Aliases:
    """A node that answers alias requests, and may lose the answer to a rename it has carried out."""

    label = "q:6333"

    def __init__(self, lost: int, applied: bool) -> None:
        self.known = {"own": "g2", "live": "g1"}
        self.lost, self.applied, self.sent = lost, applied, 0

    def get(self, path):
        return {"aliases": [{"alias_name": name, "collection_name": to} for name, to in self.known.items()]}

    def send(self, method, path, body):
        self.sent += 1
        if "own" not in self.known:
            raise NotFoundError("alias own does not exist")
        if self.lost == 0 or self.applied:
            self.known["live"] = self.known.pop("own")
        if self.lost:
            self.lost -= 1
            raise TransientError("the answer was lost")

    def envelope(self, response):
        return True

    def repeat(self, once):
        return repeated(once, 5.0)


@pytest.mark.parametrize(("lost", "applied", "sent"), [(0, False, 1), (1, True, 1), (2, False, 3)])
def test_a_rename_whose_answer_is_lost_is_not_taken_for_a_forbidden_one(lost, applied, sent):
    """The aliases say whether it was carried out; only what was not is sent again."""
    node = Aliases(lost, applied)
    aliases.rename(node, [("own", "live")])
    assert node.known == {"live": "g2"}
    assert node.sent == sent


def test_a_rename_is_not_sent_when_its_alias_is_gone():
    """A later holder has removed it."""
    node = Aliases(0, False)
    del node.known["own"]
    with pytest.raises(NotFoundError):
        aliases.rename(node, [("own", "live")])
    assert node.sent == 0
