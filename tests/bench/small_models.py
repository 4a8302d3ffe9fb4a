"""Models for the bench, made on the spot: one that stands for a device, a small transformer. Nothing is downloaded."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np

from qmigrate.embed.staged import Prepared, Underway, settled

#: Seconds of one batch of the model that stands for a device.
FIXED = 0.1
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["red", "blue", "green", "grey", "cat", "dog", "bird", "fish", "house", "tree", "river", "stone"]


class Fixed:
    """As a GPU whose batches take the same time each: at one after the other, and the caller may go on meanwhile."""

    size, max_batch, max_weight, threads = 64, 64, None, 2

    def __init__(self) -> None:
        self._free = 0.0
        self._lock = threading.Lock()

    def fingerprint(self):
        """None that matters."""
        return {"type": "fixed"}

    def prepare(self, items):
        """There is nothing to open."""
        return [Prepared(len(item), 0, 1, 8) for item in items]

    def collate(self, batch):
        """Lengths."""
        return np.array([one.value for one in batch], dtype=np.float32)

    def encode(self, kind, batch):
        """Rows that differ, when the device has come to it."""
        with self._lock:
            until = self._free = max(time.monotonic(), self._free) + FIXED

        def result():
            time.sleep(max(0.0, until - time.monotonic()))
            return batch[:, None] + np.arange(1, 65, dtype=np.float32)

        return Underway(result)

    def embed(self, items):
        """A batch from its beginning to its end."""
        return settled(self.encode(0, self.collate(self.prepare(items))))


class ArrivalOrder:
    """Another embedder's texts in the order in which they come, a fixed number at a time, whatever their lengths."""

    max_weight = None

    def __init__(self, embedder, max_batch: int) -> None:
        self._embedder = embedder
        self.size, self.threads, self.max_batch = embedder.size, embedder.threads, max_batch
        self.fingerprint, self.collate, self.encode = embedder.fingerprint, embedder.collate, embedder.encode
        self.embed = embedder.embed

    def prepare(self, items):
        """As if all were of one length."""
        return [one._replace(weight=1) for one in self._embedder.prepare(items)]


def transformer(folder: Path) -> str:
    """A folder with a sentence-transformers model of two layers with random weights."""
    import torch
    from sentence_transformers import SentenceTransformer, models
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(7)
    vocabulary = [*_SPECIAL, *"abcdefghijklmnopqrstuvwxyz", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    sizes = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 512}
    BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=256, **sizes)).save_pretrained(folder / "bert")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    parts = [models.Transformer(str(folder / "bert"), max_seq_length=256), models.Pooling(sizes["hidden_size"])]
    SentenceTransformer(modules=parts, device="cpu").save(str(folder / "model"))
    return str(folder / "model")


def uneven_texts(count: int) -> list[str]:
    """5 to 200 words, no length more often than another; each text once."""
    random = np.random.default_rng(4)
    lengths = random.integers(5, 201, size=count)
    return [f"{' '.join(random.choice(WORDS, size=length))} {number}" for number, length in enumerate(lengths)]
