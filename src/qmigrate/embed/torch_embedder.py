"""What every embedder on torch does the same way: load once, open items in threads, batch. It names no library."""

from __future__ import annotations

import gc
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Generic, TypeVar

from PIL import Image

from qmigrate.embed.inputs import ImageName
from qmigrate.embed.options import Options
from qmigrate.embed.sources import ImageSources, as_a_model_sees_it, with_picture
from qmigrate.embed.staged import Prepared, out_of_memory
from qmigrate.embed.torch_models import BATCH_ON_CPU, BATCH_ON_GPU, Batches, Run, give_back
from qmigrate.errors import DriftError, EmbedError
from qmigrate.model.schema import JsonObject

#: Threads that open and shrink images; Pillow releases the interpreter lock while it does.
DEFAULT_THREADS = 8


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model on its device."""

    model: Any
    batches: Batches
    fingerprint: JsonObject


#: What a backend keeps of a loaded model.
Kept = TypeVar("Kept", bound=Loaded)


class TorchEmbedder(ABC, Generic[Kept]):
    """Items are texts, and what :class:`ImageSources` reads: bytes, and texts that name an image."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._sources = ImageSources(options)
        self._exif = bool(options.flag("exif_transpose", False))
        self._threads = options.integer("threads", DEFAULT_THREADS, highest=256) or DEFAULT_THREADS
        self._batch = options.integer("batch_size", None)
        self._lock = threading.Lock()
        self._loaded: Kept | None = None
        self._known: JsonObject | None = None
        self._was_short = False

    @property
    def max_batch(self) -> int:
        """Most items of one batch."""
        return self._batch or self._usual_batch()

    @property
    def size(self) -> int | None:
        """Length of its vectors, None where they are sparse; loads the model."""
        size = self.fingerprint()["size"]
        return None if size is None else int(size)

    def fingerprint(self) -> JsonObject:
        """Library, architecture, a digest of the weights in memory, preprocessing and precision; loads the model."""
        # Of a model that was released it is still true: another one would be refused when it is loaded again.
        return dict(self._known if self._known is not None else self._ready().fingerprint)

    def release(self) -> None:
        """See :class:`~qmigrate.embed.staged.Releasable`."""
        with self._lock:
            let_go, self._loaded = self._loaded is not None, None
        if let_go:
            # Modules of torch refer to each other, so that only this frees them.
            gc.collect()
            give_back()

    @property
    def threads(self) -> int:
        """That open items side by side."""
        return self._threads

    @property
    def max_weight(self) -> int | None:
        """Tokens of one batch, padded; None where items are all alike."""
        return None

    @property
    def max_tokens(self) -> int | None:
        """See :class:`~qmigrate.ports.CountsTokens`; loads the model."""
        return self._longest(self._ready())

    def count_tokens(self, texts: Sequence[str]) -> list[int] | None:
        """See :class:`~qmigrate.ports.CountsTokens`; loads the model."""
        return self._counted(self._ready(), texts)

    def prepare(self, items: Sequence[Any]) -> list[Any]:
        """Items as a batch is made of them, or an ``EmbedError`` in the place of one that can't be opened.

        Raises:
            EmbedError: the model can't be loaded.
            ConfigError: a configured folder or device is not there.
        """
        loaded = self._ready()
        kinds = [belongs for belongs, _ in self._encoders(loaded)]
        made: list[Any] = []
        for item in items:
            one = self._prepared(loaded, item)
            if not isinstance(one, EmbedError):
                kind = next((place for place, belongs in enumerate(kinds) if belongs(one)), 0)
                one = Prepared(one, kind, self._weight(one), int(getattr(one, "nbytes", 0)) or sys.getsizeof(one))
            made.append(one)
        return made

    def collate(self, batch: Sequence[Prepared]) -> Any:
        """A batch of one kind, on its way to the device where the model takes it so."""
        return self._collated(self._ready(), [one.value for one in batch])

    def encode(self, kind: int, batch: Any) -> Any:
        """The vectors of a batch that was collated."""
        loaded = self._ready()
        if self._was_short:
            # Not where it was raised: there the tensors of the batch that was too large are still alive.
            give_back()
            self._was_short = False
        try:
            return self._encoders(loaded)[kind][1](batch)
        except Exception as error:
            self._was_short = out_of_memory(error)
            raise

    def _longest(self, loaded: Kept) -> int | None:  # noqa: ARG002
        """Most tokens of a text that the model reads; None where it doesn't say."""
        return None

    def _counted(self, loaded: Kept, texts: Sequence[str]) -> list[int] | None:  # noqa: ARG002
        """Tokens of each text, by the model's own tokenizer and without an end; None where it can't say."""
        return None

    def _weight(self, one: Any) -> int:  # noqa: ARG002
        """The length of a prepared item, where batches are padded."""
        return 1

    def _collated(self, loaded: Kept, values: list[Any]) -> Any:  # noqa: ARG002
        return values

    def embed(self, items: Sequence[Any]) -> list[Any]:
        """A vector per item, or an ``EmbedError`` in the place of one that can't be opened.

        Raises:
            EmbedError: the model can't be loaded, or doesn't take such items.
            ConfigError: a configured folder or device is not there.
        """
        loaded = self._ready()
        prepared = self._opened(loaded, items)
        made: list[Any] = [one if isinstance(one, EmbedError) else None for one in prepared]
        for belongs, encode in self._encoders(loaded):
            places = [n for n, one in enumerate(prepared) if not isinstance(one, EmbedError) and belongs(one)]
            found = loaded.batches.run([prepared[place] for place in places], encode)
            for place, vector in zip(places, found, strict=True):
                made[place] = vector
        return made

    @abstractmethod
    def _load(self) -> Kept:
        """The model, on its device."""

    @abstractmethod
    def _encoders(self, loaded: Kept) -> Sequence[tuple[Callable[[Any], bool], Run]]:
        """Which of the prepared items go together, and what makes vectors of a batch of them."""

    @abstractmethod
    def _text(self, loaded: Kept, text: str) -> Any:
        """A text, prepared."""

    @abstractmethod
    def _picture(self, loaded: Kept, image: Image.Image) -> Any:
        """An image as the model's preprocessing takes it, prepared."""

    def _opened(self, loaded: Kept, items: Sequence[Any]) -> list[Any]:
        with ThreadPoolExecutor(min(self._threads, max(1, len(items))), thread_name_prefix="embed decode") as pool:
            return list(pool.map(lambda item: self._prepared(loaded, item), items))

    def source_of(self, item: Any) -> tuple[Path | BytesIO, str]:
        """See :class:`~qmigrate.embed.staged.OpensImages`."""
        return self._sources.read(item)

    def _prepared(self, loaded: Kept, item: Any) -> Any:
        """What a batch is made of, or why this item can't be in one."""
        try:
            if is_text(item):
                return self._text(loaded, item)
            source, label = self._sources.read(item)
            return with_picture(
                source,
                label,
                lambda image: self._picture(loaded, as_a_model_sees_it(image, label, exif_transpose=self._exif)),
            )
        except EmbedError as error:
            return error

    def _ready(self) -> Kept:
        with self._lock:
            if self._loaded is None:
                loaded = self._load()
                if self._known is not None and loaded.fingerprint != self._known:
                    raise DriftError(
                        f"embedder {self._options.name!r} was loaded again, and is another model than before",
                        hint="its weights were changed: put them back, and run the same command again",
                    )
                self._loaded, self._known = loaded, loaded.fingerprint
            return self._loaded

    def _usual_batch(self) -> int:
        """By the device, once that is known."""
        size = self._loaded.batches.size if self._loaded is not None else None
        return size or BATCH_ON_GPU

    def _batches(self, device: str) -> Batches:
        size = self._batch or (BATCH_ON_GPU if device.startswith("cuda") else BATCH_ON_CPU)
        return Batches(self._options.name, size)


def is_text(item: Any) -> bool:
    """Whether an item is a text to embed, and not the name of an image."""
    return isinstance(item, str) and not isinstance(item, ImageName)
