"""From a name in the settings to an embedder. It is independent of Qdrant, and imports no backend unasked."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qmigrate.embed.options import Options, fingerprint_digest
from qmigrate.errors import EmbedError
from qmigrate.text import did_you_mean

if TYPE_CHECKING:
    from qmigrate.ports import Embedder

__all__ = [
    "Backend",
    "check_config",
    "devices_for",
    "fingerprint_digest",
    "known_keys",
    "known_kind",
    "known_size",
    "load",
    "on_device",
    "price_of",
    "ranks_words",
    "together_of",
]


@dataclass(frozen=True, slots=True)
class Backend:
    """A type of embedder.

    Attributes:
        module: where it is.
        keys: of the settings that it takes.
        sizes: those of them that give the size of its vectors.
        size: of its vectors where none of them does; None where only the model knows.
        makes: ``dense``, ``sparse``, or ``rows`` of a multivector; None where the type alone doesn't say it.
    """

    module: str
    keys: frozenset[str]
    sizes: tuple[str, ...]
    size: int | None = None
    makes: str | None = "dense"


def _backend(module: str, keys: str, *sizes: str, size: int | None = None, makes: str | None = "dense") -> Backend:
    return Backend(f"qmigrate.embed.backends.{module}", frozenset(keys.split()), sizes, size, makes)


#: The model that every server has.
BUILT_IN = "qdrant/bm25"
#: Texts of one request to a server; what TEI takes unless it is configured otherwise.
HTTP_BATCH = 32
#: Of every embedder that takes images; see ``sources.py``.
_IMAGES = "image_roots image_hosts image_networks image_base64 image_timeout image_max_bytes"
#: Of every embedder whose model sentence-transformers loads.
_SENTENCES = (
    "model prompt prompt_name max_seq_length revision cache_folder local_files_only trust_remote_code dtype device "
    "batch_size threads"
)

_BACKENDS: Mapping[str, Backend] = {
    "hashing": _backend("hashing", "size", "size", size=256),
    "bm25": _backend("bm25", "language task k1 b average", makes="sparse"),
    "qdrant": _backend("qdrant", "model options size version", "size", makes=None),
    "pixels": _backend("pixels", f"size {_IMAGES}", "size", size=512),
    "callable": _backend("function", "function size max_batch version sys_path", "size", makes=None),
    "http": _backend(
        "http",
        "url api model dimensions size encoding_format truncate normalize prompt version "
        "api_key_env api_key_file max_batch concurrency timeout max_retries price tokenizer max_tokens",
        "size",
        "dimensions",
    ),
    "open_clip": _backend(
        "open_clip",
        "model pretrained random_weights precision device batch_size threads cache_dir force_quick_gelu "
        f"context_length normalize prompt exif_transpose {_IMAGES}",
    ),
    "sentence_transformers": _backend(
        "sentence_transformers",
        f"{_SENTENCES} method normalize_embeddings truncate_dim exif_transpose {_IMAGES}",
        "truncate_dim",
    ),
    "splade": _backend("splade", f"{_SENTENCES} task max_active_dims", makes="sparse"),
    "colbert": _backend(
        "colbert", f"{_SENTENCES} task normalize_embeddings max_rows document_length query_length", makes="rows"
    ),
}


def load(name: str, config: Mapping[str, Any]) -> Embedder:
    """The embedder that `config` describes. It reads no data yet.

    Args:
        name: as in the settings, for messages.
        config: its settings: ``type`` and the keys of that type.

    Returns:
        An embedder; loading the same settings again gives the same fingerprint.

    Raises:
        EmbedError: the type or a key is unknown, a value is wrong, or the backend can't be imported.
    """
    backend = check_config(name, config)
    embedder: Embedder = importlib.import_module(backend.module).build(Options(name, config, size=backend.size))
    return embedder


def check_config(name: str, config: Mapping[str, Any]) -> Backend:
    """The backend that `config` is for; nothing is imported, so it is the same on every machine.

    Raises:
        EmbedError: the type or a key is unknown.
    """
    kind = config.get("type")
    backend = _BACKENDS.get(kind) if isinstance(kind, str) else None
    if backend is None:
        known = ", ".join(sorted(_BACKENDS))
        problem = "has no type" if kind is None else f"has the unknown type {kind!r}"
        meant = "" if kind is None else did_you_mean(kind, _BACKENDS)
        raise EmbedError(
            f"embedder {name!r} {problem}; types are: {known}{meant}", hint="correct embedders in qmigrate.yaml"
        )
    for key in config:
        if key != "type" and key not in backend.keys:
            known = ", ".join(sorted(backend.keys))
            raise EmbedError(
                f"embedder {name!r} has the unknown key {key!r}; "
                f"keys of type {kind} are: {known}{did_you_mean(key, backend.keys)}",
                hint="correct embedders in qmigrate.yaml",
            )
    return backend


def known_keys() -> dict[str, frozenset[str]]:
    """Type of embedder -> the keys that its settings may have besides ``type``."""
    return {kind: backend.keys for kind, backend in _BACKENDS.items()}


def known_size(config: Mapping[str, Any]) -> int | None:
    """How many values its vectors have, where the settings alone give it; nothing is loaded and nothing is sent."""
    backend = _BACKENDS.get(str(config.get("type")))
    if backend is None:
        return None
    said = next((config[key] for key in backend.sizes if config.get(key) is not None), backend.size)
    return said if type(said) is int else None


def known_kind(config: Mapping[str, Any]) -> str | None:
    """``dense``, ``sparse`` or ``rows``: what it makes, where the settings alone give it; nothing is loaded."""
    backend = _BACKENDS.get(str(config.get("type")))
    return "sparse" if backend is not None and ranks_words(config) else backend.makes if backend is not None else None


def ranks_words(config: Mapping[str, Any]) -> bool:
    """Whether it makes BM25's vectors of words, which mean something with ``modifier=IDF`` only."""
    kind, model = config.get("type"), str(config.get("model", "")).lower()
    return kind == "bm25" or (kind == "qdrant" and model == BUILT_IN)


def sends(config: Mapping[str, Any]) -> bool:
    """Whether an embedder may send what it embeds to a service, which may cost money: it is asked only on purpose."""
    return config.get("type") in ("http", "callable")


def price_of(config: Mapping[str, Any]) -> float | None:
    """What a million tokens cost, where the settings of an embedder say so."""
    found = config.get("price")
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) and found >= 0 else None


def together_of(config: Mapping[str, Any]) -> int | None:
    """How many texts go into one request to the server of an embedder; None where it has none."""
    if config.get("type") != "http":
        return None
    found = config.get("max_batch")
    return found if type(found) is int and found > 0 else HTTP_BATCH


def on_device(config: Mapping[str, Any], device: str) -> Mapping[str, Any]:
    """The same embedder on another device; one without devices stays as it is."""
    return {**config, "device": device} if _has_device(config) else config


def devices_for(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Every GPU of this machine, for an embedder that leaves it open which one it is on; else nothing."""
    if not _has_device(config) or config.get("device") not in (None, "auto"):
        return ()
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return ()
    return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))


def _has_device(config: Mapping[str, Any]) -> bool:
    backend = _BACKENDS.get(str(config.get("type")))
    return backend is not None and "device" in backend.keys
