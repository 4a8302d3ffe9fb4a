"""SPLADE and ColBERT by real libraries: models made small on the spot, loaded as the product loads them."""

from __future__ import annotations

import importlib.util
import os
import shutil

import numpy as np
import pytest

from qmigrate.embed import load, torch_models
from qmigrate.embed.backends.sentence_transformers import SentenceModel
from qmigrate.embed.inputs import ImageName
from qmigrate.embed.pipeline import Pipeline
from qmigrate.embed.stream import Failure, embed_all
from qmigrate.errors import EmbedError

MISSING = [one for one in ("torch", "sentence_transformers") if importlib.util.find_spec(one) is None]
if MISSING:
    pytest.skip(f"not installed: {', '.join(MISSING)}; scripts/test --embed installs them", allow_module_level=True)

#: The libraries warn of their own old ways.
pytestmark = pytest.mark.filterwarnings("ignore")
#: What is not on this machine is missing, not fetched.
os.environ["HF_HUB_OFFLINE"] = "1"

NAMES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "blue", "green", "cat", "dog", "boat", ".", ",", ":"]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
TEXTS = ["red cat", "a green boat, a dog.", "blue", "red red dog : cat cat cat boat"]


def bert(folder, kind):
    """A folder with a BERT of random weights and its tokenizer."""
    import torch
    import transformers

    torch.set_num_threads(1)
    torch.manual_seed(7)
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(NAMES))
    config = transformers.BertConfig(vocab_size=len(NAMES), max_position_embeddings=40, **SIZES)
    getattr(transformers, kind)(config).save_pretrained(folder)
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def splade(tmp_path_factory):
    """A masked language model, which is all that SPLADE needs, and what the library makes of it."""
    from sentence_transformers import SparseEncoder

    folder = tmp_path_factory.mktemp("splade")
    model = SparseEncoder(bert(folder / "bert", "BertForMaskedLM"), device="cpu")
    model.save(str(folder / "model"))
    return str(folder / "model")


@pytest.fixture(scope="module")
def colbert(tmp_path_factory):
    """A model of two layers, a projection to 8 values, a prefix for questions, and tokens that don't count."""
    import sentence_transformers

    if not hasattr(sentence_transformers, "MultiVectorEncoder"):
        pytest.skip("sentence-transformers from 6.0 on has MultiVectorEncoder")
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
    from torch import nn

    folder = tmp_path_factory.mktemp("colbert")
    # Questions are filled up with mask tokens, as ColBERT does it.
    filled_up = {"strategy": "fixed", "attend": False, "length": 12}
    transformer = Transformer(bert(folder / "bert", "BertModel"), document_length=24, query_expansion=filled_up)
    dense = Dense(32, 8, bias=False, activation_function=nn.Identity(), module_input_name="token_embeddings")
    modules = [transformer, dense, MultiVectorMask([".", ","]), Normalize(module_input_name="token_embeddings")]
    model = MultiVectorEncoder(modules=modules, prompts={"query": "red : ", "document": "blue : "}, device="cpu")
    model.save(str(folder / "model"))
    return str(folder / "model")


def made(kind, folder, **more):
    """An embedder of a folder."""
    return load("words", {"type": kind, "model": folder, "device": "cpu", "batch_size": 2, **more})


def both(embedder, texts):
    """The vectors of one call, which the pipeline gives as well."""
    found = embed_all(embedder, texts, size=embedder.size)
    with Pipeline(embedder, embedder.size) as pipeline:
        streamed = pipeline.submit(texts, lambda: None).result(lambda: None)
    for one, other in zip(found, streamed, strict=True):
        assert type(one) is type(other)
        if isinstance(one, dict):
            assert one["indices"] == other["indices"]
            assert np.allclose(one["values"], other["values"], atol=1e-4)
        elif not isinstance(one, Failure):
            assert np.allclose(one, other, atol=1e-4)
    return found


def test_splade_gives_the_words_that_the_library_gives(splade):
    """Indices are places in the vocabulary, values the library's own; nothing that is 0 is kept."""
    from sentence_transformers import SparseEncoder

    wanted = SparseEncoder(splade, device="cpu").encode_document(TEXTS, convert_to_sparse_tensor=False).numpy()
    embedder = made("splade", splade)
    assert embedder.size is None
    found = both(embedder, TEXTS)
    for vector, row in zip(found, wanted, strict=True):
        assert vector["indices"] == np.flatnonzero(row).tolist()
        assert np.allclose(vector["values"], row[vector["indices"]], atol=1e-5)
    assert 0 < len(found[0]["indices"]) <= len(NAMES)
    few = embed_all(made("splade", splade, max_active_dims=2), TEXTS, size=None)
    assert {len(one["indices"]) for one in few} == {2}
    assert all(set(one["indices"]) <= set(other["indices"]) for one, other in zip(few, found, strict=True))


def test_colbert_gives_a_row_for_each_token_that_counts(colbert):
    """Punctuation of a document has none, every row has length 1, and a question has the other prefix."""
    from sentence_transformers import MultiVectorEncoder

    library = MultiVectorEncoder(colbert, device="cpu")
    documents, questions = made("colbert", colbert), made("colbert", colbert, task="query")
    assert (documents.size, questions.size) == (8, 8)
    for embedder, wanted in ((documents, library.encode_document(TEXTS)), (questions, library.encode_query(TEXTS))):
        found = both(embedder, TEXTS)
        assert [len(one) for one in found] == [len(one) for one in wanted]
        assert all(np.allclose(one, other.numpy(), atol=1e-4) for one, other in zip(found, wanted, strict=True))
        assert all(np.allclose(np.linalg.norm(one, axis=1), 1, atol=1e-4) for one in found)
    rows = [len(one) for one in embed_all(documents, ["red cat", "red , cat ."], size=8)]
    assert rows == [6, 6]
    assert {len(one) for one in both(questions, TEXTS)} == {12}


