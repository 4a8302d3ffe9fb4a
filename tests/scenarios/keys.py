"""Keys and tokens of a Qdrant server that asks for them, one of every kind. It starts nothing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

KEY, READ_KEY = "the-managing-key-of-the-test-server", "the-reading-key-of-the-test-server"
ENV = {
    "QDRANT__SERVICE__API_KEY": KEY,
    "QDRANT__SERVICE__READ_ONLY_API_KEY": READ_KEY,
    "QDRANT__SERVICE__JWT_RBAC": "true",
}


def token(access: object, *, hours: float = 1.0) -> str:
    """A token signed with the managing key."""

    def part(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    claims = {"access": access, "exp": int(time.time() + hours * 3600)}
    head = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(claims).encode())
    return (head + b"." + part(hmac.new(KEY.encode(), head, hashlib.sha256).digest())).decode()


def limited(access: str, *names: str) -> str:
    """A token for some collections."""
    return token([{"collection": name, "access": access} for name in names])
