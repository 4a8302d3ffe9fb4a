"""The application's SQL: rows, read-only and streamed, and a queue of ids. It knows of points only their ids."""

from qmigrate.rows.queue import Queue
from qmigrate.rows.reader import Moment, Query, Row, Rows

__all__ = ["Moment", "Query", "Queue", "Row", "Rows"]
