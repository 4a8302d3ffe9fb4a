"""`/readyz` and `/livez` as an ASGI application, for any framework and for none. It decides nothing."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from qmigrate.health.probe import Probe

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Health(Probe):
    """A :class:`Probe` that is an ASGI application.

    ``app.mount("/health", Health())`` in FastAPI or Starlette serves ``/health/readyz`` and ``/health/livez``;
    ``uvicorn --factory qmigrate.health:Health`` serves them alone. What it takes is what :class:`Probe` takes.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            # In the process that serves, so that the first request finds answers that are on their way.
            self._ask()
            await _lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            status, body, more = await self._answer(scope)
            await _send(send, status, body, more, head=scope["method"] == "HEAD")

    async def _answer(self, scope: Scope) -> tuple[int, dict[str, Any], list[tuple[bytes, bytes]]]:
        path = scope["path"]
        root = scope.get("root_path", "")
        # Frameworks mount either with the full path or with what is left of it.
        if root and path.startswith(f"{root.rstrip('/')}/"):
            path = path[len(root.rstrip("/")) :]
        path = path.rstrip("/")
        if path not in ("/readyz", "/livez"):
            return 404, {"detail": "there is /readyz, and /livez"}, []
        if scope["method"] not in ("GET", "HEAD"):
            return 405, {"detail": "only GET and HEAD"}, [(b"allow", b"GET, HEAD")]
        if path == "/livez":
            # Of the process alone: who restarts it because Qdrant is away makes it worse.
            return 200, {"service": self.service, "alive": True}, []
        report = await self.acheck()
        return report.status_code, report.to_json(), []


async def _send(
    send: Send, status: int, body: dict[str, Any], more: list[tuple[bytes, bytes]], *, head: bool
) -> None:
    text = json.dumps(body, ensure_ascii=False).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(text)).encode()),
        (b"cache-control", b"no-store"),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else text})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
