"""Settings of embedders, their fingerprints, and what importing the package costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qmigrate import embed
from qmigrate.embed import fingerprint_digest, known_size, load
from qmigrate.embed.inputs import ImageName
from qmigrate.errors import EmbedError
from qmigrate.ports import Embedder


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ({"type": "hashing"}, 256),
        ({"type": "hashing", "size": 64}, 64),
        ({"type": "pixels"}, 512),
        ({"type": "pixels", "size": 128}, 128),
        ({"type": "callable", "function": "json:dumps"}, None),
        ({"type": "callable", "function": "json:dumps", "size": 384}, 384),
        ({"type": "http", "url": "http://localhost", "model": "m"}, None),
        ({"type": "http", "url": "http://localhost", "model": "m", "dimensions": 1024}, 1024),
        ({"type": "http", "url": "http://localhost", "model": "m", "size": 768}, 768),
    ],
)
def test_a_size_that_the_settings_say_is_known_without_the_embedder(config, size):
    """A plan and the lint load no model; the size they have is the one of the embedder itself."""
    assert (known_size(config), load("x", config).size) == (size, size)


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ({"type": "sentence_transformers", "model": "m", "truncate_dim": 64}, 64),
        ({"type": "sentence_transformers", "model": "m"}, None),
        ({"type": "open_clip", "model": "m"}, None),
        ({"type": "nothing", "size": 4}, None),
        ({"type": "hashing", "size": "64"}, None),
        ({}, None),
    ],
)
def test_of_a_model_only_what_is_said_is_known(config, size):
    """What would have to be loaded, or is wrong, gives nothing here."""
    assert known_size(config) == size


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "has no type"),
        ({"type": "hasing"}, 'did you mean "hashing"?'),
        ({"type": "word2vec"}, "types are: " + ", ".join(sorted(embed._BACKENDS))),
        ({"type": ["hashing"]}, "unknown type"),
        ({"type": "hashing", "sise": 64}, 'did you mean "size"?'),
        ({"type": "pixels", "model": "x"}, "keys of type pixels are: image_base64, image_hosts"),
        ({"type": "hashing", "size": "256"}, "size must be a whole number"),
        ({"type": "hashing", "size": True}, "size must be a whole number"),
        ({"type": "hashing", "size": 0}, "size must be a whole number"),
        ({"type": "hashing", "size": 100_000}, "size must be a whole number"),
        ({"type": "pixels", "image_roots": "/data"}, "image_roots must be a list of strings"),
        ({"type": "callable"}, "names no function"),
        ({"type": "callable", "function": "json.loads"}, '"module:attr"'),
        ({"type": "callable", "function": "no_such_module_here:f"}, "can't be imported"),
        ({"type": "callable", "function": "json:lods"}, "json has no lods"),
        ({"type": "callable", "function": "json:__name__"}, "is not a function but str"),
    ],
)
def test_wrong_settings_are_named(config: dict[str, Any], said: str) -> None:
    """Settings that can't be used stop with the embedder's name and what is wrong."""
    with pytest.raises(EmbedError) as caught:
        load("mine", config)
    assert "mine" in caught.value.message
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ({"type": "hashing"}, 256),
        ({"type": "hashing", "size": 64}, 64),
        ({"type": "pixels"}, 512),
        ({"type": "pixels", "size": 768, "image_roots": ["/data/images"]}, 768),
        ({"type": "callable", "function": "json:dumps"}, None),
        ({"type": "callable", "function": "json:dumps", "size": 3}, 3),
    ],
)
def test_a_backend_says_its_size(config: dict[str, Any], size: int | None) -> None:
    """Every type loads without touching data, and has its size where the settings do."""
    embedder = load("mine", config)
    assert isinstance(embedder, Embedder)
    assert embedder.size == size
    assert embedder.max_batch >= 1


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ({"type": "hashing"}, {"type": "hashing", "size": 256}, True),
        ({"type": "hashing"}, {"type": "hashing", "size": 512}, False),
        ({"type": "hashing", "size": 512}, {"type": "pixels", "size": 512}, False),
        ({"type": "pixels", "image_roots": ["/a"]}, {"type": "pixels", "image_roots": ["/b"]}, True),
        (
            {"type": "callable", "function": "json:dumps"},
            {"type": "callable", "function": "json:loads"},
            False,
        ),
        (
            {"type": "callable", "function": "json:dumps", "version": "1"},
            {"type": "callable", "function": "json:dumps", "version": "2"},
            False,
        ),
    ],
)
def test_fingerprints_tell_models_apart(one: dict[str, Any], other: dict[str, Any], equal: bool) -> None:
    """The digest differs exactly when the output may."""
    prints = [load("mine", config).fingerprint() for config in (one, other)]
    assert (fingerprint_digest(prints[0]) == fingerprint_digest(prints[1])) is equal


def test_digest_ignores_the_order_of_keys() -> None:
    """A fingerprint that came back from a database has the same digest."""
    assert fingerprint_digest({"a": 1, "b": [2]}) == fingerprint_digest({"b": [2], "a": 1})
    assert len(fingerprint_digest({})) == 32


def test_importing_the_package_is_light() -> None:
    """Importing qmigrate.embed loads no numpy; loading one backend loads no other backend's library."""
    program = (
        "import sys, qmigrate.embed\n"
        "heavy = {'numpy', 'PIL', 'xxhash', 'qdrant_client'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "qmigrate.embed.load('w', {'type': 'hashing'})\n"
        "print(sorted({'PIL', 'qdrant_client'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == ["[]", "[]"]


def test_without_the_library_the_command_to_install_it_is_named() -> None:
    """A missing extra is an error by name when the embedder is loaded, not by a traceback in the middle of a run."""
    program = (
        "import sys\n"
        "sys.modules.update(torch=None, open_clip=None, sentence_transformers=None)\n"
        "from qmigrate.embed import load\n"
        "from qmigrate.errors import EmbedError\n"
        "for kind in ('open_clip', 'sentence_transformers'):\n"
        "    try:\n"
        "        load('mine', {'type': kind, 'model': 'x'})\n"
        "    except EmbedError as error:\n"
        "        print(error.message, '|', error.hint)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    first, second = done.stdout.splitlines()
    assert first.endswith("| pip install 'qdrant-migrations[open-clip]'")
    assert second.endswith("| pip install 'qdrant-migrations[sentence-transformers]'")
    assert "'mine' needs the library torch, which is not installed" in first


@pytest.mark.parametrize("config", [{"type": "hashing"}, {"type": "http", "url": "http://localhost:1", "model": "m"}])
def test_the_name_of_an_image_is_no_text(config: dict[str, Any]) -> None:
    """Embed(image=…) with an embedder of texts is refused: it would embed the words of a path."""
    with pytest.raises(EmbedError, match="takes texts, not an image"):
        load("mine", config).embed([ImageName("cats/one.jpg")])


def test_every_key_is_explained() -> None:
    """docs/embedders.md has each type and each of its keys, so that a new key doesn't go unmentioned."""
    page = (Path(__file__).parents[3] / "docs" / "embedders.md").read_text()
    for kind, backend in embed._BACKENDS.items():
        missing = [key for key in sorted(backend.keys) if f"`{key}`" not in page]
        assert f"`{kind}`" in page
        assert not missing, (kind, missing)
