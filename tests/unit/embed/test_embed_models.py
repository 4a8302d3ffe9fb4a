"""Real models, made small on the spot: what open_clip and sentence-transformers load is loaded here, and nothing else."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import weakref

import numpy as np
import pytest
from PIL import Image
from tests.harness import CREATE, Deployment, write

from qmigrate.commands import upgrade
from qmigrate.embed import load
from qmigrate.embed.inputs import ImageName
from qmigrate.embed.pipeline import Pipeline
from qmigrate.embed.staged import Releasable
from qmigrate.embed.stream import Failure, embed_all
from qmigrate.embed.torch_models import Batches
from qmigrate.errors import ConfigError, DriftError, EmbedError
from qmigrate.model.transform import Point
from qmigrate.ports import CountsTokens

MISSING = [one for one in ("torch", "open_clip", "sentence_transformers") if importlib.util.find_spec(one) is None]
if MISSING:
    pytest.skip(f"not installed: {', '.join(MISSING)}; scripts/test --embed installs them", allow_module_level=True)

#: The libraries warn of their own old ways.
pytestmark = pytest.mark.filterwarnings("ignore")
#: What is not on this machine is missing, not fetched.
os.environ["HF_HUB_OFFLINE"] = "1"

TINY = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", "red", "blue", "green", "cat", "dog", ":"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A folder with a CLIP model: its configuration and its weights."""
    import open_clip
    import torch

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("clip")
    (folder / "tiny.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder / "tiny.json")
    torch.manual_seed(5)
    model = open_clip.create_model("tiny")
    torch.save(model.state_dict(), folder / "weights.pt")
    local = folder / "local"
    local.mkdir()
    (local / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": {"mean": [0.5] * 3}}))
    torch.save(model.state_dict(), local / "open_clip_pytorch_model.bin")
    return folder


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    """A folder with a sentence-transformers model of two layers, mean pooling and a prompt."""
    import torch
    from sentence_transformers import SentenceTransformer, models
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(7)
    folder = tmp_path_factory.mktemp("sentences")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    BertModel(BertConfig(vocab_size=len(WORDS), max_position_embeddings=40, **sizes)).save_pretrained(folder / "bert")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    transformer = models.Transformer(str(folder / "bert"), max_seq_length=24)
    model = SentenceTransformer(modules=[transformer, models.Pooling(32)], prompts={"document": "red : "}, device="cpu")
    model.save(str(folder / "model"))
    return folder / "model"


def pictures(folder):
    """Files of several modes and shapes; path -> picture as Pillow opens it."""
    folder.mkdir(exist_ok=True)
    values = np.random.Generator(np.random.PCG64(3)).integers(0, 256, size=(40, 56, 3), dtype=np.uint8)
    base = Image.fromarray(values)
    exif = Image.Exif()
    exif[0x0112] = 6
    base.save(folder / "a.png")
    base.rotate(90, expand=True).save(folder / "b.jpg", exif=exif)
    base.convert("CMYK").save(folder / "c.jpg")
    base.convert("P").save(folder / "d.png")
    base.convert("LA").save(folder / "e.png")
    base.save(folder / "f.gif", save_all=True, append_images=[Image.new("RGB", base.size)])
    return sorted(path.name for path in folder.iterdir())


def unit(rows):
    """Rows of length one."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def beside(one, items):
    """The vectors of the pipeline."""
    with Pipeline(one, one.size) as pipeline:
        return pipeline.submit(items, lambda: None).result(lambda: None)


def open_clip_embedder(clip, **more):
    """The tiny model by its name and file of weights."""
    base = {"type": "open_clip", "model": "tiny", "pretrained": str(clip / "weights.pt"), "device": "cpu", "batch_size": 4}
    return load("clip", {key: value for key, value in (base | more).items() if value is not None})


def test_open_clip_gives_what_the_naive_loop_gives(clip, tmp_path):
    """Open, preprocess, encode one by one, by the library's own functions: the same vectors; bad files are failures."""
    import open_clip
    import torch

    names = pictures(tmp_path / "images")
    model, _, preprocess = open_clip.create_model_and_transforms("tiny", pretrained=str(clip / "weights.pt"))
    tokenizer = open_clip.get_tokenizer("tiny")
    with torch.inference_mode():
        images = [model.eval().encode_image(preprocess(Image.open(tmp_path / "images" / name))[None]) for name in names]
        texts = [model.encode_text(tokenizer([f"a photo of {text}"])) for text in ("a cat", "two dogs")]
    wanted = unit(torch.cat(images + texts).numpy())
    (tmp_path / "images" / "cut.jpg").write_bytes((tmp_path / "images" / "b.jpg").read_bytes()[:300])
    one = open_clip_embedder(clip, image_roots=[str(tmp_path / "images")], prompt="a photo of ")
    items = [*map(ImageName, names), "a cat", "two dogs", ImageName("cut.jpg"), ImageName("../images2/x.png")]
    found = embed_all(one, items, size=24)
    assert [isinstance(vector, Failure) for vector in found] == [False] * 8 + [True] * 2
    assert np.abs(np.vstack(found[:8]) - wanted).max() < 1e-5
    streamed = beside(one, items)
    assert [isinstance(vector, Failure) for vector in streamed] == [False] * 8 + [True] * 2
    assert np.abs(np.vstack(streamed[:8]) - wanted).max() < 1e-5
    assert one.size == 24
    turned = open_clip_embedder(clip, image_roots=[str(tmp_path / "images")], exif_transpose=True).embed([ImageName("b.jpg")])
    assert float(turned[0] @ wanted[1]) < 0.9999


@pytest.mark.parametrize("precision", ["pure_bf16", "amp_bf16"])
def test_half_the_bits_give_nearly_the_same_direction(clip, tmp_path, precision):
    """Precision is part of the fingerprint, and the vectors stay float32."""
    names = [ImageName(name) for name in pictures(tmp_path / "images")]
    full = open_clip_embedder(clip, image_roots=[str(tmp_path / "images")])
    half = open_clip_embedder(clip, image_roots=[str(tmp_path / "images")], precision=precision)
    one, other = np.vstack(full.embed(names)), np.vstack(half.embed(names))
    assert other.dtype == np.float32
    assert (one * other).sum(axis=1).min() > 0.995
    differing = {key for key, value in full.fingerprint().items() if half.fingerprint()[key] != value}
    assert differing == {"precision"}


def test_the_fingerprint_of_open_clip_is_that_of_the_weights_in_memory(clip, tmp_path):
    """Where the weights come from changes nothing; other weights, preprocessing or normalisation do."""
    import torch

    base = open_clip_embedder(clip).fingerprint()
    copy = tmp_path / "copy.pt"
    copy.write_bytes((clip / "weights.pt").read_bytes())
    assert open_clip_embedder(clip, pretrained=str(copy), batch_size=9, image_roots=[str(tmp_path)]).fingerprint() == base
    local = open_clip_embedder(clip, model=f"local-dir:{clip / 'local'}", pretrained=None).fingerprint()
    assert {key for key in base if base[key] != local[key]} == {"model", "preprocessing"}
    weights = torch.load(clip / "weights.pt")
    weights["visual.proj"][0, 0] += 1e-3
    torch.save(weights, copy)
    changed = open_clip_embedder(clip, pretrained=str(copy)).fingerprint()
    assert {key for key in base if base[key] != changed[key]} == {"weights"}
    quick = open_clip_embedder(clip, force_quick_gelu=True).fingerprint()
    assert {key for key in base if base[key] != quick[key]} == {"architecture"}
    assert open_clip_embedder(clip, normalize=False).fingerprint()["normalisation"] is None
    seeds = [open_clip_embedder(clip, pretrained=None, random_weights=seed).fingerprint() for seed in (1, 1, 2)]
    assert seeds[0] == seeds[1] != seeds[2]
    assert seeds[0]["random_weights"] == 1
    assert base["library_version"]


def test_a_model_that_was_let_go_of_is_loaded_again_when_it_is_used(clip, tmp_path):
    """Its memory is released, its fingerprint stays known, and only the very same weights may take its place."""
    import torch

    file = tmp_path / "weights.pt"
    file.write_bytes((clip / "weights.pt").read_bytes())
    one = open_clip_embedder(clip, pretrained=str(file))
    assert isinstance(one, Releasable)
    before, known = np.vstack(one.embed(["a cat"])), one.fingerprint()
    model = weakref.ref(one._loaded.model)
    one.release()
    assert model() is None
    file.unlink()
    one.release()
    assert (one.fingerprint(), one.size) == (known, 24)
    with pytest.raises(EmbedError, match="can't be loaded"):
        one.embed(["a cat"])
    file.write_bytes((clip / "weights.pt").read_bytes())
    assert np.array_equal(np.vstack(one.embed(["a cat"])), before)
    one.release()
    weights = torch.load(file)
    weights["visual.proj"][0, 0] += 1e-3
    torch.save(weights, file)
    with pytest.raises(DriftError, match="loaded again, and is another model"):
        one.embed(["a cat"])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"pretrained": None}, "no setting names the weights"),
        ({"random_weights": 1}, "several settings name the weights"),
        ({"model": None}, "names no model"),
        ({"model": "ViT-Z-99"}, "ViT-Z-99 can't be loaded"),
        ({"pretrained": "/nowhere/weights.pt"}, "can't be loaded"),
        ({"model": "local-dir:/nowhere", "pretrained": None}, "can't be loaded"),
        ({"precision": "int4"}, "precision must be"),
        ({"device": "cuda:99"}, "there is no device 'cuda:99'"),
    ],
)
def test_what_cannot_be_loaded_is_named(clip, more, said):
    """Wrong models, files, words and devices stop with the embedder's name, before anything is written."""
    with pytest.raises((EmbedError, ConfigError)) as caught:
        open_clip_embedder(clip, **more).fingerprint()
    assert said in caught.value.message
    assert "clip" in caught.value.message
    assert caught.value.hint


