"""Images and texts by a CLIP model of open_clip. Its preprocessing is the model's own; it changes no pixel of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from qmigrate.embed.options import Options
from qmigrate.embed.torch_embedder import Loaded, TorchEmbedder
from qmigrate.embed.torch_models import (
    Run,
    architecture_digest,
    choose_device,
    fetched,
    library,
    require,
    tokens_of,
    weights_digest,
)
from qmigrate.errors import EmbedError
from qmigrate.model.schema import JsonObject
from qmigrate.ports import Embedder

#: open_clip's own words; ``auto`` is pure_bf16 on a GPU and fp32 elsewhere.
PRECISIONS = ("auto", "fp32", "pure_bf16", "pure_fp16", "amp_bf16")
_SCHEMAS = ("hf-hub:", "local-dir:")
#: How a preprocessing ends that the device can finish; open_clip 3.0 has the first.
_ENDS = (["ToTensor", "Normalize"], ["MaybeToTensor", "Normalize"])


def build(options: Options) -> Embedder:
    """From ``{type: open_clip, model: ViT-L-14, pretrained: datacomp_xl_s13b_b90k, image_roots: [/data/images]}``.

    ``model`` is a name of open_clip, ``hf-hub:…`` or ``local-dir:…``; ``pretrained`` a tag or a file of weights.
    ``random_weights: 0`` makes weights from that seed instead, for trials. ``precision``, ``device``, ``cache_dir``,
    ``force_quick_gelu`` and ``context_length`` are open_clip's own. ``normalize`` (on by default) makes
    vectors of length one, ``prompt`` is put before texts, ``exif_transpose`` turns photographs before preprocessing.

    Raises:
        EmbedError: the library is missing, a value is wrong, or nothing says which weights to use.
    """
    require(options, "open_clip", "open-clip")
    model, pretrained = options.text("model"), options.text("pretrained")
    seed = options.integer("random_weights", None, lowest=0, highest=2**31)
    if model is None:
        raise EmbedError(f"embedder {options.name!r} names no model", hint="for example model: ViT-B-32")
    given = [pretrained is not None, seed is not None, model.startswith(_SCHEMAS)]
    if sum(given) != 1:
        raise EmbedError(
            f"embedder {options.name!r}: {'several settings name' if any(given) else 'no setting names'} the weights "
            f"of {model}",
            hint="name one of: pretrained (a tag or file), random_weights (a seed), model: hf-hub:… or local-dir:…",
        )
    options.choice("precision", PRECISIONS)
    return _OpenClip(options, model, pretrained, seed)


@dataclass(frozen=True, slots=True)
class _Clip(Loaded):
    """What belongs to a CLIP model."""

    tokenizer: Any
    shrink: Any
    mean: Any
    std: Any
    device: str
    dtype: Any
    precision: str


class _OpenClip(TorchEmbedder[_Clip]):
    """Prepared texts are tokens; prepared images are pixels (height, width, 3)."""

    def __init__(self, options: Options, model: str, pretrained: str | None, seed: int | None) -> None:
        super().__init__(options)
        self._model = model
        self._pretrained = pretrained
        self._seed = seed
        self._prompt = options.verbatim("prompt") or ""
        self._normalize = bool(options.flag("normalize", True))

    def _encoders(self, loaded: _Clip) -> Sequence[tuple[Callable[[Any], bool], Run]]:
        return (
            (lambda one: one.ndim == 3, partial(self._images, loaded)),
            (lambda one: one.ndim == 1, partial(self._texts, loaded)),
        )

    def _longest(self, loaded: _Clip) -> int | None:
        found = getattr(loaded.tokenizer, "context_length", None)
        return found if isinstance(found, int) else None

    def _counted(self, loaded: _Clip, texts: Sequence[str]) -> list[int] | None:
        tokenizer, whole = loaded.tokenizer, [self._prompt + text for text in texts]
        if hasattr(tokenizer, "encode") and hasattr(tokenizer, "sot_token_id"):
            # Its own one of CLIP: what comes before and behind a text is not in it yet.
            return [len(tokenizer.encode(text)) + 2 for text in whole]
        clean = getattr(tokenizer, "clean_fn", str)
        return tokens_of(getattr(tokenizer, "tokenizer", None), [clean(text) for text in whole])

    def _text(self, loaded: _Clip, text: str) -> Any:
        return np.asarray(loaded.tokenizer([self._prompt + text])[0])

    def _picture(self, loaded: _Clip, image: Image.Image) -> Any:
        return np.asarray(loaded.shrink(image), dtype=np.uint8)

    def _collated(self, loaded: _Clip, values: list[Any]) -> Any:
        """Bytes go over the bus, a quarter of what floats would be, while the model is at another batch."""
        torch = library(self._options, "torch")
        batch = torch.from_numpy(np.stack(values))
        if not loaded.device.startswith("cuda"):
            return batch.to(loaded.device)
        stream = torch.cuda.Stream(device=loaded.device)
        with torch.cuda.device(loaded.device), torch.cuda.stream(stream):
            moved = batch.pin_memory().to(loaded.device, non_blocking=True)
            stream.synchronize()
            # Its memory is used on another stream than the one that it was made for.
            moved.record_stream(torch.cuda.default_stream(loaded.device))
        return moved

    def _images(self, loaded: _Clip, part: Any) -> Any:
        torch = library(self._options, "torch")
        batch = part if torch.is_tensor(part) else self._collated(loaded, part)
        # The device does the rest of the preprocessing.
        pixels = batch.permute(0, 3, 1, 2).float().div_(255)
        pixels = pixels.sub_(loaded.mean).div_(loaded.std).to(loaded.dtype)
        return self._encoded(loaded, loaded.model.encode_image, pixels)

    def _texts(self, loaded: _Clip, part: Any) -> Any:
        torch = library(self._options, "torch")
        batch = part if torch.is_tensor(part) else self._collated(loaded, part)
        return self._encoded(loaded, loaded.model.encode_text, batch)

    def _encoded(self, loaded: _Clip, encode: Any, batch: Any) -> Any:
        torch = library(self._options, "torch")
        mixed = loaded.precision == "amp_bf16"
        with torch.inference_mode(), torch.autocast(loaded.device.partition(":")[0], torch.bfloat16, enabled=mixed):
            made = encode(batch).float()
        with torch.inference_mode():
            made = torch.nn.functional.normalize(made, dim=-1) if self._normalize else made
        return fetched(made)

    def _load(self) -> _Clip:
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
        if [type(step).__name__ for step in steps[-2:]] not in _ENDS:
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
        batches = self._batches(device)
        return _Clip(placed, batches, fingerprint, tokenizer, shrink, mean, std, device, dtype, precision)

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
