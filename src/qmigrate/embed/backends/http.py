"""Texts embedded by a server: OpenAI's ``/v1/embeddings`` or TEI's ``/embed``. It shows the key to no other host."""

from __future__ import annotations

import base64
import binascii
import importlib
import threading
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
from numpy.typing import NDArray

from qmigrate.embed import HTTP_BATCH
from qmigrate.embed.inputs import ImageName, kind_of
from qmigrate.embed.options import Options
from qmigrate.embed.patience import TransientError, patiently, retry_after
from qmigrate.errors import DriftError, EmbedderError, EmbedError
from qmigrate.model.schema import JsonObject
from qmigrate.ports import Embedder
from qmigrate.sequences import in_parts
from qmigrate.settings.values import redact
from qmigrate.text import counted

#: Requests under way at the same time.
DEFAULT_CONCURRENCY = 4
DEFAULT_TIMEOUT = 60.0
DEFAULT_RETRIES = 8
#: Statuses by which a server reports that the texts are at fault: too long, too many, or not to its taste.
_REFUSED = frozenset({400, 413, 422})
#: Statuses of a server that may answer later.
_LATER = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
#: As much of a server's own words as a message shows.
_SHOWN = 200

Row = NDArray[np.float32]


def build(options: Options) -> Embedder:
    """From ``{type: http, url: https://api.openai.com/v1, model: text-embedding-3-small, api_key_env: OPENAI_KEY}``.

    ``api: tei`` speaks to text-embeddings-inference instead. ``dimensions`` and ``encoding_format`` (``float``,
    ``base64``) are OpenAI's, ``truncate`` is TEI's; ``prompt`` is put before every text, ``normalize`` makes vectors of
    length one. ``max_batch`` texts go into a request, ``concurrency`` requests are under way, each may take
    ``timeout`` and is repeated ``max_retries`` times. ``version`` distinguishes states of a model that share its name.
    ``price`` is that of a million tokens, ``tokenizer`` the file by which they are counted (``tokenizer.json``), and
    ``max_tokens`` how many the model reads: they change no vector.

    Raises:
        EmbedError: a value is wrong, or the key is not where it should be.
    """
    api = options.choice("api", ("openai", "tei"))
    url = _checked_url(options)
    model = options.text("model")
    if api == "openai" and model is None:
        raise EmbedError(
            f"embedder {options.name!r} names no model", hint="add model: as the server calls it, in qmigrate.yaml"
        )
    key = options.secret("api_key")
    client = httpx.Client(
        timeout=options.seconds("timeout", DEFAULT_TIMEOUT),
        headers={"Authorization": f"Bearer {key}"} if key else {},
        # A redirect could send the key to another host, so it is refused where it comes.
        follow_redirects=False,
    )
    server = _Server(options.name, url, client, key, options.integer("max_retries", DEFAULT_RETRIES, lowest=0) or 0)
    dialect = _Tei(server, options) if api == "tei" else _OpenAi(server, options, str(model))
    return _Http(options, server, dialect)


def _checked_url(options: Options) -> str:
    url = options.text("url")
    if url is None:
        raise EmbedError(
            f"embedder {options.name!r} names no url", hint="for example url: http://localhost:8080/v1"
        )
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        raise options.wrong("url", "a URL such as http://localhost:8080/v1", redact(url)) from None
    if "@" in parts.netloc:
        raise EmbedError(
            f"embedder {options.name!r}: url holds a user or password",
            hint="a key belongs into a variable or file: api_key_env or api_key_file",
        )
    if not fine or parts.query or parts.fragment:
        raise options.wrong("url", "a URL such as http://localhost:8080/v1, without ? and #", redact(url))
    return url.rstrip("/")