def test_sentence_transformers_gives_what_the_library_gives(sentences):
    """Batches, prompts, tasks and normalisation are the library's own."""
    from sentence_transformers import SentenceTransformer

    texts = [" ".join(WORDS[5 + number : 5 + number + 1 + number % 9]) for number in range(20)]
    model = SentenceTransformer(str(sentences), device="cpu")
    base = {"type": "sentence_transformers", "model": str(sentences), "device": "cpu", "batch_size": 6}
    for more, wanted in [
        ({}, model.encode(texts)),
        ({"prompt": "blue : "}, model.encode(texts, prompt="blue : ")),
        ({"prompt_name": "document"}, model.encode(texts, prompt_name="document")),
        ({"method": "encode_document", "normalize_embeddings": True}, model.encode_document(texts, normalize_embeddings=True)),
        ({"truncate_dim": 8}, model.encode(texts, truncate_dim=8)),
    ]:
        one = load("words", base | more)
        assert np.abs(np.vstack(embed_all(one, texts, size=one.size)) - wanted).max() < 1e-5, more
        # In the pipeline the tokens come from other threads than the vectors.
        assert {prepared.weight > 1 for prepared in one.prepare(texts)} == {True}, more
        assert np.abs(np.vstack(beside(one, texts)) - wanted).max() < 1e-5, more
        assert one.size == wanted.shape[1]
        assert (one.fingerprint() == load("words", base).fingerprint()) is (more == {})
    half = load("words", base | {"dtype": "bfloat16"})
    first = np.vstack(half.embed(texts))
    assert (unit(first) * unit(model.encode(texts))).sum(axis=1).min() > 0.99
    assert half.fingerprint() | {"precision": "float32"} == load("words", base).fingerprint()
    assert json.loads(json.dumps(half.fingerprint())) == half.fingerprint()
    with pytest.raises(EmbedError, match="prompt_name must be one of .*document"):
        load("words", base | {"prompt_name": "doc"}).fingerprint()
    with pytest.raises(EmbedError, match="can't be loaded"):
        load("words", base | {"model": "/nowhere/model"}).fingerprint()
    with pytest.raises(EmbedError, match="failed for 1 item"):
        load("words", base).embed([picture_bytes()])


