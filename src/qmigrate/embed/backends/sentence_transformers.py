"""Texts (and images, where the model takes them) by sentence-transformers. Prompts and pooling are the model's own."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from qmigrate.embed.inputs import kind_of
from qmigrate.embed.options import Options
from qmigrate.embed.staged import Prepared, out_of_memory
from qmigrate.embed.torch_embedder import Loaded, TorchEmbedder, is_text
from qmigrate.embed.torch_models import (
    Run,
    all_in_files,
    architecture_digest,
    choose_device,
    library,
    require,
    tokens_of,
    weights_digest,
)
from qmigrate.errors import EmbedError, QmigrateError
from qmigrate.model.schema import JsonObject
from qmigrate.ports import Embedder
from qmigrate.text import counted

#: How far a vector of a text that was tokenized apart may be from the library's own.
_NEAR = 1e-3
_TRIALS = ("a", "a longer text of several words, so that the other one is padded")


class Tokenized(str):
    """A text together with its tokens."""

    __slots__ = ("features",)
    features: dict[str, Any]

    @property
    def weight(self) -> int:
        """How many tokens it has."""
        return max((len(one) for one in self.features.values() if hasattr(one, "__len__")), default=1)


class Tokens:
    """Sits between a model and its own tokenizing, and answers for texts that bring their tokens along.

    Args:
        model: of sentence-transformers; from now on it takes :class:`Tokenized`, too.
        encode: embeds texts by the model, as it is configured.
    """

    def __init__(self, model: Any, encode: Callable[[Sequence[str]], Any]) -> None:
        self._name = "preprocess" if hasattr(model, "preprocess") else "tokenize"
        self._original: Callable[..., Any] = getattr(model, self._name)
        self._tokenizer: Any = getattr(model, "tokenizer", None)
        self._arguments: Mapping[str, Any] | None = None
        # A fast tokenizer keeps its padding as a state of its own, so one call at a time sets it.
        self._lock = threading.Lock()
        setattr(model, self._name, self._tokenized)
        #: Whether it gives what the library gives; otherwise texts are passed as they are.
        self.works = self._tried(encode)

    def of(self, texts: Sequence[str]) -> list[Tokenized]:
        """Texts with their tokens."""
        with self._lock:
            found = self._original(list(texts), **(self._arguments or {}))
        mask = found["attention_mask"].bool()
        made = []
        for place, text in enumerate(texts):
            one = Tokenized(text)
            one.features = {
                name: value[place][mask[place]] if hasattr(value, "shape") and value.shape == mask.shape else value
                for name, value in found.items()
            }
            made.append(one)
        return made

    def _tried(self, encode: Callable[[Sequence[str]], Any]) -> bool:
        """Ask the model once each way: whatever differs or fails there would in every batch."""
        # Alone, too: a model that fills questions up to a length does it whatever else is in the batch.
        wanted = [encode(texts) for texts in (_TRIALS, _TRIALS[:1])]
        if self._arguments is None or not hasattr(self._tokenizer, "pad"):
            return False
        try:
            texts = self.of(_TRIALS)
            plain = {name for name, value in texts[0].features.items() if hasattr(value, "shape")}
            if not plain <= set(self._tokenizer.model_input_names):
                return False
            made = [encode(texts), encode(texts[:1])]
            return all(np.allclose(one, other, atol=_NEAR) for one, other in zip(made, wanted, strict=True))
        except QmigrateError:
            return False
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError):
            return False

    def _tokenized(self, texts: Any, *rest: Any, **arguments: Any) -> Any:
        if not all(isinstance(text, Tokenized) for text in texts):
            self._arguments = arguments if not rest else None
            with self._lock:
                return self._original(texts, *rest, **arguments)
        rows = [text.features for text in texts]
        shared = {name: value for name, value in rows[0].items() if not hasattr(value, "shape")}
        tokens = [{name: row[name].tolist() for name in row if name not in shared} for row in rows]
        with self._lock:
            padded = self._tokenizer.pad(tokens, padding=True, return_tensors="pt")
        return {**dict(padded), **shared}


#: The names of torch; ``auto`` is bfloat16 on a GPU and float32 elsewhere.
DTYPES = ("auto", "float32", "bfloat16", "float16")
#: What makes vectors: ``encode_document`` and ``encode_query`` take the model's own prompts for these tasks.
METHODS = ("encode", "encode_document", "encode_query")
#: What is embedded by models that embed texts and questions differently: by other prefixes, lengths or weights.
TASKS = ("document", "query")
#: Tokens of a text that counts as one item of a batch, and how many short ones may be in a batch instead.
TOKENS, SHORT = 128, 8


def build(options: Options) -> Embedder:
    """From ``{type: sentence_transformers, model: sentence-transformers/all-MiniLM-L6-v2}``.

    ``model`` is a name of the hub or a folder. ``prompt``, ``prompt_name``, ``normalize_embeddings``, ``truncate_dim``,
    ``max_seq_length``, ``revision``, ``cache_folder``, ``local_files_only``, ``trust_remote_code`` and ``batch_size``
    are the library's own; ``dtype`` is that of the weights, ``method`` one of ``encode``, ``encode_document`` and
    ``encode_query``.

    Raises:
        EmbedError: the library is missing, or a value is wrong.
    """
    method = options.choice("method", METHODS)
    return SentenceModel(options, model_of(options, "sentence-transformers/all-MiniLM-L6-v2"), method)


def model_of(options: Options, example: str) -> str:
    """The model that an embedder names: one of the hub, or a folder.

    Raises:
        EmbedError: the library is missing, it names none, or the type of its numbers is unknown.
    """
    require(options, "sentence_transformers", "sentence-transformers")
    model = options.text("model")
    if model is None:
        raise EmbedError(f"embedder {options.name!r} names no model", hint=f"for example model: {example}")
    options.choice("dtype", DTYPES)
    return model


@dataclass(frozen=True, slots=True)
class _Model(Loaded):
    """A model with what tokenizes for it."""

    tokens: Tokens


class SentenceModel(TorchEmbedder[_Model]):
    """Prepared texts are texts that bring their tokens along, prepared images are images; the library does the rest.

    Other kinds of models that the library loads are subclasses: what is different is what :meth:`_vectors` returns.

    Args:
        method: of the model, which makes vectors.
    """

    #: The type of embedder, and the class of the library.
    kind, made_by = "sentence_transformers", "SentenceTransformer"

    def __init__(self, options: Options, model: str, method: str) -> None:
        super().__init__(options)
        self._model = model
        self._method = method
        self._normalize = bool(options.flag("normalize_embeddings", False))
        self._prompt = options.verbatim("prompt")
        self._prompt_name = options.text("prompt_name")
        self._truncate = options.integer("truncate_dim", None)

    @property
    def max_weight(self) -> int | None:
        """As many tokens as a batch of long texts has: of short ones more go at once."""
        return (self._batch or self._usual_batch()) * TOKENS

    @property
    def max_batch(self) -> int:
        """Of short texts."""
        return (self._batch or self._usual_batch()) * SHORT

    def prepare(self, items: Sequence[Any]) -> list[Any]:
        """See the base class; texts are tokenized together."""
        loaded = self._ready()
        if not (loaded.tokens.works and all(map(is_text, items))):
            return super().prepare(items)
        return [Prepared(one, 0, one.weight, 16 * one.weight) for one in loaded.tokens.of(items)]

    def _longest(self, loaded: _Model) -> int | None:
        found = getattr(loaded.model, "max_seq_length", None)
        return found if isinstance(found, int) else None

    def _counted(self, loaded: _Model, texts: Sequence[str]) -> list[int] | None:
        prompts = loaded.model.prompts
        usual = {"encode_document": "document", "encode_query": "query"}.get(self._method)
        named = self._prompt_name or (usual if prompts.get(usual) else loaded.model.default_prompt_name)
        prompt = self._prompt if self._prompt is not None else prompts.get(named)
        return tokens_of(getattr(loaded.model, "tokenizer", None), [(prompt or "") + text for text in texts])

    def _encoders(self, loaded: _Model) -> Sequence[tuple[Callable[[Any], bool], Run]]:
        encode = partial(self._encoded, loaded)
        return ((lambda one: isinstance(one, str), encode), (lambda one: not isinstance(one, str), encode))

    def _opened(self, loaded: _Model, items: Sequence[Any]) -> list[Any]:
        # Texts are not opened, so they need no threads.
        return list(items) if all(map(is_text, items)) else super()._opened(loaded, items)

    def _text(self, loaded: _Model, text: str) -> Any:  # noqa: ARG002
        return text

    def _picture(self, loaded: _Model, image: Image.Image) -> Any:  # noqa: ARG002
        return image.convert("RGB")

    def _encoded(self, loaded: _Model, part: Sequence[Any]) -> Any:
        return self._encoded_by(loaded.model, part)

    def _vectors(self, model: Any, part: Sequence[Any]) -> Any:
        """What the library makes of items."""
        kept = {"normalize_embeddings": self._normalize, "truncate_dim": self._truncate}
        return self._asked(model, part, convert_to_numpy=True, **kept)

    def _asked(self, model: Any, part: Sequence[Any], **more: Any) -> Any:
        """Call the method of the model that makes vectors."""
        more |= {"prompt": self._prompt, "prompt_name": self._prompt_name}
        return getattr(model, self._method)(list(part), batch_size=len(part), show_progress_bar=False, **more)

    def _encoded_by(self, model: Any, part: Sequence[Any]) -> Any:
        try:
            return self._vectors(model, part)
        except Exception as error:  # a model that takes no images, a text its tokenizer can't take
            if out_of_memory(error):
                raise
            raise EmbedError(
                f"embedder {self._options.name!r}: {self._model} failed for {counted(len(part), 'item')}: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _load(self) -> _Model:
        options = self._options
        device = choose_device(options)
        torch, package = library(options, "torch"), library(options, "sentence_transformers")
        wanted = options.choice("dtype", DTYPES)
        if wanted == "auto":
            wanted = "bfloat16" if device.startswith("cuda") else "float32"
        model = self._found(package, torch)
        longest = options.integer("max_seq_length", None)
        if longest is not None:
            model.max_seq_length = longest
        if self._prompt_name is not None and self._prompt_name not in model.prompts:
            known = ", ".join(sorted(model.prompts)) or "none"
            raise options.wrong("prompt_name", f"one of {known}", self._prompt_name)
        fingerprint = self._fingerprint(model, package.__version__, wanted)
        placed = model.to(device=device, dtype=getattr(torch, wanted)).eval()
        tokens = Tokens(placed, lambda texts: self._compared(placed, texts))
        return _Model(placed, self._batches(device), fingerprint, tokens)

    def _compared(self, model: Any, texts: Sequence[Any]) -> Any:
        """Vectors of texts in a form in which those of two calls can be compared."""
        return self._encoded_by(model, texts)

    def _found(self, package: Any, torch: Any) -> Any:
        """The model, where it is one of this kind."""
        return self._open(package, torch)

    def _open(self, package: Any, torch: Any) -> Any:
        """The model as its files have it."""
        options = self._options
        try:
            return getattr(package, self.made_by)(
                self._model,
                # In full and on the host, so that the digest is of the weights and not of a rounding of them.
                device="cpu",
                model_kwargs={"dtype": torch.float32},
                revision=options.text("revision"),
                cache_folder=options.text("cache_folder"),
                local_files_only=bool(options.flag("local_files_only", False)),
                trust_remote_code=bool(options.flag("trust_remote_code", False)),
            )
        except Exception as error:  # files, networks and formats fail in many ways
            raise EmbedError(
                f"embedder {options.name!r}: {self._model} can't be loaded: {type(error).__name__}: {error}",
                hint="check model, revision and cache_folder of this embedder in qmigrate.yaml",
            ) from error

    def _fingerprint(self, model: Any, version: str, precision: str) -> JsonObject:
        return {
            "type": self.kind,
            "library": "sentence-transformers",
            "library_version": version,
            "architecture": architecture_digest(model),
            "weights": weights_digest(model.state_dict()),
            "size": self._truncate or _dimension(model),
            "normalisation": "l2" if self._normalize else "as the model",
            "pooling": [one.get_config_dict() for one in model if hasattr(one, "get_config_dict")],
            "preprocessing": _tokenizer_digest(model) | {"exif_transpose": self._exif},
            "prompt": self._shown_prompt(model),
            "precision": precision,
        }

    def _shown_prompt(self, model: Any) -> JsonObject:
        named = self._prompt_name or model.default_prompt_name
        return {
            "method": self._method,
            "prompt": self._prompt if self._prompt is not None else model.prompts.get(named),
            "prompts": dict(model.prompts) if self._method != "encode" else {},
        }


class TextModel(SentenceModel):
    """Kinds of texts only, which the library also makes of the files of other models: by weights that it makes up."""

    def _prepared(self, loaded: _Model, item: Any) -> Any:
        if not is_text(item):
            return EmbedError(f"embedder {self._options.name!r} takes texts, not {kind_of(item)}")
        return super()._prepared(loaded, item)

    def _whole(self, package: Any, torch: Any) -> Any:
        """The model, whose weights are all in its files.

        Where one is under another form there, it is loaded once more: what two loads have in common was not made up.

        Raises:
            EmbedError: two loads differ, so something was made up.
        """
        model = self._seeded(package, torch, 1)
        folder = self._folder()
        if folder is not None and all_in_files(model, folder):
            return model
        first = weights_digest(model.state_dict())
        # Two of them need not fit into memory.
        del model
        model = self._seeded(package, torch, 2)
        if weights_digest(model.state_dict()) != first:
            raise EmbedError(
                f"embedder {self._options.name!r}: the files of {self._model} are not those of a model of type "
                f"{self.kind}: what they lack, the library fills with random numbers at each load",
                hint="name a model that was saved as one; for dense vectors: type: sentence_transformers",
            )
        return model

    def _seeded(self, package: Any, torch: Any, seed: int) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._open(package, torch)

    def _folder(self) -> Path | None:
        """Where the files of the model are, once it is loaded; None where that is not known."""
        if Path(self._model).is_dir():
            return Path(self._model)
        options = self._options
        try:
            found = library(options, "huggingface_hub").snapshot_download(
                self._model,
                revision=options.text("revision"),
                cache_dir=options.text("cache_folder"),
                local_files_only=True,
            )
        except Exception:  # it is not from there
            return None
        return Path(found)


def _dimension(model: Any) -> int:
    """Length of its vectors; a model for images may not have it before it has made one."""
    known = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
    return int(known() or len(model.encode("a", show_progress_bar=False)))


def _tokenizer_digest(model: Any) -> JsonObject:
    """What turns a text into numbers: the words of the tokenizer, and where it cuts off."""
    tokenizer: Any = getattr(model, "tokenizer", None)
    vocabulary = tokenizer.get_vocab() if hasattr(tokenizer, "get_vocab") else {}
    words = hashlib.sha256(json.dumps(vocabulary, sort_keys=True).encode()).hexdigest()[:16]
    longest = getattr(model, "max_seq_length", None)
    return {"tokenizer": type(tokenizer).__name__, "vocabulary": words, "max_seq_length": longest}
