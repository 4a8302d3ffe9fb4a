"""Qdrant behind the Protocol ``ports.Store``: a real server, or the client's local mode. It decides nothing.

Only this package imports the client library. ``connect`` loads the implementation that is asked for, no other.
"""

from qmigrate.store.address import ConnectionSettings
from qmigrate.store.connect import connect

__all__ = ["ConnectionSettings", "connect"]