def test_what_has_too_many_tokens_is_a_failure_of_that_item(colbert):
    """``max_rows`` bounds what a point may hold; ``document_length`` cuts it off before."""
    long = " ".join(["cat"] * 14)
    found = embed_all(made("colbert", colbert, max_rows=10), ["red cat", long], size=8)
    assert len(found[0]) == 6
    assert isinstance(found[1], Failure)
    assert "has 18 tokens that count, and max_rows is 10" in found[1].message
    cut = embed_all(made("colbert", colbert, max_rows=10, document_length=10), ["red cat", long], size=8)
    assert [len(one) for one in cut] == [6, 10]


@pytest.mark.parametrize(
    ("kind", "told"),
    [("splade", ({"max_active_dims": 3}, {"task": "query"})), ("colbert", ({"task": "query"}, {"document_length": 10}))],
)
def test_what_decides_the_vectors_is_in_the_fingerprint(request, kind, told):
    """The same files give the same one; a length, a task or a bound gives another one."""
    folder = request.getfixturevalue(kind)
    first = made(kind, folder).fingerprint()
    assert first == made(kind, folder, threads=2).fingerprint()
    assert first["type"] == kind
    for more in told:
        assert made(kind, folder, **more).fingerprint() != first


@pytest.mark.parametrize("kind", ["splade", "colbert"])
def test_the_files_of_another_kind_of_model_are_refused(tmp_path, kind):
    """The library would make up what they lack, another time at each load: no two runs would have the same vectors."""
    folder = bert(tmp_path / "bert", "BertModel")
    with pytest.raises(EmbedError, match=f"not those of a model of type {kind}: what they lack, .* random numbers"):
        made(kind, folder).fingerprint()


@pytest.mark.parametrize("form", ["as it was saved", "in half precision", "in files of torch", "under other shapes"])
@pytest.mark.parametrize("kind", ["splade", "colbert"])
def test_a_model_is_loaded_once(request, kind, form, tmp_path, monkeypatch):
    """Its files show that nothing was made up; only where they don't, a second load has to."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(request.getfixturevalue(kind), folder)
    for file in list(folder.rglob("*.safetensors")):
        tensors = load_file(file)
        if form == "in half precision":
            save_file({name: one.half() for name, one in tensors.items()}, file, metadata={"format": "pt"})
        elif form == "in files of torch" and file.parent == folder:
            file.unlink()
            torch.save(tensors, folder / "pytorch_model.bin")
    if form == "under other shapes":
        monkeypatch.setattr(torch_models, "_tensor_digest", lambda tensor: object())
    opened = []
    monkeypatch.setattr(SentenceModel, "_open", lambda self, *args, real=SentenceModel._open: opened.append(1) or real(self, *args))
    assert len(embed_all(made(kind, str(folder)), TEXTS, size=None)) == len(TEXTS)
    assert len(opened) == (2 if form == "under other shapes" else 1)


@pytest.mark.parametrize("kind", ["splade", "colbert"])
def test_only_texts_are_taken(request, kind):
    """The name of an image is a failure of that item, and never embedded as a text."""
    found = embed_all(made(kind, request.getfixturevalue(kind)), ["red", ImageName("a.png")], size=None)
    assert not isinstance(found[0], Failure)
    assert "takes texts, not an image" in found[1].message


@pytest.mark.parametrize(("kind", "key"), [("splade", "task"), ("colbert", "max_rows"), ("colbert", "query_length")])
def test_a_wrong_value_is_named(kind, key):
    """It needs no model to be found out."""
    with pytest.raises(EmbedError, match=f"{key} must be"):
        made(kind, "nowhere", **{key: "many"})


def test_a_model_of_pylate_is_loaded_by_it_where_the_library_is_older(tmp_path):
    """PyLate pins a version of sentence-transformers without MultiVectorEncoder; prefixes and lengths are its own."""
    import sentence_transformers

    pylate = pytest.importorskip("pylate.models", reason="PyLate is not installed", exc_type=ImportError)
    if hasattr(sentence_transformers, "MultiVectorEncoder"):
        pytest.skip("sentence-transformers loads models of PyLate itself")
    folder = bert(tmp_path / "bert", "BertModel")
    model = pylate.ColBERT(folder, embedding_size=8, query_length=12, document_length=24, device="cpu")
    model.save(str(tmp_path / "model"))
    library = pylate.ColBERT(str(tmp_path / "model"), device="cpu")
    for task in ("document", "query"):
        wanted = library.encode(TEXTS, is_query=task == "query", show_progress_bar=False)
        embedder = made("colbert", str(tmp_path / "model"), task=task)
        found = both(embedder, TEXTS)
        assert embedder.size == 8
        assert [one.shape for one in found] == [one.shape for one in wanted]
        assert all(np.allclose(one, other, atol=1e-4) for one, other in zip(found, wanted, strict=True))
        assert embedder.fingerprint()["library"] == "pylate"
    assert {len(one) for one in embed_all(made("colbert", str(tmp_path / "model"), task="query"), TEXTS, size=8)} == {12}
    cut = embed_all(made("colbert", str(tmp_path / "model"), document_length=6), [" ".join(["cat"] * 14)], size=8)
    assert len(cut[0]) <= 6
    with pytest.raises(EmbedError, match="not those of a model of type colbert"):
        made("colbert", folder).fingerprint()
