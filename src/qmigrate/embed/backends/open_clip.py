"""Images and texts by a CLIP model of open_clip. Its preprocessing is the model's own; it changes no pixel of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from qmigrate.embed.inputs import ImageName
from qmigrate.embed.options import Options
from qmigrate.embed.pictures import as_a_model_sees_it, with_picture
from qmigrate.embed.sources import ImageSources
from qmigrate.embed.torch_models import (
    BATCH_ON_CPU,
    BATCH_ON_GPU,
    Batches,
    architecture_digest,
    choose_device,
    library,
    require,
    weights_digest,
)
from qmigrate.errors import EmbedError
from qmigrate.model.schema import JsonObject
from qmigrate.ports import Embedder

#: open_clip's own words; ``auto`` is pure_bf16 on a GPU and fp32 elsewhere.
PRECISIONS = ("auto", "fp32", "pure_bf16", "pure_fp16", "amp_bf16")
#: Threads that open and shrink images; Pillow lets go of the interpreter while it does.
DEFAULT_THREADS = 8
_SCHEMAS = ("hf-hub:", "local-dir:")


def build(options: Options) -> Embedder:
    """From ``{type: open_clip, model: ViT-L-14, pretrained: datacomp_xl_s13b_b90k, image_roots: [/data/images]}``.

    ``model`` is a name of open_clip, ``hf-hub:…`` or ``local-dir:…``; ``pretrained`` a tag or a file of weights.
    ``random_weights: 0`` makes weights from that seed instead, for trials. ``precision``, ``device``, ``cache_dir``,
    ``force_quick_gelu`` and ``context_length`` are open_clip's own. ``normalize`` (on unless told otherwise) makes
    vectors of length one, ``prompt`` is put before texts, ``exif_transpose`` turns photographs before preprocessing.

    Raises:
        EmbedError: the library is missing, a value is wrong, or nothing says which weights are wanted.
    """
    require(options, "open_clip", "open-clip")
    model, pretrained = options.text("model"), options.text("pretrained")
    seed = options.integer("random_weights", None, lowest=0, highest=2**31)
    if model is None:
        raise EmbedError(f"embedder {options.name!r} names no model", hint="for example model: ViT-B-32")
    given = [pretrained is not None, seed is not None, model.startswith(_SCHEMAS)]
    if sum(given) != 1:
        raise EmbedError(
            f"embedder {options.name!r}: {'several things say' if any(given) else 'nothing says'} which weights "
            f"{model} has",
            hint="name one of: pretrained (a tag or file), random_weights (a seed), model: hf-hub:… or local-dir:…",
        )
    options.choice("precision", PRECISIONS)
    return _OpenClip(options, model, pretrained, seed)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A model on its device, and what belongs to it."""

    model: Any
    tokenizer: Any
    shrink: Any
    mean: Any
    std: Any
    device: str
    dtype: Any
    precision: str
    fingerprint: JsonObject


_Encode = Callable[[_Loaded, Sequence[Any]], Any]