class _Server:
    """Requests to one server, repeated while that may help."""

    def __init__(self, name: str, url: str, client: httpx.Client, key: str | None, retries: int) -> None:
        self.name = name
        self._url = url
        self._client = client
        self._key = key
        self._retries = retries
        weakref.finalize(self, client.close)

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The JSON of an answer.

        Raises:
            EmbedError: the server refuses the texts.
            EmbedderError: it can't be reached, denies, or answers no JSON.
        """
        try:
            answer = patiently(lambda: self._once(method, path, body), retries=self._retries)
        except TransientError as error:
            raise EmbedderError(
                f"embedder {self.name!r}: {self._url} {error}; given up after {error.tries:,} tries",
                hint="run the same command again when the server is well: it continues from here",
            ) from error
        try:
            return answer.json()
        except ValueError as error:
            raise self.strange(f"{path} with something that is not JSON") from error

    def strange(self, what: str) -> EmbedderError:
        """The error for an answer that makes no sense."""
        return EmbedderError(
            f"embedder {self.name!r}: {self._url} answered {what}",
            hint="check url and api of this embedder in qmigrate.yaml",
        )

    def replaced(self, before: object, now: object) -> DriftError:
        """The error for a server that has got another model since it was asked first."""
        return DriftError(
            f"embedder {self.name!r}: {self._url} has another model now: {now} instead of {before}. None of "
            "its vectors were used",
            hint="put the former one back and run the same command again: it continues from here",
        )

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None) -> httpx.Response:
        try:
            answer = self._client.request(method, self._url + path, json=body)
        except httpx.TransportError as error:
            raise TransientError(f"can't be reached: {type(error).__name__}: {self._hidden(str(error))}") from error
        if answer.is_success:
            return answer
        said = f"answered {path} with {answer.status_code}: {self._words(answer)}"
        if answer.status_code in _LATER:
            raise TransientError(said, after=retry_after(answer.headers.get("retry-after")))
        if answer.status_code in _REFUSED:
            raise EmbedError(f"embedder {self.name!r}: the server {said}")
        raise EmbedderError(f"embedder {self.name!r}: {self._url} {said}", hint=self._hint(answer.status_code))

    def _hint(self, status: int) -> str:
        if status in (401, 403):
            return "check the key that api_key_env or api_key_file names" if self._key else "add api_key_env"
        if status == 404:
            return "check url and model of this embedder in qmigrate.yaml"
        return "check url of this embedder in qmigrate.yaml"

    def _words(self, answer: httpx.Response) -> str:
        """What the server answers itself, in one line, without the key, should it repeat that."""
        if answer.has_redirect_location:
            return f"a redirect to {redact(str(answer.headers['location']))}, which is not followed"
        text = answer.text
        try:
            found = answer.json()
            inner = found.get("error", found.get("message", text)) if isinstance(found, dict) else text
            text = str(inner.get("message", inner) if isinstance(inner, dict) else inner)
        except ValueError:
            pass
        text = self._hidden(" ".join(text.split()))
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"

    def _hidden(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


class _OpenAi:
    """``POST <url>/embeddings``."""

    normalisation = "as served"

    def __init__(self, server: _Server, options: Options, model: str) -> None:
        self._server = server
        self._model = model
        self._dimensions = options.integer("dimensions", None)
        self._form = options.choice("encoding_format", ("float", "base64"))
        self.size = self._dimensions
        # What the server calls the model that it has: an alias may come to mean another one.
        self._answered: str | None = None
        self._lock = threading.Lock()

    def identity(self) -> JsonObject:
        """What its vectors depend on, as far as the server reports it."""
        return {"library": "openai embeddings", "model": self._model, "dimensions": self._dimensions}

    def vectors(self, texts: list[str]) -> list[Any]:
        """The vectors of one request."""
        body: dict[str, Any] = {"model": self._model, "input": texts, "encoding_format": self._form}
        if self._dimensions is not None:
            body["dimensions"] = self._dimensions
        answer = self._server.send("POST", "/embeddings", body)
        self._see(answer)
        try:
            found = {int(one["index"]): one["embedding"] for one in answer["data"]}
            return [_decoded(found[place]) for place in range(max(len(texts), len(answer["data"])))]
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise self._server.strange("/embeddings with something that is not a list of embeddings") from error

    def most(self) -> int | None:
        """Unknown: the server doesn't report it."""
        return None

    def tokens(self, texts: list[str]) -> list[int] | None:  # noqa: ARG002
        """Unknown: the server doesn't count without embedding."""
        return None

    def check(self) -> None:
        """Nothing: every answer names its model."""

    def _see(self, answer: Any) -> None:
        """See that it is of the model that has answered before.

        Raises:
            DriftError: it names another one.
        """
        told = answer.get("model") if isinstance(answer, dict) else None
        if isinstance(told, str):
            with self._lock:
                first = self._answered = self._answered or told
            if told != first:
                raise self._server.replaced(first, told)


