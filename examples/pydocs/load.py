"""Fill the collection: the documentation of Python's modules, classes and functions, about a thousand points.

Run it again whenever you like: ids are made from names, so nothing is there twice.
"""

from __future__ import annotations

import importlib
import inspect
import uuid
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from place import COLLECTION, embedders, open_client
from qdrant_client.models import PointStruct

# Chosen by hand: importing just any module would open windows (turtle), print poems (this) and start browsers
# (antigravity).
MODULES = """
    abc argparse array base64 bisect bz2 calendar collections colorsys configparser contextlib copy csv
    dataclasses datetime decimal difflib email enum filecmp fileinput fnmatch fractions functools getpass
    gettext glob graphlib gzip hashlib heapq hmac html http.client http.cookies io ipaddress itertools json
    linecache logging lzma math mimetypes numbers os os.path pathlib pickle pkgutil plistlib pprint queue
    random re sched secrets shelve shlex shutil sqlite3 statistics string struct subprocess tarfile tempfile
    textwrap threading time timeit tokenize unicodedata urllib.parse urllib.request uuid venv warnings wave
    weakref webbrowser xml.etree.ElementTree zipfile zlib zoneinfo
""".split()  # noqa: SIM905  a list of a hundred quoted names reads worse
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://docs.python.org/3/library/")
BATCH = 100


def collect() -> list[dict[str, Any]]:
    """One payload per documented module, class and function, ordered by name."""
    found: dict[str, dict[str, Any]] = {}
    for name in MODULES:
        try:
            module = importlib.import_module(name)
        except ImportError:  # some are left out of some builds of Python
            continue
        for payload in _module(name, module):
            found.setdefault(payload["name"], payload)
    return [found[name] for name in sorted(found)]


def _module(name: str, module: ModuleType) -> Iterator[dict[str, Any]]:
    yield from _payload(name, "module", name, module)
    public = getattr(module, "__all__", None) or [key for key in vars(module) if not key.startswith("_")]
    for key in public:
        thing = getattr(module, key, None)
        if inspect.isclass(thing) and not issubclass(thing, BaseException):
            kind = "class"
        elif inspect.isroutine(thing):
            kind = "function"
        else:
            continue
        if "__all__" not in vars(module) and getattr(thing, "__module__", name) not in (name, f"_{name}"):
            continue  # imported from elsewhere
        yield from _payload(f"{name}.{key}", kind, name, thing)


def _payload(name: str, kind: str, module: str, thing: Any) -> Iterator[dict[str, Any]]:
    doc = inspect.getdoc(thing)
    if not doc or (kind != "module" and doc == inspect.getdoc(type(thing))):
        return
    signature = _signature(thing) if kind == "function" else ""
    lead = doc.split("\n\n")
    text = "\n\n".join(lead[:2])[:600]
    yield {
        "name": name,
        "kind": kind,
        "module": module,
        "signature": signature,
        "text": f"{name}{signature}\n{text}",
    }


def _signature(thing: Any) -> str:
    try:
        return str(inspect.signature(thing))
    except (TypeError, ValueError):  # some built-in functions have none
        return ""


def main() -> None:
    """Embed and upsert, for every vector that the collection has by now."""
    payloads = collect()
    with open_client() as client:
        models = embedders(client)
        for start in range(0, len(payloads), BATCH):
            batch = payloads[start : start + BATCH]
            texts = [payload["text"] for payload in batch]
            made = {vector: model.embed(texts) for vector, model in models.items()}
            client.upsert(
                COLLECTION,
                [
                    PointStruct(
                        id=str(uuid.uuid5(NAMESPACE, payload["name"])),
                        payload=payload,
                        vector={vector: rows[place].tolist() for vector, rows in made.items()},
                    )
                    for place, payload in enumerate(batch)
                ],
            )
        total = client.count(COLLECTION).count
    print(
        f"{len(payloads):,} documents written to {COLLECTION}, which holds {total:,} points; "
        f"vectors: {', '.join(models)}"
    )


if __name__ == "__main__":
    main()
