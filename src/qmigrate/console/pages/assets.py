"""The files that pages load, under paths with digests of their content, so that browsers keep them. It renders nothing.

They are part of the package, so that no page asks another host for anything; ``assets/VERSIONS`` says where they come
from.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cached_property
from importlib import resources

from fastapi import APIRouter, HTTPException, Request, Response

#: Kinds of files that are served, and nothing else that lies in the folder.
_KINDS = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
#: For a year: another content has another path.
_KEPT = "public, max-age=31536000, immutable"


@dataclass(frozen=True)
class Asset:
    """One file."""

    name: str
    kind: str
    content: bytes

    @cached_property
    def digest(self) -> str:
        """Twelve hex digits of its content's SHA-256."""
        return hashlib.sha256(self.content).hexdigest()[:12]

    @cached_property
    def packed(self) -> bytes:
        """Compressed by gzip, the same bytes each time."""
        return gzip.compress(self.content, 9, mtime=0)


class Assets:
    """The files of the package, read when they are first asked for."""

    @cached_property
    def files(self) -> dict[str, Asset]:
        """Name -> file."""
        folder = resources.files("qmigrate.console") / "assets"
        found = {}
        for entry in sorted(folder.iterdir(), key=lambda one: one.name):
            kind = _KINDS.get("." + entry.name.rpartition(".")[2])
            if kind is not None and entry.is_file():
                found[entry.name] = Asset(entry.name, kind, entry.read_bytes())
        return found

    def path(self, name: str) -> str:
        """Where a file is served, for as long as its content is this one."""
        return f"/assets/{self.files[name].digest}/{name}"

    def text(self, name: str) -> str:
        """The text of a file, for a report that holds all that it needs."""
        return self.files[name].content.decode()


#: Those of this installation.
ASSETS = Assets()


def assets_router() -> APIRouter:
    """The files; no log-in is needed, since they hold nothing of a deployment."""
    router = APIRouter(include_in_schema=False)

    @router.get("/assets/{digest}/{name}")
    def asset(request: Request, digest: str, name: str) -> Response:
        found = ASSETS.files.get(name)
        if found is None or found.digest != digest:
            raise HTTPException(404, "no such file, or no longer this one")
        headers = {"Cache-Control": _KEPT, "Vary": "Accept-Encoding"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(found.packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=found.kind)
        return Response(found.content, headers=headers, media_type=found.kind)

    return router