class _Tei:
    """``POST <url>/embed``; what it serves is in ``GET <url>/info``."""

    size = None

    def __init__(self, server: _Server, options: Options) -> None:
        self._server = server
        self._truncate = options.flag("truncate", False)
        self._normalize = options.flag("normalize", True)
        self.normalisation = "l2" if self._normalize else None
        self._wanted = options.text("model")
        self._info: JsonObject | None = None
        self._most: int | None = None

    def most(self) -> int | None:
        """Tokens of a text that it reads."""
        self.identity()
        return self._most

    def tokens(self, texts: list[str]) -> list[int] | None:
        """Of each text, by ``POST <url>/tokenize``; None where the server has no such thing."""
        try:
            answer = self._server.send("POST", "/tokenize", {"inputs": texts, "add_special_tokens": True})
        except (EmbedError, EmbedderError):
            # An older one has no such thing; one that is away says so when it is asked for vectors.
            return None
        if not isinstance(answer, list) or not all(isinstance(one, list) for one in answer):
            raise self._server.strange("/tokenize with something that is not a list of tokens")
        return [len(one) for one in answer]

    def identity(self) -> JsonObject:
        """What its vectors depend on, as far as the server reports it."""
        if self._info is None:
            found = self._asked()
            if self._wanted is not None and found["model"] != self._wanted:
                raise EmbedError(
                    f"embedder {self._server.name!r} needs the model {self._wanted!r}, and the server has "
                    f"{found['model']!r}",
                    hint="correct model or url of this embedder in qmigrate.yaml",
                )
            self._info = found
        return self._info

    def check(self) -> None:
        """See that the server has the model that it had before.

        Raises:
            DriftError: it has another one.
        """
        before, now = self.identity(), self._asked()
        if now != before:
            differing = next(key for key in now if now[key] != before[key])
            raise self._server.replaced(before[differing], now[differing])

    def _asked(self) -> JsonObject:
        found = self._server.send("GET", "/info")
        if not isinstance(found, dict) or "model_id" not in found:
            raise self._server.strange("/info with something that names no model")
        told = found.get("max_input_length")
        self._most = told if type(told) is int and told > 0 else None
        return {
            "library": "text-embeddings-inference",
            "library_version": found.get("version"),
            "model": found["model_id"],
            "weights": found.get("model_sha"),
            "precision": found.get("model_dtype"),
            "truncate": self._truncate,
        }

    def vectors(self, texts: list[str]) -> list[Any]:
        """The vectors of one request."""
        body = {"inputs": texts, "truncate": self._truncate, "normalize": self._normalize}
        answer = self._server.send("POST", "/embed", body)
        if not isinstance(answer, list):
            raise self._server.strange("/embed with something that is not a list of embeddings")
        return answer


