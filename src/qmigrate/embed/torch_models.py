"""What embedders on torch share: imports with advice, devices, digests of weights, halved batches. It has no model."""

from __future__ import annotations

import copy
import hashlib
import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qmigrate.embed.options import Options
from qmigrate.embed.staged import Underway, out_of_memory, settled
from qmigrate.errors import ConfigError, EmbedError

#: Items that go through the device at once where nothing is configured.
BATCH_ON_GPU = 256
BATCH_ON_CPU = 32

#: Numbers of a module that decide its output and are not weights.
_TELLING = ("num_heads", "num_attention_heads", "eps", "padding_idx", "layer_norm_eps", "scaling")

Run = Callable[[Sequence[Any]], Any]


def require(options: Options, module: str, extra: str) -> None:
    """See to it that a library is there, without importing it.

    Raises:
        EmbedError: it isn't; the hint is the command that installs it.
    """
    for wanted in ("torch", module):
        if importlib.util.find_spec(wanted) is None:
            raise EmbedError(
                f"embedder {options.name!r} needs the library {wanted}, which is not installed",
                hint=f"pip install 'qdrant-migrations[{extra}]'",
            )


def library(options: Options, module: str) -> Any:
    """A library, imported.

    Raises:
        EmbedError: it is installed and can't be imported, as torchvision of another build than torch.
    """
    try:
        return importlib.import_module(module)
    except Exception as error:  # broken builds raise almost anything
        raise EmbedError(
            f"embedder {options.name!r}: {module} is installed and can't be imported: {type(error).__name__}: {error}",
            hint="reinstall torch, torchvision and the model library, all of one kind (CPU or CUDA)",
        ) from error


def choose_device(options: Options) -> str:
    """The configured device; with ``auto`` the first there is of cuda, mps and cpu.

    Raises:
        ConfigError: the configured one is not there.
    """
    torch = library(options, "torch")
    found = ["cuda"] if torch.cuda.is_available() else []
    found += ["mps"] if torch.backends.mps.is_available() else []
    found += ["cpu"]
    wanted = options.text("device") or "auto"
    if wanted == "auto":
        return found[0]
    kind, _, number = wanted.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if kind not in found or (number and not (number.isdigit() and int(number) < count)):
        raise ConfigError(
            f"embedder {options.name!r}: there is no device {wanted!r} on this machine, only {', '.join(found)}",
            hint="device: auto takes the best one there is",
        )
    return wanted


def weights_digest(weights: Mapping[str, Any]) -> str:
    """32 hexadecimal digits over names, types, shapes and values of a state dict, wherever it was loaded from."""
    torch = importlib.import_module("torch")
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()[:32]


def all_in_files(model: Any, folder: Path) -> bool:
    """Whether every parameter of a model is a tensor of the files that it was loaded from, under whichever name.

    Tensors are read one by one, so this takes no memory to speak of. False where the files can't be read so, too: a
    library may also put parameters together of several tensors.
    """
    wanted = {_tensor_digest(one) for one in model.parameters()}
    try:
        for file in sorted((*folder.rglob("*.safetensors"), *folder.rglob("*.bin"))):
            for tensor in _tensors(file):
                wanted.discard(_tensor_digest(tensor))
    except Exception:  # files may be of any kind
        return False
    return not wanted


def _tensors(file: Path) -> Iterator[Any]:
    if file.suffix == ".safetensors":
        with importlib.import_module("safetensors").safe_open(str(file), framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118  it is not a mapping
                yield opened.get_tensor(name)
        return
    torch = importlib.import_module("torch")
    yield from torch.load(file, map_location="cpu", weights_only=True, mmap=True).values()


def _tensor_digest(tensor: Any) -> tuple[tuple[int, ...], str]:
    """Shape and values in full precision, which is how a model is loaded."""
    torch = importlib.import_module("torch")
    values = tensor.detach().cpu().to(torch.float32).contiguous()
    return tuple(values.shape), hashlib.sha256(memoryview(values.reshape(-1).view(torch.uint8).numpy())).hexdigest()


def architecture_digest(model: Any) -> str:
    """16 hexadecimal digits over what a state dict doesn't contain: kinds of modules (activations), heads, epsilons.

    Not over the printed form of the model, which differs between versions of torch.
    """
    digest = hashlib.sha256()
    for name, module in model.named_modules():
        found = {key: getattr(module, key, None) for key in _TELLING}
        facts = {key: value for key, value in found.items() if isinstance(value, int | float)}
        digest.update(f"{name} {type(module).__name__} {facts}\n".encode())
    return digest.hexdigest()[:16]


class Batches:
    """Runs a model on batches; a batch that doesn't fit into the device's memory is halved from then on.

    Args:
        size: items of one batch to begin with.
    """

    def __init__(self, name: str, size: int) -> None:
        self.size = size
        self._name = name

    def run(self, items: Sequence[Any], model: Run) -> list[Any]:
        """A vector per item, in order; an ``EmbedError`` for one that doesn't fit even alone."""
        made: list[Any] = []
        while len(made) < len(items):
            part = items[len(made) : len(made) + self.size]
            found = self._tried(part, model)
            if found is not None:
                made.extend(found)
            elif len(part) == 1:
                made.append(EmbedError(f"embedder {self._name!r}: one item alone is too large for the device's memory"))
            else:
                self.size = max(1, len(part) // 2)
        return made

    def _tried(self, part: Sequence[Any], model: Run) -> Any:
        try:
            return settled(model(part))
        except Exception as error:
            if not out_of_memory(error):
                raise
        # Outside the handler: its traceback would keep the tensors alive that are to be given back.
        give_back()
        return None


def fetched(made: Any) -> Any:
    """A tensor on the host; where a GPU makes it, what waits for it.

    Only a stream that always has the next batch keeps a GPU busy, so the thread that fills it must not wait here.
    """
    if made.device.type != "cuda":
        return made.cpu().numpy()
    torch = importlib.import_module("torch")
    with torch.cuda.device(made.device):
        host = torch.empty(made.shape, dtype=made.dtype, pin_memory=True)
        host.copy_(made, non_blocking=True)
        # Blocking: otherwise the waiting thread takes a core from those that decode.
        done = torch.cuda.Event(blocking=True)
        done.record(torch.cuda.current_stream(made.device))

    def result() -> Any:
        done.synchronize()
        # Pinned memory is scarce, and rows may be kept for long.
        return host.numpy().copy()

    return Underway(result)


def give_back() -> None:
    """Return to the device what torch keeps for later."""
    torch = importlib.import_module("torch")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def tokens_of(tokenizer: Any, texts: Sequence[str]) -> list[int] | None:
    """How many tokens texts have with those that a model adds, however long they are; None where it isn't known.

    Args:
        tokenizer: of transformers. It is not changed: one keeps what it was last called with as a state of its own.
    """
    if not callable(tokenizer) or not hasattr(tokenizer, "model_input_names"):
        return None
    found = copy.deepcopy(tokenizer)(list(texts), truncation=False, padding=False, verbose=False)
    return [len(one) for one in found["input_ids"]]