class _OpenClip:
    """Items are texts, and what :class:`ImageSources` reads: bytes, and texts that name an image."""

    def __init__(self, options: Options, model: str, pretrained: str | None, seed: int | None) -> None:
        self._options = options
        self._model = model
        self._pretrained = pretrained
        self._seed = seed
        self._sources = ImageSources(options)
        self._prompt = options.verbatim("prompt") or ""
        self._exif = bool(options.flag("exif_transpose", False))
        self._normalize = bool(options.flag("normalize", True))
        self._threads = options.integer("threads", DEFAULT_THREADS, highest=256) or DEFAULT_THREADS
        self._batch = options.integer("batch_size", None)
        self.max_batch = self._batch or BATCH_ON_GPU
        self._lock = threading.Lock()
        self._loaded: _Loaded | None = None
        self._batches: Batches | None = None

    @property
    def size(self) -> int:
        """Length of its vectors; loads the model."""
        return int(self._ready().fingerprint["size"])

    def fingerprint(self) -> JsonObject:
        """Library, architecture, a digest of the weights in memory, preprocessing and precision; loads the model."""
        return dict(self._ready().fingerprint)

    def embed(self, items: Sequence[Any]) -> list[Any]:
        """A vector per item, or an ``EmbedError`` in the place of one that can't be opened.

        Raises:
            EmbedError: the model can't be loaded.
            ConfigError: a configured folder or device is not there.
        """
        loaded = self._ready()
        with ThreadPoolExecutor(min(self._threads, max(1, len(items))), thread_name_prefix="embed decode") as pool:
            prepared = list(pool.map(self._prepared, items))
        made: list[Any] = [one if isinstance(one, EmbedError) else None for one in prepared]
        assert self._batches is not None  # noqa: S101  made with the model
        kinds: tuple[tuple[int, _Encode], ...] = ((3, self._images), (1, self._texts))
        for dimensions, encode in kinds:
            places = [place for place, one in enumerate(prepared) if getattr(one, "ndim", 0) == dimensions]
            found = self._batches.run([prepared[place] for place in places], partial(encode, loaded))
            for place, vector in zip(places, found, strict=True):
                made[place] = vector
        return made

    def _prepared(self, item: Any) -> Any:
        """The pixels (height, width, 3) or tokens of an item, or why there are none."""
        loaded = self._ready()
        try:
            if isinstance(item, str) and not isinstance(item, ImageName):
                return np.asarray(loaded.tokenizer([self._prompt + item])[0])
            source, label = self._sources.read(item)
            return with_picture(source, label, lambda image: self._pixels(loaded, image, label))
        except EmbedError as error:
            return error

    def _pixels(self, loaded: _Loaded, image: Image.Image, label: str) -> Any:
        seen = as_a_model_sees_it(image, label, exif_transpose=self._exif)
        return np.asarray(loaded.shrink(seen), dtype=np.uint8)

    def _images(self, loaded: _Loaded, part: Sequence[Any]) -> Any:
        torch = library(self._options, "torch")
        # Bytes go over the bus, a quarter of what floats would be; the device does the rest of the preprocessing.
        pixels = torch.from_numpy(np.stack(part))
        if loaded.device.startswith("cuda"):
            pixels = pixels.pin_memory()
        pixels = pixels.to(loaded.device, non_blocking=True).permute(0, 3, 1, 2).float().div_(255)
        pixels = pixels.sub_(loaded.mean).div_(loaded.std).to(loaded.dtype)
        return self._encoded(loaded, loaded.model.encode_image, pixels)

    def _texts(self, loaded: _Loaded, part: Sequence[Any]) -> Any:
        torch = library(self._options, "torch")
        return self._encoded(loaded, loaded.model.encode_text, torch.from_numpy(np.stack(part)).to(loaded.device))

    def _encoded(self, loaded: _Loaded, encode: Any, batch: Any) -> Any:
        torch = library(self._options, "torch")
        mixed = loaded.precision == "amp_bf16"
        with torch.inference_mode(), torch.autocast(loaded.device.partition(":")[0], torch.bfloat16, enabled=mixed):
            made = encode(batch).float()
        with torch.inference_mode():
            made = torch.nn.functional.normalize(made, dim=-1) if self._normalize else made
        return made.cpu().numpy()

    def _ready(self) -> _Loaded:
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
                on_gpu = self._loaded.device.startswith("cuda")
                self._batches = Batches(self._options.name, self._batch or (BATCH_ON_GPU if on_gpu else BATCH_ON_CPU))
            return self._loaded

    def _load(self) -> _Loaded:
        options = self._options
        device = choose_device(options)
        torch, open_clip = library(options, "torch"), library(options, "open_clip")
        precision = options.choice("precision", PRECISIONS)
        if precision == "auto":
            precision = "pure_bf16" if device.startswith("cuda") else "fp32"
        try:
            model, preprocess, tokenizer = self._created(torch, open_clip)
        except Exception as error:  # files, networks and formats fail in many ways
            raise EmbedError(
                f"embedder {options.name!r}: {self._model} can't be loaded: {type(error).__name__}: {error}",
                hint="check model, pretrained and cache_dir of this embedder in qmigrate.yaml",
            ) from error
        steps = list(preprocess.transforms)
        if [type(step).__name__ for step in steps[-2:]] != ["MaybeToTensor", "Normalize"]:
            raise EmbedError(
                f"embedder {options.name!r}: the preprocessing of {self._model} doesn't end in numbers that are "
                "normalised, so this version of open_clip is not supported",
                hint="pip install 'qdrant-migrations[open-clip]' brings one that is",
            )
        fingerprint = self._fingerprint(model, open_clip.__version__, precision)
        dtype = {"pure_bf16": torch.bfloat16, "pure_fp16": torch.float16}.get(precision, torch.float32)
        mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (steps[-1].mean, steps[-1].std))
        shrink = type(preprocess)(steps[:-2])
        placed = model.to(device=device, dtype=dtype).eval()
        return _Loaded(placed, tokenizer, shrink, mean, std, device, dtype, precision, fingerprint)

    def _created(self, torch: Any, open_clip: Any) -> tuple[Any, Any, Any]:
        options = self._options
        cache = options.text("cache_dir")
        context = options.integer("context_length", None)
        with torch.random.fork_rng():
            torch.manual_seed(self._seed or 0)
            model, _, preprocess = open_clip.create_model_and_transforms(
                self._model,
                self._pretrained,
                # In full and on the host, so that the digest is of the weights and not of a rounding of them.
                precision="fp32",
                device="cpu",
                force_context_length=context,
                pretrained_text=False,
                require_pretrained=self._seed is None,
                cache_dir=cache,
                force_quick_gelu=bool(options.flag("force_quick_gelu", False)),
            )
        tokenizer = open_clip.get_tokenizer(self._model, context_length=context, cache_dir=cache)
        return model, preprocess, tokenizer

    def _fingerprint(self, model: Any, version: str, precision: str) -> JsonObject:
        parts: JsonObject = {
            "type": "open_clip",
            "library": "open_clip",
            "library_version": version,
            "model": self._model if not self._model.startswith("local-dir:") else "local-dir",
            "architecture": architecture_digest(model),
            "weights": weights_digest(model.state_dict()),
            "size": int(model.visual.output_dim),
            "normalisation": "l2" if self._normalize else None,
            "preprocessing": json.dumps(model.visual.preprocess_cfg, sort_keys=True, default=list),
            "precision": precision,
        }
        parts |= {"random_weights": self._seed} if self._seed is not None else {}
        parts |= {"prompt": self._prompt} if self._prompt else {}
        return parts | ({"exif_transpose": True} if self._exif else {})