class _Tokens:
    """Counts tokens by the tokenizer of the model, which is read when it is first asked."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._file = options.text("tokenizer")
        self._lock = threading.Lock()
        self._loaded: Any = None

    def count(self, texts: Sequence[str]) -> list[int] | None:
        """Of each text.

        Raises:
            EmbedError: the library or the file is missing.
        """
        if self._file is None:
            return None
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load(self._file)
        return [len(one.ids) for one in self._loaded.encode_batch(list(texts))]

    def _load(self, name: str) -> Any:
        try:
            tokenizers = importlib.import_module("tokenizers")
        except ImportError as error:
            raise EmbedError(
                f"embedder {self._options.name!r} has a tokenizer, and the library for it is missing",
                hint="pip install 'qdrant-migrations[tokenizers]'",
            ) from error
        try:
            found = tokenizers.Tokenizer.from_file(name)
        except Exception as error:  # the library raises nothing more exact
            raise EmbedError(f"embedder {self._options.name!r}: {name} is not a tokenizer.json: {error}") from error
        found.no_truncation()
        found.no_padding()
        return found


class _Http:
    """Items are texts."""

    def __init__(self, options: Options, server: _Server, dialect: _OpenAi | _Tei) -> None:
        self._name = options.name
        self._server = server
        self._dialect = dialect
        self._batch = options.integer("max_batch", HTTP_BATCH) or HTTP_BATCH
        self._concurrency = options.integer("concurrency", DEFAULT_CONCURRENCY, highest=256) or DEFAULT_CONCURRENCY
        self._prompt = options.verbatim("prompt")
        self._normalize = bool(options.flag("normalize", False)) and dialect.normalisation != "l2"
        self._version = options.text("version")
        self.max_batch = self._batch * self._concurrency
        self.size = options.integer("size", dialect.size)
        options.number("price")
        self._max_tokens = options.integer("max_tokens", None, highest=10_000_000)
        self._tokens = _Tokens(options)

    def fingerprint(self) -> JsonObject:
        """The model as the server calls it; where the server is changes nothing.

        Raises:
            EmbedderError: TEI is asked which model it has, and doesn't answer.
        """
        parts: JsonObject = {
            "type": "http",
            **self._dialect.identity(),
            "size": self.size,
            "normalisation": "l2" if self._normalize else self._dialect.normalisation,
            "prompt": self._prompt,
        }
        return parts | ({"version": self._version} if self._version is not None else {})

    def embed(self, items: Sequence[Any]) -> list[Any]:
        """One vector per text; an ``EmbedError`` in the place of a text that the server refuses.

        Raises:
            EmbedderError: the server can't be reached, denies, or answers something unreadable.
            DriftError: it has another model than before. Nothing that it has made by then is returned.
        """
        starts = range(0, len(items), self._batch)
        parts = [list(items[start : start + self._batch]) for start in starts]
        if len(parts) <= 1:
            made = [self._some(part) for part in parts]
        else:
            with ThreadPoolExecutor(min(self._concurrency, len(parts)), thread_name_prefix="embed http") as pool:
                made = list(pool.map(self._some, parts))
        if made:
            # After the last answer: what is returned is of the model that is in the fingerprint.
            self._dialect.check()
        return [vector for part in made for vector in part]

    def count_tokens(self, texts: Sequence[str]) -> list[int] | None:
        """See :class:`~qmigrate.ports.CountsTokens`; by the file of the tokenizer, else by a server that counts."""
        whole = [(self._prompt or "") + text for text in texts]
        found = self._tokens.count(whole)
        if found is not None:
            return found
        made: list[int] = []
        for part in in_parts(whole, self._batch):
            counts = self._dialect.tokens(list(part))
            if counts is None:
                return None
            made += counts
        return made if whole else None

    @property
    def max_tokens(self) -> int | None:
        """As configured, else as the server reports it."""
        return self._max_tokens if self._max_tokens is not None else self._dialect.most()

    def _some(self, items: list[Any]) -> list[Any]:
        """Vectors of one request; halved until the text is found that the server refuses."""
        unfit = [item for item in items if not isinstance(item, str) or isinstance(item, ImageName)]
        if unfit:
            raise EmbedError(f"embedder {self._name!r} takes texts, not {kind_of(unfit[0])}")
        try:
            made = self._dialect.vectors([(self._prompt or "") + item for item in items])
        except EmbedError as error:
            if len(items) == 1:
                return [error]
            middle = len(items) // 2
            return self._some(items[:middle]) + self._some(items[middle:])
        if len(made) != len(items):
            raise self._server.strange(f"{counted(len(made), 'vector')} for {counted(len(items), 'text')}")
        return [_unit(vector) for vector in made] if self._normalize else made


def _decoded(embedding: Any) -> Any:
    """OpenAI's base64 is little-endian float32."""
    return np.frombuffer(base64.b64decode(embedding, validate=True), "<f4") if isinstance(embedding, str) else embedding


def _unit(vector: Any) -> Any:
    """Of length one; what has no length stays as it is, for the check that names it."""
    row: Row = np.asarray(vector, dtype=np.float32)
    norm = float(np.linalg.norm(row))
    return row / np.float32(norm) if row.ndim == 1 and np.isfinite(norm) and norm > 0 else vector
