"""Worker processes that fill a vector: on the devices of this machine, or where Ray has room. They decide nothing.

Which worker gets which range is decided by ``engine.workers.pool``.
"""

from __future__ import annotations

from qmigrate.engine.workers.protocol import Hands
from qmigrate.settings.load import Settings


def hands_of(settings: Settings) -> Hands:
    """Who starts workers for one collection.

    Args:
        settings: those of the collection.
    """
    if settings.rebuild.engine == "ray":
        from qmigrate.commands.workers.on_ray import RayHands

        return RayHands(settings)
    from qmigrate.commands.workers.local import LocalHands

    return LocalHands(settings)
