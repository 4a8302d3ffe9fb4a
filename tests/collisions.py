"""Two points with one XXH3 digest, made at will: its secret is public, and a product with 0 forgets its other factor."""

from __future__ import annotations

import struct
from typing import Any

#: The default secret of XXH3, as its specification has it; only what the first block needs.
SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221"
    "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b532ea371644897a20df94e3819ef46a9deacd8a8"
    "fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3"
)
#: Bytes of a block, of a stripe, and of a lane.
BLOCK, STRIPE, LANE = 1024, 64, 8


def colliding(message: bytes, start: int, stop: int) -> tuple[bytes, bytes]:
    """Two variants of a message, different between `start` and `stop` only, with one XXH3 digest (64 and 128 bits).

    In two stripes of a block the low half of one lane is the secret's, so that its product with the high half is 0;
    what is left of the high halves is their sum, and they change places.
    """
    for block in range(0, len(message), BLOCK):
        for lane in range(STRIPE // LANE):
            places = [(block + stripe * STRIPE + lane * LANE, (stripe + lane) * LANE) for stripe in range(BLOCK // STRIPE)]
            inside = [(at, secret) for at, secret in places if start <= at and at + LANE <= min(stop, len(message) - STRIPE)]
            if len(inside) >= 2:
                return _variant(message, inside[:2], (1.0, 2.0)), _variant(message, inside[:2], (2.0, 1.0))
    raise ValueError("there is no room for two lanes in one block")


def _variant(message: bytes, places: list[tuple[int, int]], halves: tuple[float, float]) -> bytes:
    made = bytearray(message)
    for (at, secret), high in zip(places, halves, strict=True):
        made[at : at + LANE] = SECRET[secret : secret + 4] + struct.pack("<f", high)
    return bytes(made)


def colliding_vectors(stored: Any, values: list[float]) -> tuple[list[float], list[float]]:
    """Two vectors that make two points of one XXH3 digest when they take the place of `values` in a stored point."""
    message = stored.SerializeToString(deterministic=True)
    packed = struct.pack(f"<{len(values)}f", *values)
    start = message.index(packed)
    found = colliding(message, start, start + len(packed))
    one, other = (list(struct.unpack_from(f"<{len(values)}f", variant, start)) for variant in found)
    return one, other
