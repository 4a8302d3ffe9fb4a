"""Old and new search over images: images ask for images, and the text tower of a CLIP model asks by words."""

from __future__ import annotations

import importlib.util
import json
import os
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from PIL import Image
from tests.harness import Deployment, write
from tests.scenarios.cli import call

from qmigrate.commands import upgrade
from qmigrate.model.transform import Point

POINTS = 40
CREATE = """
def upgrade():
    return [op.CreateCollection("{{name}}", {{{{"image": VectorParams(size={size}, distance=Distance.COSINE)}}}})]
"""
FILL = """
def upgrade():
    return [op.Reembed("{{name}}", "image", values=Embed("{model}", image="path"), cutover="immediate"{gate})]
"""
BESIDE = """
def upgrade():
    return [op.AddVector("{{name}}", "new", VectorParams(size={size}, distance=Distance.COSINE),
                         values=Embed("{model}", image="path"){gate})]
"""


def pictured(made: Deployment, size: int, **embedders: dict) -> Deployment:
    """Points that name a picture each, filled by the first embedder; no two pictures are alike."""
    folder = made.root / "pictures"
    folder.mkdir(parents=True)
    values = np.random.Generator(np.random.PCG64(7)).integers(0, 256, size=(POINTS, 6, 6, 3), dtype=np.uint8)
    for number, one in enumerate(values, start=1):
        Image.fromarray(one).resize((48, 48), Image.Resampling.NEAREST).save(folder / f"{number}.png")
    made.extra["embedders"] = {name: {**one, "image_roots": [str(folder)]} for name, one in embedders.items()}
    made.__post_init__()
    made.revise("0001", CREATE.format(size=size))
    upgrade.upgrade(made.settings())
    store = made.store()
    points = [Point(one, {"path": f"{one}.png", "caption": f"number {one}"}, {"image": [1.0 + one, *[1.0] * (size - 1)]}) for one in range(1, POINTS + 1)]
    write(store, made.name, points)
    store.close()
    made.revise("0002", FILL.format(model=next(iter(embedders)), gate=""))
    upgrade.upgrade(made.settings())
    return made


def test_images_ask_for_images(deployment):
    """By a file and by a log: each finds itself by either model; what has both a text and an image is named."""
    made = pictured(deployment, 48, coarse={"type": "pixels", "size": 48}, fine={"type": "pixels", "size": 108})
    name = made.name
    made.revise("0003", BESIDE.format(size=108, model="fine", gate=', quality=Compare("asked.jsonl", old_vector="image", at_least=0.5)'))
    lines = [{"image": f"{one}.png", "relevant": [one]} for one in range(1, POINTS + 1)]
    (made.root / "asked.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert call(made.root, "upgrade").code == 0
    found = call(made.root, "evaluate", f"{name}/image", f"{name}/new", "--queries", "asked.jsonl", "--at-least", "0.5", "--json")
    assert found.code == 0, found.text
    total = found.json["data"]["result"]["total"]
    assert (total["questions"], total["before"]["recall_1"]["value"], total["after"]["recall_1"]["value"]) == (POINTS, 1.0, 1.0)
    with closing(sqlite3.connect(made.root / "app.db")) as connection:
        connection.execute("CREATE TABLE log (picture TEXT, clicked INTEGER)")
        connection.executemany("INSERT INTO log VALUES (?, ?)", [(f"{one}.png", one) for one in range(1, POINTS + 1)])
        connection.commit()
    made.extra["databases"] = {"app": {"url": f"sqlite:///{made.root}/app.db"}}
    made.__post_init__()
    sql = "SELECT picture AS image, clicked AS relevant FROM log"
    found = call(made.root, "evaluate", f"{name}/image", f"{name}/new", "--sql", sql, "--at-least", "0.5", "--json")
    assert (found.code, found.json["data"]["result"]["total"]["questions"]) == (0, POINTS), found.text
    tried = call(made.root, "try-models", name, "--embedder", "coarse", "--embedder", "fine", "--image", "path", "--queries", "asked.jsonl", "--json")
    assert [one["figures"]["recall_1"]["value"] for one in tried.json["data"]["models"]] == [1.0, 1.0]
    (made.root / "both.jsonl").write_text('{"query": "a", "image": "1.png", "relevant": [1]}')
    said = call(made.root, "evaluate", f"{name}/image", f"{name}/new", "--queries", "both.jsonl")
    assert (said.code, "has both a query and an image" in said.err) == (2, True)


@pytest.mark.skipif(
    any(importlib.util.find_spec(one) is None for one in ("torch", "open_clip")), reason="scripts/test --embed installs open_clip"
)
@pytest.mark.filterwarnings("ignore")
def test_texts_ask_for_images(tmp_path, monkeypatch):
    """Each side embeds the words by the text tower of its own model, made on the spot, and finds what a loop by hand finds."""
    import open_clip
    import torch

    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
    torch.set_num_threads(1)
    tiny = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    (tmp_path / "asking.json").write_text(json.dumps(tiny))
    open_clip.add_model_config(tmp_path / "asking.json")
    clip = {"type": "open_clip", "model": "asking", "device": "cpu"}
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
    pictured(made, 24, old={**clip, "random_weights": 1}, new={**clip, "random_weights": 2})
    name = made.name
    texts = [f"number {one} of a {word}" for one, word in enumerate(["cat", "dog", "tree", "red house", "blue river"] * 8)]
    (made.root / "asked.jsonl").write_text("\n".join(json.dumps({"query": one}) for one in texts))
    made.revise("0003", BESIDE.format(size=24, model="new", gate=', quality=Compare("asked.jsonl", old_vector="image", measure="overlap", at_least=0.05, confidence=0.6)'))
    assert call(made.root, "upgrade").code == 0
    found = call(made.root, "evaluate", f"{name}/image", f"{name}/new", "--queries", "asked.jsonl", "--measure", "overlap", "--json")
    data = found.json["data"]["result"]
    assert (data["total"]["questions"], data["unanswered"]) == (len(texts), 0)
    wanted = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model, _, preprocess = open_clip.create_model_and_transforms("asking")
        pictures = [preprocess(Image.open(made.root / "pictures" / f"{one}.png"))[None] for one in range(1, POINTS + 1)]
        with torch.inference_mode():
            images = model.eval().encode_image(torch.cat(pictures)).numpy()
            asked = model.encode_text(open_clip.get_tokenizer("asking")(texts)).numpy()
        images, asked = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (images, asked))
        wanted.append([set((order[:10] + 1).tolist()) for order in np.argsort(-(asked @ images.T), axis=1)])
    overlap = np.mean([len(one & other) / 10 for one, other in zip(*wanted, strict=True)])
    assert data["total"]["overlap"]["value"] == pytest.approx(overlap, abs=0.02)
    for miss in data["misses"]:
        place = texts.index(miss["question"])
        assert len(set(miss["before"]) & wanted[0][place]) >= 4
        assert len(set(miss["after"]) & wanted[1][place]) >= 4