def picture_bytes():
    """A file that a model of texts can't take."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    return buffer.getvalue()


def test_a_batch_that_does_not_fit_is_halved_for_good():
    """Out of memory: half as many from then on; an item that doesn't fit alone is a failure, the others continue."""
    import torch

    sizes = []

    def model(part):
        sizes.append(len(part))
        if len(part) > 3 or "huge" in part:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [[float(len(item))] for item in part]

    batches = Batches("clip", 8)
    found = batches.run(["aa", "b", "ccc", "d", "huge", "ff", "g", "h"], model)
    assert [None if isinstance(one, EmbedError) else one[0] for one in found] == [2, 1, 3, 1, None, 2, 1, 1]
    assert sizes[:3] == [8, 4, 2]
    assert batches.size == 1


AGAIN = """
def upgrade():
    return [op.AddVector("{name}", "pic", VectorParams(size=24, distance=Distance.COSINE),
                         values=Embed("clip", image="file"))]
"""


def test_a_collection_is_filled_by_open_clip_and_remembers_by_which(clip, tmp_path):
    """From paths in payloads to proven vectors; the fingerprint is recorded; other weights are not the same model."""
    names = pictures(tmp_path / "images")
    clip_settings = {"type": "open_clip", "model": f"local-dir:{clip / 'local'}", "image_roots": ["./images"], "device": "cpu"}
    made = Deployment(
        tmp_path, {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db", extra={"embedders": {"clip": clip_settings}}
    )
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings(), "0001")
    store = made.store()
    write(store, made.name, [Point(n + 1, {"file": name, "n": n}, {"a": [1.0] * 8}) for n, name in enumerate(names)])
    store.close()
    made.revise("0002", AGAIN)
    upgrade.upgrade(made.settings())
    wanted = np.vstack(load("clip", made.settings().embedders["clip"]).embed([ImageName(name) for name in names]))
    found = {payload["n"]: vectors["pic"] for payload, vectors in made.contents().values()}
    assert np.abs(np.vstack([found[n] for n in range(len(names))]) - wanted).max() < 1e-4
    assert made.row().state == "ready"


def test_tokens_are_counted_by_the_models_own_tokenizer(clip, sentences):
    """With what the model adds and with its prompt, also of a text that it doesn't read to the end; vectors stay the same."""
    texts = ["red", "red blue green cat", "dog " * 60]
    one = load("s", {"type": "sentence_transformers", "model": str(sentences), "device": "cpu"})
    assert isinstance(one, CountsTokens)
    before = np.vstack(one.embed(texts))
    assert (one.count_tokens(texts), one.max_tokens) == ([3, 6, 62], 24)
    assert np.array_equal(np.vstack(one.embed(texts)), before)
    asked = load("s", {"type": "sentence_transformers", "model": str(sentences), "device": "cpu", "method": "encode_document"})
    # "red : " comes before each.
    assert asked.count_tokens(texts) == [5, 8, 64]
    seen = open_clip_embedder(clip)
    assert (seen.count_tokens(["a cat", "word " * 90]), seen.max_tokens) == ([4, 92], 16)
    assert open_clip_embedder(clip, prompt="a photo of ").count_tokens(["a cat"]) == [7]
