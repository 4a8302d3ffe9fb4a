"""Worker processes that fill a vector: on the devices of this machine, or where Ray has room. They decide nothing.

Which worker gets which range is decided by ``engine.workers.pool``.
"""

from __future__ import annotations

from qmigrate.engine.workers.protocol import WorkerPool
from qmigrate.settings.load import Settings


def workers_of(settings: Settings) -> WorkerPool:
    """Who starts workers for one collection.

    Args:
        settings: those of the collection.
    """
    if settings.rebuild.engine == "ray":
        from qmigrate.commands.workers.on_ray import RayWorkers

        return RayWorkers(settings)
    from qmigrate.commands.workers.local import LocalWorkers

    return LocalWorkers(settings)
